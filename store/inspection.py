"""What an operator asks of the store: is it there, is it this version's, what did it set aside."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Engine, func, select

from store.engine import reading
from store.tables import rejected


@dataclass(frozen=True, slots=True)
class RejectedRows:
    """Entries of one stream that could not be stored; `reason` is the newest one's."""

    stream: str
    count: int
    reason: str


def rejected_rows(engine: Engine, namespace: str) -> list[RejectedRows]:
    """Return what was set aside of each stream; streams without any are left out.

    Raises:
        StoreUnavailable, NotMigrated.
    """
    table = rejected.c
    of_namespace = table.namespace == namespace
    found = []
    with reading(engine) as connection:
        counts = select(table.stream, func.count()).where(of_namespace).group_by(table.stream).order_by(table.stream)
        for stream, count in connection.execute(counts).all():
            newest = (
                select(table.reason)
                .where(of_namespace, table.stream == stream)
                .order_by(func.length(table.entry_id).desc(), table.entry_id.desc())
                .limit(1)
            )
            found.append(RejectedRows(stream, count, connection.execute(newest).scalar_one()))
    return found
