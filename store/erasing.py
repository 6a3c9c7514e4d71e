"""Erases a namespace: every row of it, in every table. Nothing asks whether it may."""

from __future__ import annotations

from sqlalchemy import Engine

from store.engine import writing
from store.tables import metadata


def erase(engine: Engine, namespace: str) -> None:
    """Remove everything that a database has of a namespace.

    Raises:
        StoreUnavailable, NotMigrated.

    Guarantee: all or nothing; repeating it changes nothing.
    """
    with writing(engine) as connection:
        for table in metadata.sorted_tables:
            connection.execute(table.delete().where(table.c.namespace == namespace))
