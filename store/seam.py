"""Where SQL ends and Redis begins: reads what is not archived yet, so that the two join exactly.

    SQL ............. W | tail (Redis) .......... now
                      └ history's cursor, read in the same snapshot as the rows

The archiver moves W while we read. It commits rows to SQL first, tells Redis afterwards (`archived`),
and only then may Redis trim. So a page of the tail after W joins the rows up to W when the page says
`archived <= W`. When it says more, SQL has moved on and must be read again.

What reads all of SQL takes long, and an archiver that goes on would always have moved on. It reads the
tail first (`unarchived`), and takes from it what its snapshot of SQL does not have (`left`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Generic, NamedTuple, TypeVar

from sqlalchemy import Connection, Engine

from events.errors import StoreUnavailable
from events.ports import HistoryTail, TailPage
from events.records import END, RecordedEvent
from store import cursors, inserts
from store.dead_letters import open_letters
from store.engine import reading
from store.failures import name_of

T = TypeVar("T")

# Most unarchived events that one question reads through. Beyond it the archiver is down or drowning,
# and an answer would cost more memory and time than anyone expects.
TAIL_BOUND = 100_000
_PAGE = 1000
_TRIES = 50  # reads again while SQL shows no progress at all


class MovedOn(Exception):
    """SQL has more than when it was read: read it again. `position` is where SQL ended."""

    def __init__(self, position: int) -> None:
        self.position = position


class Unarchived(NamedTuple, Generic[T]):
    """What was kept of an event that only Redis had when it was read."""

    position: int
    event_id: str
    kept: T


class Seam:
    """The unarchived end of one namespace's history."""

    def __init__(self, engine: Engine, namespace: str, tail: HistoryTail | None) -> None:
        self._engine = engine
        self._namespace = namespace
        self._tail = tail

    def archived(self, connection: Connection) -> int:
        """Return W, the position up to which this snapshot has everything."""
        return cursors.read(connection, self._namespace, "history").position

    def page(self, position: int, limit: int = _PAGE) -> TailPage:
        """Return at most `limit` unarchived events after a position up to which SQL was read.

        Events that SQL has at another position are left out: the archive will set them aside.

        Raises:
            MovedOn: SQL was read too early.
            RedisUnavailable, StoreUnavailable.
        """
        page = self._page(position, limit)
        if not page.events:
            return page
        with reading(self._engine) as connection:
            known = inserts.known_positions(connection, self._namespace, [r.event.event_id for r in page.events])
        events = tuple(r for r in page.events if known.get(r.event.event_id, r.position) == r.position)
        return TailPage(page.archived, events, page.last_position, page.complete)

    def events(self, position: int) -> Iterator[RecordedEvent]:
        """Iterate over every unarchived event after a position up to which SQL was read, in order.

        Raises:
            MovedOn: SQL was read too early.
            RedisUnavailable.
            StoreUnavailable: the archive is more than `TAIL_BOUND` events behind.
        """
        yield from self._all(position, self.page)

    def unarchived(self, keep: Callable[[RecordedEvent], T | None], before: int = END) -> list[Unarchived[T]]:
        """Return what SQL does not have, in order: to be read before SQL is, and then asked for what is `left` of it.

        Args:
            keep: returns what to keep of an event in memory; None leaves it out.
            before: nothing from that position on.

        Raises:
            MovedOn, RedisUnavailable, StoreUnavailable: as `events`.
        """
        with reading(self._engine) as connection:
            archived = self.archived(connection)
        found: list[Unarchived[T]] = []
        if archived < before:
            for recorded in self._all(archived, self._page):
                if recorded.position >= before:
                    break
                if (kept := keep(recorded)) is not None:
                    found.append(Unarchived(recorded.position, recorded.event.event_id, kept))
        return found

    def left(self, connection: Connection, unarchived: Iterable[Unarchived[T]]) -> list[T]:
        """Return what was kept of those that a snapshot of SQL has neither archived nor stored by another way."""
        archived = self.archived(connection)
        some = [one for one in unarchived if one.position > archived]
        known = inserts.known_positions(connection, self._namespace, [one.event_id for one in some])
        return [one.kept for one in some if one.event_id not in known]

    def needed_from(self) -> int:
        """Return the first position that something in Redis needs from SQL; `END` when none is, or nobody can say.

        Raises:
            RedisUnavailable, ScriptFailed, StoreUnavailable.
        """
        if self._tail is None:
            return END
        with reading(self._engine) as connection:
            stored = self.archived(connection)
        return self._tail.needed_from(stored)

    def letters_needed_from(self) -> int:
        """Return the first position of an event whose dead letter is open in Redis and not in SQL; `END` when none is.

        It asks Redis for every letter that is open, a page at a time; their bodies stay there.

        Raises:
            RedisUnavailable, ScriptFailed, StoreUnavailable.
        """
        first = END
        for page in self._tail.open_letters() if self._tail else ():
            # SQL after Redis: what was there has its row, unless its outcome is not archived, which needs it too.
            with reading(self._engine) as connection:
                unknown = page.keys() - open_letters(connection, self._namespace, page)
            first = min([first, *(page[letter] for letter in unknown)])
        return first

    def steadily(self, read: Callable[[], T]) -> T:
        """Do a read that joins SQL and tail, again as often as the archive moves on meanwhile.

        Raises:
            StoreUnavailable: Redis insists that SQL has more than SQL shows.
        """
        stuck, ended_at = 0, -1
        while stuck < _TRIES:
            try:
                return read()
            except MovedOn as moved:
                stuck = stuck + 1 if moved.position == ended_at else 0
                ended_at = moved.position
        raise StoreUnavailable(
            f"Redis says that history is archived further than the database {name_of(self._engine)} shows: "
            f"it is a replica that lags, or not the archive of namespace {self._namespace!r}. Check DATABASE_URL."
        )

    def _page(self, position: int, limit: int = _PAGE) -> TailPage:
        """Return a page as `page` does, with all that Redis has."""
        if self._tail is None:
            return TailPage(0, (), position, True)
        page = self._tail.after(position, limit)
        if page.archived > position:
            raise MovedOn(position)
        return page

    def _all(self, position: int, page_after: Callable[[int], TailPage]) -> Iterator[RecordedEvent]:
        seen, complete = 0, False
        while not complete:
            page = page_after(position)
            yield from page.events
            position, complete = page.last_position, page.complete
            seen += len(page.events)
            if seen > TAIL_BOUND:
                raise StoreUnavailable(
                    f"The archive in {name_of(self._engine)} is more than {TAIL_BOUND:,} events behind history: "
                    f"start `eventbus archive`, and ask again when it has caught up."
                )
