"""What was taken for the event loop and has not begun there: by it one sees that the loop stands still.

A handler on the loop that makes a call which blocks stops every other one, and the loop cannot say so
itself. What waits for it then is let go of, for a worker whose loop moves; the loop, when it comes to such
a delivery at last, does not start it.
"""

from __future__ import annotations

import math
import time

from events.frame import Lease

MAX_STARTING = 32
STALL_S = 0.25


class Starting:
    """Deliveries on their way to the loop. Not thread-safe, but for `has_let_go`; the receiver's lock guards it."""

    def __init__(self) -> None:
        self._leases: dict[int, Lease] = {}
        self._let_go: set[int] = set()
        self._moved_at = 0.0

    def add(self, lease: Lease) -> None:
        """Note a delivery that the loop is to begin."""
        if not self._leases and not self._let_go:
            self._moved_at = time.monotonic()
        self._leases[id(lease)] = lease

    def began(self, lease: Lease) -> None:
        """Note that the loop has come to it: the loop moves, and the delivery is not let go of any more."""
        self._moved_at = time.monotonic()
        self._leases.pop(id(lease), None)

    def ended(self, lease: Lease) -> None:
        """Forget a delivery; nothing of it waits for the loop any more."""
        self._leases.pop(id(lease), None)
        self._let_go.discard(id(lease))

    def let_go(self) -> list[Lease]:
        """Return, once, what the loop has not begun although it had the time; nothing while it moves."""
        if not self.stands_still:
            return []
        leases = list(self._leases.values())
        self._let_go.update(self._leases)
        self._leases.clear()
        return leases

    def has_let_go(self, lease: Lease) -> bool:
        """Whether the delivery is another worker's by now, and must not be started; from any thread."""
        return id(lease) in self._let_go

    @property
    def stands_still(self) -> bool:
        """Whether the loop has begun nothing for `STALL_S` although something waits for it."""
        return bool(self._leases or self._let_go) and time.monotonic() - self._moved_at > STALL_S

    @property
    def overdue_at(self) -> float:
        """The monotonic second at which what waits is to be let go of; infinite when nothing waits."""
        return self._moved_at + STALL_S if self._leases else math.inf

    def __len__(self) -> int:
        return len(self._leases)
