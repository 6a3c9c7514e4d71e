"""What is run at every change: seeds that once found something, and two broken builds; four minutes in all."""

from __future__ import annotations

from collections.abc import Callable

from tests.chaos.proofs import prove
from tests.chaos.run import Run, Verdict

MUTATIONS = ("lost_retry", "inbox_outside")
RUNS = (
    Run(seed=157, minutes=0.35, steps=tuple(range(6))),
    Run(seed=65, minutes=0.35, database="postgres", steps=tuple(range(6))),
    # A join went early, and a dead letter was made of what a delivery had returned at another place (2 to 6).
    Run(seed=5, minutes=0.12, only=("fail over behind",)),
    Run(seed=6, minutes=0.12, only=("fail over behind",)),
    Run(seed=11, minutes=0.15, only=("flush",)),
    Run(seed=21, minutes=0.15, only=("deadly", "kill"), steps=tuple(range(4))),
)
"""Those with steps have each kind of fault that FORCED names; where a seed has found a mistake, what it was."""
FORCED = frozenset(("kill", "deadly", "freeze", "tear", "slow", "disk full", "fail over", "deadlock", "end database"))


def holds(judge: Callable[[Run], bool], perform: Callable[[Run], Verdict]) -> bool:
    """Return whether every promise held in all runs, and each broken build was caught.

    That the whole build is not, the runs before tell.
    """
    return all([*(judge(run) for run in RUNS), prove(MUTATIONS, perform, has_control=False)])
