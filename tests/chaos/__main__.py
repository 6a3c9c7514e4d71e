"""`python -m tests.chaos`: torment a real bus with seeded faults, heal, and tell whether every promise held."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.chaos.check import Checker
from tests.chaos.faults import FAULTS
from tests.chaos.mutations import MUTATIONS
from tests.chaos.stage import Stage, stage


def main() -> int:
    """Return 1 when a promise broke, 0 when all held."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="of the plan and the faults")
    parser.add_argument("--minutes", type=float, default=1.0, help="of faults, before it heals")
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument(
        "--only", nargs="*", choices=sorted(FAULTS), default=[], metavar="FAULT", help=", ".join(FAULTS)
    )
    parser.add_argument("--mutation", choices=sorted(MUTATIONS), default="", help="break the build first")
    parser.add_argument("--keep", action="store_true", help="keep logs and journals, and say where")
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="eventbus-chaos-"))
    folder.chmod(0o755)
    began = time.monotonic()
    with stage(folder / "run", asked.seed, database=asked.database, mutation=asked.mutation) as now:
        now.play(3.0)
        now.torment(asked.minutes * 60, asked.only)
        now.heal()
        now.cast.end_publishing()
        now.wait_quiet()
        checker = Checker(now)
        violations = checker.violations()
        print(report(now, checker, violations, time.monotonic() - began))
    if violations:
        print(f"Again: {' '.join(['python -m tests.chaos', *sys.argv[1:]])}")
    if asked.keep:
        print(f"Logs and journals: {folder}")
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if violations else 0


def report(stage: Stage, checker: Checker, violations: list[str], seconds: float) -> str:
    """Return what happened, on one screen."""
    ways = Counter(line["way"] for line in checker.acknowledged.values())
    states = Counter(delivery["state"] for delivery in checker.deliveries)
    attempts = Counter(outcome["state"] for outcome in checker.outcomes)
    quiet = "never" if stage.quiet_after_s is None else f"{stage.quiet_after_s:.1f} s after healing"
    starts = ", ".join(f"{role.name} {role.starts}" for role in stage.cast.roles.values())
    lines = [
        f"seed {stage.seed}, {stage.settings.database_url.partition(':')[0]}, {seconds:.0f} s",
        f"published   {sum(ways.values())} ({_counts(ways)})",
        f"events      {len(checker.events)}   deliveries {len(checker.deliveries)} ({_counts(states)})",
        f"attempts    {_counts(attempts)}",
        f"faults      {sum(stage.suffered.values())} ({_counts(stage.suffered)})",
        f"starts      {starts}",
        f"at rest     {quiet}",
        "verdict     every promise held" if not violations else f"verdict     {len(violations)} BROKEN:",
        *(f"  - {violation}" for violation in violations),
    ]
    return "\n".join(lines)


def _counts(of: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in of.most_common())


if __name__ == "__main__":
    raise SystemExit(main())
