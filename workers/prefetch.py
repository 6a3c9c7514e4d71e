"""What of each subscriber is worth holding ready in this process.

A subscriber that is fast reads ahead, one that is slow holds nothing that it cannot start. None starves
another: where credits come free within a moment, each has one delivery ready whatever the others hold,
until its fair share of the credits runs; and what waits of whoever was served longest ago is kept first.

Decides only: the receiver reads, and hands back. Not thread-safe; the receiver's lock guards it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple

from events.frame import Lease
from events.subscriptions import Subscription
from workers.credits import MAX_READY, Credits
from workers.quick import Quick
from workers.ready import Ready

LOW_SHARE = 0.75
LOW_READY = int(MAX_READY * LOW_SHARE)
MAX_BLOCK_MS = 950
SATURATED_BLOCK_MS = 20
QUIET_BLOCK_MS = 250
MUCH_ROOM = 32
BUSY_S = 0.1


def longest_block_ms(may_open: bool, quiet_s: float) -> int:
    """How long a read may wait for the next delivery.

    Args:
        may_open: whether room may come free for a subscriber that has none. Nobody tells Redis when it does, so
            the wait is an eighth of the time for which nothing has come or ended.
        quiet_s: that time.
    """
    if not may_open:
        return MAX_BLOCK_MS
    return max(SATURATED_BLOCK_MS, min(int(quiet_s * 1000) // 8, QUIET_BLOCK_MS))


def worth_a_read_of_their_own(rooms: Mapping[str, int], quiet_s: float) -> list[str]:
    """Return subscribers with much room, to be read before all are: a read for all brings of each what fits any.

    Args:
        rooms: of each, how many more may be read. quiet_s: for how long nothing has come or ended; none is, where it
            is long, or where all of them have much room.
    """
    roomy = [name for name, room in rooms.items() if room >= MUCH_ROOM]
    is_worth_it = quiet_s < BUSY_S and any(0 < room < MUCH_ROOM for room in rooms.values())
    return roomy if is_worth_it else []


class _Kind(NamedTuple):
    """Where the plain subscribers stand together, or the async ones.

    Attributes:
        free: credits nobody has. spare: those that nothing read waits for; negative when more waits.
        share: of the spare ones, each subscriber's. fair: of all credits, each subscriber's.
        active: subscribers of whom something runs or waits here.
        turns_over: whether a credit is free, or will be within a moment.
    """

    free: int
    spare: int
    share: int
    fair: int
    active: int
    turns_over: bool


class Prefetch:
    """How much of each subscriber of one process to hold.

    Args:
        here: what was read and not taken; only looked at.
        clock: monotonic seconds.

    Attributes:
        quick: whose handlers are so quick that one is enough to go through them.
    """

    def __init__(
        self,
        subscriptions: Mapping[str, Subscription],
        credits: Credits,
        here: Ready,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._subscriptions = subscriptions
        self._credits = credits
        self._here, self._buffers = here, here.buffers
        self._clock = clock
        self._kinds_of = {
            is_async: frozenset(name for name, one in subscriptions.items() if one.is_async == is_async)
            for is_async in {one.is_async for one in subscriptions.values()}
        }
        self._running: dict[str, dict[int, float]] = {name: {} for name in subscriptions}
        self._busy: set[str] = set()  # those of whom something runs
        self._led: dict[str, int] = dict.fromkeys(subscriptions, 0)
        self.quick = Quick()

    def took(self, lease: Lease) -> None:
        """Note that a delivery got a credit."""
        self._running[lease.subscriber][id(lease)] = self._clock()
        self._busy.add(lease.subscriber)

    def leads(self, name: str, count: int) -> None:
        """Note that a delivery which has a credit leads so many others that need none."""
        self._led[name] += count

    def ended(self, lease: Lease, elapsed_s: float = 0.0, led: int = 0) -> None:
        """Note that it has given its credit back, and how long it ran; 0 when it was not started.

        Args:
            led: how many others it led.
        """
        running = self._running[lease.subscriber]
        running.pop(id(lease), None)
        if not running:
            self._busy.discard(lease.subscriber)
        self._led[lease.subscriber] -= led
        self.quick.ended(lease.subscriber, elapsed_s)

    def at_hand(self, name: str) -> int:
        """How many deliveries of a subscriber run, led ones too, or wait here and begin within a moment."""
        return len(self._running[name]) + self._led[name] + len(self._buffers[name])

    def oldest_s(self, name: str) -> float | None:
        """How long the oldest of them has had it, seconds; None when none has one."""
        oldest = next(iter(self._running[name].values()), None)
        return None if oldest is None else self._clock() - oldest

    def is_enough(self, name: str) -> bool:
        """Whether nobody has to begin a delivery of the subscriber: who runs one goes on with the next."""
        return self.quick.is_enough(name, self.oldest_s(name))

    def rooms(self, names: Iterable[str], closed: Collection[str]) -> dict[str, int]:
        """How many deliveries to read of each subscriber.

        Args:
            closed: those of whom nothing is to be started now.
        """
        kinds = self._kinds(closed)
        return {
            name: 0 if name in closed else self._room(name, kinds[self._subscriptions[name].is_async]) for name in names
        }

    def owed(self, rooms: Mapping[str, int], closed: Collection[str]) -> list[str]:
        """Those without room who should have one delivery ready all the same, for their next turn.

        Args:
            rooms: as `rooms` returned them.
        """
        kinds = self._kinds(closed)
        return [
            name
            for name, room in rooms.items()
            if room == 0 and name not in closed and not self._buffers[name]
            if self._next_one(name, kinds[self._subscriptions[name].is_async])
        ]

    def surplus(self, closed: Collection[str]) -> dict[str, int]:
        """How many deliveries of each subscriber wait here that neither start now nor within a moment."""
        kinds = self._kinds(closed)
        surplus = {}
        for is_async, kind in kinds.items():
            left = kind.free
            for name in self._here.present(is_async):
                held, start = len(self._buffers[name]), left * self._batch(name)
                keep = 0 if name in closed else max(start, self._soon(name), self._next_one(name, kind))
                left = max(0, left - self._calls(name))
                if held > keep:
                    surplus[name] = held - keep
        return surplus

    def _kinds(self, closed: Collection[str]) -> dict[bool, _Kind]:
        kinds = {}
        for is_async, names in self._kinds_of.items():
            one = self._subscriptions[next(iter(names))]
            moving = self._busy.intersection(names).union(self._here.present(is_async))
            active = [name for name in moving if self._running[name] or self._buffers[name]]
            sharing = max(1, len(names) - len(names.intersection(closed)))
            free = self._credits.free(one)
            spare = free - sum(self._calls(name) for name in active)
            kinds[is_async] = _Kind(
                free=free,
                spare=spare,
                share=max(1, spare // sharing) if spare > 0 else 0,
                fair=max(1, self._credits.total(one) // sharing),
                active=max(1, len(active)),
                turns_over=free > 0 or any(self._soon(name) for name in active),
            )
        return kinds

    def _room(self, name: str, kind: _Kind) -> int:
        held, soon = len(self._buffers[name]), self._soon(name)
        if held > LOW_SHARE * self._most(name):
            return 0
        ready = max(1, soon // kind.active) if soon else 0
        return max(0, min(max(kind.share * self._batch(name), ready - held), self._most(name) - held))

    def _next_one(self, name: str, kind: _Kind) -> int:
        """1 where a subscriber has its turn within a moment, however much others hold; else 0."""
        return int(kind.turns_over and len(self._running[name]) < kind.fair)

    def _soon(self, name: str) -> int:
        """How many deliveries of a subscriber would end within a moment, as long as they take now."""
        soon = self._credits.soon(self._subscriptions[name], self.oldest_s(name) or 0.0)
        return min(self._most(name), soon * self._batch(name))

    def _calls(self, name: str) -> int:
        """How many credits start what waits here of a subscriber."""
        return -(-len(self._buffers[name]) // self._batch(name))

    def _most(self, name: str) -> int:
        """How many deliveries of a subscriber wait here at most: of batches two, the one that is next and one more."""
        return max(MAX_READY, 2 * self._batch(name))

    def _batch(self, name: str) -> int:
        """How many deliveries of a subscriber one credit starts."""
        return self._subscriptions[name].options.batch or 1
