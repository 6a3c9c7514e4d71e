"""Numbers are exact, archived or not, and the same on both databases."""

from __future__ import annotations

import math
import random
from collections import Counter
from datetime import UTC, datetime, timedelta, timezone

import pytest

from events.errors import InvalidFilter
from events.records import AttemptState, Outcome
from store.numbers import DeliveryStatistics
from store.statistics import Statistics
from tests.store.conftest import an_event, store_events
from tests.store.doubles import FakeTail

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)


def by_hand(recorded):
    """What `EventNumbers` says of some events, counted one by one; percentiles exact."""
    costs = [r.event.cost for r in recorded if r.event.cost is not None]
    latencies = sorted(r.event.latency_ms for r in recorded if r.event.latency_ms is not None)
    times = [r.event.timestamp for r in recorded]
    currencies = Counter()
    for r in recorded:
        if r.event.cost is not None:
            currencies[r.event.metadata.get("currency", "USD")] += round(r.event.cost * 1e6)
    micros = sum(round(cost * 1e6) for cost in costs)
    percentiles = {
        f"latency_p{percent}_ms": latencies[math.ceil(len(latencies) * percent / 100) - 1] if latencies else None
        for percent in (50, 95, 99)
    }
    return percentiles | {
        "count": len(recorded),
        "cost_total": micros / 1e6,
        "cost_average": micros / 1e6 / len(costs) if costs else None,
        "latency_average_ms": sum(round(one * 1000) for one in latencies) / 1e3 / len(latencies) if latencies else None,
        "first_time": min(times, default=None),
        "last_time": max(times, default=None),
        "cost_by_currency": {name: value / 1e6 for name, value in currencies.items()},
    }


def says(found, recorded):
    """Tell whether numbers are those of some events: exactly, percentiles less than 1/128 off."""
    wanted = by_hand(recorded)
    shown = {name: getattr(found, name) for name in wanted}
    for name in ("latency_p50_ms", "latency_p95_ms", "latency_p99_ms"):
        exact, read = wanted.pop(name), shown.pop(name)
        assert (exact is None) == (read is None)
        assert exact is None or abs(read - exact) <= exact / 128, (name, exact, read)
    return shown == wanted


def some_history(size):
    chance, history = random.Random(size), []
    for n in range(1, size + 1):
        metadata = {}
        if chance.random() < 0.7:
            metadata["cost"] = round(chance.random(), 4)
            if chance.random() < 0.3:
                metadata["currency"] = "EUR"
        if chance.random() < 0.7:
            metadata["latency_ms"] = chance.randrange(5000) / 8
        moment = NOON + timedelta(microseconds=chance.randrange(10**12))
        name, project = chance.choice("ABC"), chance.choice(["film", "film", "song"])
        actor = chance.choice(["Writer", "Painter"])
        history.append(an_event(n, type=name, project_id=project, actor=actor, metadata=metadata, timestamp=moment))
    return history


@pytest.mark.parametrize("size", [1, 2, 20, 21, 100])
@pytest.mark.parametrize("part", [0, 0.5, 1])
def test_statistics_are_what_counting_by_hand_gives(engine, archive, size, part):
    history = some_history(size)
    archived = round(size * part)
    if archived:
        store_events(archive, *history[:archived])
    statistics = Statistics(engine, "test", FakeTail(history, archived=archived))

    for project in (None, "film", "song", "nobody"):
        mine = [r for r in history if project in (None, r.event.project_id)]
        names = sorted({r.event.type.value for r in mine})
        found = statistics.project(project)
        assert [one.type for one in found.types] == names
        assert all(says(one, [r for r in mine if r.event.type.value == one.type]) for one in found.types)
        assert [one.actor for one in found.actors] == sorted({r.event.actor for r in mine})
        assert all(says(one, [r for r in mine if r.event.actor == one.actor]) for one in found.actors)
        assert found.total.type == "*" and says(found.total, mine)
    by_project = {name: [r for r in history if r.event.project_id == name] for name in ("film", "song")}
    projects = statistics.projects()
    assert {one.project_id for one in projects} == {name for name, mine in by_project.items() if mine}
    assert all(says(one, by_project[one.project_id]) for one in projects)
    assert projects == sorted(projects, key=lambda one: (-one.cost_total, -one.count, one.project_id))
    assert statistics.projects(1) == projects[:1]


def test_sums_beyond_64_bits_are_exact(engine, archive):
    most = {"cost": 1e12, "latency_ms": 1e12}
    history = [an_event(n, metadata=most) for n in range(1, 41)]
    store_events(archive, *history[:20])

    total = Statistics(engine, "test", FakeTail(history, archived=20)).project().total

    assert (total.cost_total, total.latency_average_ms) == (4e13, 1e12)


def test_the_archiver_moving_meanwhile_counts_nothing_twice(engine, archive):
    history = [an_event(n) for n in range(1, 41)]
    tail = FakeTail(history)
    tail.before_read = lambda: store_events(archive, *history[: 10 + tail.reads])

    assert Statistics(engine, "test", tail).project().total.count == 40


