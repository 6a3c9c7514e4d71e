"""`eventbus chain`: why an event happened, and everything that its root set off."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from console.exits import Mistake
from console.options import Json
from console.printing import console, event_object, print_json

if TYPE_CHECKING:
    from events.backend import Backend


def command(
    event: Annotated[str, typer.Argument(metavar="EVENT", help="An event's id, or its position.")],
    tree: Annotated[
        bool, typer.Option("--tree", help="Show the whole causation tree of the event's root, with totals.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show why an event happened, and what it cost.

    Its causes, oldest first, each with cost and latency; the event itself comes last. The root is the
    first event of the chain. A cause that was never stored ends it. With --tree, --json prints one event a line.

    \b
    Examples:
      eventbus chain EV-...
      eventbus chain EV-... --tree
      eventbus chain 1767225600000000 --json
    """
    from console import causation
    from console.opening import reading

    with reading() as backend:
        event_id = _event_id(backend, event)
        chain = backend.blackboard.causation.chain(event_id)
        if not tree:
            if as_json:
                print_json(causation.chain_object(chain))
            else:
                causation.print_chain(console(), chain)
            return
        whole = backend.blackboard.causation.tree(chain[0].event.event_id)
        if as_json:
            for level, node in whole.walk():
                print_json({"level": level, **event_object(node.recorded), **causation.totals(node)})
        else:
            out = console()
            causation.print_tree(out, whole, marked=event_id)


def _event_id(backend: Backend, text: str) -> str:
    """Return the id of the event that the text names by id or position.

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
