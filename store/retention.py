"""Retention: removes what is old and settled, with all that belongs to it, in bounded batches.

    an event stays    while a delivery of it waits
                      while a dead letter of it is open, or the outbox has a row of it
                      while something in Redis needs it, or an earlier one: a back-fill, a redelivery, an archiver,
                      a dead letter that is not here
                      (what only Redis has is not here yet, and cannot be removed here)
    with it go        its id, deliveries, outcomes, decided dead letters, and the payload that lies on the blackboard
    what stays        the archive's cursors, subscriptions, shared state, and the statistics

Age is that of the position: when history got the event, not when it says it happened. An id that is removed is
forgotten: an event published under it again is a new one.

A batch is one transaction. It holds the row of the outcomes' archiver, which alone can make a settled delivery
wait again; so nothing is judged by what is about to change. On PostgreSQL months that are old as a whole are
detached first, see `store/months.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Select,
    Table,
    and_,
    exists,
    func,
    select,
)

from events.records import OPEN, RecordedEvent
from store import cursors
from store.engine import reading, writing
from store.filter import EventFilter
from store.fold import WAITING
from store.inserts import chunks, known_positions
from store.months import Months
from store.payloads import place_of
from store.planning import IS_NOT_DONE, hidden
from store.seam import Seam
from store.tables import (
    blackboard,
    dead_letters,
    deliveries,
    event_index,
    events,
    inbox,
    outbox,
    outcomes,
    redactions,
    rejected,
)  # fmt: skip

BATCH = 500
DELIVERY_WAITS = "a delivery waits"
LETTER_OPEN = "a dead letter is open"
IN_OUTBOX = "the outbox has it still"
NOT_ARCHIVED = "not archived yet"

# What belongs to an event by its position, and by its id.
_BY_POSITION = (outcomes, deliveries, dead_letters)
_BY_ID = (event_index, redactions, inbox)
# Not `!= OPEN`, which no index finds.
_DECIDED = ("retried", "discarded", "purged", "dropped")
_event = events.c


@dataclass(slots=True)
class Pruned:
    """What was removed, or in a rehearsal would be.

    Attributes:
        before: a position: nothing from there on; earlier than was asked for, if Redis needs what follows.
        events: how many. rows: of each other table, by its name; empty in a rehearsal.
        months: of partitions that go as a whole, `2026_12`.
        kept: how many events of that age stay, by reason.
    """

    before: int = 0
    events: int = 0
    rows: Counter[str] = field(default_factory=Counter)
    months: list[str] = field(default_factory=list)
    kept: dict[str, int] = field(default_factory=dict)


class Retention:
    """Prunes one namespace. Several processes may prune at once, while archivers and readers go on.

    Args:
        seam: says what Redis needs, and counts what is not archived yet; one without a tail knows of neither.
    """

    def __init__(self, engine: Engine, namespace: str, seam: Seam) -> None:
        self._engine = engine
        self._namespace = namespace
        self._seam = seam
        self._months = Months(engine, namespace)

    def rehearse(self, before: int, project_id: str | None = None) -> Pruned:
        """Say what `prune` would remove; changes nothing.

        Raises:
            InvalidFilter: no project has such a name.
            StoreUnavailable, NotMigrated, RedisUnavailable, ScriptFailed.
        """
        before = min(before, self._seam.needed_from(), self._seam.letters_needed_from())
        old = self._old(before, project_id)
        with reading(self._engine) as connection:
            found = Pruned(before, self._count(connection, *old, *_SETTLED))
        if project_id is None:
            found.months = self._months.droppable(before)
        found.kept = self._kept(before, project_id)
        return found

    def prune(
        self, before: int, project_id: str | None = None, on_batch: Callable[[int], None] = lambda events: None
    ) -> Pruned:
        """Remove what is settled and older than a position.

        Args:
            before: a position, exclusive.
            project_id: only of this project; then no month can go as a whole.
            on_batch: called after each batch with the number of events that it removed.

        Raises:
            InvalidFilter: no project has such a name.
            StoreUnavailable, NotMigrated, RedisUnavailable, ScriptFailed: what was removed is; ask again for the rest.

        Guarantee: an event goes with all that belongs to it or not at all; where a month goes as a whole, what
            belongs to its events goes after them, and the next call ends what an interrupted one has begun. What
            Redis needs is asked before each batch, and once before months go: what a redelivery or a back-fill reads
            while a batch is being removed it still delivers, and its event is gone.
        """
        before = min(before, self._seam.needed_from(), self._seam.letters_needed_from())
        done = Pruned(before)
        if project_id is None:
            for month, page in self._months.drop(before):
                with writing(self._engine) as connection:
                    cursors.lock(connection, self._namespace, "outcomes")
                    self._remove_followers(connection, page, done.rows)
                done.events += len(page)
                on_batch(len(page))
                if month not in done.months:
                    done.months.append(month)
            self._prune_strays(before, done.rows)
        after = 0
        while after < done.before:
            with writing(self._engine) as connection:
                cursors.lock(connection, self._namespace, "outcomes")
                # Again: a redelivery or a back-fill may have begun. No outcome gets from Redis into SQL meanwhile.
                done.before = min(done.before, self._seam.needed_from())
                page = self._page(connection, done.before, project_id, after)
                removed = self._remove(connection, page, done.rows)
            done.events += removed
            on_batch(removed)
            after = page[-1].position if len(page) == BATCH else done.before
        done.kept = self._kept(done.before, project_id)
        return done

    def _page(self, connection: Connection, before: int, project_id: str | None, after: int) -> Sequence[Any]:
        query: Select[Any] = (
            select(_event.position, _event.event_id, _event.project_id, _event.blackboard_pointer)
            .where(*self._old(before, project_id), _event.position > after, *_SETTLED)
            .order_by(_event.position)
            .limit(BATCH)
        )
        return connection.execute(query).all()

    def _remove(self, connection: Connection, page: Sequence[Any], rows: Counter[str]) -> int:
        if not page:
            return 0
        self._remove_followers(connection, page, rows)
        mine = (_event.namespace == self._namespace, _event.position.in_([row.position for row in page]))
        removed = connection.execute(events.delete().where(*mine)).rowcount
        if removed:
            cursors.count(connection, self._namespace, cursors.PRUNED_EVENTS, removed)
        return removed

    def _remove_followers(self, connection: Connection, page: Sequence[Any], rows: Counter[str]) -> None:
        """Remove what belongs to the events of a page."""
        before = rows[deliveries.name]
        for table in _BY_POSITION:
            self._delete(connection, table, table.c.event_position, [row.position for row in page], rows)
        # Where a month went first, another event may have come under one of its ids.
        known = known_positions(connection, self._namespace, [row.event_id for row in page])
        own = [row for row in page if known.get(row.event_id) in (None, row.position)]
        for table in _BY_ID:
            self._delete(connection, table, table.c.event_id, [row.event_id for row in own], rows)
        for row in own:
            place = place_of(row.project_id, row.blackboard_pointer)
            if place is not None:
                column = blackboard.c
                mine = (column.project_id == place.project_id, column.key == place.key)
                gone = blackboard.delete().where(column.namespace == self._namespace, *mine)
                rows["blackboard"] += connection.execute(gone).rowcount
        if rows[deliveries.name] > before:
            cursors.count(connection, self._namespace, cursors.PRUNED_DELIVERIES, rows[deliveries.name] - before)

    def _delete(
        self, connection: Connection, table: Table, column: ColumnElement[Any], values: list[Any], rows: Counter[str]
    ) -> None:
        for chunk in chunks(values):
            gone = table.delete().where(table.c.namespace == self._namespace, column.in_(chunk))
            rows[table.name] += connection.execute(gone).rowcount

    def _prune_strays(self, before: int, rows: Counter[str]) -> None:
        """Remove what belongs to no event: entries that could not be stored, attempts at nobody knows what."""
        bound, entry = f"{before}-", rejected.c.entry_id
        # Ids of entries are numbers of the same length, until 2286.
        is_old = and_(func.length(entry) >= len(bound), entry < bound)
        strays = {
            rejected: [rejected.c.stream.in_(("history", "outcomes")), is_old],
            outcomes: [outcomes.c.event_position == 0, outcomes.c.position < before],
            dead_letters: [
                dead_letters.c.event_position == 0,
                dead_letters.c.position < before,
                dead_letters.c.resolution.in_(_DECIDED),
            ],
        }
        with writing(self._engine) as connection:
            for table, conditions in strays.items():
                gone = table.delete().where(table.c.namespace == self._namespace, *conditions)
                rows[table.name] += connection.execute(gone).rowcount

    def _kept(self, before: int, project_id: str | None) -> dict[str, int]:
        old = self._old(before, project_id)

        def is_its(one: RecordedEvent) -> bool | None:
            return project_id in (None, one.event.project_id) or None

        unarchived = self._seam.steadily(lambda: self._seam.unarchived(is_its, before))
        with reading(self._engine) as connection:
            found = {
                DELIVERY_WAITS: self._count_at(connection, deliveries, *old),
                LETTER_OPEN: self._count_at(connection, dead_letters, *old, ~_waits()),
                IN_OUTBOX: self._count_at(connection, outbox, *old, ~_is_open(), ~_waits()),
                NOT_ARCHIVED: len(self._seam.left(connection, unarchived)),
            }
        return {reason: count for reason, count in found.items() if count}

    def _places(self, table: Table) -> Select[tuple[int]]:
        """Select the positions of events that a delivery, a dead letter, a row of the outbox keeps: a few."""
        dialect, index = self._engine.dialect.name, event_index.c
        in_index = select(index.position).where(index.namespace == self._namespace, index.event_id == outbox.c.event_id)
        place, conditions = {
            deliveries: (deliveries.c.event_position, [deliveries.c.state == WAITING, IS_NOT_DONE]),
            dead_letters: (hidden(dead_letters.c.event_position, dialect), [dead_letters.c.resolution == OPEN]),
            outbox: (in_index.scalar_subquery(), []),
        }[table]
        return select(place.label("place")).where(table.c.namespace == self._namespace, *conditions).distinct()

    def _count_at(self, connection: Connection, table: Table, *conditions: ColumnElement[bool]) -> int:
        """Count the events at such places that meet conditions."""
        places = self._places(table).subquery("places")
        is_there = _event.position == hidden(places.c.place, connection.dialect.name)
        query = select(func.count()).select_from(places.join(events, is_there)).where(*conditions)
        return int(connection.execute(query).scalar_one())

    def _count(self, connection: Connection, *conditions: ColumnElement[bool]) -> int:
        return int(connection.execute(select(func.count()).select_from(events).where(*conditions)).scalar_one())

    def _old(self, before: int, project_id: str | None) -> list[ColumnElement[bool]]:
        wanted = EventFilter(project_id=project_id)
        return [*wanted.conditions(self._namespace, self._engine.dialect.name), _event.position < before]


def _waits() -> ColumnElement[bool]:
    column = deliveries.c
    mine = (column.namespace == _event.namespace, column.event_position == _event.position)
    return exists().where(*mine, column.state == WAITING)


def _is_open() -> ColumnElement[bool]:
    column = dead_letters.c
    mine = (column.namespace == _event.namespace, column.event_position == _event.position)
    return exists().where(*mine, column.resolution == OPEN)


def _is_in_outbox() -> ColumnElement[bool]:
    """An event that is gone would be published again from its row."""
    column = outbox.c
    return exists().where(column.namespace == _event.namespace, column.event_id == _event.event_id)


_SETTLED = (~_waits(), ~_is_open(), ~_is_in_outbox())
