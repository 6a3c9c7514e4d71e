"""Proof that the checker sees: each broken build is caught by the run that is meant for it, within a minute.

What catches a mutation is what it breaks: one that loses what a dead worker held needs workers that die, and one that
trims too much needs archivers that fall behind. So each has its own seed, faults and length.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from tests.chaos.mutations import MUTATIONS
from tests.chaos.run import Run, Verdict

SHORT = 0.3
"""Patience: what a broken build has lost never ends, and need not be waited for."""
TARGETS: dict[str, Run] = {
    "ack_before_handling": Run(seed=1, minutes=0.2, only=("kill",), patience=SHORT),
    "no_fencing": Run(seed=2, minutes=0.3, only=("freeze",), patience=SHORT),
    "trim_without_archive": Run(seed=3, minutes=0.1, only=("freeze", "kill"), patience=SHORT),
    "lease_never_renewed": Run(seed=4, minutes=0.2, only=("flush scripts",), patience=SHORT),
    "publish_not_atomic": Run(seed=5, minutes=0.1, only=("flush scripts",), patience=SHORT),
    "lost_retry": Run(seed=6, minutes=0.1, only=("flush scripts",), patience=SHORT),
    "double_release": Run(seed=7, minutes=0.1, only=("flush scripts",), patience=SHORT),
    "inbox_outside": Run(seed=8, minutes=0.2, only=("kill",), patience=SHORT),
}
"""The run that catches each mutation."""
SLOW = "comes to rest"
"""This rule alone is no proof: a busy machine breaks it."""
TRIES = 3
"""Seeds from the first on: whether a race is lost is for the machine to say."""


def prove(names: Iterable[str], perform: Callable[[Run], Verdict]) -> bool:
    """Run each mutation until it is caught, print a line for each, and return whether all were; none named: all."""
    print(f"{'mutation':<22}{'caught':<9}{'seconds':<9}{'try':<5}by", flush=True)
    return all([_proved(name, perform) for name in names or MUTATIONS])


def _proved(name: str, perform: Callable[[Run], Verdict]) -> bool:
    for number in range(TRIES):
        began = time.monotonic()
        verdict = perform(run_of(name, number))
        seconds = time.monotonic() - began
        if caught := verdict.rules - {SLOW}:
            break
    print(
        f"{name:<22}{'yes' if caught else 'NO':<9}{seconds:<9.0f}{number + 1:<5}{', '.join(sorted(verdict.rules))}",
        flush=True,
    )
    return bool(caught)


def run_of(name: str, number: int = 0) -> Run:
    """Return a mutation's run; by its number, one with another seed."""
    target = TARGETS[name]
    return replace(target, mutation=name, seed=target.seed + 100 * number)
