"""The statistics are the sums of what is stored, after every commit, whatever happened and in whatever order."""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from events.event import Event
from events.records import AttemptState, Outcome
from store.archive import Archive
from store.bins import bin_of
from store.blackboard import Blackboard
from store.direct import DirectWriter
from store.engine import reading, writing
from store.importing import SourceRow
from store.inspection import counted
from store.recount import differences, recount
from store.replay import Replay
from store.statistics import Statistics
from store.tables import deliveries, delivery_statistics, event_statistics, events, outcomes
from tests.store.conftest import an_event, store_events
from tests.store.doubles import FakeClock

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
US = timedelta(microseconds=1)
HOUR_US = 3_600_000_000
LABELS = ("project_id", "type", "actor")


def starts(moment_us):
    """The three buckets of a moment, told by the calendar."""
    moment = EPOCH + moment_us * US
    hour = moment.replace(minute=0, second=0, microsecond=0)
    return {"total": 0, "day": (hour.replace(hour=0) - EPOCH) // US, "hour": (hour - EPOCH) // US}


def rows(engine, namespace, table):
    with reading(engine) as connection:
        return list(connection.execute(select(table).where(table.c.namespace == namespace)).mappings())


def by_hand(engine, namespace):
    """What both tables ought to hold, from rows alone: {key: {what: how much}}."""
    stored = rows(engine, namespace, events)
    labels_at = {row["position"]: (row["project_id"], row["type"], row["actor"]) for row in stored}
    found = defaultdict(Counter)
    for row in stored:
        says = Counter({"events": 1})
        if row["cost_micros"] is not None:
            says += Counter({"priced": 1}) + Counter({f"cost {row['currency'] or 'USD'}": row["cost_micros"]})
        if row["latency_us"] is not None:
            says += Counter({"timed": 1, "us": row["latency_us"], f"bin {bin_of(row['latency_us'])}": 1})
        for grain, start in starts((row["timestamp"] - EPOCH) // US).items():
            for project in ("", row["project_id"]):
                found[project, grain, start, row["type"], row["actor"]] += says
    for row in rows(engine, namespace, deliveries) + rows(engine, namespace, outcomes):
        position = row["event_position"]
        if "attempts" in row:
            says = Counter({row["state"]: 1, "attempts": row["attempts"]})
        elif 0 < position < 2**53:
            says = Counter(failures=int(row["state"] in ("retried", "dead", "lost")))
            if row["elapsed_us"]:
                says += Counter({"timed": 1, "us": row["elapsed_us"], f"bin {bin_of(row['elapsed_us'])}": 1})
        else:
            continue
        project_id, type, actor = labels_at.get(position, ("", "", ""))
        for grain, start in starts(position).items():
            for project in {"", project_id}:
                found[project, grain, start, row["subscriber"], type, actor] += says
    return {key: says for key, says in found.items() if any(says.values())}


def as_kept(engine, namespace):
    """What both tables hold, in the same words."""
    found = {}
    for row in rows(engine, namespace, event_statistics):
        says = Counter({"events": row["events"], "priced": row["priced"], "timed": row["timed"]})
        says.update({f"cost {currency}": micros for currency, micros in row["cost_micros"].items()})
        says.update({f"bin {number}": count for number, count in row["latency_bins"].items()})
        says["us"] = row["latency_us"]
        found[row["project_id"], row["grain"], row["start"], row["type"], row["actor"]] = says
    for row in rows(engine, namespace, delivery_statistics):
        words = ("waiting", "done", "dead", "discarded", "dropped", "attempts", "failures", "timed")
        says = Counter({word: row[word] for word in words})
        says.update({f"bin {number}": count for number, count in row["elapsed_bins"].items()})
        says["us"] = row["elapsed_us"]
        found[row["project_id"], row["grain"], row["start"], row["subscriber"], row["type"], row["actor"]] = says
    return {key: says for key, says in found.items() if any(says.values())}


def assert_exact(engine, namespace):
    assert as_kept(engine, namespace) == by_hand(engine, namespace)
    assert differences(engine, namespace) == []


class Crash(Exception):
    pass


def append(archive, stream, batch, crashes=False):
    """Append a batch to a stream, or do everything of it but commit; tell whether it is stored."""
    try:
        with archive.writer(stream) as writer:
            if writer is None:
                return False
            getattr(writer, "append_events" if stream == "history" else "append_outcomes")(batch)
            last = max([writer.cursor.position, *(one.position for one in batch)])
            writer.advance(last, f"{last}-0")
            if crashes:
                writer.finish()
                raise Crash
            return True
    except Crash:
        return False


def outcome(position, event_position, state="done", subscriber="A", attempt=1, redelivery=0, **rest):
    return Outcome(position, event_position, subscriber, redelivery, attempt, AttemptState(state), "w", **rest)


# Three events an hour; the fifth day is far from the first.
POSITIONS = [n * HOUR_US // 3 for n in range(1, 9)] + [100 * HOUR_US]
METADATA = st.fixed_dictionaries(
    {},
    optional={
        "cost": st.sampled_from([0, 0.000001, 2.5, 1e12]),
        "currency": st.sampled_from(["EUR", "USD", "\t\\N"]),
        "latency_ms": st.sampled_from([0, 0.4, 127.9, 1e12]) | st.integers(0, 10**6),
    },
)


@st.composite
def histories(draw):
    history = []
    for position in sorted(draw(st.sets(st.sampled_from(POSITIONS)))):
        moment = draw(st.sampled_from([0, HOUR_US - 1, HOUR_US, 30 * HOUR_US, -1]))
        recorded = an_event(
            position,
            type=draw(st.sampled_from("TU")),
            event_id=draw(st.sampled_from([f"e{position}", "same"])),
            project_id=draw(st.sampled_from(["film", "song", "%"])),
            actor=draw(st.sampled_from("ab")),
            timestamp=EPOCH + moment * US,
            metadata=draw(METADATA),
            deliveries=draw(st.sampled_from([(), ("A",), ("A", "B")])),
        )
        history.append(recorded)
    return history


ENDED = st.lists(
    st.builds(
        outcome,
        st.integers(1, 40),
        st.sampled_from([0, 2**53, 2**62, *POSITIONS]),
        st.sampled_from([*AttemptState]),
        st.sampled_from("AB"),
        st.integers(0, 3),
        st.integers(0, 1),
        elapsed_us=st.sampled_from([0, 1, 129, 10**15]),
    ),
    max_size=9,
).map(lambda ended: sorted(ended, key=lambda one: one.position))
# What is done with the next batch of which stream: its size, whether it is tried in vain before, repeated after.
STEPS = st.lists(
    st.tuples(st.sampled_from(["history", "outcomes", "direct"]), st.integers(1, 4), st.booleans(), st.booleans()),
    max_size=10,
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(history=histories(), ended=ENDED, steps=STEPS)
def test_statistics_are_exact_after_crashes_and_repeats_in_any_order(engine, history, ended, steps):
    namespace = uuid.uuid4().hex
    archive = Archive(engine, namespace)
    direct = DirectWriter(engine, namespace, FakeClock(200 * HOUR_US), Replay(engine, namespace, None))
    left = {"history": history, "outcomes": ended}

    for stream, size, crashes, repeats in [*steps, ("outcomes", 9, True, False), ("history", 9, False, True)]:
        if stream == "direct":
            event = Event(project_id="film", type="T", actor="a", timestamp=EPOCH, metadata={"latency_ms": size})
            direct.store([event, event] if repeats else [event])
        else:
            batch, left[stream] = left[stream][:size], left[stream][size:]
            for fails in [crashes, False, *[False] * repeats]:
                append(archive, stream, batch, fails)
        assert as_kept(engine, namespace) == by_hand(engine, namespace)

    assert_exact(engine, namespace)
    known = {row["position"]: [row[name] for name in LABELS] for row in rows(engine, namespace, events)}
    for row in rows(engine, namespace, deliveries):
        assert [row[name] for name in LABELS] == known.get(row["event_position"], [None] * 3)


def test_a_delivery_whose_event_comes_later_is_counted_for_its_project_then(engine, archive):
    statistics = Statistics(engine, "test", None)
    append(archive, "outcomes", [outcome(20, 10, "retried", elapsed_us=5), outcome(21, 10, redelivery=7, elapsed_us=9)])
    (before,) = statistics.deliveries()
    assert (before.waiting, before.done, before.failures, statistics.deliveries("film")) == (1, 1, 1, [])

    store_events(archive, an_event(10, deliveries=("A",)))

    assert statistics.deliveries("film") == statistics.deliveries() == [before]
    assert_exact(engine, "test")
    found = statistics.project("film")
    for numbers in (found.total, *found.types, *found.actors, *statistics.projects()):
        assert (numbers.deliveries.failures, numbers.deliveries.done, numbers.deliveries.attempts) == (1, 1, 2)


def test_an_event_and_outcomes_of_its_own_batch_are_counted_once(engine, archive):
    append(archive, "outcomes", [outcome(20, 10, "retried", elapsed_us=5)])
    with archive.writer("history") as writer:
        writer.append_events([an_event(10, deliveries=("A",))])
        writer.append_outcomes([outcome(21, 10, elapsed_us=9)])
        writer.advance(21, "21-0")

    assert_exact(engine, "test")


def test_archivers_of_both_streams_writers_of_unpublished_events_and_a_crash_lose_nothing(engine, url, open_at):
    total, batch, failures = 240, 12, []
    history = [
        an_event(n, project_id=f"p{n % 3}", metadata={"latency_ms": n, "cost": n}, deliveries=("A", "B"))
        for n in range(1, total + 1)
    ]
    ended = [
        outcome(10_000 + n, 1 + n // 2, ("done", "dead")[n % 2], "AB"[n % 2], elapsed_us=n + 1)
        for n in range(2 * total)
    ]

    def archive(stream, left):
        mine, tries = Archive(open_at(url), "test"), 0
        try:
            while left:
                tries += 1
                if append(mine, stream, left[:batch], crashes=tries % 3 == 0):
                    left = left[batch:]
        except Exception as error:
            failures.append(error)

    def persist():
        try:
            mine = open_at(url)
            writer = DirectWriter(mine, "test", FakeClock(1_000_000), Replay(mine, "test", None))
            for n in range(40):
                writer.store([Event(project_id=f"p{n % 3}", type="T", actor="a", metadata={"cost": 1})])
        except Exception as error:
            failures.append(error)

    threads = [
        threading.Thread(target=archive, args=("history", history)),
        threading.Thread(target=archive, args=("outcomes", ended)),
        threading.Thread(target=persist),
    ]
    [thread.start() for thread in threads]
    [thread.join(100) for thread in threads]

    assert failures == []
    assert Statistics(engine, "test", None).project().total.count == total + 40
    assert [one.done + one.dead for one in Statistics(engine, "test", None).deliveries()] == [total, total]
    assert_exact(engine, "test")


def test_what_was_stored_uncounted_is_named_and_mended(engine, archive):
    store_events(archive, an_event(1, deliveries=("A",)), an_event(2, type="OTHER"))
    append(archive, "outcomes", [outcome(5, 1, elapsed_us=3)])
    exact = as_kept(engine, "test")
    with writing(engine) as connection:  # what an archiver of an older version leaves
        connection.execute(event_statistics.delete().where(event_statistics.c.type == "OTHER"))
        connection.execute(event_statistics.update().values(events=7, latency_us=2**70))
        connection.execute(delivery_statistics.delete().where(delivery_statistics.c.project_id == "film"))
        connection.execute(deliveries.update().values(dict.fromkeys(LABELS)))

    found = differences(engine, "test")
    assert len(found) == 6 + 6 + 3
    assert {(one.kept is None, one.counted is None) for one in found} == {(True, False), (False, False)}

    for _ in range(2):
        recount(engine, "test")
        assert as_kept(engine, "test") == exact
    assert differences(engine, "test") == []
    append(archive, "outcomes", [outcome(6, 1, redelivery=1)])
    assert_exact(engine, "test")


def test_what_was_pruned_stays_counted_until_everything_is_added_up_again(engine, archive):
    store_events(archive, an_event(1, deliveries=("A",)), an_event(2, type="OTHER"), an_event(3))
    append(archive, "outcomes", [outcome(5, 1, elapsed_us=3)])
    kept = as_kept(engine, "test")

    assert Blackboard(engine, "test", None, FakeClock()).retention.prune(3).events == 2

    assert as_kept(engine, "test") == kept
    sums = counted(engine, "test")
    assert sums.agrees and (sums.events, sums.pruned_events, sums.pruned_deliveries) == (1, 2, 1)
    assert differences(engine, "test")
    store_events(archive, an_event(4))
    assert counted(engine, "test").agrees

    recount(engine, "test")
    sums = counted(engine, "test")
    assert sums.agrees and (sums.counted_events, sums.pruned_events, sums.counted_deliveries) == (2, 0, 0)
    assert_exact(engine, "test")


def test_what_is_imported_is_counted(engine):
    board = Blackboard(engine, "test", None, FakeClock())
    row = {"event_id": "e1", "project_id": "film", "type": "OLD", "actor": "a", "timestamp": EPOCH}
    source = [SourceRow(n, None, row | {"event_id": f"e{n}", "metadata": {"cost": 0.5}}) for n in range(3)]

    board.importer.run(source, lambda refused: None)

    assert board.statistics.project("film").total.cost_total == 1.5
    assert_exact(engine, "test")


def test_namespaces_are_counted_apart_and_recounted_apart(engine, archive):
    store_events(archive, an_event(1))
    store_events(Archive(engine, "another"), an_event(1, type="OTHER"))

    recount(engine, "another")

    assert [one.type for one in Statistics(engine, "test", None).project().types] == ["SCENE_WRITTEN"]
    assert [one.type for one in Statistics(engine, "another", None).project().types] == ["OTHER"]


def test_a_project_with_a_long_history_is_a_small_question(engine, archive, measured):
    size, types = 20_000, 10
    for start in range(0, size, 5000):
        store_events(
            archive,
            *(
                an_event(n * 60_000_000, f"T{n % types}", timestamp=EPOCH + n * 60_000_000 * US,
                         metadata={"cost": 0.5, "latency_ms": 20 + n % 977})
                for n in range(start + 1, start + 5001)
            ),
        )  # fmt: skip
    statistics = Statistics(engine, "test", None)

    began = time.perf_counter()
    found = statistics.project("film")
    took_ms = (time.perf_counter() - began) * 1000

    with reading(engine) as connection:
        query = select(event_statistics).where(
            event_statistics.c.project_id == "film", event_statistics.c.grain == "total"
        )
        assert len(connection.execute(query).all()) == types, "rows read, whatever the history"
    assert found.total.count == size
    measured(f"a project of {size:,} events in {types} types, {engine.dialect.name}: {took_ms:.1f} ms")


def test_a_database_whose_transactions_are_isolated_otherwise_counts_as_exactly(engine, url, open_at):
    if engine.dialect.name == "sqlite":
        pytest.skip("SQLite has one isolation.")
    archive = Archive(open_at(f"{url}?options=-c%20default_transaction_isolation%3Drepeatable%5C%20read"), "test")
    store_events(archive, an_event(1))

    with archive.writer("history") as history:
        history.append_events([an_event(5)])
        with archive.writer("outcomes") as writer:  # commits first, and does not know the event
            writer.append_outcomes([outcome(10, 5, elapsed_us=3)])
            writer.advance(10, "10-0")
        history.advance(5, "5-0")

    assert_exact(engine, "test")
    assert [row["project_id"] for row in rows(engine, "test", deliveries)] == ["film"]