def test_deliveries_are_counted_by_subscriber_and_state(engine, archive):
    store_events(archive, *(an_event(n, deliveries=("A", "B")) for n in range(1, 5)))
    with archive.writer("outcomes") as writer:
        ended = [
            Outcome(11, 1, "A", 0, 1, AttemptState.DONE, "w"),
            Outcome(12, 2, "A", 0, 3, AttemptState.DEAD, "w"),
            Outcome(13, 3, "A", 0, 1, AttemptState.DISCARDED, "w"),
            Outcome(14, 4, "A", 0, 1, AttemptState.RETRIED, "w"),
        ]
        writer.append_outcomes(ended)
        writer.advance(14, "14-0")

    assert Statistics(engine, "test", None).deliveries() == [
        DeliveryStatistics(subscriber="A", waiting=1, done=1, dead=1, discarded=1, attempts=6, failures=2),
        DeliveryStatistics(subscriber="B", waiting=4),
    ]


def test_what_became_of_deliveries_is_told_by_project_type_and_actor_of_their_events(engine, archive):
    history = [
        an_event(1, "T", actor="a", deliveries=("A", "B")),
        an_event(2, "U", actor="a", deliveries=("A",), metadata={"cost": 1}),
        an_event(3, "U", actor="b", project_id="song", deliveries=("A",), metadata={"cost": 2}),
        an_event(4, "V", actor="c", project_id="song"),
    ]
    with archive.writer("outcomes") as writer:  # before their events
        ended = [
            Outcome(11, 1, "A", 0, 1, AttemptState.RETRIED, "w", elapsed_us=1000),
            Outcome(12, 1, "A", 0, 2, AttemptState.DEAD, "w", elapsed_us=1000),
            Outcome(13, 3, "A", 0, 1, AttemptState.DONE, "w", elapsed_us=64),
            Outcome(14, 9, "A", 0, 1, AttemptState.DONE, "w"),
        ]
        writer.append_outcomes(ended)
        writer.advance(14, "14-0")
    statistics = Statistics(engine, "test", None)

    def told(one):
        of = one.deliveries
        return of.waiting, of.done, of.dead, of.attempts, of.failures, of.elapsed_p50_ms

    assert told(statistics.project().total) == (0, 2, 1, 4, 2, 1.003)
    store_events(archive, *history)

    found = statistics.project()
    assert {one.type: told(one) for one in found.types} == {
        "T": (1, 0, 1, 2, 2, 1.003), "U": (1, 1, 0, 1, 0, 0.064), "V": (0, 0, 0, 0, 0, None),
    }  # fmt: skip
    assert {one.actor: told(one) for one in found.actors} == {
        "a": (2, 0, 1, 2, 2, 1.003), "b": (0, 1, 0, 1, 0, 0.064), "c": (0, 0, 0, 0, 0, None),
    }  # fmt: skip
    assert told(found.total) == (2, 2, 1, 4, 2, 1.003), "one of them is of an event that nobody knows"
    assert [(one.project_id, told(one)) for one in statistics.projects()] == [
        ("song", (0, 1, 0, 1, 0, 0.064)), ("film", (2, 0, 1, 2, 2, 1.003)),
    ]  # fmt: skip
    assert [one.type for one in statistics.project("song").types] == ["U", "V"]
    assert told(statistics.project("song").total) == told(statistics.projects(1)[0])


@pytest.mark.parametrize("part", [0, 0.5, 1])
@pytest.mark.parametrize("grain", ["day", "hour"])
def test_a_series_has_each_bucket_that_has_events(engine, archive, part, grain):
    history = some_history(60)
    archived = round(len(history) * part)
    if archived:
        store_events(archive, *history[:archived])
    statistics = Statistics(engine, "test", FakeTail(history, archived=archived))
    floor = {"minute": 0, "second": 0, "microsecond": 0} | ({"hour": 0} if grain == "day" else {})

    for project in (None, "film", "nobody"):
        mine = [r for r in history if project in (None, r.event.project_id)]
        buckets = {}
        for r in mine:
            buckets.setdefault(r.event.timestamp.replace(**floor), []).append(r)
        found = statistics.series(project, grain)
        assert [one.start for one in found] == sorted(buckets)
        assert all(says(one, buckets[one.start]) for one in found)


def test_a_range_takes_whole_buckets_and_reads_naive_moments_as_utc(engine, archive):
    hours = [NOON + timedelta(hours=n) for n in range(4)]
    last = [moment + timedelta(microseconds=3_599_999_999) for moment in hours]
    store_events(archive, *(an_event(n, timestamp=moment) for n, moment in enumerate(hours + last, 1)))
    statistics = Statistics(engine, "test", None)

    def counts(start, end):
        return {one.start.hour: one.count for one in statistics.series("film", "hour", start, end)}

    assert counts(None, None) == {12: 2, 13: 2, 14: 2, 15: 2}
    assert counts(hours[1], hours[3]) == {13: 2, 14: 2}
    assert counts(last[1], hours[2] + timedelta(microseconds=1)) == {13: 2, 14: 2}
    assert counts(hours[1].replace(tzinfo=None), hours[2].replace(tzinfo=None)) == {13: 2}
    eastern = timezone(timedelta(hours=5, minutes=45))
    assert counts(hours[1].astimezone(eastern), hours[2].astimezone(eastern)) == {13: 2}
    assert counts(hours[1], hours[1]) == {}
    with pytest.raises(InvalidFilter, match="reversed"):
        statistics.series("film", "hour", hours[1], hours[0])
    with pytest.raises(InvalidFilter, match="'day' or 'hour', not 'week'"):
        statistics.series("film", "week")


