"""Deliveries as SQL keeps them: every (event, subscriber) with its state and its attempts.

Exact as far as outcomes are archived. For questions about deliveries that are not in SQL alone (what does Redis
have that SQL says is waiting?) it gives keys: a delivery within its subscriber is (event position, redelivery).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Row, Select, and_, func, or_, select

from events.errors import InvalidFilter
from events.records import AttemptState, Outcome, RecordedEvent
from store.engine import reading
from store.filter import check_text
from store.fold import FINAL, WAITING
from store.inserts import at_positions, causes_of, ids_at
from store.planning import DONE, IS_NOT_DONE, hidden
from store.tables import deliveries, events, outcomes, rejected
from store.tally import STATES

_NAMES = ("event_position", "subscriber", "redelivery", "state", "attempts", "settled_position")
_PLACE = [deliveries.c[name] for name in _NAMES[:3]]
_CHUNK = 900
Key = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event for one subscriber.

    Attributes:
        event_position, subscriber, redelivery: which.
        state: `waiting`, then for good `done`, `dead`, `discarded` or `dropped`.
        attempts: the highest attempt that has an outcome.
        settled_position: of the outcome that ended it; None while it waits.
        event_id, type, project_id: of its event; empty when that is not stored.
    """

    event_position: int
    subscriber: str
    redelivery: int
    state: str
    attempts: int
    settled_position: int | None
    event_id: str = ""
    type: str = ""
    project_id: str = ""

    @property
    def name(self) -> str:
        """The delivery's name, `<position>:<subscriber>:<redelivery>`."""
        return f"{self.event_position}:{self.subscriber}:{self.redelivery}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryFilter:
    """Deliveries that meet every given condition; none given, all of them.

    Attributes:
        subscriber, project_id: of this subscriber, this project. state: one of `STATES`.
        event_position: of the event there.

    Raises:
        InvalidFilter: there is no such state; U+0000 or a lone surrogate, which no name holds.
    """

    subscriber: str | None = None
    state: str | None = None
    project_id: str | None = None
    event_position: int | None = None

    def __post_init__(self) -> None:
        check_text("subscriber", self.subscriber)
        check_text("project_id", self.project_id)
        if self.state is not None and self.state not in STATES:
            raise InvalidFilter(f"A delivery is {', '.join(STATES[:-1])} or {STATES[-1]}, not {self.state!r:.80}.")

    def conditions(self, namespace: str, dialect: str) -> list[ColumnElement[bool]]:
        """Return the conditions on rows of `deliveries`, in a dialect of SQL; a project is its events' affair."""
        one, found = deliveries.c, [deliveries.c.namespace == namespace]
        for name in ("state", "event_position"):
            if (value := getattr(self, name)) is not None:
                found.append(one[name] == value)
        is_rare = self.state not in (None, DONE)
        if is_rare:
            found.append(IS_NOT_DONE)
        if self.subscriber is not None:
            found.append((hidden(one.subscriber, dialect) if is_rare else one.subscriber) == self.subscriber)
        return found


