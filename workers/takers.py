"""Who waits in this process for something to start: each subscriber's consumer, and one thread that lingers.

A thread that has ended a delivery stays a moment for the next of its subscriber. What comes one at a time is handed to
it at once: neither a consumer is woken for it, nor a thread of Dramatiq's.

    ended, nothing follows ──linger──> waits ──a delivery comes──> runs it, in the same thread
                                         ├──its moment is over, or the process stops──> back to Dramatiq
                                         └──others have taken all credits: its thread is theirs──^

Invariants, whenever the lock is free:
    whoever has a credit has a thread: the one that lingers has none, so it goes when the last is taken, and none
    lingers while an async delivery that was taken has no thread yet that brings it to the loop;
    after each `wake`, of plain and of async deliveries each, as many waiting consumers are chosen as there are credits,
    or nobody else who waits could start anything: whoever was served longest ago is chosen first.

Nobody tells what changes with time alone, as that a handler is slow by now. So `wake` is asked as well by whoever is
chosen and starts nothing, by whoever has something here and is refused for another one's sake, by the loop when it has
come to what it was asked, by the next read and by the tick.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

from events.frame import Lease
from events.subscriptions import Subscription
from workers.prefetch import Prefetch
from workers.quick import LOOK_AGAIN_S
from workers.ready import Ready

Following = Callable[[], Lease | None]


class Takers:
    """Not thread-safe but for its waiting; the receiver's lock, which is given, guards it.

    Args:
        here: what is ready. prefetch: knows whom nobody has to be woken for.
        free: how many plain deliveries could start now, or async ones.
        candidate: the delivery of a subscriber that would start next, if there is one that may.

    Attributes:
        consumers: whose consumers wait; true of those who will look again in a moment.
        chosen: those of them who were woken for a credit, and have not looked yet.
        leaves_out: whether the last `wake` came to an async one for whom nothing more could start.
    """

    def __init__(
        self,
        subscriptions: Mapping[str, Subscription],
        lock: threading.Lock,
        here: Ready,
        prefetch: Prefetch,
        free: Callable[[bool], int],
        candidate: Callable[[str], Lease | None],
    ) -> None:
        self._subscriptions = subscriptions
        self._here = here
        self._prefetch = prefetch
        self._free = free
        self._candidate = candidate
        self._ready = {name: threading.Condition(lock) for name in subscriptions}
        self._come = threading.Condition(lock)
        self._lingers = ""  # for whose deliveries a thread lingers
        self._lingered = 0  # how many have
        self._stopped = False
        self.consumers: dict[str, bool] = {}
        self.chosen: set[str] = set()
        self.leaves_out = False

    def take(self, subscription: Subscription, following: Following, until: float) -> Lease | None:
        """Wait in a consumer for a delivery of its subscriber.

        Args:
            following: takes the next one, with a credit; None when none may start.
            until: monotonic seconds.
        """
        name = subscription.name
        try:
            while not self._stopped:
                self.consumers[name] = is_enough = self._prefetch.is_enough(name)
                lease = None if is_enough else following()
                was_chosen = name in self.chosen
                self.chosen.discard(name)
                if lease is not None:
                    self._make_room(subscription)
                    return lease
                if was_chosen or (not is_enough and name in self._here.present(subscription.is_async)):
                    self.wake()  # somebody else may have the credit, also where a rival has stopped being one
                    if name in self.chosen:
                        continue
                if (left := until - time.monotonic()) <= 0:
                    return None
                self._ready[name].wait(min(left, LOOK_AGAIN_S) if is_enough else left)
        finally:
            self.consumers.pop(name, None)
            if name in self.chosen:  # it was interrupted before it looked
                self.chosen.discard(name)
                self.wake()
        return None

    def linger(self, subscription: Subscription, following: Following, until: float) -> Lease | None:
        """Wait in a thread that has ended a delivery of the subscriber, and found no next one, unless another one does.

        Args:
            following, until: as of `take`.

        Returns:
            None when nothing has come, or somebody else needs the thread, and at once of an async subscriber: what
            follows for it does so on the loop.
        """
        if self._lingers or self._stopped or subscription.is_async:
            return None
        self._lingered += 1
        self._lingers, mine = subscription.name, self._lingered
        try:
            while (left := until - time.monotonic()) > 0:
                self._come.wait(left)
                if not self._lingers or self._lingered != mine:
                    return None
                if (lease := following()) is not None:
                    return lease
                self.wake()  # refused for a rival's sake, who may be none by now: as in `take`
            return None
        finally:
            if self._lingered == mine:
                self._lingers = ""
            self.wake()  # whom nobody woke for what was the lingering thread's

    def wake(self) -> None:
        """Wake those for whom something is here that may start, as many as there are credits.

        Whoever was served longest ago comes first. Who was woken and has not looked yet has its credit already.
        """
        if self._lingers in self._here.present(False):
            self._come.notify()
        self._wake(False)
        self.leaves_out = self._wake(True)

    def is_turn(self, name: str) -> bool:
        """Whether a free credit is this subscriber's, though others wait who were served longer ago."""
        is_async = self._subscriptions[name].is_async
        free = self._free(is_async)
        if free > len(self.consumers) - (name in self.consumers):
            return True
        for rival in self._here.present(is_async):
            if free <= 0 or rival == name:
                break
            free -= rival in self.chosen or self._may_be_chosen(rival)
        return free > 0

    def _wake(self, is_async: bool) -> bool:
        """Wake those of one kind; return whether somebody was left for whom nothing more could start."""
        left = self._free(is_async) - sum(self._subscriptions[name].is_async == is_async for name in self.chosen)
        for name in self._here.present(is_async):
            if left <= 0:
                return True
            if name not in self.chosen and self._may_be_chosen(name):
                self._ready[name].notify()
                self.chosen.add(name)
                left -= 1
        return False

    def _may_be_chosen(self, name: str) -> bool:
        """Whether a consumer waits that could start something, and for whom nobody else goes on or lingers."""
        if name not in self.consumers or name == self._lingers or self._candidate(name) is None:
            return False
        return not (self.consumers[name] and self._prefetch.is_enough(name))

    def stop(self) -> None:
        """Send everybody away."""
        self._stopped, self._lingers = True, ""
        for ready in (*self._ready.values(), self._come):
            ready.notify_all()

    def _make_room(self, subscription: Subscription) -> None:
        """Send the lingering thread back when the last credit is taken: it is the thread for that.

        An async one needs a thread for the moment in which it is given to the loop; there may be no other.
        """
        if self._lingers and (subscription.is_async or not self._free(False)):
            self._lingers = ""
            self._come.notify()
