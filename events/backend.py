"""The wiring: from settings to servers. The one place where connections are made, on first use.

Composition: it may import any floor, and nothing below the composition imports it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from events import embedded
from events.connection import Client, connect
from events.durable import Barrier
from events.errors import StoreUnavailable
from events.namespace import Declared, Namespace, Remembered
from events.ports import TailPage
from events.publisher import Publisher
from events.schemas import Schemas
from events.settings import Settings
from events.stream import HistoryStream
from store.archive import Archive
from store.blackboard import Blackboard
from store.engine import open_engine
from store.migrate import upgrade
from store.registry import Registry
from store.replay import Replay

T = TypeVar("T")

# Connecting for the first time imports and builds much. A fork in the middle of it would give the child
# half of it, and locks that nobody there releases; so a fork waits until it is done.
_making = threading.RLock()
os.register_at_fork(before=_making.acquire, after_in_parent=_making.release, after_in_child=_making.release)


class Backend:
    """The servers of one process, each connected when it is first needed. Threads may share it.

    Args:
        settings: without a `redis_url` the embedded Valkey is started; without a `database_url`
            SQLite in `home` is used, and its schema is made.
        may_restore: this process declares a namespace anew that Redis has lost.
        schemas: what payloads are held against that are published with it.
    """

    def __init__(self, settings: Settings, *, may_restore: bool = False, schemas: Schemas | None = None) -> None:
        self.settings = settings
        self._schemas = schemas
        self._may_restore = may_restore
        self._lock = threading.RLock()
        self._made: dict[str, Any] = {}
        self._embedded: embedded.Embedded | None = None

    def redis_url(self) -> str:
        """Return the URL of Redis, starting the embedded one when none was set."""
        if self.settings.redis_url:
            return self.settings.redis_url
        with self._lock:
            if self._embedded is None:
                self._embedded = embedded.ensure(self.settings.home)
            return self._embedded.redis_url

    def database_url(self) -> str:
        """Return the URL of the database, the SQLite file in `home` when none was set."""
        return self.settings.database_url or f"sqlite:///{quote(str(self._home() / 'eventbus.db'))}"

    @property
    def client(self) -> Client:
        """The Redis client."""
        return self._once("client", self._make_client)

    @property
    def namespace(self) -> Namespace:
        """The namespace in Redis; what publishers and workers call scripts through."""
        return self._once("namespace", self._make_namespace)

    @property
    def publisher(self) -> Publisher:
        """Publishes, on the calling thread."""
        return self._once("publisher", self._make_publisher)

    @property
    def barrier(self) -> Barrier:
        """Waits for the disk of Redis, on a connection of its own."""
        return self._once("barrier", self._make_barrier)

    @property
    def history(self) -> HistoryStream:
        """History and outcomes as Redis holds them."""
        return HistoryStream(self.namespace)

    @property
    def blackboard(self) -> Blackboard:
        """The store; closing it closes this backend."""
        return self._once("blackboard", self._make_blackboard)

    @property
    def archive(self) -> Archive:
        """How history and outcomes get into SQL."""
        return self.blackboard.archive

    @property
    def registry(self) -> Registry:
        """The durable list of subscribers."""
        return self.blackboard.registry

    @property
    def replay(self) -> Replay:
        """History, to be read again."""
        return self.blackboard.replay

    def close(self) -> None:
        """Close every connection and stop using the embedded servers. Closing twice is harmless."""
        with self._lock:
            client, board, held = self._made.get("client"), self._made.get("blackboard"), self._embedded
            barrier = self._made.get("barrier")
            self._made.clear()
            self._embedded = None
        if barrier is not None:
            barrier.close()
        if client is not None:
            client.close()
        if board is not None:
            board.closes = None
            board.close()
        if held is not None:
            held.release()

    def _once(self, name: str, make: Callable[[], T]) -> T:
        """Return a part, made by whoever asks first."""
        found: T | None = self._made.get(name)
        if found is None:
            with _making, self._lock:
                found = self._made.get(name)
                if found is None:
                    found = self._made[name] = make()
        return found

    def _make_client(self) -> Client:
        return connect(self.redis_url(), self.settings.timeout_s, self.settings.redis_trust)

    def _make_namespace(self) -> Namespace:
        return Namespace(
            self.client,
            self.settings.namespace,
            self._remembered,
            may_restore=self._may_restore,
            reset_wait_s=self.settings.reset_wait_s,
        )

    def _make_publisher(self) -> Publisher:
        settings = self.settings
        return Publisher(self.namespace, settings.max_event_bytes, settings.max_routes, schemas=self._schemas)

    def _make_barrier(self) -> Barrier:
        timeout_s = self.settings.timeout_s
        return Barrier(
            lambda: self.namespace, lambda: connect(self.redis_url(), timeout_s, self.settings.redis_trust), timeout_s
        )

    def _make_blackboard(self) -> Blackboard:
        settings = self.settings
        engine = open_engine(self.database_url(), pool_size=settings.sql_pool_size, timeout_s=settings.timeout_s)
        if not settings.database_url:
            upgrade(engine)
        history = _HistoryOnDemand(self)
        board = Blackboard(engine, settings.namespace, history, history, threads=settings.sql_pool_size)
        board.settings, board.closes = settings, self.close
        return board

    def _home(self) -> Path:
        home = Path(self.settings.home).expanduser().resolve()
        try:
            home.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreUnavailable(f"The directory {home} (EVENTBUS_HOME) cannot be made: {error.strerror}.") from None
        return home

    def _remembered(self) -> Remembered:
        subscribers = [
            Declared(name, tuple(types), options, steering) for name, types, options, steering in self.registry.all()
        ]
        return Remembered(self.archive.highest_position(), subscribers)


class _HistoryOnDemand:
    """The store's view of Redis, connected (the embedded one: started) when it is first asked."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def after(self, position: int, limit: int) -> TailPage:
        """See `events.ports.HistoryTail.after`."""
        return self._backend.history.after(position, limit)

    def needed_from(self, stored: int) -> int:
        """See `events.ports.HistoryTail.needed_from`."""
        from events.needed import needed_from

        return needed_from(self._backend.namespace, stored)

    def open_letters(self) -> Iterator[dict[int, int]]:
        """See `events.ports.HistoryTail.open_letters`."""
        from events.needed import open_letters

        return open_letters(self._backend.namespace)

    def next_position(self) -> int:
        """See `events.ports.PositionClock.next_position`."""
        return self._backend.history.next_position()
