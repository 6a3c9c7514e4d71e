"""Compares what the store says of deliveries with what Redis has of them, and puts back what Redis has lost.

It is safe while workers and archivers run. Of each subscriber, in this order, because only so what moves or ends
meanwhile is not taken for lost:

    1  the record's `mends`, the clock, and who holds which ordered lane
    2  the keys of deliveries that the store says are waiting
    3  every delivery that is anywhere in Redis
    4  outcomes in Redis: what ended before 3 has its outcome there, or the archiver has moved it by then
    5  the store again, about what 3 did not find and 4 did not see end

What is still waiting at 5 was there at 2 and nowhere at 3: Redis has lost it. Whoever puts it back compares the
`mends` of 1, so that of two who have found the same only one does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from events import mending
from events.event import Event
from events.inspection import Inspection
from events.mending import Ground, Key
from events.namespace import Namespace
from events.records import AttemptState, Outcome
from events.stream import HistoryStream
from store.deliveries import StoredDeliveries
from store.fold import FINAL, WAITING

WAITING_AT_ONCE = 50_000
TRIES = 20
_PAGE = 1000


@dataclass(slots=True)
class Gaps:
    """Where store and Redis differ about one subscriber's deliveries.

    Attributes:
        subscriber: its name. is_declared: somebody declares it, and it is not being dropped.
        mends: of its record, before anything was looked at.
        lost: waiting in the store, and nowhere in Redis.
        eventless: likewise, and the store does not have their events: nobody can put them back.
        free: ordered lanes that are held by a delivery that is nowhere, and not lost.
        unlisted: lanes whose head may move, and that nobody would look into.
        ended: in Redis again, although the store knows how they ended: Redis has gone back.
        foreign: in Redis, of events that neither history nor the store has.
    """

    subscriber: str
    is_declared: bool
    mends: str
    lost: list[Key] = field(default_factory=list)
    eventless: list[Key] = field(default_factory=list)
    free: dict[str, Key] = field(default_factory=dict)
    unlisted: list[str] = field(default_factory=list)
    ended: list[Key] = field(default_factory=list)
    foreign: list[Key] = field(default_factory=list)

    @property
    def can_be_mended(self) -> bool:
        return self.is_declared and bool(self.lost or self.free or self.unlisted)

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.eventless or self.free or self.unlisted or self.ended or self.foreign)


@dataclass(slots=True)
class Repaired:
    """What a repair has put back of one subscriber: deliveries, holds let go, lanes listed."""

    subscriber: str
    deliveries: int = 0
    holds: int = 0
    lanes: int = 0


class Surveyor:
    """Compares one namespace. For operators: it reads much.

    Raises, in every method:
        RedisUnavailable, ScriptFailed, StoreUnavailable, NotMigrated.
    """

    def __init__(self, namespace: Namespace, history: HistoryStream, store: StoredDeliveries) -> None:
        self._namespace = namespace
        self._history = history
        self._store = store

    def survey(self) -> Iterator[Gaps]:
        """Iterate over every subscriber that store or Redis knows, with where they differ; by name."""
        lanes = mending.lanes(self._namespace)
        declared = Inspection(self._namespace).subscribers()
        for name in sorted({*declared, *lanes, *self._store.waiting_counts()}):
            yield self.compare(name, lanes.get(name, set()))

    def compare(self, name: str, lanes: set[str] | None = None) -> Gaps:
        """Compare one subscriber."""
        lanes = mending.lanes(self._namespace).get(name, set()) if lanes is None else lanes
        ground, clock = mending.ground(self._namespace, name), self._history.clock()
        holds = mending.holds(self._namespace, name)
        waiting = self._waiting(name)
        present = mending.present(self._namespace, name, lanes)
        gaps = Gaps(name, ground.is_declared, ground.mends)
        self._find_lost(gaps, ground, waiting, present)
        self._find_holds(gaps, holds, present)
        gaps.unlisted = mending.unlisted(self._namespace, name, lanes)
        self._find_ended(gaps, ground, present, clock)
        self._find_foreign(gaps, present)
        return gaps

    def repair(self, gaps: Gaps, progress: Callable[[int], None] = lambda count: None) -> Repaired:
        """Put back what Redis has lost of a subscriber, looking again until nothing is missing.

        Args:
            progress: called with the number of deliveries put back so far.

        Raises:
            HistoryReset: what was put back before stays.

        Guarantee: repeated, or done by several at once, it puts each delivery back once.
        """
        repaired = Repaired(gaps.subscriber)
        for _ in range(TRIES):
            if not gaps.can_be_mended or not self._mend(gaps, repaired, progress):
                break
            gaps = self.compare(gaps.subscriber)
        return repaired

    def _mend(self, gaps: Gaps, repaired: Repaired, progress: Callable[[int], None]) -> bool:
        """Put back what was found; return whether somebody else came between."""
        left, mends = gaps.lost, gaps.mends
        free, unlisted = gaps.free, gaps.unlisted
        while left or free or unlisted:
            part = left[: mending.MAX_AT_ONCE]
            events = self._store.events({position for position, _ in part})
            lost = [(redelivery, events[position]) for position, redelivery in part if position in events]
            causes = self._nearest_causes([recorded.event for _, recorded in lost])
            done = mending.mend(self._namespace, gaps.subscriber, mends, lost, free, unlisted, causes)
            if done.is_stale:
                return True
            repaired.holds, repaired.lanes = repaired.holds + len(free), repaired.lanes + len(unlisted)
            repaired.deliveries += done.put_back
            progress(repaired.deliveries)
            if not done.put_back and lost:
                return False  # nobody declares it any more
            mends, free, unlisted = done.mends, {}, []
            left = left[part.index(_key(lost[done.put_back])) :] if done.put_back < len(lost) else left[len(part) :]
        return False

    def _nearest_causes(self, events: Sequence[Event]) -> dict[str, str]:
        """Return, of events that Redis has forgotten, the nearest cause that it remembers, by the event's id.

        A Redis that went back will have done again what its joins wait for; the store knows what that had set off.
        """
        if not events or not mending.has_joins(self._namespace, Inspection(self._namespace).subscribers()):
            return {}
        remembered = mending.remembered(self._namespace, {event.event_id for event in events})
        forgotten = [event for event in events if event.event_id not in remembered]
        causes = {event.event_id: event.causation_id for event in forgotten if event.causation_id}
        asked = set(causes)
        while further := set(causes.values()) - asked:
            asked |= further
            remembered |= mending.remembered(self._namespace, further)
            causes |= self._store.causes(further - remembered)
        nearest = {event.event_id: _climb(event.event_id, causes, remembered) for event in forgotten}
        return {event_id: cause for event_id, cause in nearest.items() if cause is not None}

    def _waiting(self, name: str) -> list[Key]:
        found: list[Key] = []
        while page := self._store.waiting(name, found[-1] if found else (0, -1), WAITING_AT_ONCE):
            found += page
        return found

    def _find_lost(self, gaps: Gaps, ground: Ground, waiting: Sequence[Key], present: set[Key]) -> None:
        missing = {key for key in waiting if key not in present and not _is_to_be_filled(key, ground)}
        if missing:
            missing -= self._ended_in_redis(gaps.subscriber)
        states = self._store.states(gaps.subscriber, missing) if missing else {}
        still = sorted(key for key, (state, _) in states.items() if state == WAITING)
        known = self._store.known({position for position, _ in still}) if still else set()
        gaps.lost = [key for key in still if key[0] in known]
        gaps.eventless = [key for key in still if key[0] not in known]

    def _find_holds(self, gaps: Gaps, holds: Mapping[str, Key], present: set[Key]) -> None:
        """Find holds of what is nowhere; they are looked at again, because it may have ended meanwhile."""
        suspected = {lane: key for lane, key in holds.items() if key not in present and key not in gaps.lost}
        if suspected:
            now = mending.holds(self._namespace, gaps.subscriber)
            gaps.free = {lane: key for lane, key in suspected.items() if now.get(lane) == key}

    def _find_ended(self, gaps: Gaps, ground: Ground, present: set[Key], clock: int) -> None:
        """Find what had ended before anything was looked at, and is there all the same; dead letters may be, and
        what a back-fill delivers that began again."""
        first = ground.first_redelivery
        asked = {key for key in present if not first or key[1] != first}
        states = self._store.states(gaps.subscriber, asked) if asked else {}
        gaps.ended = sorted(
            key
            for key, (state, settled) in states.items()
            if state not in (WAITING, AttemptState.DEAD) and settled is not None and settled <= clock
        )

    def _find_foreign(self, gaps: Gaps, present: set[Key]) -> None:
        """Find events that nobody has. History is asked first: what it has no more, the store has by then."""
        positions = {position for position, _ in present if position}
        strange = self._store.unknown(self._history.missing(positions)) if positions else set()
        gaps.foreign = sorted(key for key in present if key[0] in strange)

    def _ended_in_redis(self, subscriber: str) -> set[Key]:
        """Return what has ended according to outcomes that are not archived."""
        found: set[Key] = set()
        last = "0-0"
        while entries := self._history.entries_after("outcomes", last, _PAGE):
            last = entries[-1][0]
            for _, record in entries:
                if isinstance(record, Outcome) and record.subscriber == subscriber and record.state in FINAL:
                    found.add((record.event_position, record.redelivery))
        return found


def _is_to_be_filled(key: Key, ground: Ground) -> bool:
    """Tell whether a back-fill that is under way will deliver it, under this very name."""
    return ground.filled_to is not None and key[1] == ground.first_redelivery and key[0] > ground.filled_to


def _climb(event_id: str, causes: Mapping[str, str], remembered: set[str]) -> str | None:
    """Return the first of the event's causes that is remembered; None where there is none, or they go in a circle."""
    passed: set[str] = set()
    cause = causes.get(event_id)
    while cause is not None and cause not in remembered and cause not in passed:
        passed.add(cause)
        cause = causes.get(cause)
    return cause if cause in remembered else None


def _key(lost: tuple[int, object]) -> Key:
    redelivery, recorded = lost
    return recorded.position, redelivery  # type: ignore[attr-defined]
