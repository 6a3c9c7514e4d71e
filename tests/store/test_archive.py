"""Exactly once, in order: one writer, one transaction, and nothing that a bad record can block."""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from events.errors import StoreUnavailable
from events.event import Event
from events.records import AttemptState, Outcome, RecordedEvent, Rejected
from events.types import named
from store import cursors
from store.archive import Archive
from store.cursors import Cursor
from store.engine import open_engine, reading, writing
from store.replay import Replay
from store.tables import deliveries, event_index, events, metadata, outcomes, rejected
from tests.store.conftest import an_event, store_events, store_outcomes
from tests.waiting import wait_until


def rows(engine, table, *columns):
    with reading(engine) as connection:
        query = select(*(table.c[name] for name in columns)) if columns else select(table)
        return sorted(tuple(row) for row in connection.execute(query))


def outcome(position, event_position, state=AttemptState.DONE, subscriber="Writer", attempt=1, redelivery=0, **rest):
    return Outcome(position, event_position, subscriber, redelivery, attempt, AttemptState(state), "w1", **rest)


def test_an_empty_archive_is_at_its_beginning(archive):
    assert archive.cursor("history") == archive.cursor("outcomes") == Cursor(0, "0-0")
    assert archive.highest_position() == 0


def test_rows_and_cursor_are_committed_together_and_read_back_as_written(archive, engine):
    event = Event(
        event_id="EV-1", project_id="film", type="SCENE_WRITTEN", actor="Writer", causation_id="EV-0",
        correlation_id="EV-0",
        timestamp=datetime(2024, 2, 29, 23, 59, 59, 999_999, tzinfo=timezone(timedelta(hours=5, minutes=45))),
        payload={"z": 1, "a": [1.0, 1e300, -0.0, 2**70, None, True, {"": "\\u0000 is text"}]},
        blackboard_pointer="s3://b/k?x=%41&y='1'", metadata={"cost": 0.1, "currency": "EUR", "latency_ms": 12.3456},
    )  # fmt: skip
    recorded = RecordedEvent(2**52 + 1, event, 3, ("A", "B"), "7:A:0")

    store_events(archive, recorded)

    (read,) = Replay(engine, "test", None).page().events
    assert read == recorded
    assert repr(read.event.payload) == repr(event.payload)
    assert read.event.timestamp.tzinfo is UTC
    assert archive.cursor("history") == Cursor(recorded.position, f"{recorded.position}-0")
    assert rows(engine, events, "cost_micros", "currency", "latency_us") == [(100_000, "EUR", 12_346)]


def test_an_exception_rolls_everything_back(archive, engine):
    with pytest.raises(KeyError), archive.writer("history") as writer:
        writer.append_events([an_event(1, deliveries=("A",))])
        writer.reject([Rejected("2-0", "bad", "raw")])
        writer.advance(2, "2-0")
        raise KeyError

    assert archive.cursor("history") == Cursor(0, "0-0")
    assert all(rows(engine, table) == [] for table in (events, event_index, deliveries, rejected))


def _archive_and_die(url):
    with Archive(open_engine(url), "test").writer("history") as writer:
        writer.append_events([an_event(1), an_event(2)])
        writer.advance(2, "2-0")
        os._exit(9)


def is_free(archive: Archive, stream: str) -> bool:
    with archive.writer(stream) as writer:
        return writer is not None


def test_a_process_killed_between_append_and_commit_leaves_nothing(archive, engine, url):
    store_events(archive, an_event(1))
    process = multiprocessing.get_context("spawn").Process(target=_archive_and_die, args=(url,))
    process.start()
    process.join(60)

    assert process.exitcode == 9
    assert archive.cursor("history").position == 1
    wait_until(lambda: is_free(archive, "history"), what="the database to notice that the process is gone")
    store_events(archive, an_event(2), an_event(3))
    assert rows(engine, events, "position") == [(1,), (2,), (3,)]


def test_a_second_archiver_of_a_stream_stands_by_until_the_first_is_done(archive, url, open_at):
    other = Archive(open_at(url), "test")

    with archive.writer("history") as first:
        first.append_events([an_event(1)])
        with other.writer("history") as second:
            assert second is None
        first.advance(1, "1-0")
    with other.writer("history") as second:
        assert second.cursor == Cursor(1, "1-0")


def test_two_streams_and_two_namespaces_have_writers_of_their_own(archive, url, open_at, backend):
    if backend == "sqlite":
        pytest.skip("SQLite has one writer per file")
    engine = open_at(url)

    with (
        archive.writer("history") as history,
        Archive(engine, "test").writer("outcomes") as outcomes_,
        Archive(engine, "another").writer("history") as another,
    ):
        assert history and outcomes_ and another


