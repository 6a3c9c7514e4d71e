"""A connection to Redis on an event loop: one command at a time, its reply in a future.

Made and logged in by redis-py, with all that a URL may say; then its transport speaks to us without the
streams, locks and callbacks in between, which cost three times as much CPU as a command. Whoever asks decides
what an error means: one that the server replied leaves the link open, a time-out closes it, as a lost connection does.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import hiredis
import redis
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from events.trust import trusting

CHECK_S = 1.0


class Link(asyncio.Protocol):
    """For one loop, and used there only.

    Args:
        connection: connected; the link keeps it, and takes its transport over.
        timeout_s: seconds for one reply.
    """

    def __init__(self, connection: redis.asyncio.Connection, timeout_s: float) -> None:
        self._connection = connection
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader()
        self._reply: asyncio.Future[Any] | None = None
        self._asked_at = 0.0
        self._check: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport = connection._writer.transport  # type: ignore[union-attr, assignment]
        self._transport.set_protocol(self)
        self._transport.resume_reading()

    @classmethod
    async def open(cls, url: str, timeout_s: float, trust: str | None = None) -> Link:
        """Connect; arguments as `events.connection.connect`'s.

        Raises:
            redis.RedisError, OSError: as redis-py raises them.
        """
        pool: Any = redis.asyncio.ConnectionPool.from_url(
            url, protocol=2, socket_timeout=timeout_s, socket_connect_timeout=timeout_s, retry=Retry(NoBackoff(), 0),
            **trusting(url, trust),
        )  # fmt: skip
        connection: Any = pool.make_connection()
        await connection.connect()
        return cls(connection, timeout_s)

    @property
    def is_open(self) -> bool:
        """Whether it may be asked."""
        return not self._transport.is_closing()

    def ask(self, command: tuple[str | bytes | int, ...]) -> asyncio.Future[Any]:
        """Send a command; the one before has been answered.

        Returns:
            Its reply as bytes, integers and lists; or redis-py's `ResponseError`, `ConnectionError` or `TimeoutError`.

        Raises:
            TypeError: an argument is neither text nor a number; nothing was sent.
        """
        packed = hiredis.pack_command(command)  # type: ignore[arg-type]
        self._reply = reply = self._loop.create_future()
        self._asked_at = time.monotonic()
        if self._check is None:
            self._check = self._loop.call_later(CHECK_S, self._look)
        self._transport.write(packed)
        return reply

    def close(self) -> None:
        """Close it; what was asked ends with an error."""
        self._transport.abort()
        self._forget_connection()

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        found = self._reader.gets()
        if found is not False and self._reply is not None:
            reply, self._reply = self._reply, None
            if isinstance(found, hiredis.ReplyError):
                reply.set_exception(redis.ResponseError(str(found)))
            else:
                reply.set_result(found)

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(redis.ConnectionError(str(error) if error else "The server closed the connection."))
        self._forget_connection()

    def _forget_connection(self) -> None:
        """Take its streams from it, which are closed: it would complain that nobody has closed them."""
        self._connection._reader = self._connection._writer = None

    def _look(self) -> None:
        """Look now and then whether a reply is overdue: a timer for each would cost more than the command."""
        self._check = None
        if self._reply is None:
            return
        if time.monotonic() - self._asked_at > self._timeout_s:
            self._fail(redis.TimeoutError(f"No reply within {self._timeout_s:g} s."))
            self.close()
        else:
            self._check = self._loop.call_later(CHECK_S, self._look)

    def _fail(self, error: Exception) -> None:
        reply, self._reply = self._reply, None
        if reply is not None and not reply.done():
            reply.set_exception(error)
