"""The deliveries this process holds: buffered, running, or finished and not settled yet.

Everything held is renewed; what is not held is nobody's and will be reaped. A delivery is dropped
from here only when Redis has said that it is settled, handed back or lost.
"""

from __future__ import annotations

import threading
import time

from events.frame import Lease


class Held:
    """A thread-safe set of leases."""

    def __init__(self) -> None:
        self._leases: dict[int, Lease] = {}
        self._lock = threading.Lock()

    def add(self, lease: Lease) -> None:
        with self._lock:
            self._leases[id(lease)] = lease

    def drop(self, lease: Lease) -> None:
        with self._lock:
            self._leases.pop(id(lease), None)

    def all(self) -> list[Lease]:
        """Return a copy, oldest first."""
        with self._lock:
            return list(self._leases.values())

    def unrenewed(self, for_s: float) -> list[Lease]:
        """Return leases without proof of ownership for that many seconds."""
        before = time.monotonic() - for_s
        return [lease for lease in self.all() if lease.renewed_at < before]

    def __len__(self) -> int:
        return len(self._leases)
