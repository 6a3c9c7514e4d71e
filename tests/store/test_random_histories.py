"""Histories drawn at random, asked at random, while an archiver moves: the answers are those of a plain list.

Pages, chains and children, statistics. Trees have the same in `test_tree.py`, what is kept of statistics in
`test_counting.py`, pages of deliveries in `test_deliveries.py`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from events.event import Event
from events.records import RecordedEvent
from store.archive import Archive
from store.causation import Causation, missing_link
from store.direct import DirectWriter
from store.filter import EventFilter
from store.replay import Replay
from store.statistics import Statistics
from tests.store.conftest import an_event, store_events
from tests.store.doubles import FakeClock, FakeTail
from tests.store.test_statistics import says

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
WIDTHS = {"hour": timedelta(hours=1), "day": timedelta(days=1)}
PROJECTS, TYPES, ACTORS = ("film", "song", "%"), ("A", "B", "C"), ("x", "y")
MOMENTS = st.integers(-30, 30).map(lambda n: NOON + timedelta(minutes=30 * n))

slow = settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
namespaces = itertools.count()


@st.composite
def histories(draw: st.DrawFn) -> list[RecordedEvent]:
    """At most sixteen events with gaps between their positions; the cause may be any, itself or one that nobody has."""
    size = draw(st.integers(8, 16) | st.integers(0, 7))
    positions = list(itertools.accumulate(draw(st.lists(st.integers(1, 3), min_size=size, max_size=size))))
    history = []
    for n, position in enumerate(positions, 1):
        metadata: dict[str, Any] = {}
        if draw(st.booleans()):
            metadata |= {"cost": draw(st.integers(0, 10**9)) / 10**6, "currency": draw(st.sampled_from(["EUR", "USD"]))}
        if draw(st.booleans()):
            metadata["latency_ms"] = draw(st.integers(0, 10**7)) / 1000
        cause = draw(st.one_of(st.none(), st.integers(1, n), st.integers(1, size + 2)))
        recorded = an_event(
            position,
            event_id=f"n{n}",
            type=draw(st.sampled_from(TYPES)),
            project_id=draw(st.sampled_from(PROJECTS)),
            actor=draw(st.sampled_from(ACTORS)),
            causation_id=f"n{cause}" if cause else None,
            correlation_id=f"n{draw(st.integers(1, 3))}",
            timestamp=draw(MOMENTS),
            metadata=metadata,
            payload={"scene": {"number": draw(st.integers(0, 2))}},
        )
        history.append(recorded)
    return history


@st.composite
def questions(draw: st.DrawFn) -> dict[str, Any]:
    """What a filter asks for: nothing, or up to two things at once."""
    asked: dict[str, Any] = {}
    moments = sorted(draw(st.lists(MOMENTS, min_size=2, max_size=2)))
    values = {
        "project_id": st.sampled_from([*PROJECTS, "nobody"]),
        "types": st.sets(st.sampled_from(TYPES), min_size=1).map(sorted).map(tuple),
        "actor": st.sampled_from(ACTORS),
        "correlation_id": st.integers(1, 4).map(lambda n: f"n{n}"),
        "payload": st.integers(0, 3).map(lambda number: {"scene.number": number}),
        "start_time": st.just(moments[0]),
        "end_time": st.just(moments[1]),
    }
    for name in draw(st.just(set()) | st.sets(st.sampled_from(sorted(values)), max_size=2)):
        asked[name] = draw(values[name])
    return asked


MEETS: dict[str, Callable[[Event, Any], bool]] = {
    "project_id": lambda event, value: event.project_id == value,
    "types": lambda event, value: event.type.value in value,
    "actor": lambda event, value: event.actor == value,
    "correlation_id": lambda event, value: event.correlation_id == value,
    "payload": lambda event, value: event.payload["scene"]["number"] == value["scene.number"],
    "start_time": lambda event, value: event.timestamp >= value,
    "end_time": lambda event, value: event.timestamp < value,
}


def meets(recorded: RecordedEvent, asked: dict[str, Any]) -> bool:
    """What `EventFilter` promises, said once more."""
    return all(MEETS[name](recorded.event, value) for name, value in asked.items())


@dataclass
class Situation:
    """A history, of which SQL has the unpublished events and the first others, and a tail has the rest.

    Attributes:
        unpublished: places in the history.
        archived: how many of the others are in SQL.
        moves: how many more before each read of the tail, and whether Redis is told before it is read.
    """

    history: list[RecordedEvent]
    unpublished: set[int]
    archived: int
    moves: list[tuple[int, bool]]

    def happen(self, engine: Engine) -> tuple[str, FakeTail]:
        """Make it so in a new namespace; `history` is then as it was recorded."""
        namespace = f"n{next(namespaces)}"
        self._store_unpublished(engine, namespace)
        published = [recorded for n, recorded in enumerate(self.history) if n not in self.unpublished]
        archive, tail = Archive(engine, namespace), FakeTail(published)
        left, steps = iter(published), iter(self.moves)

        def move(count: int, is_told: bool) -> None:
            if batch := list(itertools.islice(left, count)):
                store_events(archive, *batch)
            if is_told:
                tail.archived = archive.cursor("history").position

        move(self.archived, True)
        tail.before_read = lambda: move(*next(steps, (0, True)))
        return namespace, tail

    def _store_unpublished(self, engine: Engine, namespace: str) -> None:
        clock = FakeClock()
        direct = DirectWriter(engine, namespace, clock, Replay(engine, namespace, None))
        for n in sorted(self.unpublished & set(range(len(self.history)))):
            clock.latest = self.history[n].position - 1
            (self.history[n],) = direct.store([self.history[n].event])


SITUATIONS = st.builds(
    Situation,
    histories(),
    st.lists(st.sampled_from([False, False, True]), min_size=16, max_size=16).map(
        lambda told: {n for n, is_unpublished in enumerate(told) if is_unpublished}
    ),
    st.integers(0, 5),
    st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=1, max_size=4),
)


@settings(slow, max_examples=80)
@given(SITUATIONS, questions(), st.just(0) | st.integers(0, 30), st.integers(1, 7), st.integers(1, 5))
def test_pages_are_what_a_plain_list_says(
    engine: Engine, situation: Situation, asked: dict[str, Any], after: int, limit: int, look: int
) -> None:
    replay = Replay(engine, *situation.happen(engine))
    history = situation.history
    expected = [recorded for recorded in history if recorded.position > after and meets(recorded, asked)]

    found: list[RecordedEvent] = []
    place, complete = after, False
    while not complete:
        with pytest.MonkeyPatch.context() as changed:
            changed.setattr("store.replay._TAIL_LOOK", look)
            page = replay.page(EventFilter(**asked), place, limit)
        assert len(page.events) <= limit and page.last >= place
        assert page.complete or page.last > place, "a reader gets on"
        assert all(place < recorded.position <= page.last for recorded in page.events)
        found += page.events
        place, complete = page.last, page.complete

    assert found == expected
    assert replay.count(EventFilter(**asked)) == sum(meets(recorded, asked) for recorded in history)


def chain_by_hand(history: list[RecordedEvent], event: RecordedEvent) -> list[RecordedEvent]:
    """Back from an event to its causes, until there is none, or one comes round again."""
    by_id = {one.event.event_id: one for one in history}
    chain = [event]
    while (cause := by_id.get(chain[0].event.causation_id or "")) is not None and cause not in chain:
        chain.insert(0, cause)
    return chain


@slow
@given(SITUATIONS)
def test_chains_and_children_are_what_a_plain_list_says(engine: Engine, situation: Situation) -> None:
    causation = Causation(engine, *situation.happen(engine))
    history = situation.history
    ids = {recorded.event.event_id for recorded in history}

    for one in history:
        expected = chain_by_hand(history, one)
        chain = causation.chain(one.event.event_id)
        assert chain == expected
        cause = expected[0].event.causation_id
        link = missing_link(chain)
        assert (link and link.causation_id) == (cause if cause is not None and cause not in ids else None)
        caused = [other for other in history if other.event.causation_id == one.event.event_id]
        assert causation.children(one.event.event_id) == caused


def buckets_by_hand(
    history: list[RecordedEvent], width: timedelta, start: datetime | None, end: datetime | None
) -> Iterator[tuple[datetime, list[RecordedEvent]]]:
    """Buckets that end after the start and begin before the end, and the events in them."""
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    begins = {recorded.position: recorded.event.timestamp - (recorded.event.timestamp - epoch) % width
              for recorded in history}  # fmt: skip
    for begin in sorted(set(begins.values())):
        if (start is None or begin + width > start) and (end is None or begin < end):
            yield begin, [recorded for recorded in history if begins[recorded.position] == begin]


@slow
@given(SITUATIONS, st.tuples(MOMENTS, MOMENTS).map(sorted), st.tuples(st.booleans(), st.booleans()))
def test_statistics_are_what_a_plain_list_says(
    engine: Engine, situation: Situation, range: list[datetime], bounded: tuple[bool, bool]
) -> None:
    statistics = Statistics(engine, *situation.happen(engine))
    history = situation.history
    start, end = (moment if is_given else None for moment, is_given in zip(range, bounded, strict=True))

    for project in (None, *PROJECTS, "nobody"):
        mine = [recorded for recorded in history if project in (None, recorded.event.project_id)]
        found = statistics.project(project)
        assert says(found.total, mine)
        for named, name_of in ((found.types, lambda r: r.event.type.value), (found.actors, lambda r: r.event.actor)):
            told = {getattr(one, "type", None) or getattr(one, "actor", None): one for one in named}
            assert list(told) == sorted({name_of(recorded) for recorded in mine})
            assert all(says(told[name], [r for r in mine if name_of(r) == name]) for name in told)
        for grain, width in WIDTHS.items():
            expected = dict(buckets_by_hand(mine, width, start, end))
            series = statistics.series(project, grain, start, end)
            assert [one.start for one in series] == list(expected)
            assert all(says(one, expected[one.start]) for one in series)