class StoredDeliveries:
    """The archived deliveries of one namespace. Threads may share it.

    Raises, in every method:
        StoreUnavailable, NotMigrated.
    """

    def __init__(self, engine: Engine, namespace: str) -> None:
        self._engine = engine
        self._namespace = namespace

    def iterate(self, wanted: DeliveryFilter, page: int = 500) -> Iterator[Delivery]:
        """Iterate over the deliveries that match, in the order of their events, a page in memory at a time."""
        after: Delivery | None = None
        full = True
        while full:
            found = self.page(wanted, after, page)
            yield from found
            full = len(found) == page
            after = found[-1] if found else after

    def page(self, wanted: DeliveryFilter, after: Delivery | None = None, limit: int = 500) -> list[Delivery]:
        """Return at most `limit` deliveries that match, those after one of an earlier page."""
        with reading(self._engine) as connection:
            read = self._rows if wanted.project_id is None else self._rows_of_project
            rows = read(connection, wanted, after, limit)
            # Looked up apart: joined, PostgreSQL may read all of history up to the page.
            about = _about(connection, self._namespace, [row.event_position for row in rows])
        return [Delivery(*row, *about.get(row.event_position, ())) for row in rows]

    def _rows(
        self, connection: Connection, wanted: DeliveryFilter, after: Delivery | None, limit: int
    ) -> Sequence[Row[Any]]:
        query = self._select(wanted).order_by(*_PLACE).limit(limit)
        if after is not None:
            query = query.where(deliveries.c.event_position >= after.event_position, _follows(after))
        return connection.execute(query).all()

    def _rows_of_project(
        self, connection: Connection, wanted: DeliveryFilter, after: Delivery | None, limit: int
    ) -> Sequence[Row[Any]]:
        """Read the deliveries of the project's events, so many events at a time that few are read in vain."""
        found: list[Row[Any]] = []
        passed = (after.event_position, after.subscriber, after.redelivery) if after else ()
        for positions in self._positions(connection, wanted, after.event_position if after else 0):
            # Sorted here: for the sake of the order SQLite would read every delivery of the namespace by its key.
            rows = connection.execute(self._select(wanted).where(deliveries.c.event_position.in_(positions)))
            found += sorted(row for row in rows if tuple(row)[:3] > passed)
            if len(found) >= limit:
                break
        return found[:limit]

    def _positions(self, connection: Connection, wanted: DeliveryFilter, first: int) -> Iterator[Sequence[int]]:
        """Iterate over the places of a project's events from one on, some at a time."""
        column = events.c
        mine = [column.namespace == self._namespace, column.project_id == wanted.project_id]
        if wanted.event_position is not None:
            mine.append(column.position == wanted.event_position)
        full = True
        while full:
            query = select(column.position).where(*mine, column.position >= first)
            page = connection.execute(query.order_by(column.position).limit(_CHUNK)).scalars().all()
            if page:
                yield page
                first = page[-1] + 1
            full = len(page) == _CHUNK

    def _select(self, wanted: DeliveryFilter) -> Select[Any]:
        conditions = wanted.conditions(self._namespace, self._engine.dialect.name)
        return select(*(deliveries.c[name] for name in _NAMES)).where(*conditions)

    def attempts(self, event_position: int) -> list[Outcome]:
        """Return the archived outcomes of an event's deliveries, oldest first; decisions are among them (attempt 0)."""
        return self.attempts_at([event_position])

    def attempts_at(self, event_positions: Collection[int]) -> list[Outcome]:
        """Return the archived outcomes of the deliveries of some events, oldest first; decisions are among them."""
        column = outcomes.c
        found: list[Row[Any]] = []
        with reading(self._engine) as connection:
            for chunk in _chunks(sorted(set(event_positions))):
                query = select(outcomes).where(column.namespace == self._namespace, column.event_position.in_(chunk))
                found += connection.execute(query).all()
        return [
            Outcome(
                row.position, row.event_position, row.subscriber, row.redelivery, row.attempt, AttemptState(row.state),
                row.worker, row.elapsed_us, row.error,
            )
            for row in sorted(found, key=lambda row: row.position)
        ]  # fmt: skip

    def waiting_counts(self) -> dict[str, int]:
        """Return how many deliveries of each subscriber wait; who has none is left out."""
        column = deliveries.c
        query = (
            select(column.subscriber, func.count())
            .where(column.namespace == self._namespace, column.state == WAITING, IS_NOT_DONE)
            .group_by(hidden(column.subscriber, self._engine.dialect.name))
        )
        with reading(self._engine) as connection:
            return {subscriber: int(count) for subscriber, count in connection.execute(query)}

    def waiting(self, subscriber: str, after: Key, limit: int) -> list[Key]:
        """Return keys of deliveries of a subscriber that wait, ascending, after one of them."""
        column = deliveries.c
        query = (
            select(column.event_position, column.redelivery)
            .where(
                column.namespace == self._namespace,
                hidden(column.subscriber, self._engine.dialect.name) == subscriber,
                column.state == WAITING,
                IS_NOT_DONE,
                column.event_position >= after[0],
                or_(
                    column.event_position > after[0],
                    and_(column.event_position == after[0], column.redelivery > after[1]),
                ),
            )
            .order_by(column.event_position, column.redelivery)
            .limit(limit)
        )
        with reading(self._engine) as connection:
            return [(position, redelivery) for position, redelivery in connection.execute(query)]

    def states(self, subscriber: str, keys: Collection[Key]) -> dict[Key, tuple[str, int | None]]:
        """Return state and `settled_position` of those of a subscriber's deliveries that are stored."""
        column, found = deliveries.c, {}
        with reading(self._engine) as connection:
            for positions in _chunks(sorted({position for position, _ in keys})):
                query = select(
                    column.event_position, column.redelivery, column.state, column.settled_position
                ).where(
                    column.namespace == self._namespace,
                    column.subscriber == subscriber,
                    column.event_position.in_(positions),
                )  # fmt: skip
                for position, redelivery, state, settled in connection.execute(query):
                    if (position, redelivery) in keys:
                        found[position, redelivery] = (state, settled)
        return found

    def events(self, positions: Collection[int]) -> dict[int, RecordedEvent]:
        """Return those of the events at these positions that are stored, by position."""
        with reading(self._engine) as connection:
            found = at_positions(connection, self._namespace, positions)
        return {recorded.position: recorded for recorded in found.values()}

    def causes(self, event_ids: Collection[str]) -> dict[str, str]:
        """Return what caused those of the events that are stored and name a cause, by id."""
        with reading(self._engine) as connection:
            return causes_of(connection, self._namespace, event_ids)

    def known(self, positions: Collection[int]) -> set[int]:
        """Return those positions at which the store has an event."""
        with reading(self._engine) as connection:
            return set(ids_at(connection, self._namespace, positions))

    def unknown(self, positions: Collection[int]) -> set[int]:
        """Return those positions at which the store has no event, nor one that it had to set aside."""
        left = set(positions) - self.known(positions)
        with reading(self._engine) as connection:
            return left - _set_aside(connection, self._namespace, left)


