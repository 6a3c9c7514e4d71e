"""What is added up about events, and about deliveries: values that are added, merged, and kept in a row.

The rows are those of `event_statistics` and `delivery_statistics`; where they come from and when they are
written is `store/counting.py`'s affair.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple, Self

from events.records import AttemptState
from store.bins import Durations

USD = "USD"
STATES = ("waiting", "done", "dead", "discarded", "dropped")
FAILED = (AttemptState.RETRIED.value, AttemptState.DEAD.value, AttemptState.LOST.value)


class Labels(NamedTuple):
    """By what an event, and what becomes of its deliveries, is counted."""

    project_id: str
    type: str
    actor: str


# Of an event that is not archived: its deliveries are counted for all projects together only.
UNKNOWN = Labels("", "", "")


@dataclass(slots=True)
class EventTally:
    """Events that were added up, in whole numbers.

    Attributes:
        events: how many. priced: how many of them have a cost.
        cost_micros: the sum of the costs in each currency.
        latency: of those that have one.
        first_time, last_time: the earliest and the latest timestamp; None when there are no events.
    """

    events: int = 0
    priced: int = 0
    cost_micros: Counter[str] = field(default_factory=Counter)
    latency: Durations = field(default_factory=Durations)
    first_time: datetime | None = None
    last_time: datetime | None = None

    def add(self, row: Mapping[Any, Any]) -> None:
        """Add an event.

        Args:
            row: of `events`; its measures and timestamp are read.
        """
        self.events += 1
        if row["cost_micros"] is not None:
            self.priced += 1
            self.cost_micros[row["currency"] or USD] += row["cost_micros"]
        if row["latency_us"] is not None:
            self.latency.add(row["latency_us"])
        self._see(row["timestamp"], row["timestamp"])

    def see(self, events: int, first: datetime, last: datetime) -> None:
        """Add events without a cost or a latency, and the earliest and the latest timestamp of theirs."""
        self.events += events
        self._see(first, last)

    def merge(self, other: EventTally) -> None:
        """Add everything that another tally has."""
        self.events += other.events
        self.priced += other.priced
        for currency, micros in other.cost_micros.items():
            self.cost_micros[currency] += micros
        self.latency.merge(other.latency)
        if other.first_time is not None and other.last_time is not None:
            self._see(other.first_time, other.last_time)

    def columns(self) -> dict[str, Any]:
        """Return it as columns of `event_statistics`."""
        return {
            "events": self.events,
            "priced": self.priced,
            "cost_micros": json.dumps(self.cost_micros, ensure_ascii=False),
            "timed": self.latency.count,
            "latency_us": self.latency.total_us,
            "latency_bins": _written(self.latency.bins),
            "first_time": self.first_time,
            "last_time": self.last_time,
        }

    @classmethod
    def of(cls, row: Mapping[Any, Any]) -> Self:
        """Return what a row of `event_statistics` holds."""
        return cls(
            row["events"],
            row["priced"],
            Counter(row["cost_micros"]),
            Durations(row["latency_us"], _read(row["latency_bins"])),
            row["first_time"],
            row["last_time"],
        )

    def _see(self, first: datetime, last: datetime) -> None:
        if self.first_time is None or first < self.first_time:
            self.first_time = first
        if self.last_time is None or last > self.last_time:
            self.last_time = last


@dataclass(slots=True)
class DeliveryTally:
    """Deliveries and their attempts that were added up; while it is a change, numbers may be negative.

    Attributes:
        states: how many deliveries are in each state.
        attempts: the sum of theirs.
        failures: outcomes that are retried, dead or lost.
        elapsed: of outcomes that say how long a handler ran.
    """

    states: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STATES, 0))
    attempts: int = 0
    failures: int = 0
    elapsed: Durations = field(default_factory=Durations)

    def add_delivery(self, row: Mapping[Any, Any], times: int = 1) -> None:
        """Add what a row of `deliveries` says, or take it away."""
        self.states[row["state"]] += times
        self.attempts += row["attempts"] * times

    def add_outcome(self, row: Mapping[Any, Any], times: int = 1) -> None:
        """Add what a row of `outcomes` says of an attempt, or take it away."""
        self.failures += times * (row["state"] in FAILED)
        if row["elapsed_us"]:
            self.elapsed.add(row["elapsed_us"], times)

    def merge(self, other: DeliveryTally) -> None:
        """Add everything that another tally has."""
        for state, count in other.states.items():
            self.states[state] += count
        self.attempts += other.attempts
        self.failures += other.failures
        self.elapsed.merge(other.elapsed)

    def columns(self) -> dict[str, Any]:
        """Return it as columns of `delivery_statistics`."""
        return self.states | {
            "attempts": self.attempts,
            "failures": self.failures,
            "timed": self.elapsed.count,
            "elapsed_us": self.elapsed.total_us,
            "elapsed_bins": _written(self.elapsed.bins),
        }

    @classmethod
    def of(cls, row: Mapping[Any, Any]) -> Self:
        """Return what a row of `delivery_statistics` holds."""
        return cls(
            {state: row[state] for state in STATES},
            row["attempts"],
            row["failures"],
            Durations(row["elapsed_us"], _read(row["elapsed_bins"])),
        )


def _written(bins: Mapping[int, int]) -> str:
    return json.dumps({number: bins[number] for number in sorted(bins)})


def _read(bins: Mapping[str, int]) -> dict[int, int]:
    return dict(zip(map(int, bins), bins.values(), strict=True))
