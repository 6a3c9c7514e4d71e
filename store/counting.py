"""Adds up what is stored, in the transaction that stores it; docs/statistics.md says what always holds.

Changes are gathered by hour and project while a transaction goes on, and spread at its end over the rows
that they concern: of the project and of all projects, in every grain. Whoever writes holds the lock under
which these rows have one writer, so sums are read, added to, and written back.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import datetime
from operator import itemgetter
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection, Table, text

from store.cursors import insert
from store.inserts import upsert
from store.tables import event_statistics, microseconds
from store.tally import DeliveryTally, EventTally, Labels

ALL_PROJECTS = ""
TOTAL, DAY, HOUR = "total", "day", "hour"
WIDTHS_US = {TOTAL: 0, DAY: 86_400_000_000, HOUR: 3_600_000_000}

Tally = TypeVar("Tally", EventTally, DeliveryTally)
Key = tuple[Any, ...]
"""A row's, without the namespace: grain, project, start; then type and actor, or subscriber, type and actor."""

# The rows of many keys in one statement, each looked up in the primary key. CROSS tells SQLite to begin with the
# keys; PostgreSQL takes it for a plain join.
_LOOKUP = """
    SELECT s.* FROM ({keys}) k CROSS JOIN {table} s
    WHERE s.namespace = :namespace AND {matches}"""
_KEYS = {
    "sqlite": "SELECT {parts} FROM json_each(:keys)",
    "postgresql": "SELECT {parts} FROM json_array_elements(CAST(:keys AS json))",
}
_PARTS = {
    "sqlite": "json_extract(value, '$[{at}]') AS {name}",
    "postgresql": "CAST(value->>{at} AS {type}) AS {name}",
}
_TYPES = {"start": "bigint"}


def start_of(grain: str, moment_us: int) -> int:
    """Return the first microsecond of the bucket in which a moment lies; 0 for the total."""
    width = WIDTHS_US[grain]
    return moment_us - moment_us % width if width else 0


class Changes(Generic[Tally]):
    """What one transaction adds to one of the two tables, or takes away."""

    def __init__(self, make: Callable[[], Tally]) -> None:
        self._make: Callable[[], Tally] = make
        self._by_hour: dict[Key, Tally] = {}

    def at(self, moment_us: int, of: Labels, *subscriber: str) -> Tally:
        """Return the tally to add to.

        Args:
            of: the event's; `UNKNOWN` is counted for all projects together only.
            subscriber: of the delivery, when it is deliveries that are counted.
        """
        key: Key = (of.project_id, start_of(HOUR, moment_us), *subscriber, of.type, of.actor)
        return self._by_hour.get(key) or self._by_hour.setdefault(key, self._make())

    def spread(self) -> dict[Key, Tally]:
        """Return what is to be added to each row; rows for which it comes to nothing are left out."""
        rows: dict[Key, Tally] = {}
        for (project, hour, *names), tally in self._by_hour.items():
            for of in {project, ALL_PROJECTS}:
                for grain in WIDTHS_US:
                    key = (grain, of, start_of(grain, hour), *names)
                    rows.setdefault(key, self._make()).merge(tally)
        nothing = self._make()
        return {key: tally for key, tally in rows.items() if tally != nothing}


class EventCounts:
    """Events that one transaction inserts."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._changes = Changes(EventTally)

    def inserted(self, row: Mapping[Any, Any]) -> None:
        """Count a row of `events` that was not there before."""
        labels = Labels(row["project_id"], row["type"], row["actor"])
        self._changes.at(microseconds(row["timestamp"]), labels).add(row)

    def inserted_all(self, rows: Iterable[Mapping[Any, Any]]) -> None:
        """Count rows of `events` that were not there before: together those that say nothing but when they were."""
        moments: dict[Labels, list[datetime]] = {}
        for row in rows:
            if row["cost_micros"] is None and row["latency_us"] is None:
                labels = Labels(row["project_id"], row["type"], row["actor"])
                moments.setdefault(labels, []).append(row["timestamp"])
            else:
                self.inserted(row)
        for labels, when in moments.items():
            self._happened(labels, min(when), max(when), when)

    def _happened(self, labels: Labels, first: datetime, last: datetime, when: list[datetime]) -> None:
        """Count events without a cost or a latency."""
        start = microseconds(first)
        if start_of(HOUR, start) == start_of(HOUR, microseconds(last)):
            self._changes.at(start, labels).see(len(when), first, last)
        else:
            for moment in when:
                self._changes.at(microseconds(moment), labels).see(1, moment, moment)

    def spread(self) -> dict[Key, EventTally]:
        """Return what they come to, by row of `event_statistics`."""
        return self._changes.spread()

    def write(self, connection: Connection) -> None:
        """Add them to the table; the caller holds the `direct` row, and has held it since it inserted them."""
        add(connection, self._namespace, event_statistics, EventTally, self.spread())


def add(connection: Connection, namespace: str, table: Table, kind: type[Tally], changes: Mapping[Key, Tally]) -> None:
    """Add changes to rows of a table, whose one writer the caller is."""
    key_columns: list[str] = key_names(table)
    stored = dict(_stored(connection, namespace, table, kind, changes))
    rows = []
    for key in sorted(changes):
        tally = stored.get(key) or kind()
        tally.merge(changes[key])
        rows.append({"namespace": namespace, **dict(zip(key_columns, key, strict=True)), **tally.columns()})
    if rows:
        statement = insert(connection, table)
        values = {column.name: statement.excluded[column.name] for column in table.c if not column.primary_key}
        keys = [table.c.namespace, *(table.c[name] for name in key_columns)]
        upsert(connection, statement.on_conflict_do_update(index_elements=keys, set_=values), rows)


def tallies(table: Table, kind: type[Tally], rows: Iterable[Mapping[Any, Any]]) -> Iterator[tuple[Key, Tally]]:
    """Iterate over what rows of a table hold, by key; a row that has come to nothing is as good as none."""
    key_of, nothing = itemgetter(*key_names(table)), kind()
    for row in rows:
        tally = kind.of(row)
        if tally != nothing:
            yield key_of(row), tally


def key_names(table: Table) -> list[str]:
    """Return the columns of a table's keys, the namespace left out."""
    return [column.name for column in table.primary_key if column.name != "namespace"]


def _stored(
    connection: Connection, namespace: str, table: Table, kind: type[Tally], keys: Collection[Key]
) -> Iterator[tuple[Key, Tally]]:
    names = key_names(table)
    part = _PARTS[connection.dialect.name]
    parts = [part.format(at=at, name=name, type=_TYPES.get(name, "text")) for at, name in enumerate(names)]
    matches = " AND ".join(f"s.{name} = k.{name}" for name in names)
    keys_sql = _KEYS[connection.dialect.name].format(parts=", ".join(parts))
    sql = _LOOKUP.format(table=table.name, keys=keys_sql, matches=matches)
    query = text(sql).columns(*table.c)
    # Not as escapes, which PostgreSQL reads in a database in UTF-8 only.
    asked = json.dumps(sorted(keys), ensure_ascii=False)
    yield from tallies(table, kind, connection.execute(query, {"namespace": namespace, "keys": asked}).mappings())
