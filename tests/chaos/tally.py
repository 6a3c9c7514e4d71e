"""The numbers of a run: how much was done, how often again, what was lost, and how long anything took to recover."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from tests.chaos.evidence import Evidence


@dataclass
class Tally:
    """Of one run, or of several added up.

    Attributes:
        acknowledged: published events, by way. commands: of all processes to Redis.
        deliveries: by state. attempts: outcomes by state. repeats: attempts beyond the first of their delivery.
        blamed: deliveries that were given up because workers died while they ran, though it was not their doing.
        faults: by kind. spared: those of which nothing came.
        lost: acknowledged and gone. allowed: those of them that Redis was allowed to forget.
        doubled: effects that are there more than once.
        recovery_s: the longest from the end of a fault until a process that hears everything had heard whatever
            was acknowledged before that end.
    """

    acknowledged: Counter[str] = field(default_factory=Counter)
    commands: int = 0
    events: int = 0
    deliveries: Counter[str] = field(default_factory=Counter)
    attempts: Counter[str] = field(default_factory=Counter)
    repeats: int = 0
    blamed: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    spared: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    allowed: int = 0
    doubled: int = 0
    recovery_s: float = 0.0

    def add(self, other: Tally) -> None:
        """Add another run's numbers."""
        for name, value in vars(other).items():
            mine = getattr(self, name)
            if isinstance(mine, Counter):
                mine.update(value)
            else:
                setattr(self, name, max(mine, value) if name == "recovery_s" else mine + value)


def counted(evidence: Evidence) -> Tally:
    """Return a run's numbers."""
    stage = evidence.stage
    gone = [event_id for event_id in [*evidence.acknowledged, *stage.deadly] if not evidence.stored[event_id]]
    first = {(outcome["event_position"], outcome["subscriber"]) for outcome in evidence.outcomes}
    return Tally(
        acknowledged=Counter(line["way"] for line in evidence.acknowledged.values())
        + Counter(deadly=len(stage.deadly)),
        commands=stage.proxy.requests,
        events=len(evidence.events),
        deliveries=Counter(delivery["state"] for delivery in evidence.deliveries),
        attempts=Counter(outcome["state"] for outcome in evidence.outcomes),
        repeats=len(evidence.outcomes) - len(first),
        blamed=sum(subscriber != "Victim" for _, subscriber in evidence.blamed),
        faults=Counter(one.name for one in stage.suffered if one.is_done),
        spared=Counter(one.name for one in stage.suffered if not one.is_done),
        lost=len(gone),
        allowed=sum(event_id in evidence.lost for event_id in gone),
        doubled=sum(count > 1 for count in Counter(effect["event_id"] for effect in evidence.effects).values()),
        recovery_s=_recovery_s(evidence),
    )


def _recovery_s(evidence: Evidence) -> float:
    heard: dict[str, float] = {}
    for line in evidence.journal:
        if line["word"] == "heard":
            heard.setdefault(line["event"], line["at"])
    worst = 0.0
    for fault in evidence.stage.suffered:
        for event_id, line in evidence.acknowledged.items():
            if line["at"] <= fault.ended:
                worst = max(worst, heard.get(event_id, 0.0) - fault.ended)
    return worst
