"""What an operator asks of the store: is it there, is it this version's, what did it set aside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, Select, func, select

from store import cursors
from store.counting import ALL_PROJECTS, TOTAL
from store.engine import reading
from store.tables import deliveries, delivery_statistics, event_statistics, events, rejected
from store.tally import STATES


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


@dataclass(frozen=True, slots=True)
class Counted:
    """How many events and deliveries are stored, were pruned, and are in the statistics, which keep the pruned."""

    events: int
    pruned_events: int
    counted_events: int
    deliveries: int
    pruned_deliveries: int
    counted_deliveries: int

    @property
    def agrees(self) -> bool:
        """Whether everything that was stored is counted."""
        return (
            self.events + self.pruned_events == self.counted_events
            and self.deliveries + self.pruned_deliveries == self.counted_deliveries
        )


def counted(engine: Engine, namespace: str) -> Counted:
    """Compare how much is stored with how much is in the statistics, in one snapshot.

    It counts rows, and adds nothing up: `store.recount.differences` does.

    Raises:
        StoreUnavailable, NotMigrated.
    """
    kept, held = event_statistics.c, delivery_statistics.c
    in_states = sum((func.sum(held[state]) for state in STATES[1:]), func.sum(held[STATES[0]]))
    counted_events = select(func.sum(kept.events)).where(
        kept.namespace == namespace, kept.project_id == ALL_PROJECTS, kept.grain == TOTAL
    )
    counted_deliveries = select(in_states).where(
        held.namespace == namespace, held.project_id == ALL_PROJECTS, held.grain == TOTAL
    )
    with reading(engine) as connection:

        def number(question: Select[Any]) -> int:
            return int(connection.execute(question).scalar() or 0)

        return Counted(
            events=number(select(func.count()).where(events.c.namespace == namespace)),
            pruned_events=cursors.read(connection, namespace, cursors.PRUNED_EVENTS).position,
            counted_events=number(counted_events),
            deliveries=number(select(func.count()).where(deliveries.c.namespace == namespace)),
            pruned_deliveries=cursors.read(connection, namespace, cursors.PRUNED_DELIVERIES).position,
            counted_deliveries=number(counted_deliveries),
        )
