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
from sqlalchemy import Engine, Table, select

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
from store.tables import deliveries, event_index, events
from tests.servers import PostgresServer

BATCH = 1000
BEGIN = 1_900_000_000_000_000
_EVENT = [column.name for column in events.columns]
_TABLES = (events, event_index, deliveries)

Row = dict[str, Any]


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


def _cost(work: Callable[[], object], size: int) -> float:
    """Return the microseconds of this process's CPU for an event; of SQLite's work too, which is done in it."""
    began = time.process_time()
    work()
    return (time.process_time() - began) / size * 1e6


def _archiving(kind: str, measured: Callable[[Callable[[], object], int], float]) -> Callable[[int], Any]:
    @contextmanager
    def sides(size: int) -> Iterator[Sides]:
        with database(kind) as engine:
            history, turn = recorded(size), count()
            rows = {table: _rows_of(table, history) for table in _TABLES}
            write = _copied if kind == "postgresql" else _inserted

            def ours() -> float:
                return measured(lambda: store(engine, history, f"ours-{next(turn)}"), size)

            def raw(tables: tuple[Table, ...]) -> float:
                namespace = f"raw-{next(turn)}"
                named = {table: [row | {"namespace": namespace} for row in rows[table]] for table in tables}
                return measured(lambda: write(engine, named), size)

            yield {
                "archiver: events, ids, deliveries, statistics": ours,
                "the same rows of events, ids, deliveries, raw": lambda: raw(_TABLES),
                "the same event rows alone, raw": lambda: raw((events,)),
            }

    return sides


def _rows_of(table: Table, history: list[RecordedEvent]) -> list[Row]:
    """Return the rows that an archiver makes of a history in one table."""
    rows = [event_row("raw", one) for one in history]
    if table is events:
        return rows
    if table is event_index:
        return [{name: row[name] for name in ("namespace", "event_id", "position")} for row in rows]
    states = {"redelivery": 0, "state": "waiting", "attempts": 0, "settled_position": None}
    return [
        {"namespace": "raw", "event_position": one.position, "subscriber": subscriber, **states}
        | {name: row[name] for name in ("project_id", "type", "actor")}
        for one, row in zip(history, rows, strict=True)
        for subscriber in one.deliveries
    ]


def _copied(engine: Engine, rows: dict[Table, list[Row]]) -> None:
    """COPY into the same indexed tables, a transaction for each batch."""
    connection = psycopg2.connect(engine.url.set(drivername="postgresql").render_as_string(hide_password=False))
    for start in range(0, len(rows[events]), BATCH):
        with connection, connection.cursor() as cursor:
            for table, every in rows.items():
                names = list(every[0])
                lines = ("\t".join(written(row[name]) for name in names) for row in every[start : start + BATCH])
                statement = f"COPY {table.name} ({', '.join(names)}) FROM STDIN"
                cursor.copy_expert(statement, StringIO("\n".join(lines) + "\n"))
    connection.close()


def _inserted(engine: Engine, rows: dict[Table, list[Row]]) -> None:
    """`executemany` into the same indexed tables, a transaction for each batch, synced as the archiver's are."""
    connection = sqlite3.connect(str(engine.url.database))
    connection.execute("PRAGMA synchronous=FULL")
    for start in range(0, len(rows[events]), BATCH):
        with connection:
            for table, every in rows.items():
                names = list(every[0])
                statement = f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"
                connection.executemany(statement, [_values(row, names) for row in every[start : start + BATCH]])
    connection.close()


def _values(row: Row, names: list[str]) -> tuple[Any, ...]:
    return tuple(row[name] if name != "timestamp" else int(row[name].timestamp() * 1e6) for name in names)


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
        Limit(f"archive-{kind}", f"Archive, {kind}, transactions of {BATCH:,}", "events/s", _archiving(kind, _timed)),
        Limit(f"archive-cpu-{kind}", f"CPU of the archiving process, {kind}", "us an event", _archiving(kind, _cost)),
        Limit(f"replay-{kind}", f"Replay, {kind}", "events/s", _replaying(kind)),
    )
)
