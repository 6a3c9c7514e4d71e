"""Waiting until what was published is on the server's disk: one barrier for all who wait at the same time.

    publish acknowledged ──> a write of ours, on a connection of its own ──> WAITAOF ──> all before it is on disk

WAITAOF waits for what its own connection has written; the append-only file is in the order of writes, so what was
published before is on disk when our write is. A barrier that has begun does not cover what came after; those who
come meanwhile share the next one. Source: Redis WAITAOF (7.2), Valkey.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import redis

from events.connection import Client, mapped
from events.errors import EventBusError, NotDurable, RedisUnavailable
from events.namespace import Namespace

MARGIN_S = 0.5
MOST_WAITERS = 64


class Barrier:
    """Waits for the server's disk. Threads may share it.

    Args:
        connect: makes a client whose one connection nothing else uses.
        timeout_s: of its replies.
    """

    def __init__(self, namespace: Callable[[], Namespace], connect: Callable[[], Client], timeout_s: float) -> None:
        self._namespace = namespace
        self._connect = connect
        self._timeout_s = timeout_s
        self._turn = threading.Condition()
        self.pool = ThreadPoolExecutor(MOST_WAITERS, thread_name_prefix="eventbus-durable")
        """Where event loops wait: those of a process have few threads, and need them for other things."""
        self._begun = self._ended = 0
        self._error: EventBusError | None = None
        self._client: Client | None = None
        self._run_id: str | None = None

    def check(self) -> None:
        """Make sure that the server can wait for its disk, before anything is published.

        Raises:
            NotDurable: it has no WAITAOF, or writes no append-only file.
            RedisUnavailable.
        """
        with self._turn:
            if self._client is None:
                client: Any = self._connect()
                with mapped(client):
                    try:
                        client.execute_command("WAITAOF", 1, 0, 1)
                        self._run_id = client.info("server").get("run_id")
                    except redis.ResponseError as error:
                        client.close()
                        raise NotDurable(
                            f"The server cannot wait for its disk ({error}): it needs appendonly yes, and Redis 7.2 or "
                            "Valkey. Nothing was published."
                        ) from None
                self._client = client

    def wait(self) -> None:
        """Return when everything that was acknowledged before this call is on disk.

        Raises:
            NotDurable: it is not, within the time-out, or nobody can tell; it is published all the same.
        """
        with self._turn:
            wanted = self._begun + 1  # one that begins from now on
            while self._ended < wanted:
                if self._begun == self._ended:
                    self._lead()
                else:
                    self._turn.wait()
            error = self._error
        if error is not None:
            raise NotDurable(f"{error} It is published; publishing again is safe, and waits again.") from None

    def close(self) -> None:
        """Close the connection."""
        with self._turn:
            client, self._client = self._client, None
        if client is not None:
            client.close()
        self.pool.shutdown(wait=False)

    def _lead(self) -> None:
        """Run the next barrier, for everybody who waits for it; the lock is held before and after, not meanwhile."""
        self._begun += 1
        self._turn.release()
        error: EventBusError | None = NotDurable("The wait for the disk was interrupted.")
        try:
            self._pass()
            error = None
        except EventBusError as problem:
            error = problem
        finally:
            self._turn.acquire()
            self._ended += 1
            self._error = error
            self._turn.notify_all()

    def _pass(self) -> None:
        """Write, and wait for it, on one connection: WAITAOF on another one would wait for nothing."""
        client = self._client
        if client is None:
            raise RedisUnavailable("The bus was disconnected while a publish waited for the disk.")
        wait_ms = int(max(self._timeout_s - MARGIN_S, MARGIN_S) * 1000)
        written, synced = self._written(client, wait_ms)
        if isinstance(written, redis.exceptions.NoScriptError):
            self._namespace().call("position", 0)  # brings the script
            written, synced = self._written(client, wait_ms)
        if not isinstance(written, bytes) or not written.isdigit():
            raise NotDurable(f"The server did not take the write that marks the place ({written!r:.200}).")
        if not isinstance(synced, list) or not synced[0]:
            raise NotDurable(f"The server has not brought it to disk within {wait_ms / 1000:g} s ({synced!r:.200}).")

    def _written(self, client: Client, wait_ms: int) -> list[Any]:
        pipe: Any = client.pipeline(transaction=False)
        pipe.execute_command(*self._namespace().command("position", 0))
        pipe.execute_command("WAITAOF", 1, 0, wait_ms)
        pipe.info("server")
        with mapped(client):
            written, synced, server = pipe.execute(raise_on_error=False)
        if not isinstance(server, dict) or server.get("run_id") != self._run_id:
            self._client = None  # asked again before the next one is published
            client.close()
            raise NotDurable("The server was restarted, or another one took over, while it was published.")
        return [written, synced]
