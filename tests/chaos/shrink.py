"""The shortest history that still breaks a promise: fewer faults, less work, less time, with the same seed.

A run is not a simulation: processes race, and what broke once may not break again. So a failure is repeated first,
and what does not come again is said. Source: delta debugging, Zeller and Hildebrandt 2002 (ddmin), over the faults.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tests.chaos.plan import KINDS
from tests.chaos.run import Run, Verdict

TRIES = 2
"""How often a history is run before it is taken to hold."""
LEAST_MINUTES = 0.02


@dataclass
class Shrinker:
    """Makes one failure smaller.

    Args:
        failed: what was seen. perform: does a run. budget_s: seconds after which nothing more is begun.
        say: is told of each step that succeeded.
    """

    failed: Verdict
    perform: Callable[[Run], Verdict]
    budget_s: float
    say: Callable[[str], None] = print

    def shrink(self) -> Verdict | None:
        """Return the smallest that was seen to fail; None when the failure did not come again at all."""
        self._until = time.monotonic() + self.budget_s
        self._found: Verdict | None = None
        if not self._fails(self.failed.run):
            return None
        self._fewer_steps()
        self._less_work()
        self._less_time()
        return self._found

    def _fewer_steps(self) -> None:
        """Take out ever smaller parts of the script, as long as the rest still fails."""
        steps = list(self.failed.run.steps or ())
        if steps and self._try(steps=()):
            return
        parts = 2
        while steps and time.monotonic() < self._until:
            size = -(-len(steps) // parts)
            chunks = [steps[start : start + size] for start in range(0, len(steps), size)]
            kept = next((rest for rest in _rests(chunks) if rest and self._try(steps=tuple(rest))), None)
            if kept is not None:
                steps, parts = kept, max(parts - 1, 2)
            elif size == 1:
                return
            else:
                parts = min(parts * 2, len(steps))

    def _less_work(self) -> None:
        for kind in KINDS:
            without = (*self._smallest.without, kind)
            self._try(without=without)

    def _less_time(self) -> None:
        while (minutes := self._smallest.minutes / 2) >= LEAST_MINUTES and self._try(minutes=minutes):
            pass

    @property
    def _smallest(self) -> Run:
        return self._found.run if self._found else self.failed.run

    def _try(self, **changes: object) -> bool:
        return self._fails(replace(self._smallest, **changes))  # type: ignore[arg-type]

    def _fails(self, run: Run) -> bool:
        """Whether a run breaks one of the same rules; nothing fails when the time is over."""
        for _ in range(TRIES):
            if time.monotonic() >= self._until:
                return False
            verdict = self.perform(run)
            if verdict.rules & self.failed.rules:
                self._found = replace(verdict, run=run)
                self.say(
                    f"fails with {len(run.steps or ())} faults, {len(KINDS) - len(run.without)} kinds of work, "
                    f"{run.minutes:g} minutes"
                )
                return True
        return False


def _rests(chunks: Sequence[list[int]]) -> list[list[int]]:
    """Each chunk alone, then all but one."""
    alone = list(chunks) if len(chunks) == 2 else []
    return alone or [[step for part in chunks if part is not left for step in part] for left in chunks]
