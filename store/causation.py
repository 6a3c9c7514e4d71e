"""Follows causes: backwards as a chain, forwards as a tree. Computed from what is stored, never kept.

A cause need not be stored: it may have been named wrongly, or belong to another system. A missing
one ends a chain, and its event is the chain's oldest. Two events may name each other; a chain ends
where it would repeat, and a tree shows every event once.
"""

from __future__ import annotations

from sqlalchemy import Connection, Engine, text

from events.errors import EventBusError, EventNotFound
from events.ports import HistoryTail
from events.records import RecordedEvent
from store import inserts
from store.engine import reading
from store.rows import recorded_event
from store.seam import Seam
from store.tables import events
from store.tree import CausationTree, build

Known = dict[str, RecordedEvent]

MAX_CHAIN = 10_000
MAX_TREE = 100_000

# UNION, not UNION ALL: a row met before is not followed again, which ends cycles. The LIMIT stops the
# recursion itself, because rows are asked for one by one.
#
# A recursion takes one step per generation, and PostgreSQL guesses ten rows a step. Given a plain join it
# reads the whole table in every step (a chain of 600 took minutes). LATERAL with OFFSET 0 leaves it
# nothing but the index. SQLite has no LATERAL, and needs none: it always joins through the index.
_LOOKUP = {
    "sqlite": "JOIN {table} x ON x.namespace = :namespace AND x.{column} = {value}",
    "postgresql": """CROSS JOIN LATERAL (
            SELECT * FROM {table} WHERE namespace = :namespace AND {column} = {value} OFFSET 0
        ) x""",
}

_ANCESTORS = """
    WITH RECURSIVE chain (position, cause) AS (
        SELECT i.position,
               (SELECT e.causation_id FROM events e WHERE e.namespace = :namespace AND e.position = i.position)
        FROM event_index i
        WHERE i.namespace = :namespace AND i.event_id = :event_id
      UNION
        SELECT x.position,
               (SELECT e.causation_id FROM events e WHERE e.namespace = :namespace AND e.position = x.position)
        FROM chain c
        {lookup}
    )
    SELECT position FROM chain LIMIT :bound"""

_DESCENDANTS = """
    WITH RECURSIVE tree (position, event_id) AS (
        SELECT i.position, i.event_id
        FROM event_index i
        WHERE i.namespace = :namespace AND i.event_id = :event_id
      UNION
        SELECT x.position, x.event_id
        FROM tree t
        {lookup}
    )
    SELECT position FROM tree LIMIT :bound"""

_CAUSE = {"table": "event_index", "column": "event_id", "value": "c.cause"}
_EFFECTS = {"table": "events", "column": "causation_id", "value": "t.event_id"}


