"""The audit log: who did what through the web process, when, from where, and what came of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Engine, select

from store.engine import reading, writing
from store.tables import audit


@dataclass(frozen=True, slots=True)
class Entry:
    """Something that somebody did, or tried to do.

    Attributes:
        id: its place in the log, increasing. at: when, by the clock of who logged it.
        who: what he calls himself. address: where he asked from. action: the operation's name.
        target: what it was done to. details: what was asked. status: of the answer; 0 when none was given.
    """

    id: int
    at: datetime
    who: str
    address: str
    action: str
    target: str
    details: Mapping[str, Any]
    status: int


class Audit:
    """The audit log of one namespace. Threads may share it.

    Raises, in every method:
        StoreUnavailable, NotMigrated.
    """

    def __init__(self, engine: Engine, namespace: str) -> None:
        self._engine = engine
        self._namespace = namespace

    def begin(
        self, who: str, address: str, action: str, target: str, details: Mapping[str, Any], status: int = 0
    ) -> int:
        """Log what somebody is about to do, or was not let; return the entry's id."""
        row = {
            "namespace": self._namespace, "at": datetime.now(UTC), "who": who, "address": address, "action": action,
            "target": target, "details": json.dumps(dict(details)),
            "status": status,
        }  # fmt: skip
        with writing(self._engine) as connection:
            made = connection.execute(audit.insert().values(row).returning(audit.c.id))
            return int(made.scalar_one())

    def end(self, id: int, status: int) -> None:
        """Log what came of it."""
        with writing(self._engine) as connection:
            connection.execute(audit.update().where(audit.c.id == id).values(status=status))

    def newest(self, limit: int = 100, before: int | None = None) -> list[Entry]:
        """Return the last entries, newest first; those before the entry of an id, if one is given."""
        column = audit.c
        query = select(*(column[name] for name in Entry.__dataclass_fields__)).where(
            column.namespace == self._namespace
        )
        if before is not None:
            query = query.where(column.id < before)
        with reading(self._engine) as connection:
            return [Entry(*row) for row in connection.execute(query.order_by(column.id.desc()).limit(limit))]
