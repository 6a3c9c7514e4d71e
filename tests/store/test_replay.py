"""One history, whichever part of it SQL has: no gap, no repeat, in order, page by page."""

from __future__ import annotations

import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy

from events.errors import InvalidFilter, RedisUnavailable, StoreUnavailable
from events.records import END
from store import seam
from store.archive import Archive
from store.direct import DirectWriter
from store.filter import EventFilter, event_filter
from store.replay import Page, Replay
from tests.store.conftest import an_event, store_events
from tests.store.doubles import FakeClock, FakeTail

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)


def positions(recorded):
    return [one.position for one in recorded]


def archive_next(archive, tail, count):
    """What the archiver does: copy, commit, tell Redis, which trims."""
    with archive.writer("history") as writer:
        batch = [r for r in tail.events if r.position > writer.cursor.position][:count]
        if batch:
            writer.append_events(batch)
            writer.advance(batch[-1].position, f"{batch[-1].position}-0")
    if batch:
        tail.archived = batch[-1].position


@pytest.mark.parametrize("archived", [0, 7, 30])
def test_a_page_of_large_events_is_short_and_the_next_goes_on(engine, archive, archived):
    history = [an_event(10 * n, payload={"text": "x" * 100_000}) for n in range(1, 31)]
    if archived:
        store_events(archive, *history[:archived])
    replay = Replay(engine, "test", FakeTail(history, archived=10 * archived))

    sizes, after, complete = [], 0, False
    while not complete:
        page = replay.page(after=after, size_bytes=1_000_000)
        sizes.append(len(page.events))
        assert positions(page.events) == [10 * n for n in range(after // 10 + 1, page.last // 10 + 1)]
        after, complete = page.last, page.complete

    assert sum(sizes) == 30 and list(replay.iterate()) == history
    if archived == 30:
        assert max(sizes) <= 11, "ten of them are a million bytes"
    one = replay.page(size_bytes=1, limit=500)
    assert 1 <= len(one.events) <= 30 and one.events[0] == history[0]


def test_an_empty_history_is_one_complete_empty_page(engine):
    for tail in (None, FakeTail()):
        replay = Replay(engine, "test", tail)

        assert replay.page() == Page((), 0, True)
        assert replay.page(after=7) == Page((), 7, True)
        assert list(replay.iterate()) == [] and replay.count() == 0 and replay.find("nobody") is None


@pytest.mark.parametrize("archived", [0, 1, 5, 9, 10])
@pytest.mark.parametrize("limit", [1, 3, 10, 11])
def test_pages_join_sql_and_tail_without_a_seam(engine, archive, archived, limit):
    history = [an_event(10 * n) for n in range(1, 11)]
    if archived:
        store_events(archive, *history[:archived])
    replay = Replay(engine, "test", FakeTail(history, archived=10 * archived))

    assert list(replay.iterate(page=limit)) == history
    for done in range(11):
        assert list(replay.iterate(after=10 * done, page=limit)) == history[done:]
    assert replay.count() == 10 and [replay.count(after=10 * done) for done in range(11)] == list(range(10, -1, -1))
    assert replay.find("e100") == history[9] and replay.find("e10") == history[0]


@pytest.mark.parametrize(("limit", "step"), [(1, 2), (7, 1), (7, 3), (500, 1), (500, 20)])
def test_the_archiver_moving_before_every_page_makes_no_gap_and_no_repeat(engine, archive, limit, step):
    history = [an_event(n) for n in range(1, 61)]
    tail = FakeTail(history)
    tail.before_read = lambda: archive_next(archive, tail, step)
    replay = Replay(engine, "test", tail)

    assert positions(replay.iterate(page=limit)) == list(range(1, 61))


def test_a_question_survives_an_archiver_that_moves_on_every_time(engine, archive):
    history = [an_event(n) for n in range(1, 61)]
    tail = FakeTail(history)
    tail.before_read = lambda: archive_next(archive, tail, 1)

    assert Replay(engine, "test", tail).count() == 60


def test_a_tail_that_moves_on_mid_question_is_asked_again(engine, archive):
    history = [an_event(n, causation_id=f"e{n - 1}" if n > 1 else None) for n in range(1, 30)]
    tail = FakeTail(history)
    moves = iter([5, 9, 1])
    tail.before_read = lambda: archive_next(archive, tail, next(moves, 0))

    assert Replay(engine, "test", tail).count() == 29
    assert archive.cursor("history").position == 15


def test_readers_see_one_order_while_publisher_and_archiver_run(engine, archive, url, open_at):
    tail, total, failures = FakeTail(), 400, []

    def publish_and_archive():
        try:
            for n in range(1, total + 1):
                tail.events.append(an_event(n))
                if n % 7 == 0:
                    archive_next(other, tail, 5)
            while other.cursor("history").position < total:
                archive_next(other, tail, 50)
        except Exception as error:
            failures.append(error)

    other = Archive(open_at(url), "test")
    writer = threading.Thread(target=publish_and_archive)
    writer.start()
    replay, seen, after = Replay(engine, "test", tail), [], 0
    while len(seen) < total and not failures:
        page = replay.page(after=after, limit=13)
        seen += positions(page.events)
        after = page.last
    writer.join(60)

    assert failures == [] and seen == list(range(1, total + 1))


def test_a_database_that_lags_behind_redis_is_reported(engine, archive):
    store_events(archive, an_event(1))

    with pytest.raises(StoreUnavailable, match="lags"):
        list(Replay(engine, "test", FakeTail([an_event(9)], archived=8)).iterate())


def test_an_unreachable_redis_is_an_error_and_not_a_shorter_answer(engine, archive):
    store_events(archive, an_event(1))

    def fail():
        raise RedisUnavailable("no Redis")

    replay = Replay(engine, "test", FakeTail(before_read=fail))
    with pytest.raises(RedisUnavailable):
        replay.page()
    assert replay.find("e1") is not None


def test_a_tail_longer_than_its_bound_is_refused_by_questions_and_read_by_pages(engine, archive, monkeypatch):
    monkeypatch.setattr(seam, "TAIL_BOUND", 20)
    replay = Replay(engine, "test", FakeTail([an_event(n) for n in range(1, 31)]))

    with pytest.raises(StoreUnavailable, match="eventbus archive"):
        replay.count()
    assert len(list(replay.iterate())) == 30


@pytest.mark.parametrize("limit", [1, 2, 3, 50])
def test_unpublished_events_take_their_place_among_the_others(engine, archive, limit):
    history = [an_event(n) for n in (10, 30, 50)]
    tail, clock = FakeTail(history), FakeClock()
    replay = Replay(engine, "test", tail)
    direct = DirectWriter(engine, "test", clock, replay)
    for n in (20, 40, 60, 61):
        clock.latest = n - 1
        direct.store([an_event(n).event])

    everything = [10, 20, 30, 40, 50, 60, 61]
    assert positions(replay.iterate(page=limit)) == everything
    archive_next(archive, tail, 2)
    assert positions(replay.iterate(page=limit)) == everything
    archive_next(archive, tail, 2)
    assert positions(replay.iterate(page=limit)) == everything
    assert archive.highest_position() == 61


def test_an_unpublished_event_that_is_published_later_appears_once(engine, archive):
    tail, clock = FakeTail(), FakeClock(9)
    replay = Replay(engine, "test", tail)
    DirectWriter(engine, "test", clock, replay).store([an_event(10).event])
    tail.events += [an_event(20, event_id="e10"), an_event(30)]

    before = positions(replay.iterate())
    archive_next(archive, tail, 5)

    assert before == positions(replay.iterate()) == [10, 30]


FILTERS = [
    EventFilter(),
    EventFilter(project_id="p1"),
    EventFilter(types=("A", "B")),
    EventFilter(types=("A",), project_id="p2"),
    EventFilter(actor="x"),
    EventFilter(correlation_id="e5"),
    EventFilter(start_time=NOON + timedelta(minutes=10)),
    EventFilter(end_time=NOON + timedelta(minutes=10)),
    EventFilter(start_time=NOON + timedelta(minutes=5), end_time=NOON + timedelta(minutes=20), actor="y"),
    EventFilter(start_time=NOON, end_time=NOON),
    EventFilter(project_id="nobody"),
    EventFilter(payload={"n": 1}),
    EventFilter(payload={"n": 1, "tags.0": None}, actor="x"),
    EventFilter(metadata={"priority": 5}),
]


@pytest.mark.parametrize("wanted", FILTERS, ids=repr)
def test_a_filter_means_the_same_in_sql_and_in_the_tail(engine, archive, wanted):
    history = [
        an_event(
            n, type="ABC"[n % 3], project_id=f"p{n % 4}", actor="xy"[n % 2], timestamp=NOON + timedelta(minutes=n),
            correlation_id="e5" if n % 5 == 0 else None, payload={"n": n % 3, "tags": [None, n][n % 2 :]},
            metadata={"priority": n % 7} if n % 7 else {},
        )
        for n in range(1, 31)
    ]  # fmt: skip
    expected = [r for r in history if wanted.matches(r.event)]
    tail = FakeTail(history)
    replay = Replay(engine, "test", tail)
    for _ in range(3):
        assert list(replay.iterate(wanted, page=3)) == expected
        assert replay.count(wanted) == len(expected)
        archive_next(archive, tail, 15)


def test_a_time_range_is_half_open_and_naive_times_are_utc(engine, archive):
    store_events(archive, *(an_event(n, timestamp=NOON + timedelta(microseconds=n)) for n in range(1, 5)))
    naive = NOON.replace(tzinfo=None)
    wanted = EventFilter(start_time=naive + timedelta(microseconds=2), end_time=naive + timedelta(microseconds=4))

    assert positions(Replay(engine, "test", None).iterate(wanted)) == [2, 3]


@pytest.mark.parametrize("position", [True, None, "7", 1.5, END + 1])
def test_what_is_no_position_is_refused(engine, archive, position):
    store_events(archive, an_event(1))
    replay = Replay(engine, "test", None)

    for ask in (replay.page, lambda *where: list(replay.iterate(*where)), replay.count):
        with pytest.raises(InvalidFilter, match="A position is"):
            ask(EventFilter(), position)
    assert replay.count(EventFilter(), -5) == 1, "before the beginning is the beginning"


@pytest.mark.parametrize("types", [7, True, "T"])
def test_types_that_are_no_list_are_refused(types):
    with pytest.raises(InvalidFilter, match="are a sequence of names, not"):
        EventFilter(types=types)
    with pytest.raises(InvalidFilter, match="must be a list of event types, not"):
        event_filter(event_types=types)


def test_a_reversed_range_a_string_of_types_and_a_limit_of_nothing_are_refused(engine):
    with pytest.raises(ValueError, match="reversed"):
        EventFilter(start_time=NOON, end_time=NOON - timedelta(seconds=1))
    with pytest.raises(ValueError, match="sequence of names"):
        EventFilter(types="SCENE_WRITTEN")
    with pytest.raises(ValueError, match="datetime"):
        EventFilter(start_time="2024-01-01")
    with pytest.raises(ValueError, match="at least 1"):
        Replay(engine, "test", None).page(limit=0)


def test_a_question_without_matches_in_a_long_tail_ends(engine):
    tail = FakeTail([an_event(n) for n in range(1, 2501)])

    assert list(Replay(engine, "test", tail).iterate(EventFilter(project_id="none"))) == []
    assert tail.reads == 3


@pytest.mark.parametrize("limit", [2**63, 10**30])
def test_a_limit_beyond_all_rows_is_as_good_as_none(engine, archive, limit):
    store_events(archive, *(an_event(n) for n in range(1, 4)))

    assert len(Replay(engine, "test", FakeTail(archived=3)).page(limit=limit).events) == 3


def test_a_page_that_the_database_sorts_is_sorted_without_its_payloads(engine, archive):
    store_events(archive, *(an_event(n) for n in range(1, 9)))
    is_sqlite, plans = engine.dialect.name == "sqlite", []
    explaining = "EXPLAIN QUERY PLAN" if is_sqlite else "EXPLAIN (VERBOSE, COSTS OFF)"

    @sqlalchemy.event.listens_for(engine, "before_cursor_execute")
    def explain(connection, _cursor, statement, values, *_):
        if "payload" in statement:
            with closing(connection.connection.cursor()) as other:
                other.execute(f"{explaining} {statement}", values)
                plans.append("\n".join(str(row[-1]) for row in other.fetchall()))

    page = Replay(engine, "test", None).page(EventFilter(start_time=datetime(2000, 1, 1, tzinfo=UTC)), limit=5)

    (plan,) = plans
    assert [recorded.position for recorded in page.events] == [1, 2, 3, 4, 5]
    if is_sqlite:
        assert "SUBQUERY" in plan[: plan.index("TEMP B-TREE")], plan
    else:
        assert "payload)::text" in plan and "payload)::text" not in plan[plan.index("Limit") :], (
            "cast of what is fetched alone"
        )


def test_postgresql_keeps_what_a_page_of_large_events_has_no_room_for(engine, archive):
    if engine.dialect.name != "postgresql":
        pytest.skip("SQLite looks for each row when it is asked for it.")
    store_events(archive, *(an_event(n, payload={"text": "x" * 1000}) for n in range(1, 31)))
    cursors = []

    @sqlalchemy.event.listens_for(engine, "before_cursor_execute")
    def note(_connection, cursor, statement, *_):
        cursors.append((cursor.name, statement))

    page = Replay(engine, "test", None).page(size_bytes=10_000)

    of_events = [name for name, statement in cursors if "FROM events" in statement]
    assert len(of_events) == 1 and of_events[0], "a cursor without a name brings the whole answer"
    assert 8 <= len(page.events) < 20 and not page.complete
