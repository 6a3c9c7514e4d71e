"""What was taken for the event loop and has not begun there: by it one sees that the loop stands still.

A handler on the loop that makes a call which blocks stops every other one, and the loop cannot say so
itself. What waits for it then is let go of, for a worker whose loop moves; the loop, when it comes to such
a delivery at last, does not start it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable

from events.frame import Lease

MAX_STARTING = 32
STALL_S = 0.25


class Starting:
    """Deliveries on their way to the loop. Not thread-safe, but for `has_let_go`; the receiver's lock guards it."""

    def __init__(self) -> None:
        self._taken: set[int] = set()
        self._asked: dict[int, Lease] = {}
        self._let_go: set[int] = set()
        self._moved_at = 0.0

    def take(self, lease: Lease) -> None:
        """Note a delivery that was taken for the loop; what is asked of Redis before it starts may take a while."""
        self._taken.add(id(lease))

    def ask(self, leases: Iterable[Lease]) -> None:
        """Note that the loop is asked to begin deliveries, in one call of their handler."""
        if not self._asked and not self._let_go:
            self._moved_at = time.monotonic()
        self._asked.update((id(lease), lease) for lease in leases)

    def began(self, leases: Iterable[Lease]) -> None:
        """Note that the loop has come to them: the loop moves, and they are not let go of any more."""
        self._moved_at = time.monotonic()
        for lease in leases:
            self._forget(lease)

    def ended(self, leases: Iterable[Lease]) -> None:
        """Forget deliveries; nothing of them waits for the loop any more."""
        for lease in leases:
            self._forget(lease)
            self._let_go.discard(id(lease))

    def let_go(self) -> list[Lease]:
        """Return, once, what the loop has not begun although it had the time; nothing while it moves."""
        if not self.stands_still:
            return []
        leases = list(self._asked.values())
        self._let_go.update(self._asked)
        self._taken -= self._let_go
        self._asked.clear()
        return leases

    def has_let_go(self, lease: Lease) -> bool:
        """Whether the delivery is another worker's by now, and must not be started; from any thread."""
        return id(lease) in self._let_go

    @property
    def stands_still(self) -> bool:
        """Whether the loop has begun nothing for `STALL_S` although something waits for it."""
        return bool(self._asked or self._let_go) and time.monotonic() - self._moved_at > STALL_S

    @property
    def wants_thread(self) -> bool:
        """Whether something was taken that the loop was not asked to begin: it may wait for a thread that does so.

        True also while a thread asks Redis about it first, and while the loop itself follows with it.
        """
        return not self._taken <= self._asked.keys()

    @property
    def overdue_at(self) -> float:
        """The monotonic second at which what waits is to be let go of; infinite when nothing waits."""
        return self._moved_at + STALL_S if self._asked else math.inf

    def __len__(self) -> int:
        """How many were taken that the loop has not begun."""
        return len(self._taken)

    def _forget(self, lease: Lease) -> None:
        self._taken.discard(id(lease))
        self._asked.pop(id(lease), None)
