"""The wiring: from settings to servers. The one place where connections are made, on first use.

Composition: it may import any floor, and nothing below the composition imports it.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

from sqlalchemy import Engine

from events import embedded
from events.connection import Client, connect
from events.namespace import Declared, Namespace, Remembered
from events.publisher import Publisher
from events.settings import Settings
from events.stream import HistoryStream
from store.archive import Archive
from store.causation import Causation
from store.engine import open_engine
from store.migrate import upgrade
from store.registry import Registry
from store.replay import Replay
from store.statistics import Statistics


class Backend:
    """The servers of one process, each connected when it is first needed.

    Args:
        settings: without a `redis_url` the embedded Valkey is started; without a `database_url`
            SQLite is used beside it, and its schema is made.
        may_restore: this process declares a namespace anew that Redis has lost.
    """

    def __init__(self, settings: Settings, *, may_restore: bool = False) -> None:
        self.settings = settings
        self._may_restore = may_restore
        self._lock = threading.RLock()
        self._embedded: embedded.Embedded | None = None
        self._closers: list[object] = []

    def redis_url(self) -> str:
        """Return the URL of Redis, starting the embedded one when none was set."""
        return self.settings.redis_url or self._ensure_embedded().redis_url

    def database_url(self) -> str:
        """Return the URL of the database, the SQLite file in `home` when none was set."""
        if self.settings.database_url:
            return self.settings.database_url
        if not self.settings.redis_url:
            return self._ensure_embedded().database_url
        home = Path(self.settings.home).expanduser().resolve()
        home.mkdir(parents=True, exist_ok=True)
        return f"sqlite:///{home / 'eventbus.db'}"

    @property
    def client(self) -> Client:
        return self._once("_client")

    @property
    def namespace(self) -> Namespace:
        return self._once("_namespace")

    @property
    def publisher(self) -> Publisher:
        return self._once("_publisher")

    @property
    def engine(self) -> Engine:
        return self._once("_engine")

    @property
    def pool(self) -> ThreadPoolExecutor:
        """Threads for SQL reads of the async edge, as many as SQL connections."""
        return self._once("_pool")

    @property
    def history(self) -> HistoryStream:
        return HistoryStream(self.namespace)

    @property
    def archive(self) -> Archive:
        return Archive(self.engine, self.settings.namespace)

    @property
    def registry(self) -> Registry:
        return Registry(self.engine, self.settings.namespace)

    @property
    def replay(self) -> Replay:
        return Replay(self.engine, self.settings.namespace, self.history)

    @property
    def causation(self) -> Causation:
        return Causation(self.engine, self.settings.namespace, self.history)

    @property
    def statistics(self) -> Statistics:
        return Statistics(self.engine, self.settings.namespace, self.history)

    def close(self) -> None:
        """Close every connection and stop using the embedded servers."""
        with self._lock:
            made = self.__dict__
            if "_client" in made:
                made.pop("_client").close()
            if "_engine" in made:
                made.pop("_engine").dispose()
            if "_pool" in made:
                made.pop("_pool").shutdown(wait=False)
            for name in ("_namespace", "_publisher"):
                made.pop(name, None)
            if self._embedded is not None:
                self._embedded.release()
                self._embedded = None

    @cached_property
    def _client(self) -> Client:
        return connect(self.redis_url(), self.settings.timeout_s)

    @cached_property
    def _namespace(self) -> Namespace:
        return Namespace(
            self.client,
            self.settings.namespace,
            self._remembered,
            may_restore=self._may_restore,
            reset_wait_s=self.settings.reset_wait_s,
        )

    @cached_property
    def _publisher(self) -> Publisher:
        return Publisher(self.namespace, self.settings.max_event_bytes, self.settings.max_routes)

    @cached_property
    def _engine(self) -> Engine:
        url = self.database_url()
        engine = open_engine(url, pool_size=self.settings.sql_pool_size, timeout_s=self.settings.timeout_s)
        if not self.settings.database_url:
            upgrade(engine)
        return engine

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.settings.sql_pool_size, thread_name_prefix="eventbus-sql")

    def _once(self, name: str):  # type: ignore[no-untyped-def]
        """Read a cached part; the lock makes it once however many threads ask first."""
        found = self.__dict__.get(name)
        if found is not None:
            return found
        with self._lock:
            return getattr(self, name)

    def _ensure_embedded(self) -> embedded.Embedded:
        with self._lock:
            if self._embedded is None:
                self._embedded = embedded.ensure(self.settings.home)
            return self._embedded

    def _remembered(self) -> Remembered:
        subscribers = [Declared(name, tuple(types), options) for name, types, options in self.registry.all()]
        return Remembered(self.archive.highest_position(), subscribers)
