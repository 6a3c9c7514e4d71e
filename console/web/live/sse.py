"""Server-sent events on the wire. Source: the WHATWG HTML standard, section 9.2."""

from __future__ import annotations

from collections.abc import AsyncIterator

from starlette.responses import StreamingResponse

MEDIA = "text/event-stream"
RETRY_MS = 1_000


def message(data: bytes, *, id: int | None = None, event: str = "") -> bytes:
    """Return one message; its data is one line, as JSON is."""
    fields = [("event", event)] if event else []
    fields += [("id", str(id))] if id is not None else []
    head = "".join(f"{name}: {value}\n" for name, value in fields)
    return head.encode() + b"data: " + data + b"\n\n"


def cursor(position: int) -> bytes:
    """Return what moves the client's `Last-Event-ID`, and tells it nothing else."""
    return b"id: %d\n\n" % position


def stream(messages: AsyncIterator[bytes]) -> StreamingResponse:
    """Return the response that sends messages as they come; proxies are told not to hold them back."""

    async def body() -> AsyncIterator[bytes]:
        yield f"retry: {RETRY_MS}\n\n".encode()
        async for each in messages:
            yield each

    return StreamingResponse(body(), media_type=MEDIA, headers={"X-Accel-Buffering": "no"})
