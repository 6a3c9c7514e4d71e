"""Credits: how many deliveries may run at once, and how many are worth holding ready.

A slow agent must not hoard what an idle worker could run, and a fast one must not wait for the
network between two events: the buffer follows how long handlers take. Not thread-safe; the
receiver's lock guards it.
"""

from __future__ import annotations

from events.subscriptions import Subscription

READY_S = 0.05
MAX_READY = 256
WEIGHT = 0.2


class Credits:
    """Free threads and free places on the loop.

    Args:
        threads: plain handlers that may run at once. places: async handlers that may.
    """

    def __init__(self, threads: int, places: int) -> None:
        self._total = {False: threads, True: places}
        self._free = dict(self._total)
        self._typical_s: dict[str, float] = {}

    def take(self, subscription: Subscription) -> bool:
        """Take one; False when none is free."""
        if self._free[subscription.is_async] <= 0:
            return False
        self._free[subscription.is_async] -= 1
        return True

    def give_back(self, subscription: Subscription, elapsed_s: float) -> None:
        """Return one, with how long its handler ran; 0 when it was not started, which teaches nothing."""
        self._free[subscription.is_async] += 1
        if elapsed_s > 0:
            typical = self._typical_s.get(subscription.name, elapsed_s)
            self._typical_s[subscription.name] = typical + WEIGHT * (elapsed_s - typical)

    def free_of(self, is_async: bool) -> int:
        """Return how many are free: of the plain handlers, or of the async ones."""
        return self._free[is_async]

    def free(self, subscription: Subscription) -> int:
        """Return how many of its deliveries could start now, if no other subscriber's did."""
        return self._free[subscription.is_async]

    def total(self, subscription: Subscription) -> int:
        """Return how many of its deliveries may run at once, if no other subscriber's did."""
        return self._total[subscription.is_async]

    def soon(self, subscription: Subscription, oldest_s: float = 0.0) -> int:
        """Return how many deliveries all credits would finish in `READY_S`, at most `MAX_READY`: worth holding
        although they cannot start now. None of a handler that takes longer, or has not shown how long it takes.

        Args:
            oldest_s: how long its oldest running delivery has run; a handler that has turned slow is
                known by it long before it ends.
        """
        typical = max(self._typical_s.get(subscription.name, READY_S), oldest_s)
        if typical >= READY_S:
            return 0
        return min(MAX_READY, int(self._total[subscription.is_async] * READY_S / max(typical, 1e-6)))
