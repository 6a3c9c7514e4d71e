"""Harm to processes: killed, frozen, replaced by another release, told another time, or killed by what they handle."""

from __future__ import annotations

import random
import signal
import time
from typing import TYPE_CHECKING

from events.event import Event
from tests.chaos.harm import Spared
from tests.chaos.levers import AHEAD

if TYPE_CHECKING:
    from tests.chaos.stage import Stage

KINDS = ("worker", "worker", "worker", "archiver", "application", "publisher", "fleet")
GIVEN_UP_S = 20.0
FURTHEST_S = 15.0
"""How far clocks jump: a retry that was put off by a clock that was ahead comes that much later."""


def kill(stage: Stage, rng: random.Random, kinds: tuple[str, ...] = KINDS) -> None:
    """SIGKILL a process of any of these kinds."""
    stage.cast.signal(_some_pid(stage, rng, kinds), signal.SIGKILL)


def freeze(stage: Stage, rng: random.Random) -> None:
    """SIGSTOP a process for longer than a lease, then SIGCONT."""
    _freeze(stage, _some_pid(stage, rng, KINDS[:-1]), rng.uniform(1.2, 2.0))


def freeze_worker(stage: Stage, rng: random.Random) -> None:
    """The same with a worker process, for so long that others have ended what it had."""
    _freeze(stage, _some_pid(stage, rng, ("worker",)), rng.uniform(1.8, 2.4))


def freeze_supervisor(stage: Stage, rng: random.Random) -> None:
    """The same with the supervisor: its worker processes go on, and nobody brings back one that dies."""
    _freeze(stage, _some_pid(stage, rng, ("fleet",)), rng.uniform(1.2, 2.0))


def deploy(stage: Stage, rng: random.Random) -> None:
    """SIGHUP the supervisor: every worker process is replaced, one after another."""
    stage.cast.signal(_some_pid(stage, rng, ("fleet",)), signal.SIGHUP)


def release(stage: Stage, rng: random.Random) -> None:
    """Roll out the other release of the application: for a while both run."""
    stage.levers.pull(release=3 - stage.levers.at.release)
    deploy(stage, rng)
    stage.play(rng.uniform(0.5, 3.0))
    for pid in stage.cast.pids("application"):
        stage.cast.signal(pid, signal.SIGTERM)


def jump_clocks(stage: Stage, rng: random.Random) -> None:
    """Let the clock that positions come from, and those of all processes, jump forth and back, not together."""
    ahead = f"{stage.keys.prefix}{AHEAD}"
    for _ in range(rng.randint(1, 3)):
        stage.levers.pull(ahead_s=rng.uniform(-FURTHEST_S, FURTHEST_S))
        stage.redis.set(ahead, int(rng.uniform(-FURTHEST_S, FURTHEST_S) * 1e6))
        stage.play(rng.uniform(0.3, 1.5))
    stage.levers.pull(ahead_s=0.0)
    stage.redis.delete(ahead)


def publish_deadly(stage: Stage, rng: random.Random) -> None:
    """Publish an event whose handler kills its process, whichever it is, and wait until it is given up.

    One after another: what runs beside three killers is blamed for the deaths of three workers.
    """
    number = len(stage.deadly)
    event = Event(event_id=f"EV-{stage.seed}-deadly-{number}", project_id="P0", type="DEADLY", actor="chaos")
    letters = stage.keys("dead", "Victim")
    before = stage.redis.xlen(letters)
    if not stage.publish(event):
        raise Spared("Nobody acknowledged what kills.")
    stage.deadly.append(event.event_id)
    until = time.monotonic() + GIVEN_UP_S
    while time.monotonic() < until and stage.redis.xlen(letters) == before:
        stage.play(0.1)


def _some_pid(stage: Stage, rng: random.Random, kinds: tuple[str, ...] = KINDS) -> int:
    """Return a living process of one of these kinds; with none, the fault does nothing."""
    kind = rng.choice(kinds)
    if pids := stage.cast.pids(kind):
        return rng.choice(pids)
    raise Spared(f"No {kind} lives.")


def _freeze(stage: Stage, pid: int, leases: float) -> None:
    stage.cast.signal(pid, signal.SIGSTOP)
    stage.play(stage.lease_s * leases)
    stage.cast.signal(pid, signal.SIGCONT)
