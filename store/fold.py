"""Folds events and outcomes into one row per delivery, the same in whatever order they come.

History and outcomes are two streams with two archivers, so an outcome may be stored before its
event. Four rules make the result independent of the order:

    an event adds the row, waiting, if it is not there
    attempts is the highest attempt seen
    the first outcome that ends a delivery ends it; nothing changes its state afterwards
    project, type and actor are those of the event which is stored at the position; unknown until one is

    waiting --done--> done    waiting --dead--> dead    waiting --discarded--> discarded
                              waiting --dropped--> dropped

So a dead delivery stays dead whatever is decided about its letter (`dead_letters.resolution` says it). One
that is delivered again is a new row, `redelivery` + 1, made by the outcome `redelivered`.

Rows are read and written once per transaction, under the lock `cursors.DELIVERIES`, which is taken last. So what
was not there when it was read is not there when it is written, and is inserted without asking again; and one
archiver sees what the other folded, or is seen by it, and the difference between what a row said and what
it says now goes into the statistics.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, select

from events.records import AttemptState, Outcome, RecordedEvent
from store import counting, cursors, inserts, partitions
from store.counting import Changes
from store.tables import deliveries, delivery_statistics, outcomes
from store.tally import UNKNOWN, DeliveryTally, Labels

WAITING = "waiting"
DEAD = AttemptState.DEAD.value
_NO_LABELS = (None, None, None)
_LEARNED = ("state", "attempts", "settled_position", *Labels._fields)
FINAL = (AttemptState.DONE, AttemptState.DEAD, AttemptState.DISCARDED, AttemptState.DROPPED)

Row = dict[str, Any]
Key = tuple[int, str, int]


@dataclass(slots=True)
class _Delivery:
    state: str = WAITING
    attempts: int = 0
    settled_position: int | None = None


class Fold:
    """What one transaction learned about deliveries."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._changed: dict[Key, _Delivery] = {}
        self._labels: dict[int, Labels] = {}
        self._inserted: list[Row] = []
        self._new = range(0)

    def delivered(self, recorded: RecordedEvent) -> None:
        """Note the deliveries that publish made of an event."""
        for subscriber in recorded.deliveries:
            self._changed.setdefault((recorded.position, subscriber, 0), _Delivery())

    def inserted_event(self, row: Row) -> None:
        """Note a row of `events` that was not there before: its deliveries are counted by its labels from now on."""
        self._labels[row["position"]] = Labels(row["project_id"], row["type"], row["actor"])

    def came(self, first: int, last: int) -> None:
        """Note that the new events from one position to another are all that came, with nothing between them."""
        self._new = range(first, last + 1)

    def ended(self, outcome: Outcome) -> None:
        """Note the end of an attempt; one of a malformed entry belongs to no delivery, and its position may be any."""
        if not _is_delivery(outcome.event_position):
            return
        key = (outcome.event_position, outcome.subscriber, outcome.redelivery)
        delivery = self._changed.setdefault(key, _Delivery())
        delivery.attempts = max(delivery.attempts, outcome.attempt)
        if outcome.state in FINAL and (
            delivery.settled_position is None or outcome.position < delivery.settled_position
        ):
            delivery.state, delivery.settled_position = outcome.state.value, outcome.position

    def inserted_outcome(self, row: Row) -> None:
        """Note a row of `outcomes` that was not there before: the statistics count it."""
        if _is_delivery(row["event_position"]):
            self._inserted.append(row)

    def write(self, connection: Connection) -> None:
        """Merge what was learned into the table, and the differences into the statistics."""
        if not (self._changed or self._labels):
            return
        # before the lock: others make partitions first, and take it then
        partitions.ensure(connection, "deliveries", [position for position, _, _ in self._changed])
        _hold(connection, self._namespace)
        new_events = set(self._labels)
        old = self._stored(connection, new_events)
        self._learn_labels(connection, old)
        changes = Changes(DeliveryTally)
        self._write_rows(connection, old, changes)
        self._count_outcomes(self._inserted, changes)
        orphans = {position for (position, _, _), row in old.items() if _labels_of(row) is UNKNOWN} & new_events
        self._count_again(self._outcomes_of(connection, orphans), changes)
        counting.add(connection, self._namespace, delivery_statistics, DeliveryTally, changes.spread())

    def _stored(self, connection: Connection, new_events: set[int]) -> dict[Key, Row]:
        """Return the rows that may change: of new events all there are, which are few; of others those named."""
        column = deliveries.c
        found = list(self._select_new(connection))
        found += self._select(connection, {position for position in new_events if position not in self._new})
        named: dict[str, set[int]] = {}
        for position, subscriber, _ in self._changed:
            if position not in new_events:
                named.setdefault(subscriber, set()).add(position)
        for subscriber, positions in sorted(named.items()):
            found += self._select(connection, positions, column.subscriber == subscriber)
        return {(row["event_position"], row["subscriber"], row["redelivery"]): row for row in found}

    def _select(self, connection: Connection, positions: set[int], *only: ColumnElement[bool]) -> Iterator[Row]:
        for chunk in inserts.chunks(sorted(positions)):
            query = select(deliveries).where(
                deliveries.c.namespace == self._namespace, deliveries.c.event_position.in_(chunk), *only
            )
            yield from map(dict, connection.execute(query).mappings())

    def _select_new(self, connection: Connection) -> Iterator[Row]:
        """Iterate over the rows that outcomes made before their events came."""
        if self._new:
            position = deliveries.c.event_position
            query = select(deliveries).where(
                deliveries.c.namespace == self._namespace, position.between(self._new[0], self._new[-1])
            )
            found = map(dict, connection.execute(query).mappings())
            yield from (row for row in found if row["event_position"] in self._labels)

    def _learn_labels(self, connection: Connection, old: dict[Key, Row]) -> None:
        """Find the labels of what changes: a row has them, or the event at its position."""
        for (position, _, _), row in old.items():
            if (labels := _labels_of(row)) is not UNKNOWN:
                self._labels[position] = labels
        unknown = {position for position, _, _ in self._changed} - self._labels.keys()
        self._labels |= inserts.labels_at(connection, self._namespace, unknown)

    def _write_rows(self, connection: Connection, old: dict[Key, Row], changes: Changes[DeliveryTally]) -> None:
        rows, new = [], []
        for key in sorted(self._changed.keys() | old.keys()):
            before = old.get(key)
            after = self._merged(key, before)
            if before is None:
                new.append(after)
            elif before == after:
                continue
            else:
                rows.append(after)
                _tally(changes, before, _labels_of(before)).add_delivery(before, -1)
            _tally(changes, after, _labels_of(after)).add_delivery(after)
        if new:
            inserts.insert_deliveries(connection, new)
        if rows:
            column, statement = deliveries.c, cursors.insert(connection, deliveries)
            merged = statement.on_conflict_do_update(
                index_elements=[column.namespace, column.event_position, column.subscriber, column.redelivery],
                set_={name: statement.excluded[name] for name in _LEARNED},
            )
            inserts.upsert(connection, merged, rows)

    def _merged(self, key: Key, old: Row | None) -> Row:
        """Return a delivery's row as it is to be: what was stored, and what was learned."""
        new = self._changed.get(key) or _Delivery()
        position, subscriber, redelivery = key
        project_id, type_, actor = self._labels.get(position, _NO_LABELS)
        row: Row = {
            "namespace": self._namespace,
            "event_position": position,
            "subscriber": subscriber,
            "redelivery": redelivery,
            "state": new.state,
            "attempts": max(new.attempts, old["attempts"]) if old else new.attempts,
            "settled_position": new.settled_position,
            "project_id": project_id,
            "type": type_,
            "actor": actor,
        }
        if old and old["settled_position"] is not None:
            row |= {"state": old["state"], "settled_position": old["settled_position"]}
        return row

    def _count_outcomes(self, rows: Iterable[Row], changes: Changes[DeliveryTally]) -> None:
        for row in rows:
            _tally(changes, row, self._labels.get(row["event_position"], UNKNOWN)).add_outcome(row)

    def _count_again(self, rows: Iterable[Row], changes: Changes[DeliveryTally]) -> None:
        """Count by their labels what was counted without."""
        for row in rows:
            _tally(changes, row, UNKNOWN).add_outcome(row, -1)
            _tally(changes, row, self._labels[row["event_position"]]).add_outcome(row)

    def _outcomes_of(self, connection: Connection, positions: set[int]) -> Iterator[Row]:
        """Iterate over the outcomes of events that earlier transactions inserted."""
        ours = {row["position"] for row in self._inserted}
        for chunk in inserts.chunks(sorted(positions)):
            query = select(outcomes).where(
                outcomes.c.namespace == self._namespace, outcomes.c.event_position.in_(chunk)
            )
            yield from (dict(row) for row in connection.execute(query).mappings() if row["position"] not in ours)


def _tally(changes: Changes[DeliveryTally], row: Row, of: Labels) -> DeliveryTally:
    return changes.at(row["event_position"], of, row["subscriber"])


def _labels_of(row: Row) -> Labels:
    """Return the labels that a delivery's row has learned; of one whose event went too early the project alone."""
    project_id, type_, actor = (row[name] for name in Labels._fields)
    return UNKNOWN if project_id is None else Labels(project_id, type_ or "", actor or "")


def _hold(connection: Connection, namespace: str) -> None:
    """Become the one who folds deliveries, until the transaction ends."""
    if cursors.lock(connection, namespace, cursors.DELIVERIES) is None:
        cursors.make(connection, namespace)
        cursors.lock(connection, namespace, cursors.DELIVERIES)


def _is_delivery(event_position: int) -> bool:
    return 0 < event_position < partitions.LATEST