class Causation:
    """Causes and effects in one namespace. Threads may share it.

    Args:
        tail: what Redis has and SQL may not have yet; None reads SQL only.
    """

    def __init__(self, engine: Engine, namespace: str, tail: HistoryTail | None) -> None:
        self._engine = engine
        self._namespace = namespace
        self._seam = Seam(engine, namespace, tail)

    def chain(self, event_id: str) -> list[RecordedEvent]:
        """Return the causation chain of an event.

        Returns:
            Oldest first; the last one is the event itself.

        Raises:
            EventNotFound: there is no event of that id.
            EventBusError: the chain is longer than `MAX_CHAIN` events.
            StoreUnavailable, NotMigrated, RedisUnavailable.
        """
        return self._seam.steadily(lambda: self._chain(event_id))

    def children(self, event_id: str) -> list[RecordedEvent]:
        """Return the events that an event caused directly, in history order; empty when there are none.

        Raises:
            EventNotFound: there is no event of that id.
            StoreUnavailable, NotMigrated, RedisUnavailable.
        """
        return self._seam.steadily(lambda: self._children(event_id))

    def tree(self, event_id: str) -> CausationTree:
        """Return everything that an event set off; for the whole of it, ask for a root.

        Raises:
            EventNotFound: there is no event of that id.
            EventBusError: the tree has more than `MAX_TREE` events.
            StoreUnavailable, NotMigrated, RedisUnavailable.
        """
        return self._seam.steadily(lambda: self._tree(event_id))

    def _chain(self, event_id: str) -> list[RecordedEvent]:
        with reading(self._engine) as connection:
            archived = self._seam.archived(connection)
            known = self._select(connection, _ANCESTORS, _CAUSE, event_id, MAX_CHAIN + 1)
            if _missing_cause(event_id, known):
                known |= {recorded.event.event_id: recorded for recorded in self._seam.events(archived)}
                # From the tail the chain goes back into SQL, where it was not followed yet.
                while missing := _missing_cause(event_id, known):
                    older = self._select(connection, _ANCESTORS, _CAUSE, missing, MAX_CHAIN + 1)
                    if not older:
                        break
                    known |= older
        if event_id not in known:
            raise _not_found(event_id)
        return _walk(event_id, known)[::-1]

    def _children(self, event_id: str) -> list[RecordedEvent]:
        caused = events.c.namespace == self._namespace, events.c.causation_id == event_id
        with reading(self._engine) as connection:
            archived = self._seam.archived(connection)
            found = list(map(recorded_event, connection.execute(events.select().where(*caused)).mappings()))
            exists = event_id in inserts.known_positions(connection, self._namespace, [event_id])
        for recorded in self._seam.events(archived):
            exists = exists or recorded.event.event_id == event_id
            if recorded.event.causation_id == event_id:
                found.append(recorded)
        if not exists:
            raise _not_found(event_id)
        return sorted(found, key=lambda recorded: recorded.position)

    def _tree(self, event_id: str) -> CausationTree:
        with reading(self._engine) as connection:
            archived = self._seam.archived(connection)
            known = self._select(connection, _DESCENDANTS, _EFFECTS, event_id, MAX_TREE + 1)
        # In history a cause comes before what it caused, so one pass in order finds all of them.
        for recorded in self._seam.events(archived):
            if recorded.event.event_id == event_id or recorded.event.causation_id in known:
                known[recorded.event.event_id] = recorded
        if event_id not in known:
            raise _not_found(event_id)
        if len(known) > MAX_TREE:
            raise EventBusError(
                f"The causation tree of {event_id!r} has more than {MAX_TREE:,} events: read them with a replay "
                f"by correlation_id."
            )
        return build(event_id, known)

    def _select(self, connection: Connection, walk: str, step: dict[str, str], event_id: str, bound: int) -> Known:
        query = text(walk.format(lookup=_LOOKUP[connection.dialect.name].format(**step)))
        values = {"namespace": self._namespace, "event_id": event_id, "bound": bound}
        positions = connection.execute(query, values).scalars().all()
        return inserts.at_positions(connection, self._namespace, positions)


def _walk(event_id: str, known: Known) -> list[RecordedEvent]:
    """Follow causes as far as they are known, newest first, each event once."""
    chain: dict[str, RecordedEvent] = {}
    cause: str | None = event_id
    while cause in known and cause not in chain:
        if len(chain) == MAX_CHAIN:
            raise EventBusError(f"The causation chain of {event_id!r} is longer than {MAX_CHAIN:,} events.")
        chain[cause] = known[cause]
        cause = chain[cause].event.causation_id
    return list(chain.values())


def _missing_cause(event_id: str, known: Known) -> str | None:
    """Name the cause that the chain ends at without having it; None when it ends at a root or in a cycle."""
    chain = _walk(event_id, known)
    cause = chain[-1].event.causation_id if chain else event_id
    return None if cause in known else cause


def _not_found(event_id: str) -> EventNotFound:
    return EventNotFound(f"There is no event {event_id!r} in history or store: check the id, and the namespace.")
