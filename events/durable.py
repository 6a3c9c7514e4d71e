"""Waiting until what was published is on the server's disk: one barrier for all who wait at the same time.

    publish acknowledged ──> a write of ours, on a connection of its own ──> WAITAOF ──> all before it is on disk

WAITAOF waits for what its own connection has written; the append-only file is in the order of writes, so what was
published before is on disk when our write is. A barrier that has begun does not cover what came after; those who
come meanwhile share the next one. All of it holds within one run of the server: what an earlier run had acknowledged
and not yet brought to disk is gone, and no barrier on the next run tells of it. So who waits says on which run its
publish began, and is promised something only by a barrier on that one. Source: Redis WAITAOF (7.2), Valkey.
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


class Passing:
    """One barrier: whether it has ended, why it failed, and on which run of the server it passed."""

    def __init__(self) -> None:
        self.ended = False
        self.run_id = ""
        self.error: EventBusError | None = NotDurable("The wait for the disk was interrupted.")


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
        self._coming = Passing()  # begins from now on
        self._under_way: Passing | None = None
        self._client: Client | None = None
        self._run_id = ""

    def check(self) -> str:
        """Make sure that the server can wait for its disk, before anything is published.

        Returns:
            The run of the server, for `wait`: an id that each start of a server makes anew.

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
                        self._run_id = _run_of(client.info("server"))
                    except (redis.ResponseError, NotDurable) as error:
                        client.close()
                        raise NotDurable(
                            f"The server cannot wait for its disk ({error}): it needs appendonly yes, and Redis 7.2 or "
                            "Valkey. Nothing was published."
                        ) from None
                self._client = client
            return self._run_id

    def wait(self, run_id: str) -> None:
        """Return when everything that was acknowledged since `check`, before this call, is on disk.

        Args:
            run_id: what `check` returned before it was published.

        Raises:
            NotDurable: it is not, within the time-out, or nobody can tell, and it is published all the same; or
                another run has come, which may have lost it.
        """
        with self._turn:
            mine = self._coming
            while not mine.ended:
                if self._under_way is None:
                    self._lead()
                else:
                    self._turn.wait()
        if mine.error is not None:
            raise NotDurable(f"{mine.error} It is published; publishing again is safe, and waits again.") from None
        if mine.run_id != run_id:
            raise NotDurable(
                "The server was restarted, or another one took over, since it was published: it may be lost. "
                "Publishing again is safe, and waits again."
            )

    def close(self) -> None:
        """Close the connection."""
        with self._turn:
            client, self._client = self._client, None
        if client is not None:
            client.close()
        self.pool.shutdown(wait=False)

    def _lead(self) -> None:
        """Run the next barrier, for everybody who waits for it; the lock is held before and after, not meanwhile."""
        mine, self._coming = self._coming, Passing()
        self._under_way, client = mine, self._client
        self._turn.release()
        try:
            mine.run_id = self._pass(client)
            mine.error = None
        except EventBusError as problem:
            mine.error = problem
        finally:
            self._turn.acquire()
            if mine.error is None and mine.run_id != self._run_id and client is self._client:
                self._client = None  # another run is asked again before the next one is published
                client.close()  # type: ignore[union-attr]
            mine.ended, self._under_way = True, None
            self._turn.notify_all()

    def _pass(self, client: Client | None) -> str:
        """Write, and wait for it, on one connection: WAITAOF on another one would wait for nothing.

        Returns:
            The run of the server that has done so.
        """
        if client is None:
            raise RedisUnavailable(
                "The bus was disconnected, or its server changed, while a publish waited for the disk."
            )
        wait_ms = int(max(self._timeout_s - MARGIN_S, MARGIN_S) * 1000)
        written, synced, run_id = self._written(client, wait_ms)
        if isinstance(written, redis.exceptions.NoScriptError):
            self._namespace().call("position", 0)  # brings the script
            written, synced, run_id = self._written(client, wait_ms)
        if not isinstance(written, bytes) or not written.isdigit():
            raise NotDurable(f"The server did not take the write that marks the place ({written!r:.200}).")
        if not isinstance(synced, list) or not synced[0]:
            raise NotDurable(f"The server has not brought it to disk within {wait_ms / 1000:g} s ({synced!r:.200}).")
        return run_id

    def _written(self, client: Client, wait_ms: int) -> tuple[Any, Any, str]:
        pipe: Any = client.pipeline(transaction=False)
        pipe.execute_command(*self._namespace().command("position", 0))
        pipe.execute_command("WAITAOF", 1, 0, wait_ms)
        pipe.info("server")
        with mapped(client):
            written, synced, server = pipe.execute(raise_on_error=False)
        return written, synced, _run_of(server)


def _run_of(server: Any) -> str:
    """Return the run of a server from what INFO says of it.

    Raises:
        NotDurable: it does not say.
    """
    run_id = server.get("run_id") if isinstance(server, dict) else None
    if not run_id:
        raise NotDurable(f"The server does not say which run of it this is ({server!r:.200}).")
    return str(run_id)
