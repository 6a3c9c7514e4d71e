"""The blackboard: the projects' shared, versioned state, and everything else the store needs, opened once and shared.

A blackboard holds one engine, the view of what Redis has and SQL may not, and the few threads on which
asynchronous callers wait for SQL. Making one connects to nothing.

Its calls are plain ones. In a coroutine any of them is `await board.run(board.put, "P-1", "script", {...})`.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any, ParamSpec, TypeVar

from sqlalchemy import Engine

from events.errors import StoreUnavailable
from events.event import Event
from events.ports import HistoryTail, PositionClock
from events.settings import Settings
from store.archive import Archive
from store.causation import Causation
from store.dead_letters import StoredLetters
from store.deliveries import StoredDeliveries
from store.direct import DirectWriter
from store.importing import Importer
from store.payloads import offload, payload_of
from store.redacting import Redaction
from store.registry import Registry
from store.replay import Replay
from store.retention import Retention
from store.state import Entry, State
from store.statistics import Statistics

P = ParamSpec("P")
T = TypeVar("T")


class Blackboard:
    """The shared state and the store of one namespace. Threads may share it; close it, or use it as a context manager.

    State is kept by project and key, and every write is a version: see `store.state.State`, whose calls these are.
    A pointer, `bb:PROJECT/KEY@VERSION`, names one version and fits into an event's `blackboard_pointer`.

    Args:
        engine: from `store.engine.open_engine`; the blackboard closes it.
        namespace: whose rows.
        tail: what Redis has and SQL may not have yet; None reads SQL only.
        clock: gives positions to events that are stored without being published.
        threads: how many asynchronous calls may wait for SQL at once; as many as pooled connections.

    Attributes:
        settings: those it was made from, by the factory; a bus may share them.
        closes: called at the end, for connections that are not the engine's.
    """

    settings: Settings | None = None
    closes: Callable[[], None] | None = None

    def __init__(
        self, engine: Engine, namespace: str, tail: HistoryTail | None, clock: PositionClock, *, threads: int = 5
    ) -> None:
        self.engine = engine
        self.namespace = namespace
        self.tail = tail
        self.clock = clock
        self.pool = ThreadPoolExecutor(threads, thread_name_prefix="eventbus-sql")

    @cached_property
    def archive(self) -> Archive:
        """How history and outcomes get into SQL."""
        return Archive(self.engine, self.namespace)

    @cached_property
    def replay(self) -> Replay:
        """History, to be read again."""
        return Replay(self.engine, self.namespace, self.tail)

    @cached_property
    def causation(self) -> Causation:
        """Chains and trees."""
        return Causation(self.engine, self.namespace, self.tail)

    @cached_property
    def statistics(self) -> Statistics:
        """Counts, costs, latencies."""
        return Statistics(self.engine, self.namespace, self.tail)

    @cached_property
    def dead_letters(self) -> StoredLetters:
        """What was given up, and what was decided about it."""
        return StoredLetters(self.engine, self.namespace)

    @cached_property
    def deliveries(self) -> StoredDeliveries:
        """Every (event, subscriber), with its state and attempts."""
        return StoredDeliveries(self.engine, self.namespace)

    @cached_property
    def registry(self) -> Registry:
        """The durable list of subscribers."""
        return Registry(self.engine, self.namespace)

    @cached_property
    def direct(self) -> DirectWriter:
        """How events are stored without being published."""
        return DirectWriter(self.engine, self.namespace, self.clock, self.replay)

    # the projects' shared state

    @cached_property
    def state(self) -> State:
        """The projects' shared, versioned state."""
        return State(self.engine, self.namespace)

    def put(self, project_id: str, key: str, value: Any, *, actor: str | None = None) -> str:
        """Write JSON or bytes; return the pointer to this version. See `State.put`."""
        return self.state.put(project_id, key, value, actor=actor)

    def get(self, pointer: str) -> Entry:
        """Return exactly the version that a pointer names, or the newest when it names none. See `State.get`."""
        return self.state.get(pointer)

    def newest(self, project_id: str, key: str) -> Entry | None:
        """Return a key's newest version, or None. See `State.newest`."""
        return self.state.newest(project_id, key)

    def compare_and_set(
        self, project_id: str, key: str, expected_version: int, value: Any, *, actor: str | None = None
    ) -> int:
        """Write if the newest version is still the expected one; return the new. See `State.compare_and_set`."""
        return self.state.compare_and_set(project_id, key, expected_version, value, actor=actor)

    def delete(self, project_id: str, key: str, *, actor: str | None = None) -> int:
        """Write a version without a value; return it. See `State.delete`."""
        return self.state.delete(project_id, key, actor=actor)

    def history(self, project_id: str, key: str, *, before: int | None = None, limit: int = 100) -> list[Entry]:
        """Return a page of a key's versions, newest first, without values. See `State.history`."""
        return self.state.history(project_id, key, before=before, limit=limit)

    def keys(self, project_id: str, *, after: str = "", limit: int = 100) -> list[Entry]:
        """Return a page of a project's keys that have a value. See `State.keys`."""
        return self.state.keys(project_id, after=after, limit=limit)

    def offload(self, event: Event, over_bytes: int | None = None) -> Event:
        """Move an event's payload here if the event is too large; return the event that points to it.

        For events that a handler returns; `EventBus.publish_large` does it by itself.

        Args:
            over_bytes: the settings' `max_event_bytes` unless given.

        Returns:
            The event with an empty payload and the pointer; the event itself when it is small enough.

        Raises:
            InvalidEvent: it is too large, and points to something else already.
            EventIdConflict: another payload lies there under its id.
            InvalidValue: over 64 MiB, or the project's and event's names are too long for a pointer.
            StoreUnavailable, NotMigrated: it may or may not have been put; repeating is safe.
        """
        settings = self.settings or Settings()
        return offload(self.state, event, settings.max_event_bytes if over_bytes is None else over_bytes)

    def payload_of(self, event: Event) -> dict[str, Any]:
        """Return an event's payload, from the blackboard if that is where it went.

        Raises:
            ValueNotFound: it was pruned, redacted or deleted.
            StoreUnavailable, NotMigrated.
        """
        return payload_of(self.state, event)

    # all of it

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a plain call on one of this blackboard's threads, with this task's context variables.

        A cancelled caller stops waiting; its call on the thread ends as if nobody had cancelled, whole or not
        at all, and gives its connection back.

        Raises:
            StoreUnavailable: the blackboard is closed.
        """
        context = contextvars.copy_context()
        try:
            hop = asyncio.get_running_loop().run_in_executor(self.pool, lambda: context.run(call, *args, **kwargs))
        except RuntimeError:  # what a pool that was shut down says
            raise StoreUnavailable("This blackboard is closed: make a new one.") from None
        return await hop

    @cached_property
    def redaction(self) -> Redaction:
        """What is to be known no more, to be taken out of events that stay."""
        return Redaction(self.engine, self.namespace, self.replay)

    @cached_property
    def importer(self) -> Importer:
        """How events that were elsewhere get into the store."""
        return Importer(self.engine, self.namespace, self.direct, self.replay)

    @cached_property
    def retention(self) -> Retention:
        """What is old and settled, to be removed."""
        return Retention(self.engine, self.namespace, self.replay.seam)

    def close(self) -> None:
        """Let running calls end, then close every connection. Closing twice is harmless."""
        self.pool.shutdown(wait=True)
        self.engine.dispose()
        if self.closes is not None:
            self.closes()

    def __enter__(self) -> Blackboard:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class BlackboardFactory:
    """Makes blackboards from settings.

    Composition: it reaches above the store's floor, for Redis, and does so when it is called.
    """

    @staticmethod
    def create(settings: Settings | None = None) -> Blackboard:
        """Make a blackboard; Redis is connected when it is first asked.

        Args:
            settings: from the environment unless given. Without a `database_url`, SQLite in `home`, which
                is made and migrated here: nobody else will.

        Raises:
            InvalidSettings: a setting cannot be used.
            StoreUnavailable, NotMigrated: the SQLite file in `home` cannot be used.
        """
        from events.backend import Backend

        return Backend(settings or Settings.from_env()).blackboard
