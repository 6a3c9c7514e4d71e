"""Drops whole months of history on PostgreSQL: a month goes in the time that a file needs, whatever is in it.

    events_2026_12 ──detach, if nothing in it stays──> pruned_events_2026_12 ──what belongs to it is removed──> dropped
                                                        └ an interrupted prune is gone on with from here

A month may hold several namespaces: it goes only when nothing of another is in it, and nothing that waits. Its
deliveries go in the same step, its outcomes when no event that is left has one in it. What cannot be detached
without waiting for long (a reader holds the table) is left to batches. `*_first` is emptied, never dropped.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from sqlalchemy import Connection, Engine, exc, text

from events.errors import NotMigrated
from events.records import OPEN
from store import cursors, partitions
from store.engine import reading, writing
from store.failures import mapped
from store.fold import WAITING

_PAGE = 2000
# Whoever waits for a table makes everybody else wait behind him: not for long, and holding nothing meanwhile.
_LOCK_WAIT = "2s"
_TRIES, _PAUSE_S = 5, 0.2
# Not granted, a deadlock after all, a detached table of that name that another namespace has left; not the owner.
_GIVE_UP_STATES = ("55P03", "40P01", "42P07", "42501")

_PARTITIONS = text("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = to_regclass(:table) ORDER BY 1")
_DETACHED = text(
    "SELECT relname FROM pg_class WHERE relkind = 'r' AND relname ~ '^pruned_events_[0-9]{4}_[0-9]{2}$' "
    "AND pg_table_is_visible(oid) ORDER BY 1"
)
# Not `<>`: both halves are found in the key.
_FOREIGN = "(namespace < :namespace OR namespace > :namespace)"
_STAYS = f"""
    SELECT EXISTS (SELECT 1 FROM events_{{month}} WHERE {_FOREIGN})
        OR EXISTS (SELECT 1 FROM deliveries WHERE namespace = :namespace AND state = :waiting
                   AND event_position >= :first AND event_position < :end)
        OR EXISTS (SELECT 1 FROM dead_letters WHERE namespace = :namespace AND resolution = :open
                   AND event_position >= :first AND event_position < :end)
        OR EXISTS (SELECT 1 FROM outbox o WHERE o.namespace = :namespace AND ( -- no join: the outbox is the smaller
                       SELECT i.position FROM event_index i WHERE i.namespace = :namespace AND i.event_id = o.event_id
                   ) BETWEEN :first AND :end - 1)"""
_OUTCOME_STAYS = f"""
    SELECT EXISTS (SELECT 1 FROM outcomes_{{month}} WHERE {_FOREIGN})
        OR EXISTS (SELECT 1 FROM outcomes_{{month}} WHERE namespace = :namespace AND event_position >= :end)
        OR EXISTS (SELECT 1 FROM events e JOIN outcomes_{{month}} o ON o.event_position = e.position
                   WHERE e.namespace = :namespace AND o.namespace = :namespace AND e.position < :end)"""
_IS_FOREIGN = f"SELECT EXISTS (SELECT 1 FROM {{table}} WHERE {_FOREIGN})"
_OF_MONTH = """
    SELECT position, event_id, project_id, blackboard_pointer FROM {table}
    WHERE namespace = :namespace AND position > :after ORDER BY position LIMIT :page"""


class Months:
    """The month partitions of a database, as one namespace may drop them. SQLite has none."""

    def __init__(self, engine: Engine, namespace: str) -> None:
        self._engine = engine
        self._namespace = namespace
        self._has_none = engine.dialect.name != "postgresql"

    def droppable(self, before: int) -> list[str]:
        """Return the months, `2026_12`, that would go as a whole; changes nothing."""
        if self._has_none:
            return []
        with reading(self._engine) as connection:
            return [month for month in self._old(connection, before) if not self._stays(connection, month)]

    def drop(self, before: int) -> Iterator[tuple[str, Sequence[Any]]]:
        """Drop months that end at or before a position.

        Yields:
            A month and a page of its events, which history has no more: remove what belongs to them.
        """
        if self._has_none:
            return
        with reading(self._engine) as connection:
            found = [month for month in self._old(connection, before) if not self._stays(connection, month)]
        for month in found:
            self._alone(partial(self._detach, month))
        with reading(self._engine) as connection:
            emptied = self._old(connection, before, "outcomes")
            detached = list(connection.execute(_DETACHED).scalars())
        for month in emptied:
            self._alone(partial(self._drop_outcomes, month))
        for table in detached:
            yield from self._finish(table)

    def _old(self, connection: Connection, before: int, table: str = "events") -> list[str]:
        names = connection.execute(_PARTITIONS, {"table": table}).scalars()
        months = [found[1] for name in names if (found := re.search(r"_(\d{4}_\d\d)$", name))]
        return [month for month in months if _bounds(month)[1] <= before]

    def _stays(self, connection: Connection, month: str) -> bool:
        first, end = _bounds(month)
        values = {"namespace": self._namespace, "open": OPEN, "waiting": WAITING, "first": first, "end": end}
        if connection.execute(text(_STAYS.format(month=month)), values).scalar_one():
            return True
        table = f"deliveries_{month}"
        if not _exists(connection, table):
            return False  # its deliveries are in the first partition
        return connection.execute(text(_IS_FOREIGN.format(table=table)), values).scalar_one() is True

    def _alone(self, step: Callable[[Connection], None]) -> None:
        """Take a step in a transaction of its own, a few times if what it needs is held; else leave it."""
        for _ in range(_TRIES):
            with mapped(self._engine), self._engine.connect() as connection:
                try:
                    with connection.begin():
                        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{_LOCK_WAIT}'")
                        step(connection)
                    return
                except exc.DBAPIError as error:
                    if getattr(error.orig, "pgcode", None) not in _GIVE_UP_STATES:
                        raise
                except _Held:
                    pass
            time.sleep(_PAUSE_S)

    def _hold(self, connection: Connection, *streams: str) -> None:
        """Keep who writes into this namespace from going on; without waiting for any."""
        for stream in streams:
            is_held = cursors.lock(connection, self._namespace, stream, wait=False) is None
            if is_held and cursors.exists(connection, self._namespace):
                raise _Held

    def _hold_partitions(self, connection: Connection) -> None:
        if not partitions.hold(connection, wait=False):
            raise _Held

    def _detach(self, month: str, connection: Connection) -> None:
        """Take a month out of history, if nothing in it stays.

        It is counted before the tables are locked, for that takes long: what this namespace has in it stays the same,
        and when another has something, the month stays.
        """
        self._hold(connection, "outcomes", cursors.DIRECT)
        if not _exists(connection, f"events_{month}"):
            return
        has_deliveries = _exists(connection, f"deliveries_{month}")
        if has_deliveries:
            self._count(connection, cursors.PRUNED_DELIVERIES, f"deliveries_{month}")
        self._count(connection, cursors.PRUNED_EVENTS, f"events_{month}")
        connection.exec_driver_sql("LOCK TABLE events IN ACCESS EXCLUSIVE MODE")
        connection.exec_driver_sql("LOCK TABLE deliveries IN ACCESS EXCLUSIVE MODE NOWAIT")
        self._hold_partitions(connection)
        is_as_counted = has_deliveries == _exists(connection, f"deliveries_{month}")
        if not is_as_counted or not _exists(connection, f"events_{month}") or self._stays(connection, month):
            raise _Held
        connection.exec_driver_sql(f"ALTER TABLE events DETACH PARTITION events_{month}")
        connection.exec_driver_sql(f"ALTER TABLE events_{month} RENAME TO pruned_events_{month}")
        connection.exec_driver_sql(f"DROP TABLE IF EXISTS deliveries_{month}")

    def _count(self, connection: Connection, counter: str, table: str) -> None:
        """Count the rows of a month that is going; no other namespace has any in it."""
        rows = connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()
        if rows:
            cursors.count(connection, self._namespace, counter, rows)

    def _drop_outcomes(self, month: str, connection: Connection) -> None:
        self._hold(connection, "outcomes")
        values = {"namespace": self._namespace, "end": _bounds(month)[1]}
        if not _exists(connection, f"outcomes_{month}"):
            return
        if connection.execute(text(_OUTCOME_STAYS.format(month=month)), values).scalar_one():
            return
        connection.exec_driver_sql("LOCK TABLE outcomes IN ACCESS EXCLUSIVE MODE")
        self._hold_partitions(connection)
        if not _exists(connection, f"outcomes_{month}"):
            return
        # Another namespace may have got one since.
        foreign = text(_IS_FOREIGN.format(table=f"outcomes_{month}"))
        if not connection.execute(foreign, values).scalar_one():
            connection.exec_driver_sql(f"DROP TABLE outcomes_{month}")

    def _finish(self, table: str) -> Iterator[tuple[str, Sequence[Any]]]:
        """Give the events of a detached month, then drop it; one of another namespace is left to its own."""
        month, page = table.removeprefix("pruned_events_"), self._page(table, 0)
        if page is None:
            return
        yield month, ()
        while page:
            yield month, page
            page = self._page(table, page[-1].position)
        with writing(self._engine) as connection:
            connection.exec_driver_sql(f"DROP TABLE IF EXISTS {table}")

    def _page(self, table: str, after: int) -> Sequence[Any] | None:
        """Return events of a detached month; None when it is another namespace's, or another prune has dropped it."""
        of_month = {"namespace": self._namespace, "after": after, "page": _PAGE}
        try:
            with reading(self._engine) as connection:
                if connection.execute(text(_IS_FOREIGN.format(table=table)), of_month).scalar_one():
                    return None
                return connection.execute(text(_OF_MONTH.format(table=table)), of_month).all()
        except NotMigrated:
            return None


class _Held(Exception):
    """Another process holds what a step needs."""


def _bounds(month: str) -> tuple[int, int]:
    year, number = month.split("_")
    return partitions.bounds(datetime(int(year), int(number), 1, tzinfo=UTC))


def _exists(connection: Connection, table: str) -> bool:
    return connection.execute(text("SELECT to_regclass(:name) IS NOT NULL"), {"name": table}).scalar_one() is True
