"""Pruning: what is old and settled goes with all that belongs to it, and nothing else does."""

from __future__ import annotations

import threading
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Engine, func, select, text
from sqlalchemy import event as listening

from events.errors import EventNotFound, InvalidFilter
from events.event import Event
from events.records import AttemptState, Outcome, RecordedEvent, Rejected
from store import retention as retention_module
from store.archive import Archive
from store.blackboard import Blackboard
from store.engine import reading, writing
from store.inspection import counted
from store.replay import Replay
from store.tables import dead_letters, deliveries, event_index, events, metadata, outbox, outcomes, rejected
from tests.store.conftest import an_event, store_events
from tests.store.doubles import FakeClock, FakeTail
from tests.waiting import wait_until

EVERYTHING = 2**62


@pytest.fixture
def board(engine: Engine) -> Blackboard:
    return Blackboard(engine, "test", None, FakeClock())


def end(archive: Archive, *ended: Outcome) -> None:
    with archive.writer("outcomes") as writer:
        assert writer is not None
        writer.append_outcomes(ended)
        writer.advance(ended[-1].position, f"{ended[-1].position}-0")


def outcome(position: int, of: int, state: AttemptState = AttemptState.DONE, **more: Any) -> Outcome:
    return Outcome(position, of, more.pop("subscriber", "A"), more.pop("redelivery", 0), 1, state, "w", **more)


def contents(engine: Engine) -> dict[str, list[Any]]:
    """Every row of every table."""
    with reading(engine) as connection:
        return {table.name: sorted(map(repr, connection.execute(select(table)))) for table in metadata.sorted_tables}


def count(engine: Engine, table: Any) -> int:
    with reading(engine) as connection:
        return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


def ids(board: Blackboard) -> list[str]:
    return [recorded.event.event_id for recorded in board.replay.iterate()]


@pytest.fixture
def history(archive: Archive, board: Blackboard) -> None:
    """Ten events; 3 waits, 4 has an open dead letter, 5 a discarded one, 6 waits again."""
    pointer = board.put("film", "payloads/e8", {"text": "long"})
    archived = [an_event(n, deliveries=("A",) if 3 <= n <= 7 else (), project_id=f"p{n % 2}") for n in range(1, 8)]
    archived += [an_event(8, blackboard_pointer=pointer), an_event(9), an_event(10, causation_id="e9")]
    store_events(archive, *archived)
    dead = {"letter": 101, "error": "ValueError: no", "traceback": "Traceback"}
    end(
        archive,
        outcome(101, 4, AttemptState.DEAD, **dead),
        outcome(102, 5, AttemptState.DEAD, **dead | {"letter": 102}),
        outcome(103, 5, AttemptState.DISCARDED, letter=102),
        outcome(104, 6, AttemptState.DEAD, **dead | {"letter": 104}),
        outcome(105, 6, AttemptState.REDELIVERED, redelivery=1, letter=104),
        outcome(106, 7),
    )


class Needing(FakeTail):
    """A Redis that says one after another which position it needs from on, and the last one from then on."""

    def __init__(self, *needed: int) -> None:
        super().__init__()
        self.answers = list(needed)

    def needed_from(self, stored: int) -> int:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def test_what_redis_needs_stays(engine: Engine, archive: Archive) -> None:
    store_events(archive, *(an_event(n) for n in range(1, 8)))
    board = Blackboard(engine, "test", Needing(4), FakeClock())

    rehearsed = board.retention.rehearse(EVERYTHING)
    done = board.retention.prune(EVERYTHING)

    assert (rehearsed.before, rehearsed.events) == (done.before, done.events) == (4, 3)
    assert ids(board) == ["e4", "e5", "e6", "e7"]
    assert board.retention.prune(3).before == 3


