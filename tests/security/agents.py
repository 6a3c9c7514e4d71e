"""An application whose handlers return, fail and hang on to what they were given."""

from __future__ import annotations

from events.bus import EventBus
from events.event import Event

bus = EventBus()


@bus.subscriber("Painter", ["SCENE_WRITTEN"], max_attempts=2, min_backoff=0.05, max_backoff=0.1)
async def paint(event: Event) -> Event:
    if event.payload.get("fails"):
        raise RuntimeError("the brush broke")
    return event.caused("IMAGE_GENERATED", payload=event.payload, cost=0.1)


@bus.subscriber("Critic", ["SCENE_WRITTEN"], max_attempts=1)
def judge(event: Event) -> object:
    return event.payload if event.payload.get("fails") else None
