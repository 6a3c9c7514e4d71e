"""Questions about a large history: their answers are right, and how long they take is printed.

A tenth of what `tests/store/dataset.py` makes by hand, where 1,000,000 is the default.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from sqlalchemy import Engine

from events.records import RecordedEvent
from tests.store import dataset

SIZE = 100_000


def test_questions_about_a_hundred_thousand_events(engine: Engine, measured: Callable[[str], None]) -> None:
    expected: Counter[str] = Counter()

    def tallied() -> Iterator[RecordedEvent]:
        for recorded in dataset.history(SIZE):
            if recorded.event.project_id == "WIDE":
                expected["latency_us"] += round((recorded.event.latency_ms or 0) * 1000)
                if recorded.event.cost is not None:
                    expected[str(recorded.event.metadata["currency"])] += round(recorded.event.cost * 1_000_000)
            yield recorded

    spent_s = dataset.fill(engine, tallied())
    answers = dataset.measure(engine, SIZE)

    chain, tree = answers["a chain of 100"][0], answers["a tree of 10,000"][0]
    assert [recorded.depth for recorded in chain] == [*range(100)]
    assert (tree.count, tree.waiting, tree.missing) == (10_000, 10_000, ())
    assert {"latency_us": tree.latency_us, **tree.costs_micros} == expected
    total = answers["a project's statistics"][0].total
    costs = {currency: cost / 1_000_000 for currency, cost in tree.costs_micros.items()}
    assert (total.count, total.cost_by_currency) == (10_000, costs)
    assert total.latency_average_ms == tree.latency_us / 1000 / 10_000
    assert sum(day.count for day in answers["a project's days"][0]) == 10_000
    assert answers["everybody's statistics"][0].total.count == SIZE
    assert [len(answers[name][0].events) for name in ("a page of 500", "a page of one project")] == [500, 500]
    hour = answers["a page of one hour"][0].events
    assert 40 < len(hour) < 50 and all(
        recorded.event.timestamp.hour == hour[0].event.timestamp.hour for recorded in hour
    )
    assert all(r.event.payload["scene"]["number"] == 3 for r in answers["a page by payload"][0].events)
    took = ", ".join(f"{question} {took_ms:.0f} ms" for question, (_, took_ms) in answers.items())
    measured(f"{SIZE:,} events on {engine.dialect.name}, stored with {spent_s:.0f} s of CPU: {took}")
