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
        buffers: by subscriber; only looked at.
    """

    def __init__(self, subscriptions: Mapping[str, Subscription]) -> None:
        self.buffers = {name: Buffer() for name in subscriptions}
        self._kind_of = {name: one.is_async for name, one in subscriptions.items()}
        self._alone: dict[str, deque[Lease]] = {name: deque() for name in self.buffers}
        self._runs_alone: Lease | None = None
        self._served = dict.fromkeys(subscriptions, 0)  # in which turn last
        self._turn = 0
        self._present: dict[bool, dict[str, None]] = {False: {}, True: {}}
        self._unsorted: set[bool] = set()

    def add(self, lease: Lease) -> None:
        """Put a delivery behind those of its subscriber."""
        if lease.starts:
            self._alone[lease.subscriber].append(lease)
        else:
            self.buffers[lease.subscriber].add(lease)
        present = self._present[self._kind_of[lease.subscriber]]
        if lease.subscriber not in present:
            present[lease.subscriber] = None
            self._unsorted.add(self._kind_of[lease.subscriber])

    def present(self, is_async: bool) -> Mapping[str, None]:
        """Return the plain subscribers of whom something is here, or the async ones: served longest ago first."""
        if is_async in self._unsorted:
            self._unsorted.discard(is_async)
            order = sorted(self._present[is_async], key=self._served.__getitem__)
            self._present[is_async] = dict.fromkeys(order)
        return self._present[is_async]

    @property
    def is_empty(self) -> bool:
        """Whether nothing is here; without the lock, true of a moment only."""
        return not (self._present[False] or self._present[True])

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
        """Remove what `next` returned: its subscriber is served, and the last whose turn it is."""
        if self._alone[name] and self._runs_alone is None:
            self._runs_alone = self._alone[name].popleft()
        else:
            self.buffers[name].take()
        self._turn += 1
        self._served[name] = self._turn
        self._is_less(name)
        present = self._present[self._kind_of[name]]
        if name in present:
            del present[name]
            present[name] = None

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
        self._is_less(lease.subscriber)

    def take_back(self, surplus: Mapping[str, int], closed: Iterable[str]) -> list[Lease]:
        """Remove and return so many of each subscriber, and what is to run alone of the closed ones; the last first."""
        taken = [self.buffers[name].take_last() for name, count in surplus.items() for _ in range(count)]
        taken += [self._alone[name].pop() for name in closed for _ in range(len(self._alone[name]))]
        for name in {lease.subscriber for lease in taken}:
            self._is_less(name)
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

    def _is_less(self, name: str) -> None:
        if not self.buffers[name] and not self._alone[name]:
            self._present[self._kind_of[name]].pop(name, None)
