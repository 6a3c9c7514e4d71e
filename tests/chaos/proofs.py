"""Proof that the checker sees: each broken build is caught by the run that is meant for it, by the rule that is meant.

What catches a mutation is what it breaks. Seven of the eight are caught by the work alone: what they break happens
so often in it that no fault needs to come at the right moment. Beside each target stands what makes the harm happen,
and how often; at 60 briefs a second, which are some 840 deliveries. The same run of the whole build must be clean.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from tests.chaos.mutations import MUTATIONS
from tests.chaos.run import Run, Verdict

SHORT = 0.2
"""Patience: what a broken build has lost never ends, and need not be waited for."""
WITHIN_S = 60.0
NO_FAULT: tuple[int, ...] = ()


@dataclass(frozen=True)
class Target:
    """What catches a mutation: a rule, in a run."""

    rule: str
    run: Run


TARGETS: dict[str, Target] = {
    # Every settlement is refused, because nobody has a lease: nothing ends, and Redis has nothing of it.
    "ack_before_handling": Target("ended once", Run(seed=1, minutes=0.1, steps=NO_FAULT)),
    # A frozen worker's handlers that slept on end in the moment it thaws, and are settled before its keeper can hear
    # that others had them. At 0.4 s for a tenth of the briefs and 5 s for a fortieth, each worker has two at any time,
    # besides what was on its way; frozen for so long that others have ended them. Six freezes.
    "no_fencing": Target("ended once", Run(seed=36, minutes=0.35, only=("freeze worker",))),
    # What is published between an archiver's reading and its telling is trimmed: a few events each time.
    "trim_without_archive": Target("stored once", Run(seed=3, minutes=0.1, steps=NO_FAULT)),
    # Every fortieth brief takes more than two leases: a dozen in this time.
    "lease_never_renewed": Target("leases of the living hold", Run(seed=4, minutes=0.2, steps=NO_FAULT)),
    # One event in fifty has no deliveries: some 40 of 2,000.
    "publish_not_atomic": Target("ended once", Run(seed=5, minutes=0.1, steps=NO_FAULT)),
    # A quarter of the shots and images fail at first, each in two or three agents: hundreds.
    "lost_retry": Target("ended once", Run(seed=6, minutes=0.1, steps=NO_FAULT)),
    # A quarter of Keeper's shots fail at first, and half of them have a brother who waits behind.
    "double_release": Target("in order", Run(seed=7, minutes=0.1, steps=NO_FAULT)),
    # A quarter of Biller's images fail between asking the inbox and committing the effect.
    "inbox_outside": Target("effects once", Run(seed=8, minutes=0.1, steps=NO_FAULT)),
}


def prove(names: Iterable[str], perform: Callable[[Run], Verdict], *, has_control: bool = True) -> bool:
    """Run each mutation and its control, print a line for each, and return whether all were caught.

    Args:
        names: of mutations; none: all. has_control: whether the same run of the whole build must be clean.
    """
    print(f"{'mutation':<22}{'caught':<9}{'seconds':<9}{'whole build':<13}by", flush=True)
    return all([_proved(name, perform, has_control) for name in names or MUTATIONS])


def _proved(name: str, perform: Callable[[Run], Verdict], has_control: bool) -> bool:
    target, began = TARGETS[name], time.monotonic()
    verdict = perform(replace(target.run, mutation=name, patience=SHORT))
    seconds = time.monotonic() - began
    is_caught = target.rule in verdict.rules and seconds <= WITHIN_S
    whole = perform(target.run) if has_control else None
    is_clean = whole is None or not whole.violations
    print(
        f"{name:<22}{'yes' if is_caught else 'NO':<9}{seconds:<9.0f}"
        f"{'not run' if whole is None else 'clean' if is_clean else 'BROKEN':<13}"
        f"{target.rule} ({', '.join(sorted(verdict.rules - {target.rule})) or 'alone'})",
        flush=True,
    )
    if not is_caught:
        print(verdict.screen, flush=True)
    if whole is not None and not is_clean:
        print(whole.screen, flush=True)
    return is_caught and is_clean
