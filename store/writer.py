"""What the one archiver of a stream may do inside its transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Connection, exc

from events.records import OPEN, Outcome, RecordedEvent, Rejected
from store import cursors, inserts
from store.counting import EventCounts
from store.cursors import Cursor, Stream
from store.failures import first_line, is_bad_row
from store.fold import Fold
from store.redactions import redacted
from store.rows import Unstorable, dead_letter_row, event_row, outcome_row, rejected_row, rejection
from store.tables import rejected

Row = dict[str, Any]
R = TypeVar("R", RecordedEvent, Outcome)


@dataclass(slots=True)
class Late:
    """What came at or below the cursor and was not stored: Redis had gone back, and gave positions again.

    Attributes:
        stored: events that were stored at their positions, behind readers who had passed them.
        refused: events or outcomes whose position another one has; they are in `rejected`.
    """

    stored: list[RecordedEvent] = field(default_factory=list)
    refused: list[Rejected] = field(default_factory=list)


class ArchiveWriter:
    """Appends to one stream's archive; made by `Archive.writer`, used by one thread, valid until it exits.

    A record that the store cannot keep never fails the batch: it is set aside in `rejected`, with
    the reason, and the rest is kept. Nothing is visible to anyone before the transaction commits.

    Attributes:
        cursor: how far the stream is archived, `advance` included.
    """

    def __init__(self, connection: Connection, namespace: str, stream: Stream, cursor: Cursor) -> None:
        self.cursor = cursor
        self._connection = connection
        self._namespace = namespace
        self._stream = stream
        self._counts = EventCounts(namespace)
        self._fold = Fold(namespace)
        self._appended = cursor.position

    def highest_position(self) -> int:
        """Return the largest position that the store knows, of both streams and of unpublished events."""
        return cursors.highest(self._connection, self._namespace)

    def append_events(self, recorded: Sequence[RecordedEvent]) -> Late:
        """Store events, and one waiting delivery for each name in `deliveries`.

        An event stored before at the same position is left alone; one whose id is stored at another
        position is set aside, because an id has one place in history; so is one whose position has
        another event.

        Args:
            recorded: ascending by position; usually after the cursor.

        Returns:
            What became of those at or below the cursor that the store did not have.
        """
        rows = self._storable(recorded, partial(event_row, is_read=True))
        late = Late() if self._append_new(rows) else self._append_looking(rows)
        self._seen(recorded)
        return late

    def _append_new(self, rows: list[tuple[RecordedEvent, Row]]) -> bool:
        """Store events that are all beyond the cursor, ascending, in the expectation that all are new.

        The keys of `events` and `event_index` say whether they are: when one is not, or the database refuses a
        value, nothing of them is stored, and the answer is False. So only what is unusual is looked up.
        """
        before = self._appended
        for record, _ in rows:
            if record.position <= before:
                return False
            before = record.position
        batch = [row for _, row in rows]
        if not self._is_kept(inserts.insert_events, batch):
            return False
        self._counts.inserted_all(batch)
        for record, row in rows:
            self._fold.inserted_event(row)
            self._fold.delivered(record)
        if rows:
            self._fold.came(batch[0]["position"], batch[-1]["position"])
        return True

    def _append_looking(self, rows: list[tuple[RecordedEvent, Row]]) -> Late:
        """Store events of which any may be stored already, or have an id or a position that is."""
        late = Late()
        fresh: list[tuple[RecordedEvent, Row]] = []
        aside: list[Rejected] = []
        known = inserts.known_positions(self._connection, self._namespace, [row["event_id"] for _, row in rows])
        behind = [row["position"] for _, row in rows if row["position"] <= self.cursor.position]
        taken = inserts.ids_at(self._connection, self._namespace, behind)
        again = [row["event_id"] for _, row in rows if known.get(row["event_id"], row["position"]) != row["position"]]
        hidden = redacted(self._connection, self._namespace, again)
        for record, row in rows:
            event_id, position = row["event_id"], row["position"]
            place = known.setdefault(event_id, None)
            if place is None and position in taken:
                late.refused.append(_displaced(record, f"that of event {taken[position]!r}"))
            elif place is None:
                known[event_id] = position
                fresh.append((record, row))
                continue
            elif place != position:
                reason = f"Its event_id {event_id!r} is already stored, at position {place}."
                aside.append(rejection(record, reason, is_redacted=event_id in hidden))
            else:
                continue
            self._fold.delivered(record)  # they are in the queues all the same
        self.reject(aside + late.refused)
        for record, row in self._keep(fresh, inserts.insert_events):
            self._counts.inserted(row)
            self._fold.inserted_event(row)
            self._fold.delivered(record)
            if record.position <= self.cursor.position:
                late.stored.append(record)
        return late

    def append_outcomes(self, ended: Sequence[Outcome]) -> Late:
        """Store outcomes, and fold each into the state of its delivery and of its dead letter.

        One stored before is left alone.

        Returns:
            Those set aside because another outcome has their position; they are folded all the same.

        Guarantee: deliveries and dead letters end the same however often a batch is appended, and whichever of
            events and outcomes is archived first.
        """
        late = Late()
        rows = self._storable(ended, outcome_row)
        behind = [row["position"] for _, row in rows if row["position"] <= self.cursor.position]
        taken = inserts.outcomes_at(self._connection, self._namespace, behind)
        fresh: list[tuple[Outcome, Row]] = []
        folded: list[Outcome] = []
        for outcome, row in rows:
            there = taken.setdefault(row["position"], row)
            if there is row:
                fresh.append((outcome, row))
                continue
            folded.append(outcome)
            if there != row:
                late.refused.append(_displaced(outcome, "that of another outcome"))
        self.reject(late.refused)
        for outcome, row in self._keep_outcomes(fresh):
            self._fold.inserted_outcome(row)
            folded.append(outcome)
        for outcome in folded:
            self._fold.ended(outcome)
        self._keep_letters([outcome for outcome in folded if outcome.letter])
        self._seen(ended)
        return late

    def reject(self, entries: Sequence[Rejected]) -> None:
        """Set entries aside, with their reasons. One set aside before is left alone."""
        if entries:
            rows = [rejected_row(self._namespace, self._stream, entry) for entry in entries]
            self._connection.execute(cursors.insert(self._connection, rejected).on_conflict_do_nothing(), rows)

    def advance(self, position: int, last_entry: str) -> None:
        """Move the cursor: everything up to here was appended or rejected.

        Args:
            position: of the last event or outcome; the same as before when there was none.
            last_entry: id of the last stream entry looked at.

        Raises:
            ValueError: either would go backwards. Leave the block; nothing was written.
        """
        old = self.cursor
        if position < old.position or _entry(last_entry) < _entry(old.last_entry):
            raise ValueError(
                f"The {self._stream} cursor cannot go back from {old.position} ({old.last_entry}) "
                f"to {position} ({last_entry})."
            )
        self.cursor = Cursor(position, last_entry)
        cursors.move(self._connection, self._namespace, self._stream, self.cursor)

    def finish(self) -> None:
        """Write what became of the deliveries, and the statistics; called by `Archive.writer` before it commits.

        Raises:
            ValueError: something was appended beyond the cursor, which readers would see twice.
        """
        if self._appended > self.cursor.position:
            raise ValueError(
                f"The {self._stream} archive was appended to up to {self._appended}, but its cursor stayed at "
                f"{self.cursor.position}: call advance before leaving the block."
            )
        self._counts.write(self._connection)
        self._fold.write(self._connection)

    def _storable(self, records: Sequence[R], to_row: Callable[[str, R], Row]) -> list[tuple[R, Row]]:
        """Return the records with their rows; those without a possible row are set aside."""
        rows: list[tuple[R, Row]] = []
        aside: list[Rejected] = []
        for record in records:
            try:
                rows.append((record, to_row(self._namespace, record)))
            except Unstorable as error:
                aside.append(rejection(record, str(error)))
        self.reject(aside)
        return rows

    def _keep(self, batch: list[tuple[R, Row]], store: Callable[[Connection, list[Row]], None]) -> list[tuple[R, Row]]:
        """Store a batch, and return what is stored of it.

        When the database refuses a value in it, it is stored one by one and the bad ones are set aside.
        """
        if not batch:
            return []
        try:
            with self._connection.begin_nested():
                store(self._connection, [row for _, row in batch])
            return batch
        except exc.SQLAlchemyError as error:
            if not is_bad_row(error):
                raise
            if len(batch) == 1:
                self.reject([rejection(batch[0][0], f"The database refused it: {first_line(error)}.")])
                return []
        return [kept for one in batch for kept in self._keep([one], store)]

    def _keep_outcomes(self, fresh: list[tuple[Outcome, Row]]) -> list[tuple[Outcome, Row]]:
        """Store outcomes, and return what is stored of them; those beyond the cursor in the expectation that all are
        new."""
        batch = [row for _, row in fresh]
        is_beyond = all(row["position"] > self.cursor.position for row in batch)
        if is_beyond and self._is_kept(inserts.insert_new_outcomes, batch):
            return fresh
        return self._keep(fresh, inserts.insert_outcomes)

    def _is_kept(self, store: Callable[[Connection, list[Row]], None], rows: list[Row]) -> bool:
        """Store rows, all or none; False when the database refuses a value of theirs."""
        try:
            if rows:
                with self._connection.begin_nested():
                    store(self._connection, rows)
        except exc.SQLAlchemyError as error:
            if not is_bad_row(error):
                raise
            return False
        return True

    def _keep_letters(self, ended: list[Outcome]) -> None:
        """Store the dead letters that outcomes make, then what others decided about them or earlier ones."""
        made = [outcome for outcome in ended if outcome.resolution == OPEN]
        self._keep(self._storable(made, dead_letter_row), inserts.insert_dead_letters)
        for outcome in ended:
            if outcome.resolution != OPEN:
                inserts.resolve_dead_letter(
                    self._connection, self._namespace, outcome.letter, outcome.resolution, outcome.position
                )

    def _seen(self, records: Sequence[RecordedEvent | Outcome]) -> None:
        self._appended = max([self._appended, *(record.position for record in records)])


def _displaced(record: RecordedEvent | Outcome, by: str) -> Rejected:
    return rejection(record, f"Its position {record.position} is {by}: Redis had gone back, and gave it twice.")


def _entry(entry_id: str) -> tuple[int, int]:
    """Split `<milliseconds or position>-<sequence>`, so that ids compare as Redis compares them."""
    first, _, second = entry_id.partition("-")
    return int(first), int(second or 0)
