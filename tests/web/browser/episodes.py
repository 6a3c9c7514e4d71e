"""An application whose handlers fail, run and wait, so that every page has something to show."""

from __future__ import annotations

import asyncio
from datetime import datetime

from events.bus import EventBus
from events.event import Event

bus = EventBus()


@bus.subscriber("Subtitles", ["EPISODE_CUT"], max_attempts=1)
def write_subtitles(event: Event) -> Event:
    """Write subtitles; some episodes have a line that cannot be."""
    number = event.payload.get("episode")
    if isinstance(number, int) and number % 3 == 0:
        raise ValueError(f"Line {number * 14} of episode {number} ends before it begins: 00:01:10 > 00:01:04.")
    return event.caused("SUBTITLES_WRITTEN", payload={"episode": number, "lines": 412}, cost=0.012)


@bus.subscriber("Platform", ["SUBTITLES_WRITTEN"], max_attempts=2, concurrency=2)
def upload(event: Event) -> None:
    """Upload an episode; the platform refuses some."""
    number = event.payload.get("episode")
    if isinstance(number, int) and number % 4 == 0:
        raise ConnectionError("The platform answered 503 Service Unavailable: <html><b>try again later</b></html>")


@bus.subscriber("Reviewer", ["REVIEW_WANTED"])
async def review(event: Event) -> None:
    """Review for as long as the worker lives."""
    await asyncio.Event().wait()


@bus.subscriber("Newsletter", ["EPISODE_CUT"], ordering="project")
def announce(event: Event) -> None:
    """Announce an episode."""


@bus.every("0 6 * * *", name="morning-review", timezone="Europe/Berlin")
def wanted(slot: datetime) -> Event:
    """Ask for a review each morning."""
    return Event(project_id="reviews", type="REVIEW_ASKED", actor="morning-review", payload={"slot": slot.isoformat()})


@bus.subscriber("Hostile", ["HOSTILE"], max_attempts=1)
def fail(event: Event) -> None:
    """Fail with what the event says."""
    raise RuntimeError(str(event.payload["text"]))