def test_namespaces_do_not_see_each_other(archive, engine):
    store_events(archive, an_event(1, deliveries=("A",)))
    other = Archive(engine, "another")
    store_events(other, an_event(1, project_id="other"))

    assert [r.event.project_id for r in Replay(engine, "another", None).iterate()] == ["other"]
    assert other.highest_position() == archive.highest_position() == 1


def test_the_cursor_does_not_go_back(archive):
    store_events(archive, an_event(10))

    for position, entry in ((9, "10-0"), (10, "9-5")):
        with pytest.raises(ValueError, match="cannot go back"), archive.writer("history") as writer:
            writer.advance(position, entry)
    with archive.writer("history") as writer:
        writer.advance(10, "11-0")
    assert archive.cursor("history") == Cursor(10, "11-0")


def test_appending_without_moving_the_cursor_is_refused(archive, engine):
    with pytest.raises(ValueError, match="call advance"), archive.writer("history") as writer:
        writer.append_events([an_event(1)])

    assert rows(engine, events) == []


def test_a_batch_appended_twice_is_stored_once(archive, engine):
    batch = [an_event(n, deliveries=("A",)) for n in range(1, 50)]
    ended = [outcome(100 + n, n, subscriber="A") for n in range(1, 50)]
    for _ in range(2):
        store_events(archive, *batch)
        store_outcomes(archive, *ended)

    assert len(rows(engine, events)) == len(rows(engine, outcomes)) == len(rows(engine, deliveries)) == 49
    assert rows(engine, rejected) == []


def test_a_large_batch_beyond_the_cursor_that_is_not_all_new_keeps_what_is_new(archive, engine):
    store_events(archive, an_event(1, event_id="taken"))
    batch = [an_event(n, deliveries=("A",), event_id="taken" if n == 52 else f"e{n}") for n in range(2, 100)]
    ended = [outcome(100 + n, n, subscriber="A") for n in range(2, 60)]
    store_outcomes(archive, *ended[:40])
    with writing(engine) as connection:  # as an older backup would have it
        cursors.move(connection, "test", "outcomes", Cursor(0, "0-0"))

    store_events(archive, *batch)
    store_outcomes(archive, *ended)

    assert rows(engine, events, "position") == [(n,) for n in range(1, 100) if n != 52]
    assert rows(engine, rejected, "entry_id") == [("52-0",)]
    assert len(rows(engine, outcomes)) == 58
    assert len([row for row in rows(engine, deliveries, "state") if row == ("done",)]) == 58
    assert len(rows(engine, deliveries)) == 98


def test_what_comes_late_behind_the_cursor_is_stored_at_its_position(archive, engine):
    store_events(archive, an_event(10), an_event(20))
    store_outcomes(archive, outcome(30, 20))

    with archive.writer("history") as writer:
        late = writer.append_events([an_event(5, deliveries=("Writer",)), an_event(10), an_event(15)])
    with archive.writer("outcomes") as writer:
        assert writer.append_outcomes([outcome(25, 5), outcome(30, 20)]).refused == []

    assert [recorded.position for recorded in late.stored] == [5, 15] and late.refused == []
    assert rows(engine, events, "position") == [(5,), (10,), (15,), (20,)]
    assert rows(engine, outcomes, "position") == [(25,), (30,)]
    assert (5, "done") in rows(engine, deliveries, "event_position", "state")
    assert archive.cursor("history").position == 20


def test_a_late_one_whose_position_another_has_is_set_aside_with_its_reason(archive, engine):
    store_events(archive, an_event(10), an_event(20))
    store_outcomes(archive, outcome(30, 20))

    for _ in range(2):
        with archive.writer("history") as writer:
            late = writer.append_events([an_event(10, event_id="new", deliveries=("Writer",))])
        with archive.writer("outcomes") as writer:
            ended = writer.append_outcomes([outcome(30, 10)])

    assert late.stored == [] and [entry.entry_id for entry in late.refused + ended.refused] == ["10-0", "30-0"]
    assert rows(engine, events, "event_id") == [("e10",), ("e20",)]
    assert [row[0] for row in rows(engine, rejected, "reason")] == [
        "Its position 10 is that of event 'e10': Redis had gone back, and gave it twice.",
        "Its position 30 is that of another outcome: Redis had gone back, and gave it twice.",
    ]
    assert (10, "done") in rows(engine, deliveries, "event_position", "state"), "what became of it is known"


def test_a_writer_that_falls_silent_does_not_keep_its_stream(url, open_at, backend):
    if backend == "sqlite":
        pytest.skip("SQLite takes a lock from nobody who lives")
    frozen, healthy = Archive(open_at(url), "test", silent_writer_s=2), Archive(open_at(url), "test")

    def archives() -> bool:
        with healthy.writer("history") as writer:
            if writer is not None:
                writer.append_events([an_event(1)])
                writer.advance(1, "1-0")
        return writer is not None

    with pytest.raises(StoreUnavailable), frozen.writer("history") as silent:
        assert not archives()
        wait_until(archives, 20, "PostgreSQL to end the silent session")
        silent.append_events([an_event(1), an_event(2)])

    assert healthy.cursor("history") == Cursor(1, "1-0")
    with frozen.writer("history") as thawed:
        assert thawed.cursor == Cursor(1, "1-0")