def test_what_redis_begins_to_need_meanwhile_stays(
    engine: Engine, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_events(archive, *(an_event(n) for n in range(1, 8)))
    board = Blackboard(engine, "test", Needing(EVERYTHING, EVERYTHING, 4), FakeClock())
    monkeypatch.setattr(retention_module, "BATCH", 2)

    done = board.retention.prune(EVERYTHING)

    assert (done.before, done.events, ids(board)) == (4, 3, ["e4", "e5", "e6", "e7"])


def test_what_waits_and_what_nobody_has_decided_about_stays_and_is_counted(
    history: None, board: Blackboard, engine: Engine
) -> None:
    done = board.retention.prune(EVERYTHING)

    assert ids(board) == ["e3", "e4", "e6"]
    assert done.events == 7 and done.kept == {"a delivery waits": 2, "a dead letter is open": 1}
    assert done.rows == {
        "event_index": 7, "deliveries": 2, "outcomes": 3, "dead_letters": 1, "blackboard": 1, "redactions": 0,
        "rejected": 0, "inbox": 0,
    }  # fmt: skip
    assert [count(engine, table) for table in (event_index, deliveries, outcomes, dead_letters)] == [3, 4, 3, 2]
    assert board.statistics.project().total.count == 10, "what is pruned stays counted"
    sums = counted(engine, "test")
    assert sums.agrees and (sums.pruned_events, sums.pruned_deliveries) == (7, 2)
    assert board.newest("film", "payloads/e8") is None


def test_what_waited_goes_once_it_has_ended(history: None, board: Blackboard, archive: Archive, engine: Engine) -> None:
    board.retention.prune(EVERYTHING)
    end(archive, outcome(201, 3), outcome(202, 4, AttemptState.PURGED, letter=101), outcome(203, 6, redelivery=1))

    assert board.retention.prune(EVERYTHING).events == 3
    tables = (events, event_index, deliveries, outcomes, dead_letters)
    assert [count(engine, table) for table in tables] == [0] * 5
    assert board.archive.cursor("history").position == 10, "the archive goes on from where it was"


def test_what_the_outbox_has_still_stays(history: None, board: Blackboard, engine: Engine) -> None:
    row = {"namespace": "test", "event_id": "e9", "body": "{}", "size_bytes": 2, "state": "published", "attempts": 1}
    with writing(engine) as connection:
        connection.execute(outbox.insert(), row | {"error": "", "added_at": datetime.now(UTC)})

    assert board.retention.rehearse(EVERYTHING).kept["the outbox has it still"] == 1
    done = board.retention.prune(EVERYTHING)

    assert done.events == 6 and done.kept["the outbox has it still"] == 1 and "e9" in ids(board)
    with writing(engine) as connection:
        connection.execute(outbox.delete())
    assert board.retention.prune(EVERYTHING).events == 1


def test_age_and_project_choose(history: None, board: Blackboard) -> None:
    assert board.retention.prune(3).events == 2 and ids(board)[0] == "e3"
    assert board.retention.prune(8, "p1").events == 2
    assert board.retention.prune(EVERYTHING, "'; DROP TABLE events; --").events == 0
    for nobody in ("p", "", "%"):
        assert board.retention.prune(EVERYTHING, nobody).events == 0
    for impossible in ("\0", "\ud800"):
        with pytest.raises(InvalidFilter):
            board.retention.prune(EVERYTHING, impossible)
    assert ids(board) == ["e3", "e4", "e6", "e8", "e9", "e10"]


def test_a_rehearsal_counts_the_same_and_writes_nothing(history: None, board: Blackboard, engine: Engine) -> None:
    before = contents(engine)

    rehearsed = [board.retention.rehearse(EVERYTHING), board.retention.rehearse(8, "p1")]

    assert contents(engine) == before
    assert [found.events for found in rehearsed] == [7, 3]
    assert rehearsed[1].kept == {"a delivery waits": 1}
    assert board.retention.prune(EVERYTHING).kept == rehearsed[0].kept


def test_small_batches_skip_what_stays_and_end(
    history: None, board: Blackboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention_module, "BATCH", 1)
    told: list[int] = []

    assert board.retention.prune(EVERYTHING, on_batch=told.append).events == 7
    assert sum(told) == 7 and max(told) == 1 and ids(board) == ["e3", "e4", "e6"]


def test_what_only_redis_has_stays_and_is_counted(archive: Archive, engine: Engine) -> None:
    store_events(archive, an_event(1))
    tail = FakeTail([an_event(2), an_event(3, project_id="other"), an_event(50)], archived=1)
    board = Blackboard(engine, "test", tail, FakeClock())

    done = board.retention.prune(40)
    rehearsed = board.retention.rehearse(40, "other")

    assert (done.events, done.kept) == (1, {"not archived yet": 2})
    assert (rehearsed.events, rehearsed.kept) == (0, {"not archived yet": 1})


def test_an_archiver_that_goes_on_while_it_is_counted_what_stays_is_no_fault(archive: Archive, engine: Engine) -> None:
    history = [an_event(n) for n in range(1, 11)]
    store_events(archive, *history[:5])
    tail = FakeTail(history, archived=5)

    def move_on() -> None:
        if tail.archived == 5:
            store_events(archive, *history[5:8])
            tail.archived = 8

    tail.before_read = move_on

    assert Blackboard(engine, "test", tail, FakeClock()).retention.rehearse(11).kept == {"not archived yet": 2}


def test_an_id_that_is_gone_is_forgotten_and_a_chain_ends_where_its_cause_was(history: None, board: Blackboard) -> None:
    board.retention.prune(10)

    assert [recorded.event.event_id for recorded in board.causation.chain("e10")] == ["e10"]
    with pytest.raises(EventNotFound):
        board.causation.chain("e9")
    again = Event(event_id="e9", project_id="film", type="X", actor="another")
    (stored,) = board.direct.store([again])
    assert stored.event == again.model_copy(update={"correlation_id": "e9"})


def test_strays_go_by_their_own_age(archive: Archive, board: Blackboard, engine: Engine) -> None:
    dead = {"error": "unreadable", "raw": "x", "subscriber": "A"}
    end(
        archive,
        outcome(101, 0, AttemptState.DEAD, letter=101, **dead),
        outcome(102, 0, AttemptState.PURGED, letter=101),
    )
    end(archive, outcome(103, 0, AttemptState.DEAD, letter=103, **dead))
    with archive.writer("history") as writer:
        assert writer is not None
        writer.reject([Rejected("100-0", "bad", "raw"), Rejected("999-0", "bad", "raw")])

    board.retention.prune(500, "some project")
    assert [count(engine, table) for table in (outcomes, dead_letters, rejected)] == [3, 2, 2]
    board.retention.prune(500)
    assert [count(engine, table) for table in (outcomes, dead_letters, rejected)] == [0, 1, 1]


def test_other_namespaces_are_not_touched(history: None, board: Blackboard, engine: Engine) -> None:
    before = contents(engine)
    other = Blackboard(engine, "other", None, FakeClock())

    assert other.retention.prune(EVERYTHING).events == 0
    assert contents(engine) == before


def test_what_an_archiver_is_about_to_make_wait_again_stays(
    history: None, board: Blackboard, archive: Archive, engine: Engine
) -> None:
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )

    def is_decided(thread: threading.Thread) -> bool:
        if not thread.is_alive() or engine.dialect.name == "sqlite":
            return True
        with reading(engine) as connection:
            return bool(connection.execute(waiting).scalar_one())

    thread = threading.Thread(target=lambda: board.retention.prune(EVERYTHING, "p1"))
    with archive.writer("outcomes") as writer:
        assert writer is not None
        writer.append_outcomes([outcome(300, 7, AttemptState.REDELIVERED, redelivery=1)])
        writer.advance(300, "300-0")
        thread.start()
        wait_until(lambda: is_decided(thread), 30)
    thread.join(60)

    assert "e7" in ids(board) and "e5" not in ids(board)


