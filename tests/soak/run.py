"""One soak, from what is asked for to what came of it."""

from __future__ import annotations

import itertools
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.cast import PYTHON
from tests.chaos.faults import Step, script
from tests.chaos.piece import Piece
from tests.chaos.stage import Stage, stage
from tests.soak import idle
from tests.soak.app import AGENTS, EFFECTS, TOCK_EVERY
from tests.soak.publisher import Progress
from tests.soak.samples import KINDS, Samples, take
from tests.soak.slopes import Trend, trends
from tests.soak.totals import violations

MILD = ("kill worker", "kill archiver", "kill clients", "kill valkey")
FAULTS_PER_SOAK = 16
LEAST_PEACE_S = 40.0
"""Between faults: a killed worker's deliveries are handled again within two leases."""
SETTINGS = {"lease_s": 15.0, "dedupe_s": 60.0, "history_margin_s": 10.0}
"""A lease so long that processes ask what they ask by default; ids and history kept so briefly that Redis is full of
them, and flat, after a minute: by default it would grow for a day."""
EVENTS_PER_TICK = 1 + 2 / TOCK_EVERY
STUCK_S = 300.0
PATIENCE = 2.0
MOST_IDLE_COMMANDS = {"worker": 3.0, "application": 3.0, "archiver": 12.0}
"""A second, of processes of a kind, to one decimal. Those that handle events wait for them; an archiver looks, at two
streams, and at what is due."""


@dataclass(frozen=True)
class Soak:
    """What is asked for.

    Attributes:
        events: in all, those that others cause included. per_second: likewise. idle_s: how long it is left idle.
    """

    events: int = 1_000_000
    per_second: float = 500.0
    seed: int = 1
    database: str = "sqlite"
    idle_s: float = 120.0

    @property
    def ticks(self) -> int:
        """How many events are published."""
        return max(1, round(self.events / EVENTS_PER_TICK))

    @property
    def seconds(self) -> float:
        """How long publishing takes where nothing goes wrong."""
        return self.events / self.per_second

    @property
    def every_s(self) -> float:
        """Between samples."""
        return min(5.0, max(1.0, self.seconds / 200))

    @property
    def warm_up_s(self) -> float:
        """Of each process: what it imports, and what its pools and caches take, is no growth."""
        return min(120.0, max(10.0, self.seconds / 10))

    @property
    def piece(self) -> Piece:
        """What is played."""

        def publisher(folder: Path, seed: int) -> list[str]:
            per_second = self.per_second / EVENTS_PER_TICK
            return [PYTHON, "-m", "tests.soak.publisher", str(folder), str(seed), str(self.ticks), f"{per_second:g}"]

        return Piece("tests.soak.app:bus", AGENTS, EFFECTS, publisher, SETTINGS, is_proxied=False)


@dataclass(frozen=True)
class Soaked:
    """What came of it.

    Attributes:
        acknowledged: published events. seconds: that publishing took. faults: by kind.
        trends: of every measure. idle: commands a second of each process, by its kind and number.
        violations: of totals, sentences.
    """

    soak: Soak
    acknowledged: int
    seconds: float
    faults: dict[str, int]
    trends: tuple[Trend, ...]
    idle: dict[str, float]
    violations: tuple[str, ...]

    @property
    def growing(self) -> list[Trend]:
        """What grows more than it may."""
        return [trend for trend in self.trends if trend.grows]

    @property
    def too_brief(self) -> list[Trend]:
        """What was seen for too short a time to be judged."""
        return [trend for trend in self.trends if not trend.is_judged]

    @property
    def restless(self) -> dict[str, float]:
        """Processes that ask more of Redis, when idle, than they may."""
        most = MOST_IDLE_COMMANDS
        return {
            name: rate
            for name, rate in self.idle.items()
            if name.split()[0] in most and round(rate, 1) > most[name.split()[0]]
        }

    @property
    def silent(self) -> list[str]:
        """Processes that asked nothing of Redis, although their kind does: they do not work, or were not found."""
        return [name for name, rate in self.idle.items() if name.split()[0] in MOST_IDLE_COMMANDS and rate == 0]

    @property
    def holds(self) -> bool:
        return not (self.growing or self.restless or self.silent or self.violations)


def perform(soak: Soak, folder: Path) -> Soaked:
    """Do a soak.

    Args:
        folder: for logs and data, some two kilobytes an event.
    """
    folder.chmod(0o755)
    with stage(folder / "run", soak.seed, database=soak.database, piece=soak.piece, patience=PATIENCE) as now:
        samples, progress = Samples(), Progress(now.folder)
        now.wait_for_curtain()
        began = time.monotonic()
        _soak(soak, now, samples, progress)
        seconds = time.monotonic() - began
        now.heal()
        now.cast.end_publishing()
        now.wait_quiet()
        asked = _idle(now, soak.idle_s) if now.quiet_after_s is not None else {}
        per_second = progress.count * EVENTS_PER_TICK / seconds
        return Soaked(
            soak, progress.count, seconds, dict(Counter(one.name for one in now.suffered)),
            tuple(trends(samples, soak.warm_up_s, per_second)), asked, tuple(_broken(soak, now, progress.count)),
        )  # fmt: skip


def _soak(soak: Soak, now: Stage, samples: Samples, progress: Progress) -> None:
    """Let everything be published, sample, and do harm, until nothing is left to publish, or nothing moves."""
    steps = faults(soak)
    due, step = next(steps)
    began = moved = time.monotonic()
    seen = -1
    while (count := progress.count) < soak.ticks and time.monotonic() - moved < STUCK_S:
        if count != seen:
            seen, moved = count, time.monotonic()
        take(now, samples, time.monotonic())
        now.play(soak.every_s)
        if time.monotonic() - began >= due:
            now.suffer(step)
            due, step = next(steps)


def faults(soak: Soak) -> Iterator[tuple[float, Step]]:
    """Iterate over the faults of a seed, with the seconds after which each is done; the last never is."""
    rng = random.Random(f"soak:{soak.seed}")
    peace_s = max(LEAST_PEACE_S, soak.seconds / (FAULTS_PER_SOAK + 1))
    due = peace_s
    for step in itertools.islice(script(soak.seed, soak.database, MILD), FAULTS_PER_SOAK):
        yield due, step
        due += peace_s * rng.uniform(0.7, 1.3)
    while True:
        yield float("inf"), step


def _idle(now: Stage, seconds: float) -> dict[str, float]:
    """Return how many commands a second each process sends while there is nothing to do."""
    names = {
        pid: f"{kind} {number}"
        for kind in KINDS
        for number, pid in enumerate(sorted(now.cast.pids(kind)), start=1)
    }  # fmt: skip
    began = time.monotonic()
    sent_by_port = idle.commands_by_port(now.redis, lambda: now.play(seconds))
    passed = time.monotonic() - began
    sent = idle.commands_by_process(sent_by_port, idle.owners_of_ports(names))
    return {name: sent[pid] / passed for pid, name in names.items()}


def _broken(soak: Soak, now: Stage, acknowledged: int) -> Iterator[str]:
    if acknowledged < soak.ticks:
        yield f"Only {acknowledged} of {soak.ticks} events were published: for {STUCK_S:.0f} s none was acknowledged."
    yield from violations(now, acknowledged)
