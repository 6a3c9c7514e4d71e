"""Folds events and outcomes into one row per delivery, the same in whatever order they come.

History and outcomes are two streams with two archivers, so an outcome may be stored before its
event. Three rules make the result independent of the order:

    an event adds the row, waiting, if it is not there
    attempts is the highest attempt seen
    the first outcome that ends a delivery ends it; nothing changes its state afterwards

    waiting --done--> done    waiting --dead--> dead    waiting --discarded--> discarded
                              waiting --dropped--> dropped

So a dead delivery stays dead whatever is decided about its letter (`dead_letters.resolution` says it). One
that is delivered again is a new row, `redelivery` + 1, made by the outcome `redelivered`.

Rows are written once per transaction, in key order, so that two archivers cannot deadlock.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, case, func

from events.records import AttemptState, Outcome, RecordedEvent
from store import partitions
from store.cursors import insert
from store.inserts import upsert
from store.tables import deliveries

WAITING = "waiting"
DEAD = AttemptState.DEAD.value
FINAL = (AttemptState.DONE, AttemptState.DEAD, AttemptState.DISCARDED, AttemptState.DROPPED)


@dataclass(slots=True)
class _Delivery:
    state: str = WAITING
    attempts: int = 0
    settled_position: int | None = None


class Fold:
    """What one transaction learned about deliveries."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._changed: dict[tuple[int, str, int], _Delivery] = {}

    def delivered(self, recorded: RecordedEvent) -> None:
        """Note the deliveries that publish made of an event."""
        for subscriber in recorded.deliveries:
            self._changed.setdefault((recorded.position, subscriber, 0), _Delivery())

    def ended(self, outcome: Outcome) -> None:
        """Note the end of an attempt; one of a malformed entry belongs to no delivery, and its position may be any."""
        if not 0 < outcome.event_position < partitions.LATEST:
            return
        key = (outcome.event_position, outcome.subscriber, outcome.redelivery)
        delivery = self._changed.setdefault(key, _Delivery())
        delivery.attempts = max(delivery.attempts, outcome.attempt)
        if outcome.state in FINAL and (
            delivery.settled_position is None or outcome.position < delivery.settled_position
        ):
            delivery.state, delivery.settled_position = outcome.state.value, outcome.position

    def write(self, connection: Connection) -> None:
        """Merge what was learned into the table."""
        if not self._changed:
            return
        partitions.ensure(connection, "deliveries", [position for position, _, _ in self._changed])
        statement = insert(connection, deliveries)
        new, old = statement.excluded, deliveries.c
        merged = statement.on_conflict_do_update(
            index_elements=[old.namespace, old.event_position, old.subscriber, old.redelivery],
            set_={
                "attempts": case((new.attempts > old.attempts, new.attempts), else_=old.attempts),
                "state": case((old.settled_position.is_(None), new.state), else_=old.state),
                "settled_position": func.coalesce(old.settled_position, new.settled_position),
            },
        )
        upsert(connection, merged, [self._row(key) for key in sorted(self._changed)])

    def _row(self, key: tuple[int, str, int]) -> dict[str, object]:
        event_position, subscriber, redelivery = key
        delivery = self._changed[key]
        return {
            "namespace": self._namespace,
            "event_position": event_position,
            "subscriber": subscriber,
            "redelivery": redelivery,
            "state": delivery.state,
            "attempts": delivery.attempts,
            "settled_position": delivery.settled_position,
        }
