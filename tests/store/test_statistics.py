"""Numbers are exact, archived or not, and the same on both databases."""

from __future__ import annotations

import math
import random
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from events.records import AttemptState, Outcome
from store.statistics import DeliveryStatistics, Statistics, TypeStatistics
from tests.store.conftest import an_event, store_events
from tests.store.doubles import FakeTail

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)


def by_hand(name, recorded):
    costs = [r.event.cost for r in recorded if r.event.cost is not None]
    latencies = sorted(r.event.latency_ms for r in recorded if r.event.latency_ms is not None)
    times = [r.event.timestamp for r in recorded]
    currencies = Counter()
    for r in recorded:
        if r.event.cost is not None:
            currencies[r.event.metadata.get("currency", "USD")] += round(r.event.cost * 1e6)
    micros = sum(round(cost * 1e6) for cost in costs)
    return TypeStatistics(
        type=name,
        count=len(recorded),
        cost_total=micros / 1e6,
        cost_average=micros / 1e6 / len(costs) if costs else None,
        latency_average_ms=sum(round(one * 1000) for one in latencies) / 1e3 / len(latencies) if latencies else None,
        latency_p95_ms=latencies[math.ceil(len(latencies) * 95 / 100) - 1] if latencies else None,
        first_time=min(times, default=None),
        last_time=max(times, default=None),
        cost_by_currency={name: value / 1e6 for name, value in currencies.items()},
    )


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
        history.append(an_event(n, type=name, project_id=project, metadata=metadata, timestamp=moment))
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
        assert list(found.types) == [by_hand(n, [r for r in mine if r.event.type.value == n]) for n in names]
        assert found.total == by_hand("*", mine)


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
        DeliveryStatistics("A", waiting=1, done=1, dead=1, discarded=1, attempts=6),
        DeliveryStatistics("B", waiting=4),
    ]
