"""What Prometheus scrapes. Made of what the store has counted and of what Redis holds, never of what this process has
seen: any web process tells the same, whatever was forked, killed or restarted. No project or event id is a label.

Source: Prometheus's conventions for names, units and labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_1_0_0
from prometheus_client.registry import Collector

from events.errors import EventBusError
from events.inspection import Inspection
from events.standing import Standing, standings
from store.bins import Durations, middle_of

if TYPE_CHECKING:
    from events.backend import Backend

MEDIA = CONTENT_TYPE_PLAIN_1_0_0
_ENDED = ("done", "dead", "discarded", "dropped")
# Seconds: from a quick handler to one that renders for an hour.
_BUCKETS_S = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1200, 1800, 3600,
)  # fmt: skip

_QUEUES: tuple[tuple[str, str, Callable[[Standing], float | None]], ...] = (
    ("ready_deliveries", "Deliveries that wait for a free worker.", lambda one: one.queue.ready),
    ("running_deliveries", "Deliveries that workers hold.", lambda one: one.queue.running),
    ("waiting_deliveries", "Deliveries in lanes, at least.", lambda one: one.queue.waiting),
    ("delayed_deliveries", "Retries that are not due.", lambda one: one.queue.delayed),
    ("dead_letters", "Dead letters that wait for a decision.", lambda one: one.queue.dead),
    (
        "oldest_delivery_age_seconds",
        "Age of the oldest delivery that has not ended.",
        lambda one: one.queue.oldest_s or 0,
    ),
    ("subscriber_workers", "Live workers that take it.", lambda one: len(one.workers)),
    ("subscriber_paused", "1 while it is paused.", lambda one: int(one.queue.is_paused)),
)


def exposition(backend: Backend) -> bytes:
    """Return every metric in the text format; blocks. A server that cannot be reached is told by `eventbus_up`."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Bus(backend))
    return generate_latest(registry)


class _Bus(Collector):
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def collect(self) -> Iterable[Metric]:
        up = GaugeMetricFamily("eventbus_up", "1 if the server answered when this was asked.", labels=["server"])
        found: list[Metric] = []
        for server, ask in (("database", _of_store), ("redis", _of_redis)):
            try:
                found += ask(self._backend)
                up.add_metric([server], 1)
            except EventBusError:
                up.add_metric([server], 0)
        return [up, *found]


def _of_store(backend: Backend) -> list[Metric]:
    statistics = backend.blackboard.statistics
    types, subscribers = statistics.sums()
    published = CounterMetricFamily("eventbus_events_published", "Events in history.", labels=["type"])
    cost = CounterMetricFamily(
        "eventbus_event_cost", "What events cost, in units of the currency.", labels=["type", "currency"]
    )
    latency = HistogramMetricFamily(
        "eventbus_event_latency_seconds", "What events say of how long they took.", labels=["type"]
    )
    for kind, tally in sorted(types.items()):
        published.add_metric([kind], tally.events)
        latency.add_metric([kind], _cumulative(tally.latency), tally.latency.total_us / 1e6)
        for currency, micros in sorted(tally.cost_micros.items()):
            cost.add_metric([kind, currency], micros / 1e6)
    ended = CounterMetricFamily(
        "eventbus_deliveries_ended", "Deliveries that have ended.", labels=["subscriber", "state"]
    )
    attempts = CounterMetricFamily("eventbus_attempts", "Attempts at deliveries.", labels=["subscriber"])
    failures = CounterMetricFamily("eventbus_failed_attempts", "Attempts that failed.", labels=["subscriber"])
    handled = HistogramMetricFamily(
        "eventbus_handler_duration_seconds", "How long handlers ran.", labels=["subscriber"]
    )
    for name, of in sorted(subscribers.items()):
        for state in _ENDED:
            ended.add_metric([name, state], of.states[state])
        attempts.add_metric([name], of.attempts)
        failures.add_metric([name], of.failures)
        handled.add_metric([name], _cumulative(of.elapsed), of.elapsed.total_us / 1e6)
    return [published, cost, latency, ended, attempts, failures, handled]


def _cumulative(durations: Durations) -> list[tuple[str, float]]:
    """Return how many durations are at most as long as each bucket's bound, `le`; the last bound is infinite.

    The store's bins are finer than these buckets: a duration less than 1/128 beside a bound may be taken for the
    other side's.
    """
    left = sorted(durations.bins.items(), reverse=True)
    found: list[tuple[str, float]] = []
    count = 0
    for bound in _BUCKETS_S:
        while left and middle_of(left[-1][0]) <= bound * 1e6:
            count += left.pop()[1]
        found.append((str(float(bound)), float(count)))
    return [*found, ("+Inf", float(durations.count))]


def _of_redis(backend: Backend) -> list[Metric]:
    found = standings(backend.namespace)
    metrics: list[Metric] = []
    for name, says, value in _QUEUES:
        metric = GaugeMetricFamily(f"eventbus_{name}", says, labels=["subscriber"])
        for one in found:
            metric.add_metric([one.queue.subscriber], float(value(one) or 0))
        metrics.append(metric)
    return [*metrics, *_of_fleet(Inspection(backend.namespace))]


def _of_fleet(inspection: Inspection) -> Iterator[Metric]:
    workers, backlog = inspection.workers(), inspection.backlog()
    states = GaugeMetricFamily("eventbus_workers", "Worker processes.", labels=["state"])
    alive = [worker for worker in workers if worker.is_alive]
    draining = sum(worker.said.draining for worker in alive)
    for state, count in (
        ("alive", len(alive) - draining),
        ("draining", draining),
        ("silent", len(workers) - len(alive)),
    ):
        states.add_metric([state], count)
    yield states
    running = sum(worker.said.running for worker in alive)
    yield _gauge("eventbus_running_handlers", "Handlers that run in live workers.", running)
    yield _gauge("eventbus_unarchived_events", "Events that SQL does not have yet, at least.", backlog.unarchived)
    yield _gauge("eventbus_unarchived_outcomes", "Outcomes that SQL does not have yet.", backlog.outcomes)
    yield _gauge(
        "eventbus_archive_lag_seconds", "Age of the oldest event that SQL does not have yet.", backlog.oldest_s
    )
    yield _gauge("eventbus_outcomes_lag_seconds", "The same of outcomes.", backlog.outcomes_oldest_s)
    yield _gauge("eventbus_history_entries", "Events that Redis keeps.", backlog.history)


def _gauge(name: str, says: str, value: Any) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, says, value=float(value or 0))
