"""What statistics say: numbers of events and of deliveries, each with the name of what they are about.

Values only, and how they are made of what was added up (`store/tally.py`); `store/statistics.py` asks for them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from store.tally import DeliveryTally, EventTally

ALL_TYPES = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class EventNumbers:
    """What some events amount to.

    Attributes:
        count: how many events.
        cost_total: the sum of their costs, whatever the currencies; 0 when none has a cost.
        cost_average: over the events that have a cost; None when none has.
        cost_by_currency: the sum of the costs in each currency, `USD` where an event names none.
        latency_average_ms: exact, over the events that have a latency; None when none has.
        latency_p50_ms, latency_p95_ms, latency_p99_ms: nearest-rank percentiles of the same, less than 1/128
            (0.8 percent) off; None when none has.
        first_time, last_time: the earliest and latest timestamp; None when there are no events.
    """

    count: int = 0
    cost_total: float = 0.0
    cost_average: float | None = None
    cost_by_currency: dict[str, float] = field(default_factory=dict)
    latency_average_ms: float | None = None
    latency_p50_ms: float | None = None
    latency_p95_ms: float | None = None
    latency_p99_ms: float | None = None
    first_time: datetime | None = None
    last_time: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryNumbers:
    """What some deliveries came to, as far as archived.

    Attributes:
        waiting, done, dead, discarded, dropped: how many are in each state.
        attempts: the sum of the attempts that they took.
        failures: attempts that ended `retried`, `dead` or `lost`.
        elapsed_average_ms: how long handlers ran; exact; None when no outcome says it.
        elapsed_p50_ms, elapsed_p95_ms, elapsed_p99_ms: nearest-rank percentiles of the same, less than 1/128 off.
    """

    waiting: int = 0
    done: int = 0
    dead: int = 0
    discarded: int = 0
    dropped: int = 0
    attempts: int = 0
    failures: int = 0
    elapsed_average_ms: float | None = None
    elapsed_p50_ms: float | None = None
    elapsed_p95_ms: float | None = None
    elapsed_p99_ms: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HandledNumbers(EventNumbers):
    """What some events amount to, and what became of their deliveries.

    Attributes:
        deliveries: what the deliveries of these events came to.
    """

    deliveries: DeliveryNumbers = DeliveryNumbers()


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeStatistics(HandledNumbers):
    """What one event type amounts to.

    Attributes:
        type: its name; `*` for all types together.
    """

    type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ActorStatistics(HandledNumbers):
    """What the events of one actor amount to.

    Attributes:
        actor: its name.
    """

    actor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectNumbers(HandledNumbers):
    """What one project amounts to, among others.

    Attributes:
        project_id: the project.
    """

    project_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketStatistics(EventNumbers):
    """What the events of one day or hour amount to: those with a timestamp in it.

    Attributes:
        start: when the day or hour begins, aware, UTC.
    """

    start: datetime


@dataclass(frozen=True, slots=True)
class ProjectStatistics:
    """What a project amounts to.

    Attributes:
        project_id: None for all projects of the namespace.
        types: one for each type that occurs, by name.
        total: all of them together.
        actors: one for each actor that occurs, by name.
    """

    project_id: str | None
    types: tuple[TypeStatistics, ...]
    total: TypeStatistics
    actors: tuple[ActorStatistics, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryStatistics(DeliveryNumbers):
    """What deliveries to one subscriber came to.

    Attributes:
        subscriber: its name.
        start: of the day or hour in which their events were published; None for all of them.
    """

    subscriber: str
    start: datetime | None = None


def event_numbers(tally: EventTally) -> dict[str, Any]:
    """Return the fields of `EventNumbers`."""
    cost = sum(tally.cost_micros.values())
    p50, p95, p99 = tally.latency.percentiles_ms(50, 95, 99)
    return {
        "count": tally.events,
        "cost_total": cost / 1e6,
        "cost_average": cost / 1e6 / tally.priced if tally.priced else None,
        "cost_by_currency": {currency: micros / 1e6 for currency, micros in sorted(tally.cost_micros.items())},
        "latency_average_ms": tally.latency.average_ms,
        "latency_p50_ms": p50,
        "latency_p95_ms": p95,
        "latency_p99_ms": p99,
        "first_time": tally.first_time,
        "last_time": tally.last_time,
    }


def delivery_numbers(tally: DeliveryTally) -> dict[str, Any]:
    """Return the fields of `DeliveryNumbers`."""
    p50, p95, p99 = tally.elapsed.percentiles_ms(50, 95, 99)
    return {
        **tally.states,
        "attempts": tally.attempts,
        "failures": tally.failures,
        "elapsed_average_ms": tally.elapsed.average_ms,
        "elapsed_p50_ms": p50,
        "elapsed_p95_ms": p95,
        "elapsed_p99_ms": p99,
    }


def handled_numbers(tally: EventTally, handled: DeliveryTally | None) -> dict[str, Any]:
    """Return the fields of `HandledNumbers`; None means that there are no deliveries."""
    return event_numbers(tally) | {"deliveries": DeliveryNumbers(**delivery_numbers(handled or DeliveryTally()))}
