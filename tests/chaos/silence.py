"""A rule about leases: a delivery is taken from a worker that something had silenced shortly before, and from no other.

A process is silenced when it is killed or stopped, when the machine has no time for it or for the driver with its
proxy, and when a fault cuts everybody off.
"""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tests.chaos.faults import FAULTS
from tests.chaos.harm.processes import FURTHEST_S
from tests.chaos.life import pid_of

if TYPE_CHECKING:
    from tests.chaos.evidence import Evidence, Row

LEASES = 4
"""A lease runs out, after a gap in reaping everybody gets another, and each is looked at in turns: within so many."""
Span = tuple[float, float]


def lapsed_of_themselves(evidence: Evidence) -> Iterator[str]:
    """No lease runs out of a worker that nothing has silenced."""
    owners = Counter(one["worker"] for one in evidence.outcomes if one["state"] == "lost" and not _may(evidence, one))
    for owner, lost in owners.items():
        yield f"{lost} deliveries were taken from {owner}, which nothing had silenced."


def _may(evidence: Evidence, lost: Row) -> bool:
    """Whether a lease may have run out by the moment when that was seen.

    The moment is that of the outcome's position. Where clocks were moved it may be off by as much.
    """
    stage, pid = evidence.stage, pid_of(lost["worker"])
    seen = lost["position"] / 1e6 - evidence.ahead_of_monotonic_s
    off = FURTHEST_S if any(one.name == "clock" for one in stage.suffered) else 0.0
    since, until = seen - off - LEASES * stage.lease_s, seen + off
    spans = [*_stopped(evidence, pid), *_late(evidence, pid), *_cut_off(evidence)]
    return any(began <= until and ended >= since for began, ended in spans)


def _cut_off(evidence: Evidence) -> Iterator[Span]:
    return ((one.began, one.ended) for one in evidence.stage.suffered if FAULTS[one.name].silences)


def _stopped(evidence: Evidence, pid: int) -> Iterator[Span]:
    """From SIGSTOP to SIGCONT; whoever was killed, or has handled what kills, is silent for good."""
    stopped = None
    for one in (one for one in evidence.stage.cast.signalled if one.pid == pid):
        if one.number == signal.SIGKILL:
            yield one.at, float("inf")
        elif one.number == signal.SIGSTOP:
            stopped = one.at
        elif one.number == signal.SIGCONT and stopped is not None:
            yield stopped, one.at
            stopped = None
    if stopped is not None:
        yield stopped, float("inf")
    yield from ((line["at"], float("inf")) for line in evidence.lines_of[pid] if line["word"] == "dies")


def _late(evidence: Evidence, pid: int) -> Iterator[Span]:
    """When a worker, or the driver, was kept from running for more than a quarter of a lease.

    What a worker felt while it was still starting says nothing of leases: it had none.
    """
    lines = evidence.lines_of[pid]
    began = min((line["at"] for line in lines if line["word"] != "held up"), default=0.0)
    felt = [(line["at"], float(line["seconds"])) for line in lines if line["word"] == "held up" and line["at"] > began]
    for at, seconds in [*felt, *evidence.stage.held_up]:
        if seconds > evidence.stage.lease_s / 4:
            yield at - seconds, at
