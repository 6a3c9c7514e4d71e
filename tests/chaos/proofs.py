"""Proof that the checker sees: each broken build is caught by the run that is meant for it, within a minute.

What catches a mutation is what it breaks. Seven of the eight are caught by the work alone: what they break happens
so often in it that no fault needs to come at the right moment. Beside each target stands what makes the harm happen,
how often, and which rule sees it; at 60 briefs a second, which are some 840 deliveries.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from tests.chaos.mutations import MUTATIONS
from tests.chaos.run import Run, Verdict

SHORT = 0.2
"""Patience: what a broken build has lost never ends, and need not be waited for."""
NO_FAULT: tuple[int, ...] = ()
TARGETS: dict[str, Run] = {
    # Every settlement is refused, because nobody has a lease: nothing ends and nothing returned exists. Ended once.
    "ack_before_handling": Run(seed=1, minutes=0.1, steps=NO_FAULT, patience=SHORT),
    # A frozen worker's handlers that slept on end in the moment it thaws, and are settled before its keeper can hear
    # that others had them. At 0.4 s for a tenth of the briefs and 5 s for a fortieth, each worker has two at any time,
    # besides what was on its way. Of this seed's first five freezes all hit workers, for 2.8 to 3.8 s. Ended once.
    "no_fencing": Run(seed=36, minutes=0.3, only=("freeze",), patience=SHORT),
    # What is published between an archiver's reading and its telling is trimmed: a few events each time. Stored once.
    "trim_without_archive": Run(seed=3, minutes=0.1, steps=NO_FAULT, patience=SHORT),
    # Every fortieth brief takes more than two leases: a dozen in this time. Leases of the living hold.
    "lease_never_renewed": Run(seed=4, minutes=0.2, steps=NO_FAULT, patience=SHORT),
    # One event in fifty has no deliveries: some 40 of 2,000. Ended once.
    "publish_not_atomic": Run(seed=5, minutes=0.1, steps=NO_FAULT, patience=SHORT),
    # A quarter of the shots and images fail at first, each in two or three agents: hundreds. Ended once.
    "lost_retry": Run(seed=6, minutes=0.1, steps=NO_FAULT, patience=SHORT),
    # A quarter of Keeper's shots fail at first, and half of them have a brother who waits behind. In order.
    "double_release": Run(seed=7, minutes=0.1, steps=NO_FAULT, patience=SHORT),
    # A quarter of Biller's images fail between asking the inbox and committing the effect. Effects once.
    "inbox_outside": Run(seed=8, minutes=0.1, steps=NO_FAULT, patience=SHORT),
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
