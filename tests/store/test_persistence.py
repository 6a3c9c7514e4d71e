"""Events kept without being published, through the asynchronous edge."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from datetime import UTC, datetime

import pytest

from events.errors import EventIdConflict, HistoryReset, InvalidFilter, RedisUnavailable, StoreUnavailable
from events.event import Event
from events.settings import Settings
from store.archive import Archive
from store.blackboard import Blackboard, BlackboardFactory
from store.engine import open_engine
from store.persistence import EventPersistence
from store.replay import Replay
from tests.store.conftest import an_event, store_events
from tests.store.doubles import FakeClock, FakeTail
from tests.waiting import wait_until


@pytest.fixture
def board(url):
    with Blackboard(open_engine(url), "test", FakeTail(), FakeClock(), threads=3) as board:
        yield board


@pytest.fixture
def persistence(board):
    return EventPersistence(board)


def event(event_id, **fields):
    return Event(**{"event_id": event_id, "project_id": "film", "type": "SCENE_WRITTEN", "actor": "a", **fields})


def test_a_persisted_event_is_found_with_its_place_and_its_root(board, persistence):
    root, child = event("root"), event("child", causation_id="root", metadata={"cost": 0.5})

    assert asyncio.run(persistence.persist_events([root, child])) == ["root", "child"]
    assert asyncio.run(persistence.persist_event(event("grandchild", causation_id="child"))) == "grandchild"

    found = list(board.replay.iterate())
    assert [(r.position, r.event.event_id, r.depth, r.event.correlation_id, r.origin) for r in found] == [
        (1001, "root", 0, "root", "direct"),
        (1002, "child", 1, "root", "direct"),
        (1003, "grandchild", 2, "root", "direct"),
    ]
    assert board.archive.highest_position() == 1003


def test_persisting_twice_stores_once_and_another_body_is_refused_by_name(board, persistence):
    original = event("EV-1", payload={"n": 1e300}, timestamp=datetime(2024, 1, 1))
    again = original.model_copy(update={"timestamp": datetime(2025, 1, 1, tzinfo=UTC), "metadata": {"cost": 1}})

    assert asyncio.run(persistence.persist_events([original, again, original])) == ["EV-1"] * 3
    with pytest.raises(EventIdConflict, match="'EV-1'"):
        asyncio.run(persistence.persist_events([event("EV-2"), event("EV-1", payload={"n": 2})]))

    assert [r.event.event_id for r in board.replay.iterate()] == ["EV-1"]


def test_a_published_event_is_not_stored_again_whether_archived_or_not(board, persistence):
    board.tail.events += [an_event(1), an_event(2)]
    store_events(board.archive, board.tail.events[0])
    board.tail.archived = 1

    published = [one.event for one in board.tail.events]
    assert asyncio.run(persistence.persist_events(published)) == ["e1", "e2"]
    assert asyncio.run(persistence.persist_event(event("child", causation_id="e2"))) == "child"

    assert [(r.position, r.depth) for r in board.replay.iterate()] == [(1, 0), (2, 0), (1001, 1)]
    with pytest.raises(EventIdConflict):
        asyncio.run(persistence.persist_event(event("e2", actor="somebody else")))


def test_a_clock_behind_the_store_is_a_reset(board, persistence):
    store_events(board.archive, an_event(5000))

    with pytest.raises(HistoryReset, match="5000"):
        asyncio.run(persistence.persist_event(event("EV-1")))
    assert board.replay.find("EV-1") is None


def test_writers_of_unpublished_events_and_the_archiver_keep_one_order(board, url, open_at):
    lock, failures, published = threading.Lock(), [], 40

    class SharedClock(FakeClock):
        def next_position(self):
            with lock:
                return super().next_position()

    clock, tail = SharedClock(), board.tail

    def publish():
        with lock:
            clock.latest += 1
            tail.events.append(an_event(clock.latest))

    def persist(name):
        try:
            with Blackboard(open_engine(url), "test", tail, clock) as mine:
                for n in range(15):
                    mine.direct.store([event(f"{name}{n}")])
        except Exception as error:
            failures.append(error)

    def archive():
        try:
            for _ in range(published):
                publish()
                with board.archive.writer("history") as writer:
                    if writer is not None:
                        with lock:
                            batch = [r for r in tail.events if r.position > writer.cursor.position]
                        settled = [r.position for r in board_below(writer.cursor.position)]
                        seen.append((writer.cursor.position, settled))
                        if batch:
                            writer.append_events(batch)
                            writer.advance(batch[-1].position, f"{batch[-1].position}-0")
                            tail_archived.append(batch[-1].position)
        except Exception as error:
            failures.append(error)

    def board_below(position):
        return [r for r in sql_only.iterate() if r.position <= position]

    seen, tail_archived = [], []
    sql_only = Blackboard(open_at(url), "test", None, clock).replay
    threads = [threading.Thread(target=persist, args=(name,)) for name in "AB"] + [threading.Thread(target=archive)]
    [thread.start() for thread in threads]
    [thread.join(100) for thread in threads]

    assert failures == []
    final = [r.position for r in sql_only.iterate()]
    for position, settled in seen:
        assert settled == [p for p in final if p <= position], "a row appeared at or below the cursor"


def test_the_cursor_does_not_pass_an_unpublished_event_that_is_being_stored(url, open_at, backend):
    if backend == "sqlite":
        pytest.skip("SQLite has one writer per file")
    archive, found = Archive(open_at(url), "test"), []
    store_events(archive, an_event(1))

    def archive_a_later_event():
        store_events(archive, an_event(9000))
        found.extend(r.position for r in Replay(open_at(url), "test", None).iterate())

    class ClockBeforeTheArchiver(FakeClock):
        def next_position(self):
            archiver.start()
            archiver.join(1)  # without the lock it ends here, before we commit
            return super().next_position()

    archiver = threading.Thread(target=archive_a_later_event)
    with Blackboard(open_engine(url), "test", FakeTail(), ClockBeforeTheArchiver()) as board:
        board.direct.store([event("EV-1")])
    archiver.join(30)

    assert found == [1, 1001, 9000]


def test_events_are_read_by_every_filter(persistence):
    noon = datetime(2024, 1, 1, 12)
    events = [
        event(
            f"e{n}", project_id=f"p{n % 2}", actor=f"a{n % 3}", timestamp=noon.replace(minute=n),
            metadata={"scene": {"number": n}},
        )
        for n in range(9)
    ]  # fmt: skip
    asyncio.run(persistence.persist_events(events))

    def ids(**wanted):
        return [int(one.event_id[1:]) for one in asyncio.run(persistence.get_events(**wanted))]

    assert ids() == list(range(9))
    assert ids(project_id="p1", actor="a0") == [3]
    assert ids(start_time=noon.replace(minute=3), end_time=noon.replace(minute=5)) == [3, 4]
    assert ids(event_types=["SCENE_WRITTEN"], limit=2) == [0, 1] and ids(event_types=["OTHER"]) == []
    assert ids(after=1007) == [7, 8] and ids(limit=0) == [] and ids(correlation_id="e4") == [4]
    assert ids(payload={"n": 1}) == [] and ids(metadata={"scene.number": 4}) == [4] and ids(event_types=["*"], limit=1)
    with pytest.raises(ValueError, match="limit"):
        ids(limit=-1)


def test_iterating_resumes_anywhere_and_holds_no_connection_between_pages(persistence, board):
    history = [an_event(n, payload={"n": n % 2}) for n in range(1, 1203)]
    store_events(Archive(board.engine, "test"), *history[:900])
    board.tail.events, board.tail.archived = history, 900

    async def read(count, **asked):
        found = []
        async for recorded in persistence.iter_events(**asked):
            found.append(recorded.position)
            assert board.engine.pool.checkedout() == 0
            if len(found) == count:
                break
        return found

    async def cancelled():
        reader = asyncio.create_task(read(None, payload={"n": 2}))
        await asyncio.sleep(0)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader

    head = asyncio.run(read(777))
    rest = asyncio.run(read(None, after=head[-1]))
    assert head + rest == list(range(1, 1203))
    assert asyncio.run(read(None, payload={"n": 1}, after=1000)) == list(range(1001, 1203, 2))
    asyncio.run(cancelled())
    wait_until(lambda: board.engine.pool.checkedout() == 0)


def test_statistics_have_their_documented_shape(persistence):
    priced = {"cost": 0.25, "latency_ms": 100}
    asyncio.run(
        persistence.persist_events([event("a", metadata=priced), event("b", type="QA_REPORT", metadata=priced)])
    )

    found = asyncio.run(persistence.get_event_statistics("film"))

    assert set(found) == {
        "project_id", "total_events", "total_cost", "average_cost", "cost_by_currency", "average_latency_ms",
        "p50_latency_ms", "p95_latency_ms", "p99_latency_ms", "first_event", "last_event", "deliveries",
        "by_type", "by_actor",
    }  # fmt: skip
    assert (found["total_events"], found["total_cost"], found["average_latency_ms"]) == (2, 0.5, 100.0)
    assert found["by_type"]["QA_REPORT"]["total_cost"] == 0.25
    assert found["by_actor"]["a"]["total_events"] == 2
    assert found["by_actor"]["a"]["deliveries"]["dead"] == found["deliveries"]["attempts"] == 0
    assert asyncio.run(persistence.get_event_statistics("nobody"))["total_events"] == 0
    assert [one.project_id for one in asyncio.run(persistence.get_project_statistics(1))] == ["film"]


def test_a_series_and_deliveries_come_over_the_same_edge(board, persistence):
    days = [datetime(2024, 1, day, 23, 30) for day in (1, 3)]
    asyncio.run(persistence.persist_events([event(f"e{n}", timestamp=moment) for n, moment in enumerate(days)]))
    store_events(board.archive, an_event(2000, deliveries=("A",), timestamp=days[1]))

    found = asyncio.run(persistence.get_event_series("film", end_time=days[1]))
    hours = asyncio.run(persistence.get_event_series("film", "hour", start_time=days[1]))

    assert [(one.start.day, one.count) for one in found] == [(1, 1), (3, 2)]
    assert [(one.start, one.count) for one in hours] == [(datetime(2024, 1, 3, 23, tzinfo=UTC), 2)]
    assert [one.waiting for one in asyncio.run(persistence.get_delivery_statistics("film"))] == [1]
    with pytest.raises(InvalidFilter, match="reversed"):
        asyncio.run(persistence.get_event_series("film", start_time=days[1], end_time=days[0]))


def test_context_variables_reach_the_thread_and_a_cancelled_caller_leaks_nothing(url):
    who, heard, gate, entered = contextvars.ContextVar("who"), [], threading.Event(), threading.Event()

    class SlowClock(FakeClock):
        def next_position(self):
            heard.append(who.get())
            entered.set()
            gate.wait(30)
            return super().next_position()

    async def scenario(board):
        who.set("me")
        persistence = EventPersistence(board)
        task = asyncio.create_task(persistence.persist_event(event("EV-1")))
        await asyncio.to_thread(entered.wait, 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        gate.set()
        return await persistence.persist_event(event("EV-1"))

    with Blackboard(open_engine(url, pool_size=1), "test", FakeTail(), SlowClock(), threads=1) as board:
        assert asyncio.run(scenario(board)) == "EV-1"
        assert [r.position for r in board.replay.iterate()] == [1001]
        assert board.engine.pool.checkedout() == 0
    assert heard == ["me"]


def test_a_closed_blackboard_says_so(board, persistence):
    board.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        asyncio.run(persistence.get_events())


def test_the_factory_makes_and_migrates_the_file_of_a_home(tmp_path):
    settings = Settings(home=str(tmp_path / "new" / "home"))
    for _ in range(2):
        with BlackboardFactory.create(settings) as board:
            assert board.replay.count() == 0
    assert (tmp_path / "new" / "home" / "eventbus.db").exists()


def test_the_factory_connects_to_no_server():
    settings = Settings(database_url="postgresql://127.0.0.1:1/nowhere", redis_url="redis://127.0.0.1:1")
    with BlackboardFactory.create(settings) as board, pytest.raises((StoreUnavailable, RedisUnavailable)):
        board.replay.count()
