"""The report of a run, on one screen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tests.chaos.check import Violation
from tests.chaos.evidence import Evidence
from tests.chaos.tally import Tally


def screen(evidence: Evidence, tally: Tally, violations: Sequence[Violation], seconds: float) -> str:
    """Return what happened."""
    stage = evidence.stage
    quiet = "never" if stage.quiet_after_s is None else f"{stage.quiet_after_s:.1f} s after healing"
    starts = Counter({role.name: role.starts for role in stage.cast.roles.values()})
    database = stage.settings.database_url.partition(":")[0]
    lines = [
        f"seed {stage.seed}, {database}, {seconds:.0f} s; no process was kept from running for more than "
        f"{evidence.held_up_s:.1f} s",
        f"operations  {tally.acknowledged.total()} published ({_counts(tally.acknowledged)})",
        f"            {tally.events} events, {tally.commands} commands to Redis",
        f"faults      {tally.faults.total()} ({_counts(tally.faults)})",
        *(
            [f"            {tally.spared.total()} of which nothing came ({_counts(tally.spared)})"]
            if tally.spared
            else []
        ),
        f"deliveries  {tally.deliveries.total()} ({_counts(tally.deliveries)})",
        f"attempts    {tally.attempts.total()} ({_counts(tally.attempts)})",
        f"            {tally.repeats} repeats; {tally.blamed} given up because workers died beside them",
        f"starts      {_counts(starts)}",
        f"lost        {tally.lost}, of which Redis was allowed to forget {tally.allowed}; doubled {tally.doubled}",
        f"recovery    {tally.recovery_s:.1f} s at worst; at rest {quiet}",
        "verdict     every promise held" if not violations else f"verdict     {len(violations)} BROKEN:",
        *(f"  - [{violation.rule}] {violation.says}" for violation in violations),
    ]
    return "\n".join(lines)


def _counts(of: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in of.most_common() if count)
