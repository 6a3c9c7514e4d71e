"""Adds the statistics up again from the rows of which they are sums: to compare, and to mend.

Nobody reads answers from here: it looks at every event, delivery and outcome. Memory grows with the rows of the
statistics, not with history.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, RowMapping, Select, Table, and_, exists, or_, select

from store import counting, cursors
from store.counting import Changes, EventCounts, Key, Tally
from store.engine import reading, writing
from store.partitions import LATEST
from store.tables import archive, deliveries, delivery_statistics, event_statistics, events, outcomes
from store.tally import UNKNOWN, DeliveryTally, EventTally, Labels

_PAGE = 1000
_OF_DELIVERIES = and_(outcomes.c.event_position > 0, outcomes.c.event_position < LATEST)
_MEASURES = ("project_id", "type", "actor", "timestamp", "cost_micros", "currency", "latency_us")


@dataclass(frozen=True, slots=True)
class Difference:
    """A row of the statistics that is not what adding up again gives.

    Attributes:
        table: its table.
        key: grain, project (empty: all), start; then type and actor, or subscriber, type and actor.
        kept: what it holds; None when there is no such row.
        counted: what it ought to hold; None when there ought to be none.
    """

    table: str
    key: Key
    kept: EventTally | DeliveryTally | None
    counted: EventTally | DeliveryTally | None


def differences(engine: Engine, namespace: str) -> list[Difference]:
    """Compare the statistics of a namespace with what is stored, in one snapshot; it reads everything.

    Returns:
        The rows that differ, by table and key; none when all is as it should be.

    Raises:
        StoreUnavailable, NotMigrated.
    """
    with reading(engine) as connection:
        found = _differing(
            event_statistics, _kept(connection, namespace, event_statistics, EventTally), _events(connection, namespace)
        )
        kept = _kept(connection, namespace, delivery_statistics, DeliveryTally)
        return found + _differing(delivery_statistics, kept, _deliveries(connection, namespace))


def recount(engine: Engine, namespace: str) -> None:
    """Write the statistics of a namespace anew, from what is stored; what was pruned is in them no more.

    Archivers wait meanwhile.

    Raises:
        StoreUnavailable, NotMigrated.

    Guarantee: all or nothing; repeating it changes nothing.
    """
    with writing(engine) as connection:
        for stream in ("history", "outcomes", cursors.DIRECT, cursors.DELIVERIES):
            cursors.lock(connection, namespace, stream)
        _write_labels(connection, namespace)
        connection.execute(
            archive.delete().where(
                archive.c.namespace == namespace,
                archive.c.stream.in_((cursors.PRUNED_EVENTS, cursors.PRUNED_DELIVERIES)),
            )
        )
        for table in (event_statistics, delivery_statistics):
            connection.execute(table.delete().where(table.c.namespace == namespace))
        counting.add(connection, namespace, event_statistics, EventTally, _events(connection, namespace))
        counting.add(connection, namespace, delivery_statistics, DeliveryTally, _deliveries(connection, namespace))


def _events(connection: Connection, namespace: str) -> dict[Key, EventTally]:
    counts = EventCounts(namespace)
    query = select(*(events.c[name] for name in _MEASURES)).where(events.c.namespace == namespace)
    for row in _rows(connection, query):
        counts.inserted(row)
    return counts.spread()


def _deliveries(connection: Connection, namespace: str) -> dict[Key, DeliveryTally]:
    changes = Changes(DeliveryTally)
    for row in _rows(connection, _with_labels(deliveries, namespace)):
        changes.at(row["event_position"], _labels_of(row), row["subscriber"]).add_delivery(row)
    for row in _rows(connection, _with_labels(outcomes, namespace).where(_OF_DELIVERIES)):
        changes.at(row["event_position"], _labels_of(row), row["subscriber"]).add_outcome(row)
    return changes.spread()


def _with_labels(table: Table, namespace: str) -> Select[Any]:
    """Select rows with the labels of the event at their position, nulls when none is stored."""
    event = events.c
    is_its_event = and_(event.namespace == table.c.namespace, event.position == table.c.event_position)
    joined = table.outerjoin(events, is_its_event)
    labels = (event[name].label(f"event_{name}") for name in Labels._fields)
    return select(table, *labels).select_from(joined).where(table.c.namespace == namespace)


def _labels_of(row: RowMapping) -> Labels:
    if row["event_type"] is None:
        return UNKNOWN
    return Labels(*(row[f"event_{name}"] for name in Labels._fields))


def _rows(connection: Connection, query: Select[Any]) -> Iterator[RowMapping]:
    yield from connection.execute(query.execution_options(yield_per=_PAGE)).mappings()


def _kept(connection: Connection, namespace: str, table: Table, kind: type[Tally]) -> dict[Key, Tally]:
    rows = _rows(connection, select(table).where(table.c.namespace == namespace))
    return dict(counting.tallies(table, kind, rows))


def _differing(table: Table, kept: dict[Key, Tally], counted: dict[Key, Tally]) -> list[Difference]:
    return [
        Difference(table.name, key, kept.get(key), counted.get(key))
        for key in sorted(kept.keys() | counted.keys())
        if kept.get(key) != counted.get(key)
    ]


def _write_labels(connection: Connection, namespace: str) -> None:
    """Give deliveries their labels that an archiver of an older version did not give them."""
    event, delivery = events.c, deliveries.c
    is_its_event = and_(event.namespace == delivery.namespace, event.position == delivery.event_position)
    labels = {name: select(event[name]).where(is_its_event).scalar_subquery() for name in Labels._fields}
    lacks = or_(*(delivery[name].is_(None) for name in Labels._fields))
    there = exists().where(is_its_event)
    connection.execute(deliveries.update().where(delivery.namespace == namespace, lacks, there).values(labels))
