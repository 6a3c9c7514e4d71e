"""Dead letters as SQL keeps them: with their texts, their attempts, and what was decided about each.

The archive makes a row when a delivery is given up, and writes the decision into it; nobody deletes one.
So the store has letters that Redis has lost, and those about which somebody has decided.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Row, Select, and_, func, or_, select

from events.digits import whole
from events.records import OPEN, AttemptState, DeadLetter, LetterFilter, Outcome
from store.engine import reading, writing
from store.inserts import PURGED, chunks, known_positions
from store.rows import recorded_event
from store.tables import dead_letters, events, outcomes

_EMPTY = {"traceback": "", "output": "", "raw": ""}
_LISTED = [column for column in dead_letters.c if column.name not in ("namespace", *_EMPTY)]
_BIGGEST = 2**63 - 1


def open_letters(connection: Connection, namespace: str, positions: Collection[int]) -> set[int]:
    """Return which of the letters at these positions are archived, and open as far as SQL knows."""
    letter, found = dead_letters.c, set()
    for chunk in chunks(positions):
        query = select(letter.position).where(
            letter.namespace == namespace, letter.position.in_(chunk), letter.resolution == OPEN
        )
        found |= set(connection.execute(query).scalars())
    return found


class StoredLetters:
    """The archived dead letters of one namespace. Threads may share it.

    Raises, in every method:
        StoreUnavailable, NotMigrated.
    """

    def __init__(self, engine: Engine, namespace: str) -> None:
        self._engine = engine
        self._namespace = namespace

    def iterate(self, wanted: LetterFilter, page: int = 100) -> Iterator[DeadLetter]:
        """Iterate over the letters that match, decided or not, oldest first, without their texts; see `pages`."""
        for letters in self.pages(wanted, page):
            yield from letters

    def pages(self, wanted: LetterFilter, page: int = 100, *, purgeable: bool = False) -> Iterator[list[DeadLetter]]:
        """Iterate over pages of letters that match, none of them empty.

        A page is read at a time; no connection is held in between. Type and project are known of letters
        whose event is archived.

        Args:
            purgeable: only those that have texts, or are open: what `purge` would change.
        """
        after, full = wanted.after, True
        only = [or_(_has_texts(), dead_letters.c.resolution == OPEN)] if purgeable else []
        while full:
            with reading(self._engine) as connection:
                conditions = self._conditions(wanted, after) + self._named(connection, wanted.names) + only
                rows = connection.execute(self._letters(_LISTED).where(*conditions).limit(page)).all()
            full = len(rows) == page
            after = rows[-1].position if rows else after
            if matching := [letter for letter in map(_letter, rows) if wanted.matches(letter)]:
                yield matching

    def find(self, positions: Collection[int]) -> dict[int, DeadLetter]:
        """Return those of the letters at these positions that are archived, with their texts, by position."""
        query = self._letters(list(dead_letters.c)).where(dead_letters.c.position.in_(list(positions)))
        with reading(self._engine) as connection:
            return {row.position: _letter(row) for row in connection.execute(query)}

    def attempts(self, letter: DeadLetter) -> list[Outcome]:
        """Return the archived outcomes of a letter's event at its subscriber, of every redelivery, oldest first.

        Decisions are among them (attempt 0). Empty when nobody could tell what the event was.
        """
        if not letter.event_position:
            return []
        of_delivery = (
            outcomes.c.event_position == letter.event_position,
            outcomes.c.subscriber == letter.subscriber,
        )
        return self._outcomes(*of_delivery)

    def decision(self, letter: DeadLetter) -> Outcome | None:
        """Return the outcome that decided about a letter; None when none is archived."""
        found = self._outcomes(outcomes.c.position == letter.resolved_position) if letter.resolved_position else []
        return found[0] if found else None

    def open_counts(self) -> dict[str, int]:
        """Return how many archived letters of each subscriber nobody has decided about."""
        column = dead_letters.c
        query = (
            select(column.subscriber, func.count())
            .where(column.namespace == self._namespace, column.resolution == OPEN)
            .group_by(column.subscriber)
        )
        with reading(self._engine) as connection:
            return {subscriber: int(count) for subscriber, count in connection.execute(query)}

    def open_among(self, positions: Collection[int]) -> set[int]:
        """Return which of the letters at these positions are archived, and open as far as SQL knows."""
        with reading(self._engine) as connection:
            return open_letters(connection, self._namespace, positions)

    def purge(self, letters: Sequence[DeadLetter]) -> int:
        """Empty the texts of letters that are not in Redis any more; one that is open is purged with that.

        Why a delivery was given up stays, in one line, and so does what was decided.

        Args:
            letters: decided ones, and open ones that Redis has lost: what is in Redis is decided there.

        Returns:
            How many of them had texts, or were open.
        """
        column = dead_letters.c
        mine = (column.namespace == self._namespace, column.position.in_([letter.position for letter in letters]))
        with writing(self._engine) as connection:
            lost = dead_letters.update().where(*mine, column.resolution == OPEN).values(resolution=PURGED, **_EMPTY)
            decided = dead_letters.update().where(*mine, column.resolution != OPEN, _has_texts()).values(_EMPTY)
            return connection.execute(decided).rowcount + connection.execute(lost).rowcount

    def _letters(self, columns: Sequence[ColumnElement[Any]]) -> Select[Any]:
        letter, event = dead_letters.c, events.c
        is_its_event = and_(event.namespace == letter.namespace, event.position == letter.event_position)
        of_event = [column.label(f"event__{column.name}") for column in event]
        return (
            select(*columns, *of_event)
            .select_from(dead_letters.outerjoin(events, is_its_event))
            .where(letter.namespace == self._namespace)
            .order_by(letter.position)
        )

    def _conditions(self, wanted: LetterFilter, after: int) -> list[ColumnElement[bool]]:
        """Narrow the rows that are read; `LetterFilter.matches` has the last word."""
        letter = dead_letters.c
        found = [letter.position > min(after, _BIGGEST), letter.position < min(wanted.before, _BIGGEST)]
        if wanted.subscribers:
            found.append(letter.subscriber.in_(wanted.subscribers))
        if wanted.types:
            found.append(events.c.type.in_(wanted.types))
        if wanted.project_id is not None:
            found.append(events.c.project_id == wanted.project_id)
        return found

    def _named(self, connection: Connection, names: Collection[str]) -> list[ColumnElement[bool]]:
        """Narrow to letters that may be named so: by their own position, a delivery, or an event's id."""
        if not names:
            return []
        read = [whole(name.partition(":")[0]) for name in names]
        numbers = [number for number in read if number is not None]
        of_events = known_positions(connection, self._namespace, names).values()
        positions = [number for number in numbers if number <= _BIGGEST]
        letter = dead_letters.c
        # Asked for apart: in one query with an order SQLite would read every letter of the namespace by its key.
        of_event = select(letter.position).where(
            letter.namespace == self._namespace, letter.event_position.in_([*positions, *of_events])
        )
        return [letter.position.in_([*positions, *connection.execute(of_event).scalars()])]

    def _outcomes(self, *conditions: ColumnElement[bool]) -> list[Outcome]:
        # Sorted here: for the sake of the order SQLite would read every outcome of the namespace by its key.
        query = select(outcomes).where(outcomes.c.namespace == self._namespace, *conditions)
        with reading(self._engine) as connection:
            found = map(_outcome, connection.execute(query))
            return sorted(found, key=lambda outcome: outcome.position)


def _has_texts() -> ColumnElement[bool]:
    return or_(*(dead_letters.c[name] != "" for name in _EMPTY))


def _letter(row: Row[Any]) -> DeadLetter:
    fields = dict(row._mapping)
    fields.pop("namespace", None)
    of_event = {name.removeprefix("event__"): fields.pop(name) for name in list(fields) if name.startswith("event__")}
    event = recorded_event(of_event).event if of_event["event_id"] is not None else None
    return DeadLetter(**fields, event=event)


def _outcome(row: Row[Any]) -> Outcome:
    return Outcome(
        row.position, row.event_position, row.subscriber, row.redelivery, row.attempt, AttemptState(row.state),
        row.worker, row.elapsed_us, row.error,
    )  # fmt: skip
