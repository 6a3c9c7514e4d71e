"""When to tell Redis, before the next tick, how many handlers run here: an unlimited window follows that."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

TELL_S = 0.01
MUCH = 64


class Telling:
    """What Redis was told of each subscriber. Not thread-safe; the receiver's lock guards it.

    Args:
        tick_s: seconds between two times at which it is told in any case.
    """

    def __init__(self, names: Iterable[str], tick_s: float) -> None:
        self._tick_s = tick_s
        self._told = dict.fromkeys(names, 0)
        self._told_at = 0.0
        self._tell_s = TELL_S
        self._held_back: frozenset[str] = frozenset()

    def told(self, running: Mapping[str, int], held_back: frozenset[str], least_s: float = 0.0) -> None:
        """Note what Redis was told, and whose window holds deliveries back; without news it is told less often.

        Args:
            least_s: what Redis wants between two times, because there are many who tell, or much is told.
        """
        is_news = any(count > self._told[name] for name, count in running.items())
        self._tell_s = max(least_s, TELL_S if is_news else min(2 * self._tell_s, self._tick_s))
        self._told.update(running)
        self._told_at = time.monotonic()
        self._held_back = held_back

    def ended(self, name: str, count: int = 1) -> None:
        """Note that so many less run, as settle.lua does."""
        self._told[name] = max(0, self._told[name] - count)

    def is_held_back(self, name: str, running: int) -> bool:
        """Whether its window may be what keeps deliveries away from one that has room: more runs than Redis believes.

        What ended before it was told, and was settled afterwards, Redis has taken off twice. So where it said that
        it holds deliveries back, it is told again although nothing is new.
        """
        return running > 0 if name in self._held_back else running - self._told[name] >= MUCH

    @property
    def again_at(self) -> float:
        """The monotonic second from which it is worth telling more."""
        return self._told_at + self._tell_s
