"""Server-sent events on the wire. Source: the WHATWG HTML standard, section 9.2."""

from __future__ import annotations

from collections.abc import AsyncIterator

from starlette.responses import StreamingResponse

from console.web.problems import refused

MEDIA = "text/event-stream"
RETRY_MS = 1_000
MOST_STREAMS = 600
RETRY_AFTER_S = 10


def message(data: bytes, *, id: int | None = None, event: str = "") -> bytes:
    """Return one message; its data is one line, as JSON is."""
    fields = [("event", event)] if event else []
    fields += [("id", str(id))] if id is not None else []
    head = "".join(f"{name}: {value}\n" for name, value in fields)
    return head.encode() + b"data: " + data + b"\n\n"


def cursor(position: int) -> bytes:
    """Return what moves the client's `Last-Event-ID`, and tells it nothing else."""
    return b"id: %d\n\n" % position


class Streams:
    """The streams of one web process. Each has a connection as long as somebody listens, so they are counted.

    Args:
        most: that are open at once.
    """

    def __init__(self, most: int = MOST_STREAMS) -> None:
        self._most = most
        self._count = 0

    def open(self, messages: AsyncIterator[bytes]) -> StreamingResponse:
        """Return the response that sends messages as they come; proxies are told not to hold them back.

        Raises:
            HTTPException: 503, there are too many.
        """
        if self._count >= self._most:
            raise refused(
                503,
                f"This web process sends {self._most} live streams, its most: close some, or start another process.",
                {"Retry-After": str(RETRY_AFTER_S)},
            )
        return StreamingResponse(self._counted(messages), media_type=MEDIA, headers={"X-Accel-Buffering": "no"})

    async def _counted(self, messages: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        self._count += 1
        try:
            yield f"retry: {RETRY_MS}\n\n".encode()
            async for each in messages:
                yield each
        finally:
            self._count -= 1
