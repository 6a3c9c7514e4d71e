"""The application that the demo's workers run: the storyboard's agents on a bus."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from events.bus import EventBus
    from events.settings import Settings


def bus(settings: Settings | None = None) -> EventBus:
    """Return a bus with the storyboard's agents; settings come from the environment unless given."""
    from events.bus import EventBus
    from examples.storyboard.app import SUBSCRIPTIONS

    made = EventBus(settings)
    for agent, types, options in SUBSCRIPTIONS:
        made.subscribe(agent, types, **options)
    return made
