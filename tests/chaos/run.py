"""One run, from its words on the command line to its verdict."""

from __future__ import annotations

import os
import shlex
import shutil
import tempfile
import time
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from tests.chaos import plan
from tests.chaos.check import Violation, violations
from tests.chaos.evidence import Evidence
from tests.chaos.faults import Step, script
from tests.chaos.probe import probe
from tests.chaos.report import screen
from tests.chaos.stage import Stage, stage
from tests.chaos.tally import Tally, counted

PRELUDE_S = 1.0
MORE_PATIENCE = 3.0


@dataclass(frozen=True)
class Run:
    """What is asked for; two equal ones do the same to the same work, but for what the machine makes of it.

    Attributes:
        minutes: of work before it heals: faults are begun until then. With `steps` it may end later.
        only: kinds of faults; all when empty. steps: numbers of the script's steps; those that fit when None.
        without: kinds of work that are left out. patience: how much longer than usual it waits for quiet.
    """

    seed: int = 0
    minutes: float = 1.0
    database: str = "sqlite"
    only: tuple[str, ...] = ()
    steps: tuple[int, ...] | None = None
    without: tuple[str, ...] = ()
    mutation: str = ""
    patience: float = 1.0

    @property
    def command(self) -> str:
        """The command that repeats it."""
        words = ["--seed", str(self.seed), "--minutes", f"{self.minutes:g}", "--database", self.database]
        for option, values in (("--only", self.only), ("--steps", self.steps), ("--without", self.without)):
            words += [option, *map(str, values)] if values or (option == "--steps" and values is not None) else []
        words += ["--mutation", self.mutation] if self.mutation else []
        words += ["--patience", f"{self.patience:g}"] if self.patience != 1 else []
        return shlex.join(["python", "-m", "tests.chaos", *words])

    def chosen(self, most: int) -> list[Step]:
        """Return the steps asked for, or the first so many."""
        steps = script(self.seed, self.database, self.only)
        if self.steps is None:
            return list(islice(steps, most))
        wanted = set(self.steps)
        return [step for step in islice(steps, max(wanted, default=-1) + 1) if step.number in wanted]


@dataclass(frozen=True)
class Verdict:
    """What came of a run.

    Attributes:
        run: as it was, its steps named. violations: what did not hold. screen: the report. tally: its numbers.
    """

    run: Run
    violations: tuple[Violation, ...]
    tally: Tally
    screen: str = field(repr=False)

    @property
    def rules(self) -> frozenset[str]:
        """The rules that were broken."""
        return frozenset(violation.rule for violation in self.violations)


def perform(run: Run, keep: Path | None = None) -> Verdict:
    """Do a run.

    Args:
        keep: where logs and journals stay; they go when the run is over unless given.
    """
    folder = Path(tempfile.mkdtemp(prefix="eventbus-chaos-")) if keep is None else keep
    folder.chmod(0o755)
    os.environ[plan.VARIABLE] = ",".join(run.without)
    began = time.monotonic()
    try:
        with stage(
            folder / "run", run.seed, database=run.database, mutation=run.mutation, patience=run.patience
        ) as now:
            _play(run, now)
            evidence = Evidence(now)
            found, tally = tuple(violations(evidence)), counted(evidence)
            done = replace(run, steps=tuple(dict.fromkeys(one.number for one in now.suffered)))
            return Verdict(done, found, tally, screen(evidence, tally, found, time.monotonic() - began))
    finally:
        if keep is None:
            shutil.rmtree(folder, ignore_errors=True)


def _play(run: Run, now: Stage) -> None:
    now.wait_for_curtain()
    now.play(PRELUDE_S)
    until = time.monotonic() + run.minutes * 60
    for step in run.chosen(most=10_000):
        if run.steps is None and time.monotonic() >= until:
            break
        now.suffer(step)
        now.play(step.pause_s)
    now.play(until - time.monotonic())
    now.heal()
    now.cast.end_publishing()
    if _rests(run, now):
        probe(now)
        _rests(run, now)


def _rests(run: Run, now: Stage) -> bool:
    """Wait for quiet; on the same stage three times as long, before it counts that there is none.

    What a broken build has lost never ends, and need not be waited for.
    """
    return now.wait_quiet() or (not run.mutation and now.wait_quiet(MORE_PATIENCE))
