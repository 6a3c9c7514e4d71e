"""Deliveries as SQL keeps them: every (event, subscriber) with its state and its attempts.

Exact as far as outcomes are archived. For questions about deliveries that are not in SQL alone (what does Redis
have that SQL says is waiting?) it gives keys: a delivery within its subscriber is (event position, redelivery).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import ColumnElement, Connection, Engine, and_, func, or_, select

from events.errors import InvalidFilter
from events.records import AttemptState, Outcome, RecordedEvent
from store.engine import reading
from store.fold import FINAL, WAITING
from store.inserts import at_positions, ids_at
from store.tables import deliveries, events, outcomes, rejected
from store.tally import STATES

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
        InvalidFilter: there is no such state.
    """

    subscriber: str | None = None
    state: str | None = None
    project_id: str | None = None
    event_position: int | None = None

    def __post_init__(self) -> None:
        if self.state is not None and self.state not in STATES:
            raise InvalidFilter(f"A delivery is {', '.join(STATES[:-1])} or {STATES[-1]}, not {self.state!r:.80}.")

    def conditions(self, namespace: str) -> list[ColumnElement[bool]]:
        """Return the conditions on rows of `deliveries`, joined with `events`."""
        one, found = deliveries.c, [deliveries.c.namespace == namespace]
        for name in ("subscriber", "state", "event_position"):
            if (value := getattr(self, name)) is not None:
                found.append(one[name] == value)
        if self.project_id is not None:
            found.append(events.c.project_id == self.project_id)
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
        one, event = deliveries.c, events.c
        is_its_event = and_(event.namespace == one.namespace, event.position == one.event_position)
        query = (
            select(
                one.event_position, one.subscriber, one.redelivery, one.state, one.attempts, one.settled_position,
                func.coalesce(event.event_id, ""), func.coalesce(event.type, ""), func.coalesce(event.project_id, ""),
            )
            .select_from(deliveries.outerjoin(events, is_its_event))
            .where(*wanted.conditions(self._namespace))
            .order_by(one.event_position, one.subscriber, one.redelivery)
            .limit(limit)
        )  # fmt: skip
        if after is not None:
            query = query.where(_follows(after))
        with reading(self._engine) as connection:
            return [Delivery(*row) for row in connection.execute(query)]

    def attempts(self, event_position: int) -> list[Outcome]:
        """Return the archived outcomes of an event's deliveries, oldest first; decisions are among them (attempt 0)."""
        column = outcomes.c
        query = (
            select(outcomes)
            .where(column.namespace == self._namespace, column.event_position == event_position)
            .order_by(column.position)
        )
        with reading(self._engine) as connection:
            rows = connection.execute(query).all()
        return [
            Outcome(
                row.position, row.event_position, row.subscriber, row.redelivery, row.attempt, AttemptState(row.state),
                row.worker, row.elapsed_us, row.error,
            )
            for row in rows
        ]  # fmt: skip

    def waiting_counts(self) -> dict[str, int]:
        """Return how many deliveries of each subscriber wait; who has none is left out."""
        column = deliveries.c
        query = (
            select(column.subscriber, func.count())
            .where(column.namespace == self._namespace, column.state == WAITING)
            .group_by(column.subscriber)
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
                column.subscriber == subscriber,
                column.state == WAITING,
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
