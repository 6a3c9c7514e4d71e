"""One connection to the web process: uvicorn's, with limits on its patience.

connects, or its answer has ended ──> its next request's head has `HEAD_S` to arrive, however slowly it drips
a request is under way            ──> no limit here: live streams last for ever (console/web/guards.py has the body's)
it does not read its answer       ──> cut when nothing of it has left for `STALL_S`; a live client goes on with its
                                      cursor
there are `MOST_CONNECTIONS`      ──> one more is told so, and closed
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_S = 10.0
STALL_S = 60.0
# Below the 1,024 files that a process may have open on most systems.
MOST_CONNECTIONS = 900
CROWDED = "is_crowded"
"""In a request's `state`: it came by a connection too many."""


class Connection(H11Protocol):
    """A connection that hangs up on who keeps it and does not use it."""

    _head: asyncio.TimerHandle | None = None
    _stall: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, with the clock running for the first head."""
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            self.app_state = self.app_state | {CROWDED: True}
        self._head = self._head_clock()

    def data_received(self, data: bytes) -> None:
        """Read; the clock runs from the first byte of a head, and stops at its last."""
        super().data_received(data)
        if not self._is_under_way:
            self._head = self._head or self._head_clock()
        elif self._head is not None:
            self._head.cancel()
            self._head = None

    def pause_writing(self) -> None:
        """Wait for the client to read, and look now and then whether it does."""
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        """Go on: it has read."""
        super().resume_writing()
        if self._stall is not None:
            self._stall.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        """End, and both clocks."""
        super().connection_lost(exc)
        for clock in (self._head, self._stall):
            if clock is not None:
                clock.cancel()

    @property
    def _is_under_way(self) -> bool:
        cycle: Any = self.cycle
        return cycle is not None and not cycle.response_complete

    def _head_clock(self) -> asyncio.TimerHandle:
        return self.loop.call_later(HEAD_S, self.transport.close)

    def _watch(self) -> None:
        self._stall = self.loop.call_later(STALL_S, self._check, self.transport.get_write_buffer_size())

    def _check(self, left_bytes: int) -> None:
        """Cut a client that has taken nothing since the last look."""
        if self.transport.get_write_buffer_size() >= left_bytes:
            self.transport.abort()
        else:
            self._watch()
