"""Which event a text on the command line names: by its id, or by its position."""

from __future__ import annotations

from typing import TYPE_CHECKING

from console.exits import Mistake

if TYPE_CHECKING:
    from events.backend import Backend


def event_id_of(backend: Backend, text: str) -> str:
    """Return the id of the event that the text names by id or position; one that nothing has as it is.

    Raises:
        Mistake: it is a position at which there is no event.
    """
    if not text.isdecimal() or len(text) > 16 or backend.blackboard.replay.find(text):
        return text
    position = int(text)
    found = backend.blackboard.replay.page(after=position - 1, limit=1).events if position else ()
    if not found or found[0].position != position:
        raise Mistake(f"There is no event at position {text}: `eventbus replay` shows the positions of events.")
    return found[0].event.event_id