# months, on PostgreSQL


def position_of(year: int, month: int, day: int = 1) -> int:
    return int(datetime(year, month, day, tzinfo=UTC).timestamp()) * 1_000_000


def partitions_of(engine: Engine) -> list[str]:
    query = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relname ~ '_(first|[0-9]{4}_[0-9]{2})$' ORDER BY 1"
    with reading(engine) as connection:
        return list(connection.execute(text(query)).scalars())


def store_late(archive: Archive, *recorded: RecordedEvent) -> None:
    """Archive events below the cursor: Redis had gone back."""
    with archive.writer("history") as writer:
        assert writer is not None
        assert len(writer.append_events(recorded).stored) == len(recorded)
        writer.advance(writer.cursor.position, f"{writer.cursor.position}-0")


@pytest.fixture
def months(archive: Archive, backend: str, engine: Engine) -> list[int]:
    """One settled event in the first partition and in each of four months, with its outcome a day later."""
    if backend == "sqlite":
        pytest.skip("SQLite has no partitions.")
    with writing(engine) as connection:  # those that migrating made ahead
        for name in partitions_of(engine):
            if not name.endswith("_first"):
                connection.exec_driver_sql(f"DROP TABLE {name}")
    positions = [5, *(position_of(2031, month) for month in (1, 2, 3, 4))]
    store_events(archive, *(an_event(n, deliveries=("A",)) for n in positions))
    day = 86_400_000_000
    end(archive, *(outcome(n + day, n) for n in positions))
    return positions


