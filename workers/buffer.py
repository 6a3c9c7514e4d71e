"""What one subscriber has ready in this process: read from Redis, leased, and not started."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from events.frame import Lease


class Buffer:
    """Deliveries in the order in which they are to be started, which is that of the door in Redis: the most
    urgent first, among those each lane in its turn. So a project's few do not wait for another's many that
    were read before them. Not thread-safe; the receiver's lock guards it.
    """

    def __init__(self) -> None:
        self._lanes: dict[int, dict[str, deque[Lease]]] = {}
        self._count = 0

    def add(self, lease: Lease) -> None:
        """Put a delivery behind those of its lane."""
        lanes = self._lanes.setdefault(lease.frame.priority, {})
        lanes.setdefault(lease.frame.lane, deque()).append(lease)
        self._count += 1

    def next(self) -> Lease:
        """Return the delivery whose turn it is; there must be one."""
        lanes = self._lanes[max(self._lanes)]
        return next(iter(lanes.values()))[0]

    def take(self) -> Lease:
        """Remove and return the delivery whose turn it is; its lane's next turn comes after the others'."""
        priority = max(self._lanes)
        lanes = self._lanes[priority]
        lane = next(iter(lanes))
        waiting = lanes.pop(lane)
        lease = waiting.popleft()
        if waiting:
            lanes[lane] = waiting
        self._tidy(priority)
        return lease

    def take_last(self) -> Lease:
        """Remove and return the delivery that would come last; repeated, a lane's later ones before its earlier."""
        priority = min(self._lanes)
        lanes = self._lanes[priority]
        lane = next(reversed(lanes))
        lease = lanes[lane].pop()
        if not lanes[lane]:
            del lanes[lane]
        self._tidy(priority)
        return lease

    def drop(self, lease: Lease) -> None:
        """Remove that delivery, if it is here."""
        lanes = self._lanes.get(lease.frame.priority, {})
        waiting = lanes.get(lease.frame.lane)
        if waiting and lease in waiting:
            waiting.remove(lease)
            if not waiting:
                del lanes[lease.frame.lane]
            self._tidy(lease.frame.priority)

    def empty(self) -> Iterator[Lease]:
        """Remove all, the last first."""
        while self._count:
            yield self.take_last()

    def __len__(self) -> int:
        return self._count

    def _tidy(self, priority: int) -> None:
        self._count -= 1
        if not self._lanes[priority]:
            del self._lanes[priority]
