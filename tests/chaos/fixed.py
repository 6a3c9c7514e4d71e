"""What is run at every change: seeds that once found something, and two broken builds; four minutes in all."""

from __future__ import annotations

from collections.abc import Callable

from tests.chaos.proofs import prove
from tests.chaos.run import Run, Verdict

MUTATIONS = ("lost_retry", "inbox_outside")
RUNS = (
    Run(seed=1, minutes=0.6),
    Run(seed=2, minutes=0.5, database="postgres"),
    # A join went early, and a dead letter was made of what a delivery had returned at another place (2 to 6).
    Run(seed=5, minutes=0.12, only=("fail over behind",)),
    Run(seed=6, minutes=0.12, only=("fail over behind",)),
    Run(seed=11, minutes=0.15, only=("flush",)),
    Run(seed=13, minutes=0.15, only=("deadly", "kill")),
)
"""Where a seed has found a mistake, what it was."""


def holds(judge: Callable[[Run], bool], perform: Callable[[Run], Verdict]) -> bool:
    """Return whether every promise held in all runs, and each broken build was caught."""
    return all([*(judge(run) for run in RUNS), prove(MUTATIONS, perform)])
