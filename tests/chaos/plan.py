"""What a run publishes, told by its seed alone: the publisher follows it, and the checker expects it."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass

from events.event import Event

PROJECTS = 6
WAYS = ("single", "single", "many", "many", "many", "delayed", "outbox")
VARIABLE = "CHAOS_WITHOUT"
KINDS = ("causing", "many", "delayed", "outbox", "failing", "doomed", "long")
"""Kinds of work that a run can be made without, the largest first; the rest of the plan stays as it is."""


@dataclass(frozen=True)
class Brief:
    """One root event.

    Attributes:
        number: its place in the plan. project: its ordering key. shots: how many events it causes.
        way: how it is published: `single`, `many` (with its neighbours), `delayed`, `outbox`.
    """

    number: int
    project: str
    shots: int
    way: str
    seed: int

    @property
    def event_id(self) -> str:
        return f"EV-{self.seed}-{self.number:06d}"

    @property
    def event(self) -> Event:
        """The event; the same whenever it is asked for, so publishing it again is no other event."""
        payload = {"number": self.number, "shots": self.shots}
        return Event(
            event_id=self.event_id, project_id=self.project, type="BRIEF", actor="chaos", payload=payload,
            metadata={"cost": 0.01, "latency_ms": self.number % 100},
        )  # fmt: skip


def briefs(seed: int) -> Iterator[Brief]:
    """Iterate over the plan of a seed; it has no end."""
    rng, number = random.Random(seed), 0
    while True:
        project = f"P{rng.randrange(PROJECTS)}"
        shots, way = rng.randint(0, 3), rng.choice(WAYS)
        yield Brief(number, project, shots * has("causing"), way if has(way) else "single", seed)
        number += 1


def has(kind: str) -> bool:
    """Whether this run has a kind of work."""
    return kind not in os.environ.get(VARIABLE, "").split(",")


def is_doomed(number: int) -> bool:
    """Whether one agent fails on this brief until it is given up."""
    return number % 5 == 0 and has("doomed")


def is_long(number: int) -> bool:
    """Whether an agent handles this brief for longer than a lease."""
    return number % 40 == 7 and has("long")


def is_slow(number: int) -> bool:
    """Whether an agent handles this brief so slowly that a few of them always run, though for far less than a lease."""
    return number % 10 == 3 and has("long")


def fails_first(event_id: str) -> bool:
    """Whether agents fail on the first attempt at an event, when they have done all that they do."""
    return sum(event_id.encode()) % 4 == 0 and has("failing")


def fails_midway(event_id: str) -> bool:
    """Whether who writes to the database fails on the first attempt, in the middle of its transaction."""
    return sum(event_id.encode()) % 4 == 2 and has("failing")
