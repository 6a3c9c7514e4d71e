"""Makes the partitions of PostgreSQL's large tables, a month each, before a row needs them.

    events_first        everything before the month after the migration
    events_2026_12      positions of December 2026, UTC; made by the first writer that has one
    ...

A partition is made apart and attached: readers and writers of the others go on meanwhile. `*_first` is never
dropped, because its bound says where the months begin. SQLite has one table and needs nothing of this.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, text

LATEST = 2**53  # positions are exact in Redis's scripts below it, which is the year 2255; what is beyond has no month
AHEAD = 3
COLUMNS = {"events": "position", "outcomes": "position", "deliveries": "event_position"}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_LOCK = 0x70617274  # b"part": held by whoever makes partitions in this database

_MISSING = text("""
    SELECT (SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE oid = to_regclass(:first)),
           ARRAY(SELECT name FROM unnest(CAST(:names AS text[])) AS name WHERE to_regclass(name) IS NULL)""")


def ensure(connection: Connection, table: str, positions: Collection[int]) -> None:
    """Make the partitions that rows at these positions need, where they are missing.

    Args:
        table: one of `COLUMNS`.
        positions: microseconds since 1970, in any order. Rows beyond `LATEST` find no partition.

    They are there for others once the caller's transaction commits, and nobody drops them before.
    """
    positions = [position for position in positions if position < LATEST]
    if connection.dialect.name != "postgresql" or not positions:
        return
    # What an INSERT would lock it with: nobody takes a partition away between this look and the row.
    connection.exec_driver_sql(f"LOCK TABLE {table} IN ROW EXCLUSIVE MODE")
    if _missing(connection, table, positions):
        hold(connection)
        for month in _missing(connection, table, positions):
            _make(connection, table, month)


def ensure_ahead(connection: Connection, now: datetime) -> None:
    """Make the partitions of the next months, so that who may only write finds them."""
    months = [month_of((now - _EPOCH) // _MICROSECOND)]
    for _ in range(AHEAD):
        months.append(_following(months[-1]))
    for table in COLUMNS:
        ensure(connection, table, [bounds(month)[0] for month in months])


def hold(connection: Connection, *, wait: bool = True) -> bool:
    """Be the only one who makes or drops partitions until the transaction ends; without waiting it may fail."""
    lock = "pg_advisory_xact_lock(:key) IS NOT NULL" if wait else "pg_try_advisory_xact_lock(:key)"
    return bool(connection.execute(text(f"SELECT {lock}"), {"key": _LOCK}).scalar_one())


def name_of(table: str, month: datetime) -> str:
    """Return the name of a month's partition."""
    return f"{table}_{month:%Y_%m}"


def bounds(month: datetime) -> tuple[int, int]:
    """Return the first position of a month, and the first after it."""
    return (month - _EPOCH) // _MICROSECOND, (_following(month) - _EPOCH) // _MICROSECOND


def month_of(position: int) -> datetime:
    """Return the first moment of the month in which a position lies."""
    return (_EPOCH + position * _MICROSECOND).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def _following(month: datetime) -> datetime:
    return (month + timedelta(days=32)).replace(day=1)


def _missing(connection: Connection, table: str, positions: Collection[int]) -> list[datetime]:
    months = {name_of(table, month): month for month in {*map(month_of, {min(positions), max(positions)})}}
    if len(months) > 1:
        months = {name_of(table, month): month for month in {*map(month_of, positions)}}
    bound, names = connection.execute(_MISSING, {"first": f"{table}_first", "names": list(months)}).one()
    found = re.search(r"TO \('(\d+)'\)", bound or "")
    begin = int(found[1]) if found else 0
    return sorted(months[name] for name in names if bounds(months[name])[0] >= begin)


def _make(connection: Connection, table: str, month: datetime) -> None:
    name, (first, end) = name_of(table, month), bounds(month)
    connection.exec_driver_sql(f"CREATE TABLE {name} (LIKE {table} INCLUDING DEFAULTS INCLUDING CONSTRAINTS)")
    connection.exec_driver_sql(f"ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ({first}) TO ({end})")