def test_an_id_stored_at_another_position_is_set_aside_and_blocks_nothing(archive, engine):
    store_events(archive, an_event(1, event_id="same"))
    store_events(
        archive, an_event(2), an_event(3, event_id="same", deliveries=("A",)), an_event(4), an_event(5, event_id="e4")
    )

    assert rows(engine, events, "position") == [(1,), (2,), (4,)]
    assert [row[:2] for row in rows(engine, rejected, "entry_id", "reason")] == [
        ("3-0", "Its event_id 'same' is already stored, at position 1."),
        ("5-0", "Its event_id 'e4' is already stored, at position 4."),
    ]
    assert rows(engine, deliveries, "event_position", "state") == [(3, "waiting")]


BASE = '{"event_id":"bad","project_id":"film","type":"X","actor":"a","timestamp":"2024-01-01T00:00:00+00:00"'
POISON = {
    "NUL in a name": BASE.replace('"film"', '"fi\\u0000lm"') + "}",
    "NUL in the payload": BASE + ',"payload":{"k":"a\\\\\\u0000"}}',
    "a lone surrogate": BASE + ',"payload":{"k":"\\ud800"}}',
    "a lone surrogate in a name": BASE.replace('"film"', '"\\udfff"') + "}",
    "NaN": BASE + ',"payload":{"k":NaN}}',
    "infinity": BASE + ',"metadata":{"k":1e999}}',
    "a cost beyond 64 bits": BASE + ',"metadata":{"cost":1e300}}',
    "a negative latency": BASE + ',"metadata":{"latency_ms":-1}}',
    "an actor of a megabyte": BASE.replace('"a"', '"' + "a" * 1_000_000 + '"') + "}",
    "a moment before the year one": BASE.replace("2024-01-01T00:00:00+00:00", "0001-01-01T00:00:00+14:00") + "}",
}


@pytest.mark.parametrize("poison", POISON)
def test_a_poison_event_is_set_aside_with_its_reason_and_the_batch_is_kept(archive, engine, poison):
    fields = json.loads(POISON[poison])
    fields |= {"timestamp": datetime.fromisoformat(fields["timestamp"]), "type": named("X")}
    bad = RecordedEvent(2, Event.model_construct(**fields), 0, ("A",))  # decode would refuse some of them already

    store_events(archive, an_event(1), bad, an_event(3))

    assert rows(engine, events, "position") == [(1,), (3,)]
    ((stream, entry, reason, raw),) = rows(engine, rejected, "stream", "entry_id", "reason", "raw")
    assert (stream, entry) == ("history", "2-0")
    assert reason.startswith("Its ") and '"bad"' in raw and len(raw) <= 65_536


def test_what_only_the_database_refuses_is_set_aside_too(archive, engine):
    store_events(archive, an_event(1))
    # Another position is taken already, by an id that is not.
    with archive.writer("history") as writer:
        writer.append_events([an_event(2), an_event(3, event_id="x"), an_event(3, event_id="y"), an_event(4)])
        writer.append_outcomes([])
        writer.advance(4, "4-0")

    assert rows(engine, events, "event_id") == [("e1",), ("e2",), ("e4",), ("x",)]
    assert rows(engine, event_index, "event_id") == [("e1",), ("e2",), ("e4",), ("x",)]
    ((_, reason),) = rows(engine, rejected, "entry_id", "reason")
    assert reason.startswith("The database refused it: ")


def test_a_poison_delivery_name_does_not_block_the_stream(archive, engine):
    store_events(archive, an_event(1, deliveries=("\0",)), an_event(2, deliveries=("n" * 9000,)), an_event(3))

    assert rows(engine, events, "position") == [(3,)]


def test_an_error_text_that_no_database_holds_does_not_cost_the_outcome(archive, engine):
    store_outcomes(archive, outcome(5, 1, "dead", error="bad \0 byte \ud800"), outcome(6, 2**80), outcome(7, 2))

    assert rows(engine, outcomes, "position", "error") == [(5, "bad \ufffd byte ?"), (7, "")]
    assert rows(engine, rejected, "stream", "entry_id") == [("outcomes", "6-0")]


HOSTILE = [
    "'; DROP TABLE events; --",
    "%s %(x)s %%",
    ":name :1",
    '"quoted"',
    "\\",
    "{}",
    "日本 🎬",
    "ns with space",
    "a" * 200,
]


