"""The blackboard: everything the store needs, opened once and shared.

A blackboard holds one engine, the view of what Redis has and SQL may not, and the few threads on which
asynchronous callers wait for SQL. Making one connects to nothing.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

from sqlalchemy import Engine

from events.errors import RedisUnavailable, StoreUnavailable
from events.ports import HistoryTail, PositionClock
from events.settings import Settings
from store.archive import Archive
from store.causation import Causation
from store.direct import DirectWriter
from store.engine import open_engine
from store.migrate import upgrade
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
    """

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

    def __enter__(self) -> Blackboard:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class BlackboardFactory:
    """Makes blackboards from settings."""

    @staticmethod
    def create(settings: Settings | None = None) -> Blackboard:
        """Make a blackboard; it connects to servers when it is first used.

        Args:
            settings: from the environment unless given. Without a `database_url`, SQLite in `home`, which
                is made and migrated here: nobody else will.

        Raises:
            InvalidSettings: a setting cannot be used.
            StoreUnavailable, NotMigrated: the SQLite file in `home` cannot be used.
        """
        settings = settings or Settings.from_env()
        tail, clock = _wire(settings)
        engine = open_engine(database_url(settings), pool_size=settings.sql_pool_size, timeout_s=settings.timeout_s)
        if settings.database_url is None:
            _prepare_embedded(engine, _home(settings))
        return Blackboard(engine, settings.namespace, tail, clock, threads=settings.sql_pool_size)


def database_url(settings: Settings) -> str:
    """Return the URL of the store: the one given, or the SQLite file beside the embedded Valkey."""
    return settings.database_url or f"sqlite:///{_home(settings) / 'eventbus.db'}"


def _home(settings: Settings) -> Path:
    return Path(settings.home).expanduser().resolve()


def _prepare_embedded(engine: Engine, home: Path) -> None:
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreUnavailable(f"The directory {home} (EVENTBUS_HOME) cannot be made: {error.strerror}.") from None
    upgrade(engine)


# --- wiring: the lead fills this in -------------------------------------------------------------


class _NoClock:
    """Stands where Redis is not wired: reading works, storing an unpublished event says why it cannot."""

    def next_position(self) -> int:
        raise RedisUnavailable("Positions come from Redis, and this blackboard was made without one: set REDIS_URL.")


def _wire(settings: Settings) -> tuple[HistoryTail | None, PositionClock]:
    """Give the tail and the clock that belong to the settings, connecting to Redis at first use.

    To be filled with `events.connect.open_history(settings)`; until then SQL only.
    """
    return None, _NoClock()
