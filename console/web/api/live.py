"""What happens, as server-sent events: each event once, in order, however often the connection is cut."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from pydantic import Field
from starlette.responses import Response, StreamingResponse

from console.exits import Mistake
from console.web.api import questions
from console.web.live import sse
from console.web.operations import JSON, Answer, Asked, Operation


class Follow(questions.Events):
    """Which events, and from where on."""

    after: int | None = Field(
        None,
        ge=0,
        le=questions.MAX_POSITION,
        description="A position, exclusive; 0 is the beginning. `Last-Event-ID` goes before it; without either: now.",
    )


async def stream_events(asked: Asked) -> StreamingResponse:
    """Send every event after a position, and go on for ever."""
    wanted, feed = asked.query.wanted(), asked.house.feed
    after = _last_event_id(asked)
    if after is None:
        after = await feed.now() if asked.query.after is None else asked.query.after
    start = after

    async def messages() -> AsyncIterator[bytes]:
        yield sse.cursor(start)  # who is cut before the first event goes on from here
        async for place, items in feed.follow(start, wanted):
            if not items:
                yield sse.cursor(place)
            else:
                yield b"".join(sse.message(item.json, id=item.position) for item in items)

    return asked.house.streams.open(messages())


async def stream_overview(asked: Asked) -> StreamingResponse:
    """Send how the bus stands, again and again."""

    async def messages() -> AsyncIterator[bytes]:
        async for found in asked.house.pulse.watch():
            yield sse.message(found)

    return asked.house.streams.open(messages())


async def get_overview(asked: Asked) -> Response:
    """Return how the bus stands."""
    return Response((await asked.house.pulse.look()).whole_json, media_type=JSON)


def _last_event_id(asked: Asked) -> int | None:
    text = asked.request.headers.get("last-event-id", "")
    if not text:
        return None
    if not text.isdecimal() or not text.isascii() or len(text) > 19 or int(text) > questions.MAX_POSITION:
        raise Mistake(f"Last-Event-ID must be a position, as the stream sends them, not {text!r:.80}.")
    return int(text)


OPERATIONS = (
    Operation(
        method="GET",
        path="/events/stream",
        name="stream_events",
        tag="Live",
        summary="Follow history as server-sent events.",
        about="Each message's `id` is the event's position and its `data` the event. A client that reconnects with "
        "`Last-Event-ID`, as browsers do by themselves, gets what it missed and nothing twice, from any web process.",
        call=stream_events,
        query=Follow,
        answers={200: Answer("Events, for ever.", {sse.MEDIA: str})},
    ),
    Operation(
        method="GET",
        path="/overview",
        name="get_overview",
        tag="Live",
        summary="How the bus stands: totals, subscribers, workers, and what needs attention.",
        call=get_overview,
        answers={200: Answer("The overview.", dict[str, Any])},
    ),
    Operation(
        method="GET",
        path="/overview/stream",
        name="stream_overview",
        tag="Live",
        summary="The same as server-sent events, about every two seconds.",
        call=stream_overview,
        answers={200: Answer("Overviews, for ever.", {sse.MEDIA: str})},
    ),
)
