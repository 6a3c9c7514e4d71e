"""Which queues a read looks at: all of them, or for a moment only those that something came from lately.

A read costs this process and Redis something for each queue that it names, whether anything is there or not. Of a few
that is nothing; of hundreds it is more than a quick handler takes. So while deliveries come, the reads in between
look only where they come from, and everywhere often enough that nobody waits long for it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from events.frame import Lease

FEW = 32
EVERYWHERE_S = 0.03
LATELY_S = 1.0


class Attention:
    """Where the receiver of one process looks next. Only its own thread uses it; seconds are monotonic.

    Attributes:
        until: when to look elsewhere than `names` said last; infinite when that was everywhere.
    """

    def __init__(self) -> None:
        self._came: dict[str, float] = {}
        self._everywhere_at = 0.0
        self.until = math.inf

    def names(self, attended: Sequence[str], now: float) -> list[str]:
        """Return the subscribers whose queues to read now: all, where they are few or it is time for all of them."""
        if len(attended) > FEW and self._came and now < self._everywhere_at:
            self.until = self._everywhere_at
            return list(self._came)
        self._came = {name: at for name, at in self._came.items() if now - at < LATELY_S}
        self._everywhere_at, self.until = now + EVERYWHERE_S, math.inf
        return list(attended)

    def came(self, leases: Collection[Lease], now: float) -> None:
        """Note what a read has brought; when that is nothing, the next one looks everywhere."""
        self._came.update((lease.subscriber, now) for lease in leases)
        if not leases:
            self._everywhere_at = now
