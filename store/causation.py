"""Follows causes: backwards as a chain, forwards as a tree. Computed from what is stored, never kept.

A cause need not be stored: it may have been named wrongly, or belong to another system, or be set aside or lost.
A missing one ends a chain, and its event is the chain's oldest; `missing_link` and `CausationTree.missing`
name it. Two events may name each other; a chain ends where it would repeat, and a tree shows every event once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice, starmap

from sqlalchemy import Connection, Engine, select

from events.errors import EventBusError, EventNotFound
from events.ports import HistoryTail
from events.records import RecordedEvent
from store import descent, inserts
from store.engine import reading
from store.fold import DEAD, WAITING
from store.rows import RECORDED, is_storable, recorded
from store.seam import Seam
from store.tables import events
from store.tree import CausationTree, MissingLink, TreeEvent, build

Known = dict[str, RecordedEvent]

MAX_CHAIN = 10_000
MAX_TREE = 100_000
MAX_MISSING = 100


@dataclass(slots=True)
class _Tail:
    """What SQL does not have yet, without payloads: by id, and by cause."""

    events: dict[str, TreeEvent] = field(default_factory=dict)
    caused: dict[str, list[TreeEvent]] = field(default_factory=dict)
    of_root: list[TreeEvent] = field(default_factory=list)


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
            known = descent.ancestors(connection, self._namespace, event_id, MAX_CHAIN + 1)
        if _missing_cause(event_id, known):
            wanted = self._of_tail(event_id, known)
            if wanted:
                unarchived = self._seam.unarchived(lambda one: one if one.event.event_id in wanted else None)
                with reading(self._engine) as connection:
                    known |= inserts.stored(connection, self._namespace, wanted)
                    known |= {one.event.event_id: one for one in self._seam.left(connection, unarchived)}
        if event_id not in known:
            raise _not_found(event_id)
        return _walk(event_id, known)[::-1]

    def _of_tail(self, event_id: str, known: Known) -> set[str]:
        """Return the ids of the chain's events that SQL does not have; add to `known` those that SQL has above them.

        Of all that is not archived ids are kept, and no payloads.
        """
        unarchived = self._seam.unarchived(lambda one: (one.event.event_id, one.event.causation_id))
        passed: set[str] = set()
        cause: str | None = event_id
        with reading(self._engine) as connection:
            causes = dict(self._seam.left(connection, unarchived))
            while cause is not None and cause not in passed and len(passed) <= MAX_CHAIN:
                if cause not in causes and cause not in known:
                    known |= descent.ancestors(connection, self._namespace, cause, MAX_CHAIN + 1)
                    if cause not in known:
                        break
                passed.add(cause)
                cause = known[cause].event.causation_id if cause in known else causes[cause]
        return passed - known.keys()

    def _children(self, event_id: str) -> list[RecordedEvent]:
        caused = events.c.namespace == self._namespace, events.c.causation_id == event_id
        unarchived = self._seam.unarchived(
            lambda one: one if event_id in (one.event.event_id, one.event.causation_id) else None
        )
        with reading(self._engine) as connection:
            left = self._seam.left(connection, unarchived)
            exists = event_id in inserts.known_positions(connection, self._namespace, [event_id])
            rows = connection.execute(select(*RECORDED).where(*caused)) if is_storable(event_id) else ()
            found = list(starmap(recorded, rows))
        if not exists and all(one.event.event_id != event_id for one in left):
            raise _not_found(event_id)
        found += [one for one in left if one.event.causation_id == event_id]
        return sorted(found, key=lambda recorded: recorded.position)

    def _tree(self, event_id: str) -> CausationTree:
        unarchived = self._seam.unarchived(lambda one: _without_payload(one, event_id))
        with reading(self._engine) as connection:
            tail = _tail_of(self._seam.left(connection, unarchived))
            known = self._below(connection, event_id, tail)
            missing = self._missing(connection, known[event_id], tail)
            positions = [event.position for event in known.values()]
            deliveries = descent.open_deliveries(connection, self._namespace, positions)
        waiting, dead = deliveries[WAITING], deliveries[DEAD]
        for one in [one for one in known.values() if one.position in waiting or one.position in dead]:
            known[one.event_id] = one.with_deliveries(waiting[one.position], dead[one.position])
        return build(event_id, known, missing)

    def _below(self, connection: Connection, event_id: str, tail: _Tail) -> dict[str, TreeEvent]:
        """Return an event and everything that it set off, by id."""
        known: dict[str, TreeEvent] = {}
        fresh = [event_id]
        while fresh:
            # Once, as a rule: an effect that was published before its cause can be in SQL when the cause is not.
            stored = descent.descendants(connection, self._namespace, fresh, MAX_TREE + 1)
            fresh = _spread(fresh, stored, known, tail)
            if len(known) > MAX_TREE:  # before the next question: of too many, anything may be left out
                raise EventBusError(
                    f"The causation tree of {event_id!r} has more than {MAX_TREE:,} events: read them with a replay "
                    f"by correlation_id."
                )
            if event_id not in known:
                raise _not_found(event_id)
        return known

    def _missing(self, connection: Connection, event: TreeEvent, tail: _Tail) -> list[MissingLink]:
        """Return the events whose cause is nowhere: the one asked for, and those that it is the root of."""
        unarchived = [one for one in (event, *tail.of_root) if one.causation_id not in tail.events]
        causes = {one.causation_id for one in unarchived if one.causation_id is not None}
        stored = inserts.known_positions(connection, self._namespace, causes)
        found = {
            one.event_id: MissingLink(one.event_id, one.position, one.causation_id)
            for one in unarchived
            if one.causation_id is not None and one.causation_id not in stored
        }
        links = descent.broken_links(connection, self._namespace, event.event_id)
        archived = (link for link in links if link.causation_id not in tail.events)
        found |= {link.event_id: link for link in islice(archived, MAX_MISSING)}
        return sorted(found.values(), key=lambda link: link.position)[:MAX_MISSING]


def missing_link(chain: Sequence[RecordedEvent]) -> MissingLink | None:
    """Tell where a chain ends too early: at an event whose cause is not there.

    Args:
        chain: oldest first, from `Causation.chain`.

    Returns:
        None when the chain begins at a root, or goes round in a circle.
    """
    oldest = chain[0]
    cause = oldest.event.causation_id
    if cause is None or any(recorded.event.event_id == cause for recorded in chain):
        return None
    return MissingLink(oldest.event.event_id, oldest.position, cause)


def _without_payload(recorded: RecordedEvent, root_id: str) -> tuple[TreeEvent, bool] | None:
    """Return an event as a tree holds it, and whether it names that root; None when the archive will set it aside."""
    event = descent.without_payload(recorded)
    return None if event is None else (event, recorded.event.correlation_id == root_id)


def _tail_of(unarchived: Iterable[tuple[TreeEvent, bool]]) -> _Tail:
    tail = _Tail()
    for event, names_root in unarchived:
        tail.events[event.event_id] = event
        if event.causation_id is not None:
            tail.caused.setdefault(event.causation_id, []).append(event)
        if names_root:
            tail.of_root.append(event)
    return tail


def _spread(fresh: list[str], stored: dict[str, TreeEvent], known: dict[str, TreeEvent], tail: _Tail) -> list[str]:
    """Add what was found in SQL, and what the tail has of it and below it; return the ids of what is below."""
    reached = [*fresh, *(event_id for event_id in stored if event_id not in known)]
    of_tail = {event_id: tail.events[event_id] for event_id in fresh if event_id in tail.events}
    for event_id, event in (of_tail | stored).items():
        known.setdefault(event_id, event)
    added = []
    for event_id in reached:  # grows while it is walked
        for event in tail.caused.get(event_id, ()):
            if event.event_id not in known:
                known[event.event_id] = event
                reached.append(event.event_id)
                added.append(event.event_id)
    return added


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
