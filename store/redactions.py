"""The record of what was redacted: so that nothing puts it back, and an auditor finds what was done."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, select

from store.inserts import chunks
from store.tables import redactions


def redacted(connection: Connection, namespace: str, event_ids: Collection[str]) -> set[str]:
    """Return those of the events of which something was redacted."""
    column = redactions.c
    found: set[str] = set()
    for chunk in chunks(event_ids):
        query = select(column.event_id).where(column.namespace == namespace, column.event_id.in_(chunk))
        found.update(connection.execute(query).scalars())
    return found
