"""The subscriber that docs/deploy.md scales by need; its handler asks for an hour, as where a provider is closed."""

from __future__ import annotations

from events.bus import EventBus
from events.errors import Retry
from events.event import Event

bus = EventBus()


@bus.subscriber("VideoGen", ["PREVIEW_VIDEO_REQUESTED"])
async def render(event: Event) -> None:
    raise Retry(after=3600, reason="the provider is closed")
