"""The statements that add rows, in bulk, and that look events up by id.

PostgreSQL takes many rows by COPY: what is taken for new straight into its table, whose key refuses the batch when
it is not; what may be there already into a staging table, and from there with one INSERT ... ON CONFLICT. SQLite
takes what is new by its driver's `executemany`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import starmap
from typing import Any

from sqlalchemy import Column, Connection, Table, select
from sqlalchemy import column as column_of
from sqlalchemy import table as table_of

from events.records import OPEN, AttemptState, RecordedEvent
from store import partitions
from store.copying import FEW, copy, execute_many
from store.cursors import Insert, insert
from store.rows import RECORDED, is_storable, recorded
from store.tables import dead_letters, deliveries, event_index, events, outcomes
from store.tally import Labels

PURGED = AttemptState.PURGED.value
# SQLite allows 32,766 parameters in one statement, older ones 999.
_CHUNK = 900


def insert_events(connection: Connection, rows: list[dict[str, Any]]) -> None:
    """Insert events that are new, or taken for it; the caller holds the `direct` row.

    Raises:
        IntegrityError: an id or position is taken after all; nothing of the statement remains.
    """
    partitions.ensure(connection, "events", [row["position"] for row in rows])
    keys = [{name: row[name] for name in ("namespace", "event_id", "position")} for row in rows]
    if connection.dialect.name == "sqlite":  # its text is exact
        rows = [row if row["exact"] is None else row | {"exact": None} for row in rows]
    _add(connection, event_index, keys)
    _add(connection, events, rows)


def insert_deliveries(connection: Connection, rows: list[dict[str, Any]]) -> None:
    """Insert deliveries that are known to be new; the caller holds the `deliveries` row, and made the partitions.

    Raises:
        IntegrityError: one is there after all; nothing of the statement remains.
    """
    _add(connection, deliveries, rows)


def insert_new_outcomes(connection: Connection, rows: list[dict[str, Any]]) -> None:
    """Insert outcomes that are taken for new; the caller holds the `outcomes` row.

    Raises:
        IntegrityError: one is there after all; nothing of the statement remains.
    """
    partitions.ensure(connection, "outcomes", [row["position"] for row in rows])
    _add(connection, outcomes, rows)


def insert_outcomes(connection: Connection, rows: list[dict[str, Any]]) -> None:
    """Insert outcomes; one that is stored already is left alone."""
    partitions.ensure(connection, "outcomes", [row["position"] for row in rows])
    upsert(connection, insert(connection, outcomes).on_conflict_do_nothing(), rows)


def insert_dead_letters(connection: Connection, rows: list[dict[str, Any]]) -> None:
    """Insert dead letters; one that is stored already is left alone, whatever was decided about it since."""
    upsert(connection, insert(connection, dead_letters).on_conflict_do_nothing(), rows)


def upsert(connection: Connection, statement: Insert, rows: list[dict[str, Any]]) -> None:
    """Run an INSERT ... ON CONFLICT of its table for many rows, with columns in the order of the first.

    Args:
        rows: no two with the same key.
    """
    if not _copies(connection, rows):
        connection.execute(statement, rows)
        return
    table = statement.table
    assert isinstance(table, Table)
    staging = f"staging_{table.name}_{len(table.columns)}"  # a pooled connection may know an older schema's
    connection.exec_driver_sql(f"CREATE TEMP TABLE IF NOT EXISTS {staging} (LIKE {table.name}) ON COMMIT DELETE ROWS")
    copy(connection, table, rows, into=staging)
    staged = table_of(staging, *(column_of(name) for name in rows[0]))
    connection.execute(statement.from_select(list(rows[0]), select(*(staged.c[name] for name in rows[0]))))
    connection.exec_driver_sql(f"DELETE FROM {staging}")


def _add(connection: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    """Insert rows, none of which is there."""
    if connection.dialect.name == "sqlite":
        execute_many(connection, table, rows)
    elif _copies(connection, rows):
        copy(connection, table, rows)
    else:
        connection.execute(table.insert(), rows)


def _copies(connection: Connection, rows: list[dict[str, Any]]) -> bool:
    return connection.dialect.name == "postgresql" and len(rows) >= FEW


def resolve_dead_letter(connection: Connection, namespace: str, position: int, resolution: str, by: int) -> None:
    """Write what was decided about a dead letter; the first decision stays. A purged one keeps no texts.

    Args:
        by: position of the outcome that says so.
    """
    texts = dict.fromkeys(("traceback", "output", "raw"), "") if resolution == PURGED else {}
    column = dead_letters.c
    connection.execute(
        dead_letters.update()
        .where(column.namespace == namespace, column.position == position, column.resolution == OPEN)
        .values(resolution=resolution, resolved_position=by, **texts)
    )


def known_positions(connection: Connection, namespace: str, event_ids: Collection[str]) -> dict[str, int | None]:
    """Return the positions of those ids that are stored; any text may be asked for."""
    found: dict[str, int | None] = {}
    for chunk in chunks([event_id for event_id in event_ids if is_storable(event_id)]):
        query = select(event_index.c.event_id, event_index.c.position).where(
            event_index.c.namespace == namespace, event_index.c.event_id.in_(chunk)
        )
        found.update((event_id, position) for event_id, position in connection.execute(query))
    return found


def stored(connection: Connection, namespace: str, event_ids: Collection[str]) -> dict[str, RecordedEvent]:
    """Return those of the named events that are stored, by id."""
    known = known_positions(connection, namespace, event_ids)
    return at_positions(connection, namespace, [position for position in known.values() if position is not None])


def at_positions(connection: Connection, namespace: str, positions: Collection[int]) -> dict[str, RecordedEvent]:
    """Return the events at those positions, by id."""
    found: dict[str, RecordedEvent] = {}
    for chunk in chunks(positions):
        query = select(*RECORDED).where(events.c.namespace == namespace, events.c.position.in_(chunk))
        found |= {one.event.event_id: one for one in starmap(recorded, connection.execute(query).all())}
    return found


def causes_of(connection: Connection, namespace: str, event_ids: Collection[str]) -> dict[str, str]:
    """Return what caused those of the named events that are stored and name a cause, by id."""
    known = known_positions(connection, namespace, event_ids)
    positions = [position for position in known.values() if position is not None]
    rows = _at(connection, namespace, positions, events.c.event_id, events.c.causation_id)
    return {event_id: cause for _, event_id, cause in rows if cause}


def ids_at(connection: Connection, namespace: str, positions: Collection[int]) -> dict[int, str]:
    """Return the ids of the events that are stored at those positions, by position."""
    return {row[0]: row[1] for row in _at(connection, namespace, positions, events.c.event_id)}


def labels_at(connection: Connection, namespace: str, positions: Collection[int]) -> dict[int, Labels]:
    """Return by what the events that are stored at those positions are counted, by position."""
    column = events.c
    rows = _at(connection, namespace, positions, *(column[name] for name in Labels._fields))
    return {row[0]: Labels(*row[1:]) for row in rows}


def outcomes_at(connection: Connection, namespace: str, positions: Collection[int]) -> dict[int, dict[str, Any]]:
    """Return the rows of the outcomes that are stored at those positions, by position."""
    found: dict[int, dict[str, Any]] = {}
    for chunk in chunks(positions):
        query = select(outcomes).where(outcomes.c.namespace == namespace, outcomes.c.position.in_(chunk))
        found.update((row["position"], dict(row)) for row in connection.execute(query).mappings())
    return found


def chunks(values: Collection[Any]) -> Iterator[list[Any]]:
    """Cut values into lists that fit into one statement each."""
    every = list(values)
    for start in range(0, len(every), _CHUNK):
        yield every[start : start + _CHUNK]


def _at(connection: Connection, namespace: str, positions: Collection[int], *columns: Column[str]) -> Iterator[Any]:
    for chunk in chunks(positions):
        query = select(events.c.position, *columns).where(events.c.namespace == namespace, events.c.position.in_(chunk))
        yield from connection.execute(query)