def joined(recorded: RecordedEvent, rows: Collection[Delivery], ended: Collection[Outcome]) -> list[Delivery]:
    """Return the deliveries of an event as they are when outcomes that are not archived are taken into account.

    Args:
        rows: of the event, as they are stored; none when it is not archived. ended: its outcomes, oldest first.

    Returns:
        By subscriber and redelivery; a state that is final stays, as in `store.fold`.
    """
    event = recorded.event
    about = {"event_id": event.event_id, "type": event.type.value, "project_id": event.project_id}
    found = {(row.subscriber, row.redelivery): row for row in rows}
    told = [(subscriber, 0) for subscriber in recorded.deliveries] + [(one.subscriber, one.redelivery) for one in ended]
    for subscriber, redelivery in told:
        waits = Delivery(recorded.position, subscriber, redelivery, WAITING, 0, None, **about)
        found.setdefault((subscriber, redelivery), waits)
    for outcome in ended:
        key = (outcome.subscriber, outcome.redelivery)
        one = replace(found[key], attempts=max(found[key].attempts, outcome.attempt))
        if one.state == WAITING and outcome.state in FINAL:
            one = replace(one, state=outcome.state.value, settled_position=outcome.position)
        found[key] = one
    return [found[key] for key in sorted(found)]


def _set_aside(connection: Connection, namespace: str, positions: Collection[int]) -> set[int]:
    column, found = rejected.c, set()
    for chunk in _chunks(sorted(positions)):
        query = select(column.entry_id).where(
            column.namespace == namespace,
            column.stream == "history",
            column.entry_id.in_([f"{position}-0" for position in chunk]),
        )
        found |= {int(entry_id.partition("-")[0]) for entry_id in connection.execute(query).scalars()}
    return found


def _about(connection: Connection, namespace: str, positions: Sequence[int]) -> dict[int, tuple[str, str, str]]:
    """Return id, type and project of the events that are stored at those positions."""
    event = events.c
    found: dict[int, tuple[str, str, str]] = {}
    for chunk in _chunks(sorted(set(positions))):
        query = select(event.position, event.event_id, event.type, event.project_id).where(
            event.namespace == namespace, event.position.in_(chunk)
        )
        found |= {row.position: (row.event_id, row.type, row.project_id) for row in connection.execute(query)}
    return found


def _follows(one: Delivery) -> ColumnElement[bool]:
    column = deliveries.c
    return or_(
        column.event_position > one.event_position,
        and_(
            column.event_position == one.event_position,
            or_(
                column.subscriber > one.subscriber,
                and_(column.subscriber == one.subscriber, column.redelivery > one.redelivery),
            ),
        ),
    )


def _chunks(values: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(values), _CHUNK):
        yield values[start : start + _CHUNK]
