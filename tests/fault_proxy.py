"""A TCP proxy that misbehaves on demand: loses replies, tears requests, stalls, delays, cuts, refuses.

It stands between a Redis client and its server and counts requests and replies, so that a lost reply is
exactly one whose command ran. A connection that does not start with a RESP array is passed on as bytes
(cut, stall and refuse work for it too, e.g. for PostgreSQL). Inline commands, subscriptions and
CLIENT REPLY are not understood.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import AsyncIterator, Coroutine
from typing import Any, Self

from tests.waiting import wait_until


class FaultProxy:
    """Proxy 127.0.0.1:`port` to a server; as a context manager it runs in a thread of its own.

    Every method may be called from any thread, and has taken effect when it returns.

    Attributes:
        port: the same from start to end, also after `refuse`.
        requests: commands passed on so far. dropped: replies lost so far. torn: requests of which half was passed on.
    """

    def __init__(self, target_host: str, target_port: int) -> None:
        self.target = (target_host, target_port)
        self.port = 0
        self.requests = 0
        self.dropped = 0
        self.torn = 0
        self._to_tear = 0
        self._delay_s = 0.0
        self._to_drop = 0
        self._matching = b""
        self._pairs: set[_Pair] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._flowing = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def connections(self) -> int:
        """How many client connections are open."""
        return len(self._pairs)

    @property
    def to_drop(self) -> int:
        """How many replies are still to be lost."""
        return self._to_drop

    def drop_replies(self, n: int, matching: bytes = b"") -> None:
        """Lose the next `n` replies: the command runs, and instead of its answer the connection is cut.

        Replies to earlier commands of a pipeline still arrive; later ones may have run, as in life.

        Args:
            n: replaces what was left of an earlier call; 0 ends it.
            matching: only requests whose RESP bytes contain this count.
        """
        self._run(self._set_drop(n, matching))

    def tear_requests(self, n: int) -> None:
        """Pass on half of each of the next `n` requests, then cut its connection; 0 ends it."""
        self._run(self._set_tear(n))

    def delay(self, seconds: float) -> None:
        """Hold back each request and each reply for so long: a slow link. 0 ends it."""
        self._run(self._set_delay(seconds))

    def cut(self) -> None:
        """Cut all open connections; new ones are accepted."""
        self._run(self._cut())

    def refuse(self, refusing: bool) -> None:
        """Refuse new connections (ECONNREFUSED), or accept them again. Open ones stay: see `cut`."""
        self._run(self._stop_listening() if refusing else self._listen())

    def stall(self, stalling: bool) -> None:
        """Hold back all bytes in both directions, connections open; or let them flow again."""
        self._run(self._set_stall(stalling))

    def __enter__(self) -> Self:
        self._thread.start()
        self._flowing.set()
        self._run(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._stop_listening())
        self._run(self._cut())
        self._flowing.set()
        wait_until(lambda: not self._tasks, what="the proxy's connections to end")
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, step: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(step, self._loop).result(timeout=10)

    async def _set_drop(self, n: int, matching: bytes) -> None:
        self._to_drop, self._matching = n, matching

    async def _set_tear(self, n: int) -> None:
        self._to_tear = n

    async def _set_delay(self, seconds: float) -> None:
        self._delay_s = seconds

    async def _set_stall(self, stalling: bool) -> None:
        if stalling:
            self._flowing.clear()
        else:
            self._flowing.set()

    async def _cut(self) -> None:
        for pair in list(self._pairs):
            pair.cut()

    async def _listen(self) -> None:
        if self._listener is None:
            self._listener = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
            self.port = self._listener.sockets[0].getsockname()[1]

    async def _stop_listening(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._serve(reader, writer)
        finally:
            self._tasks.discard(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            server_reader, server_writer = await asyncio.open_connection(*self.target)
        except OSError:
            writer.transport.abort()
            return
        pair = _Pair(writer, server_writer)
        self._pairs.add(pair)
        try:
            await asyncio.gather(self._requests(reader, pair), self._replies(server_reader, pair))
        finally:
            pair.cut()
            self._pairs.discard(pair)

    async def _requests(self, reader: asyncio.StreamReader, pair: _Pair) -> None:
        async for frame in _frames(reader, pair):
            await self._hold_back()
            if self._to_tear and pair.framed:
                self._to_tear -= 1
                self.torn += 1
                await pair.send(pair.server, frame[: len(frame) // 2])
                break
            lost = bool(self._to_drop) and pair.framed and self._matching in frame
            if lost:
                self._to_drop -= 1
            pair.lost.append(lost)
            self.requests += pair.framed
            await pair.send(pair.server, frame)
        pair.cut()

    async def _hold_back(self) -> None:
        await self._flowing.wait()
        if self._delay_s:
            await asyncio.sleep(self._delay_s)

    async def _replies(self, reader: asyncio.StreamReader, pair: _Pair) -> None:
        async for frame in _frames(reader, pair):
            await self._hold_back()
            if pair.framed and not frame.startswith(b">") and pair.lost and pair.lost.popleft():
                self.dropped += 1
                break
            await pair.send(pair.client, frame)
        pair.cut()


class _Pair:
    """One client connection and its server connection."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.client = client
        self.server = server
        self.framed = True
        self.lost: deque[bool] = deque()  # per request that is not yet answered

    async def send(self, writer: asyncio.StreamWriter, frame: bytes) -> None:
        with contextlib.suppress(ConnectionError):
            writer.write(frame)
            await writer.drain()

    def cut(self) -> None:
        self.client.transport.abort()
        self.server.transport.abort()


async def _frames(reader: asyncio.StreamReader, pair: _Pair) -> AsyncIterator[bytes]:
    """Yield whole RESP values; what is not RESP comes in chunks, as it came."""
    buffer = b""
    with contextlib.suppress(ConnectionError):
        while chunk := await reader.read(1 << 16):
            if not pair.lost and pair.framed and not buffer and chunk[:1] not in b"*$+-:_#,(!=~%>|":
                pair.framed = False
            buffer += chunk
            if not pair.framed:
                yield buffer
                buffer = b""
                continue
            start = 0
            while (end := frame_end(buffer, start)) is not None:
                yield buffer[start:end]
                start = end
            buffer = buffer[start:]


def frame_end(data: bytes, start: int) -> int | None:
    """Return where the RESP value at `start` ends, None when it is not all there.

    Source: the RESP2 and RESP3 specification: a line; `$ ! =` are followed by that many bytes, `* ~ >`
    by that many values, `% |` by twice as many (and `|` by the value that it describes).
    """
    missing = 1
    while missing:
        newline = data.find(b"\r\n", start)
        if newline < 0:
            return None
        kind, head = data[start : start + 1], data[start + 1 : newline]
        start = newline + 2
        missing -= 1
        if kind in b"$!=" and head != b"-1":
            start += int(head) + 2
        elif kind in b"*~>" and head != b"-1":
            missing += int(head)
        elif kind in b"%|":
            missing += 2 * int(head) + (kind == b"|")
    return start if start <= len(data) else None
