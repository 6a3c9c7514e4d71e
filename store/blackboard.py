"""The blackboard: everything the store needs, opened once and shared.

A blackboard holds one engine, the view of what Redis has and SQL may not, and the few threads on which
asynchronous callers wait for SQL. Making one connects to nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property

from sqlalchemy import Engine

from events.ports import HistoryTail, PositionClock
from events.settings import Settings
from store.archive import Archive
from store.causation import Causation
from store.dead_letters import StoredLetters
from store.deliveries import StoredDeliveries
from store.direct import DirectWriter
from store.registry import Registry
from store.replay import Replay
from store.statistics import Statistics


class Blackboard:
    """The store of one namespace. Threads may share it; close it when done, or use it as a context manager.

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
