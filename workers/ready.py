"""What one process has ready: read from Redis, leased, and not started; who may start it is decided elsewhere.

What was started by a worker that took it over and fell silent too runs alone, one at a time in a process:
should it kill this worker as well, nothing else that ran here is blamed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping

from events.frame import Lease
from events.subscriptions import Subscription
from workers.buffer import Buffer


class Ready:
    """Of each subscriber a buffer, and what is to run alone. Not thread-safe; the receiver's lock guards it.

    Attributes:
        buffers: by subscriber. present: the subscribers of whom something is here, whoever was served longest ago
            first; only looked at.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.buffers = {name: Buffer() for name in names}
        self._alone: dict[str, deque[Lease]] = {name: deque() for name in self.buffers}
        self._runs_alone: Lease | None = None
        self.present: dict[str, None] = {}

    def add(self, lease: Lease) -> None:
        """Put a delivery behind those of its subscriber."""
        if lease.starts:
            self._alone[lease.subscriber].append(lease)
        else:
            self.buffers[lease.subscriber].add(lease)
        self.present.setdefault(lease.subscriber)

    def next(self, name: str) -> Lease | None:
        """Return the subscriber's delivery whose turn it is; None when none is here, or another one runs alone."""
        if self._alone[name] and self._runs_alone is None:
            return self._alone[name][0]
        return self.buffers[name].next() if self.buffers[name] else None

    def asks_first(self, subscription: Subscription) -> bool:
        """Whether the loop, which must not wait, would have to ask Redis before it starts what `next` returns."""
        lease = self.next(subscription.name) if subscription.is_async else None
        return lease is not None and (lease.suspect or subscription.options.join is not None)

    def take(self, name: str) -> None:
        """Remove what `next` returned."""
        if self._alone[name] and self._runs_alone is None:
            self._runs_alone = self._alone[name].popleft()
        else:
            self.buffers[name].take()
        self._took(name)

    def take_while(self, name: str, count: int, candidate: Callable[[], Lease | None]) -> list[Lease]:
        """Remove and return at most so many, as long as a candidate is there that is no suspect."""
        found: list[Lease] = []
        while len(found) < count and (lease := candidate()) and not lease.suspect:
            self.take(name)
            found.append(lease)
        return found

    def settled(self, lease: Lease) -> bool:
        """Let the next one run alone, if it was this one that did; return whether it was."""
        ran_alone = self._runs_alone is lease
        if ran_alone:
            self._runs_alone = None
        return ran_alone

    def drop(self, lease: Lease) -> None:
        """Remove that delivery, if it is here."""
        self.buffers[lease.subscriber].drop(lease)
        if lease in self._alone[lease.subscriber]:
            self._alone[lease.subscriber].remove(lease)
        self._took(lease.subscriber)

    def take_back(self, surplus: Mapping[str, int], closed: Iterable[str]) -> list[Lease]:
        """Remove and return so many of each subscriber, and what is to run alone of the closed ones; the last first."""
        taken = [self.buffers[name].take_last() for name, count in surplus.items() for _ in range(count)]
        taken += [self._alone[name].pop() for name in closed for _ in range(len(self._alone[name]))]
        for name in {lease.subscriber for lease in taken}:
            self._took(name)
        return taken

    def empty(self) -> list[Lease]:
        """Remove and return all, of each subscriber the last first."""
        return self.take_back({name: len(buffer) for name, buffer in self.buffers.items()}, list(self._alone))

    @property
    def buffered(self) -> int:
        """How many deliveries are in buffers."""
        return sum(map(len, self.buffers.values()))

    @property
    def alone(self) -> int:
        """How many wait to run alone."""
        return sum(map(len, self._alone.values()))

    def _took(self, name: str) -> None:
        self.present.pop(name, None)
        if self.buffers[name] or self._alone[name]:
            self.present[name] = None