def test_the_first_and_the_last_moment_that_there_are_have_their_buckets(engine, archive):
    first, last = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
    before_1970 = datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
    store_events(archive, *(an_event(n, timestamp=m) for n, m in enumerate([first, before_1970, last], 1)))

    found = Statistics(engine, "test", None).series("film", "day")

    assert [one.start for one in found] == [
        first, datetime(1969, 12, 31, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC),
    ]  # fmt: skip
    assert [one.first_time for one in found] == [first, before_1970, last]


def test_a_name_that_no_project_has_is_not_all_projects(engine, archive):
    store_events(archive, an_event(1, deliveries=("A",)))
    statistics = Statistics(engine, "test", None)

    for nobody in ("", "nobody", "%", "*", "'; DROP TABLE events; --"):
        found = statistics.project(nobody)
        assert (found.types, found.actors, found.total.count, found.total.first_time) == ((), (), 0, None)
        assert (statistics.series(nobody), statistics.deliveries(nobody)) == ([], [])


@pytest.mark.parametrize("hostile", ["'; DROP TABLE events; --", "%s %(x)s", ":name", "\\N", "日本 🎬", "null"])
@pytest.mark.parametrize("many", [1, 30])
def test_hostile_names_are_only_names(engine, archive, hostile, many):
    currency = f"{hostile}\t\n\\"
    metadata = {"cost": 1, "currency": currency, "latency_ms": 5}
    fields = {"project_id": hostile, "actor": hostile, "metadata": metadata, "deliveries": (hostile,)}
    for batch in range(2):
        positions = range(1 + batch * many, 1 + (batch + 1) * many)
        store_events(archive, *(an_event(n, type=f"T{n % many}", **fields) for n in positions))

    found = Statistics(engine, "test", None).project(hostile)

    assert (found.total.count, found.total.cost_by_currency) == (2 * many, {currency: 2.0 * many})
    assert [(one.actor, one.count) for one in found.actors] == [(hostile, 2 * many)]
    assert [one.subscriber for one in Statistics(engine, "test", None).deliveries(hostile)] == [hostile]


@pytest.mark.parametrize("limit", [0, -3, True, "5", 1.5, None])
def test_a_limit_of_no_projects_is_refused(engine, limit):
    with pytest.raises(InvalidFilter, match="limit of projects must be a whole number of at least 1"):
        Statistics(engine, "test", None).projects(limit)


@pytest.mark.parametrize("hostile", ["nul\0", "\ud800", 7])
def test_a_project_that_no_database_can_be_asked_is_refused_alike(engine, hostile):
    statistics = Statistics(engine, "test", None)
    for ask in (statistics.project, statistics.series, statistics.deliveries, statistics.delivery_series):
        with pytest.raises(InvalidFilter, match="project_id of a filter"):
            ask(hostile)


def test_deliveries_are_counted_by_project_and_by_the_hour_of_their_event(engine, archive):
    hour = 3_600_000_000
    store_events(
        archive,
        an_event(hour - 1, deliveries=("A", "B")),
        an_event(hour, deliveries=("A",)),
        an_event(hour + 1, project_id="song", deliveries=("A",)),
    )
    with archive.writer("outcomes") as writer:
        ended = [
            Outcome(5 * hour, hour - 1, "A", 0, 1, AttemptState.RETRIED, "w", elapsed_us=4000),
            Outcome(6 * hour, hour - 1, "A", 0, 2, AttemptState.DONE, "w", elapsed_us=100),
            Outcome(7 * hour, hour + 1, "A", 0, 1, AttemptState.LOST, "w"),
        ]
        writer.append_outcomes(ended)
        writer.advance(7 * hour, f"{7 * hour}-0")
    statistics = Statistics(engine, "test", None)

    film, other = statistics.deliveries("film")
    assert (film.done, film.waiting, film.attempts, film.failures) == (1, 1, 2, 1)
    assert (film.elapsed_average_ms, film.elapsed_p50_ms) == (2.05, 0.1)
    assert film.elapsed_p99_ms == pytest.approx(4, rel=1 / 128)
    assert other == DeliveryStatistics(subscriber="B", waiting=1)
    (song,) = statistics.deliveries("song")
    assert (song.waiting, song.failures, song.elapsed_p95_ms) == (1, 1, None)
    by_hour = [
        (one.start.hour, one.subscriber, one.waiting, one.done) for one in statistics.delivery_series(None, "hour")
    ]
    assert by_hour == [(0, "A", 0, 1), (0, "B", 1, 0), (1, "A", 2, 0)]
