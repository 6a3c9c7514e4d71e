"""Archiving against the database's own way of taking rows, and replaying against its way of giving them."""

from __future__ import annotations

import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from itertools import count
from pathlib import Path
from typing import Any

import psycopg2
from sqlalchemy import Engine, select

from benchmarks.limits.limit import Limit, Sides
from benchmarks.peers.eventbus import event
from events.event import Event
from events.records import RecordedEvent
from store.archive import Archive
from store.copying import written
from store.engine import open_engine, reading
from store.migrate import upgrade
from store.replay import Replay
from store.rows import event_row
from store.tables import events
from tests.servers import PostgresServer

BATCH = 1000
BEGIN = 1_900_000_000_000_000
_EVENT = [column.name for column in events.columns]


@contextmanager
def database(kind: str) -> Iterator[Engine]:
    """Enter a new, migrated database of that kind."""
    if kind == "postgresql":
        server = PostgresServer().start()
        engine = open_engine(server.create_database())
        upgrade(engine)
        try:
            yield engine
        finally:
            engine.dispose()
            server.stop()
        return
    with tempfile.TemporaryDirectory(prefix="eventbus-bench-") as home:
        engine = open_engine(f"sqlite:///{Path(home) / 'bench.db'}")
        upgrade(engine)
        yield engine
        engine.dispose()


def recorded(size: int) -> list[RecordedEvent]:
    """Return events at positions, as an archiver reads them."""
    return [RecordedEvent(BEGIN + n, event(n), 0, ("Bench",)) for n in range(size)]


def store(engine: Engine, history: list[RecordedEvent], namespace: str) -> None:
    """Archive a history as an archiver does, a transaction for each batch."""
    archive = Archive(engine, namespace)
    for start in range(0, len(history), BATCH):
        batch = history[start : start + BATCH]
        with archive.writer("history") as writer:
            assert writer is not None
            writer.append_events(batch)
            writer.advance(batch[-1].position, f"{batch[-1].position}-0")


def _timed(work: Callable[[], object], size: int) -> float:
    began = time.monotonic()
    work()
    return size / (time.monotonic() - began)


def _archiving(kind: str) -> Callable[[int], Any]:
    @contextmanager
    def sides(size: int) -> Iterator[Sides]:
        with database(kind) as engine:
            history, turn = recorded(size), count()
            rows = [event_row("raw", one) for one in history]

            def ours() -> float:
                return _timed(lambda: store(engine, history, f"ours-{next(turn)}"), size)

            def raw() -> float:
                named = [row | {"namespace": f"raw-{next(turn)}"} for row in rows]
                return _timed(lambda: (_copied if kind == "postgresql" else _inserted)(engine, named), size)

            yield {"archiver: events, ids, deliveries, statistics": ours, "the same event rows alone, raw": raw}

    return sides


def _copied(engine: Engine, rows: list[dict[str, Any]]) -> None:
    """COPY into the same indexed table, a transaction for each batch."""
    connection = psycopg2.connect(engine.url.set(drivername="postgresql").render_as_string(hide_password=False))
    for start in range(0, len(rows), BATCH):
        lines = ("\t".join(written(row[name]) for name in _EVENT) for row in rows[start : start + BATCH])
        with connection, connection.cursor() as cursor:
            cursor.copy_expert(f"COPY events ({', '.join(_EVENT)}) FROM STDIN", StringIO("\n".join(lines) + "\n"))
    connection.close()


def _inserted(engine: Engine, rows: list[dict[str, Any]]) -> None:
    """`executemany` into the same indexed table, a transaction for each batch."""
    connection = sqlite3.connect(str(engine.url.database))
    statement = f"INSERT INTO events ({', '.join(_EVENT)}) VALUES ({', '.join('?' * len(_EVENT))})"
    for start in range(0, len(rows), BATCH):
        values = [
            tuple(row[name] if name != "timestamp" else int(row[name].timestamp() * 1e6) for name in _EVENT)
            for row in rows[start : start + BATCH]
        ]
        with connection:
            connection.executemany(statement, values)
    connection.close()


def _replaying(kind: str) -> Callable[[int], Any]:
    @contextmanager
    def sides(size: int) -> Iterator[Sides]:
        with database(kind) as engine:
            store(engine, recorded(size), "replayed")
            replay = Replay(engine, "replayed", None)

            def ours() -> float:
                return _timed(lambda: sum(1 for _ in replay.iterate()), size)

            def validated() -> float:
                def read() -> None:
                    query = select(events).where(events.c.namespace == "replayed").order_by(events.c.position)
                    with reading(engine) as connection:
                        for row in connection.execute(query.execution_options(yield_per=500)).mappings():
                            Event.model_validate({name: row[name] for name in Event.model_fields})

                return _timed(read, size)

            yield {"events": ours, "Core and model_validate": validated, "rows of the driver": _raw(engine, size)}

    return sides


def _raw(engine: Engine, size: int) -> Callable[[], float]:
    query = f"SELECT {', '.join(_EVENT)} FROM events WHERE namespace = 'replayed' ORDER BY position"

    def read() -> None:
        if engine.dialect.name == "sqlite":
            connection: Any = sqlite3.connect(str(engine.url.database))
            cursor = connection.execute(query)
        else:
            connection = psycopg2.connect(engine.url.set(drivername="postgresql").render_as_string(hide_password=False))
            cursor = connection.cursor("read")
            cursor.execute(query)
        for _ in cursor:
            pass
        connection.close()

    return lambda: _timed(read, size)


LIMITS = tuple(
    limit
    for kind in ("postgresql", "sqlite")
    for limit in (
        Limit(f"archive-{kind}", f"Archive, {kind}, transactions of {BATCH:,}", "events/s", _archiving(kind)),
        Limit(f"replay-{kind}", f"Replay, {kind}", "events/s", _replaying(kind)),
    )
)