def test_a_month_that_redis_needs_is_not_dropped(months: list[int], engine: Engine) -> None:
    board = Blackboard(engine, "test", Needing(position_of(2031, 2, 15)), FakeClock())

    assert board.retention.rehearse(EVERYTHING).months == ["2031_01"]
    done = board.retention.prune(EVERYTHING)

    assert done.months == ["2031_01"] and ids(board) == [f"e{n}" for n in months[3:]]


def test_whole_months_are_dropped_and_the_first_partition_is_emptied(
    months: list[int], board: Blackboard, engine: Engine
) -> None:
    before = position_of(2031, 3, 15)
    assert board.retention.rehearse(before).months == ["2031_01", "2031_02"]

    done = board.retention.prune(before)

    assert done.events == 4 and done.months == ["2031_01", "2031_02"] and done.kept == {}
    assert partitions_of(engine) == [
        "deliveries_2031_03", "deliveries_2031_04", "deliveries_first", "events_2031_03", "events_2031_04",
        "events_first", "outcomes_2031_03", "outcomes_2031_04", "outcomes_first",
    ]  # fmt: skip
    assert [count(engine, table) for table in (events, event_index, deliveries, outcomes)] == [1] * 4
    assert board.retention.prune(before).events == 0


def test_a_month_in_which_something_stays_is_emptied_around_it(
    months: list[int], archive: Archive, board: Blackboard, engine: Engine
) -> None:
    waits, letter = position_of(2031, 1, 9), position_of(2031, 2, 9)
    store_late(archive, an_event(waits, deliveries=("A",)), an_event(letter, deliveries=("A",)))
    end(archive, outcome(position_of(2031, 5), letter, AttemptState.DEAD, letter=position_of(2031, 5), error="no"))

    done = board.retention.prune(position_of(2031, 4))

    assert done.months == ["2031_03"] and done.kept == {"a delivery waits": 1, "a dead letter is open": 1}
    assert [recorded.position for recorded in board.replay.iterate()] == [waits, letter, months[-1]]


def test_a_month_whose_deliveries_are_in_the_first_partition_is_judged_by_them(
    months: list[int], archive: Archive, board: Blackboard, engine: Engine
) -> None:
    with writing(engine) as connection:
        connection.exec_driver_sql("DROP TABLE deliveries_2031_01, deliveries_2031_02, deliveries_first")
        ends = f"FOR VALUES FROM (MINVALUE) TO ({position_of(2031, 3)})"
        connection.exec_driver_sql(f"CREATE TABLE deliveries_first PARTITION OF deliveries {ends}")
    waits = position_of(2031, 1, 9)
    store_late(archive, an_event(waits, deliveries=("A",)), an_event(position_of(2031, 2, 9), deliveries=("B",)))
    end(archive, outcome(position_of(2031, 5), position_of(2031, 2, 9), subscriber="B"))

    done = board.retention.prune(position_of(2031, 4))

    assert done.months == ["2031_02", "2031_03"] and done.kept == {"a delivery waits": 1}
    assert [recorded.position for recorded in board.replay.iterate()] == [waits, months[-1]]
    assert count(engine, deliveries) == 2


def test_a_month_of_two_namespaces_keeps_the_others_events(
    months: list[int], board: Blackboard, engine: Engine
) -> None:
    elsewhere = Archive(engine, "other")
    theirs = position_of(2031, 1, 20)
    store_events(elsewhere, an_event(theirs))

    done = board.retention.prune(position_of(2031, 4))

    assert done.months == ["2031_02", "2031_03"] and done.events == 4
    assert [recorded.position for recorded in Replay(engine, "other", None).iterate()] == [theirs]
    other = Blackboard(engine, "other", None, FakeClock())
    assert other.retention.prune(position_of(2031, 4)).months == ["2031_01"], "nothing of the first is left in it"


def test_a_prune_that_was_interrupted_is_gone_on_with(months: list[int], board: Blackboard, engine: Engine) -> None:
    pages = board.retention._months.drop(position_of(2031, 4))
    next(pages)
    pages.close()
    assert [name for name in partitions_of(engine) if name.startswith("pruned")] == [
        "pruned_events_2031_01", "pruned_events_2031_02", "pruned_events_2031_03",
    ]  # fmt: skip
    assert ids(board) == ["e5", f"e{months[-1]}"], "readers see a month gone at once"

    done = board.retention.prune(position_of(2031, 4))

    assert done.events == 4 and not [name for name in partitions_of(engine) if name.startswith("pruned")]
    sums = counted(engine, "test")
    assert sums.agrees and (sums.pruned_events, sums.counted_events) == (4, 5), sums
    assert [count(engine, table) for table in (events, event_index, deliveries, outcomes)] == [1] * 4