@pytest.mark.parametrize("text_", HOSTILE)
def test_hostile_text_is_only_text(engine, text_):
    archive = Archive(engine, text_)
    recorded = an_event(1, event_id=text_, project_id=text_, actor=text_, payload={text_: text_}, deliveries=(text_,))
    store_events(archive, recorded)

    assert Replay(engine, text_, None).find(text_) == recorded


LIFE = [
    outcome(11, 1, "lost", attempt=1),
    outcome(12, 1, "retried", attempt=2),
    outcome(13, 1, "dead", attempt=3),
    outcome(14, 1, "done", attempt=1, redelivery=1),
    outcome(15, 2, "interrupted", attempt=1),
    outcome(16, 0, "dead"),
]
LIVED = [
    (1, "Other", 0, "waiting", 0, None),
    (1, "Writer", 0, "dead", 3, 13),
    (1, "Writer", 1, "done", 1, 14),
    (2, "Writer", 0, "waiting", 1, None),
]
COLUMNS = ("event_position", "subscriber", "redelivery", "state", "attempts", "settled_position")


@pytest.mark.parametrize("cut", range(len(LIFE) + 1))
@pytest.mark.parametrize("apart", [True, False])
def test_deliveries_end_the_same_whichever_stream_is_archived_first(archive, engine, cut, apart):
    first, then = LIFE[:cut], LIFE[cut:]
    for batch in [[one] for one in first] if apart else [first] * bool(first):
        store_outcomes(archive, *batch)
    store_events(archive, an_event(1, deliveries=("Other", "Writer")), an_event(2, deliveries=("Writer",)))
    for batch in [[one] for one in then] if apart else [then] * bool(then):
        store_outcomes(archive, *batch)

    assert rows(engine, deliveries, *COLUMNS) == LIVED


def test_the_archivers_of_both_streams_at_once_neither_deadlock_nor_lose(archive, url, open_at, engine):
    total, batch, failures = 300, 15, []
    names = tuple(f"S{n}" for n in range(5))

    def run(stream, archive, records, append):
        try:
            for start in range(0, len(records), batch):
                part = records[start : start + batch]
                writer = None
                while writer is None:
                    with archive.writer(stream) as writer:
                        if writer is not None:
                            getattr(writer, append)(part)
                            writer.advance(part[-1].position, f"{part[-1].position}-0")
        except Exception as error:
            failures.append(error)

    recorded = [an_event(n, deliveries=names) for n in range(1, total // 5 + 1)]
    ended = [outcome(10_000 + n, 1 + n // 5, subscriber=names[4 - n % 5], attempt=2) for n in range(total)]
    threads = [
        threading.Thread(target=run, args=("history", Archive(open_at(url), "test"), recorded, "append_events")),
        threading.Thread(target=run, args=("history", Archive(open_at(url), "test"), [], "append_events")),
        threading.Thread(target=run, args=("outcomes", Archive(open_at(url), "test"), ended, "append_outcomes")),
    ]
    [thread.start() for thread in threads]
    [thread.join(60) for thread in threads]

    assert failures == []
    assert set(rows(engine, deliveries, "state", "attempts")) == {("done", 2)}
    assert len(rows(engine, deliveries)) == total


def test_rival_archivers_of_one_stream_store_everything_once_in_order(url, open_at, engine):
    history = [an_event(n) for n in range(1, 201)]
    failures = []

    def run(archive):
        try:
            done = False
            while not done:
                with archive.writer("history") as writer:
                    if writer is not None:
                        part = [r for r in history if r.position > writer.cursor.position][:7]
                        done = not part
                        if part:
                            writer.append_events(part)
                            writer.advance(part[-1].position, f"{part[-1].position}-0")
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(Archive(open_at(url), "test"),)) for _ in range(3)]
    [thread.start() for thread in threads]
    [thread.join(60) for thread in threads]

    assert failures == []
    assert [position for (position,) in rows(engine, events, "position")] == list(range(1, 201))


def test_the_highest_position_is_the_largest_of_both_streams(archive):
    store_events(archive, an_event(10))
    store_outcomes(archive, outcome(15, 10))

    assert archive.highest_position() == 15


def test_every_column_has_a_place_in_the_tables(engine):
    with reading(engine) as connection:
        for table in metadata.sorted_tables:
            assert connection.execute(select(func.count()).select_from(table)).scalar() is not None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab\"\\'%:é"), inner, max_size=3),
    max_leaves=10,
)  # fmt: skip


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(payload=st.dictionaries(st.text("ab"), JSON, max_size=3), moment=st.datetimes(timezones=st.just(UTC)))
def test_any_valid_event_reads_back_as_it_was(engine, payload, moment):
    archive = Archive(engine, "any")
    position = archive.cursor("history").position + 1
    recorded = an_event(position, payload=payload, timestamp=moment)

    store_events(archive, recorded)

    assert Replay(engine, "any", None).find(f"e{position}") == recorded
