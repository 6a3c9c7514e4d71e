"""`python -m tests.chaos`: torment a real bus with seeded faults, heal, and tell whether every promise held."""

from __future__ import annotations

import argparse
import signal
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

from tests.chaos import fixed, table
from tests.chaos.faults import FAULTS
from tests.chaos.mutations import MUTATIONS
from tests.chaos.plan import KINDS
from tests.chaos.proofs import prove
from tests.chaos.run import Run, Verdict, perform
from tests.chaos.shrink import Shrinker


def main() -> int:
    """Return 0 when all promises held (or all that was to be caught was), 1 otherwise."""
    asked = _parser().parse_args()
    signal.signal(signal.SIGTERM, _end)  # else what runs on the stage would outlive it
    if asked.mutations is not None:
        return 0 if prove(asked.mutations, perform) else 1
    if asked.table:
        runs = table.runs_for(asked.seeds or [asked.seed], asked.minutes, asked.databases)
        return 0 if table.make(runs, perform) else 1
    judge = partial(_holds, keep=asked.keep, shrink_s=asked.shrink_minutes * 60)
    if asked.fixed:
        return 0 if fixed.holds(judge, perform) else 1
    return 0 if all([judge(run) for run in _runs(asked)]) else 1


def _end(*_: object) -> None:
    raise SystemExit(1)


def _runs(asked: argparse.Namespace) -> list[Run]:
    steps = None if asked.steps is None else tuple(asked.steps)
    run = Run(
        0, asked.minutes, asked.database, tuple(asked.only), steps, tuple(asked.without), asked.mutation, asked.patience
    )
    return [replace(run, seed=seed) for seed in asked.seeds or [asked.seed]]


def _holds(run: Run, *, keep: bool, shrink_s: float) -> bool:
    """Do a run, and say all that is to be said of it."""
    folder = Path(tempfile.mkdtemp(prefix="eventbus-chaos-")) if keep else None
    verdict = perform(run, folder)
    print(verdict.screen, flush=True)
    if folder:
        print(f"Logs and journals: {folder}")
    if not verdict.violations:
        return True
    print(f"Again: {run.command}", flush=True)
    if shrink_s:
        _shrink(verdict, shrink_s)
    return False


def _shrink(failed: Verdict, budget_s: float) -> None:
    """Print the shortest history that fails, and the command that repeats it."""
    print(f"Looking for a shorter history, for at most {budget_s:.0f} s:", flush=True)
    smallest = Shrinker(failed, perform, budget_s, partial(print, " ", flush=True)).shrink()
    if smallest is None:
        print("It did not come again: it is a race, or the machine was short of time. The seed is kept above.")
        return
    steps = ", ".join(f"{step.number} {step.name}" for step in smallest.run.chosen(0)) or "no fault at all"
    print(f"The shortest that failed: {steps}\n{smallest.screen}\nAgain: {smallest.run.command}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    add = parser.add_argument
    add("--seed", type=int, default=0, help="of the plan and the faults")
    add("--seeds", type=int, nargs="*", default=[], help="several, one run after another")
    add("--minutes", type=float, default=1.0, help="of faults, before it heals")
    add("--database", choices=("sqlite", "postgres"), default="sqlite")
    add("--only", nargs="*", choices=sorted(FAULTS), default=[], metavar="FAULT", help=", ".join(FAULTS))
    add("--steps", nargs="*", type=int, metavar="NUMBER", help="these faults of the seed's script, and no others")
    add("--without", nargs="*", choices=KINDS, default=[], metavar="WORK", help=", ".join(KINDS))
    add("--mutation", choices=sorted(MUTATIONS), default="", help="break the build first")
    add("--patience", type=float, default=1.0, help="how many times as long it waits for quiet")
    add("--shrink-minutes", type=float, default=10.0, help="to look for a shorter history that fails; 0: do not")
    add("--keep", action="store_true", help="keep logs and journals, and say where")
    add("--mutations", nargs="*", choices=sorted(MUTATIONS), metavar="MUTATION", help="prove that each is caught")
    add("--fixed", action="store_true", help="what is run at every change: fixed seeds, two broken builds")
    add("--table", action="store_true", help="each fault alone and all together; into docs/reliability.md")
    add("--databases", nargs="*", choices=("sqlite", "postgres"), default=["sqlite", "postgres"], help="of --table")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