def test_a_month_that_a_reader_holds_is_left_to_batches_and_nobody_waits_for_long(
    months: list[int], board: Blackboard, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.months._LOCK_WAIT", "50ms")
    monkeypatch.setattr("store.months._TRIES", 2)
    with reading(engine) as connection:
        connection.execute(select(func.count()).select_from(events)).scalar_one()
        connection.execute(select(func.count()).select_from(outcomes)).scalar_one()

        done = board.retention.prune(position_of(2031, 3))

    assert done.events == 3 and done.months == []
    assert "events_2031_01" in partitions_of(engine)
    assert board.retention.prune(position_of(2031, 3)).months == ["2031_01", "2031_02"], "empty ones go next time"


def test_an_event_that_comes_late_finds_its_month_again(
    months: list[int], board: Blackboard, archive: Archive, engine: Engine
) -> None:
    board.retention.prune(position_of(2031, 4))

    late = position_of(2031, 2, 3)
    store_late(archive, an_event(late, deliveries=("A",)))

    assert [recorded.position for recorded in board.replay.iterate()] == [late, months[-1]]


def test_two_prunes_that_remove_the_same_month_both_end_well(
    months: list[int], board: Blackboard, engine: Engine
) -> None:
    pages = board.retention._months.drop(position_of(2031, 4))
    next(pages)

    assert board.retention.prune(position_of(2031, 4)).events == 4

    assert {month for month, _ in pages} <= {"2031_01"}, "the others it finds dropped"
    assert [count(engine, table) for table in (events, event_index, deliveries, outcomes)] == [1] * 4


def test_an_event_whose_id_was_in_a_month_that_went_keeps_what_belongs_to_it(
    months: list[int], board: Blackboard, archive: Archive, engine: Engine
) -> None:
    pages = board.retention._months.drop(position_of(2031, 2))
    next(pages)
    _, page = next(pages)
    with writing(engine) as connection:
        board.retention._remove_followers(connection, page, Counter())
    pages.close()  # the table is there still: the next prune goes on
    new = position_of(2031, 6)
    store_events(archive, an_event(new, event_id=f"e{months[1]}"))

    board.retention.prune(position_of(2031, 2))

    found = board.replay.find(f"e{months[1]}")
    assert found is not None and found.position == new


@pytest.mark.parametrize("stream", ["history", "outcomes"])
def test_a_month_is_not_taken_from_under_an_archiver_that_is_about_to_write_into_it(
    stream: Any, months: list[int], url: str, open_at: Any, board: Blackboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.months._LOCK_WAIT", "50ms")
    monkeypatch.setattr("store.months._TRIES", 1)
    engine, at = open_at(url), position_of(2031, 1, 9)
    asked = {"history": "INSERT INTO events ", "outcomes": "INSERT INTO outcomes "}[stream]
    other = Archive(engine, "other")  # far behind: the month's partition is there, and nothing of it in it

    @listening.listens_for(engine, "before_cursor_execute")
    def prune_first(_c: Any, _k: Any, statement: str, *_: Any) -> None:
        if statement.startswith(asked):
            board.retention.prune(position_of(2031, 5))

    store = store_events if stream == "history" else end
    store(other, an_event(at) if stream == "history" else outcome(at, 5))

    assert count(engine, rejected) == 0
    assert count(engine, events if stream == "history" else outcomes) == 1


def test_nobody_waits_while_a_month_is_counted(
    months: list[int], board: Blackboard, engine: Engine, url: str, open_at: Any
) -> None:
    asked = []

    @listening.listens_for(engine, "before_cursor_execute")
    def read(_c: Any, _k: Any, statement: str, *_: Any) -> None:
        if statement.startswith("SELECT count(*) FROM") and statement.endswith("_2031_01"):
            with reading(open_at(url)) as connection:
                connection.exec_driver_sql("SET LOCAL lock_timeout = '1s'")
                asked.append([connection.execute(select(table)).first() for table in (events, deliveries)])

    assert board.retention.prune(position_of(2031, 2)).months == ["2031_01"]
    assert len(asked) == 2
