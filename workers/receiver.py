"""The receiver: one thread that reads all queues of this process and tends them.

It reads with one XREADGROUP, keeps what was read in small buffers, and hands a delivery out when
there is a credit for it: a free thread for a plain handler, a free place on the loop for an async
one. So nothing waits inside Dramatiq, and what has not started can be handed back.

Once a tick it brings back due retries, takes over deliveries of silent workers, tells Redis how many
handlers run here, and hands back what it holds ready and cannot start soon. It does so sooner when it
has room and nothing to run, and more runs than it told: the window may be what holds it back. What was
taken over runs like the rest, with its start counted; what then silenced a second worker runs alone,
one at a time in a process.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

from events.deliveries import Deliveries, Tended
from events.frame import Lease
from events.subscriptions import Subscription
from workers.attention import Attention
from workers.credits import READY_S, Credits
from workers.damage import Damage
from workers.held import Held
from workers.patience import repeat
from workers.prefetch import LOW_READY, MAX_BLOCK_MS, Prefetch, longest_block_ms, worth_a_read_of_their_own
from workers.ready import Ready
from workers.starting import MAX_STARTING, Starting
from workers.takers import Takers
from workers.telling import TELL_S, Telling

OWED_S = 0.02
MAX_TAKEN_OVER = 64
MAX_ALONE = 2
MAX_PROMOTED = 200
MIN_DUE_S = 0.02
SWEEP_EVERY_TICKS = 60
LONG_LEASE_S = 10.0  # of which it is soon enough to look for silent workers every other tick


class Receiver:
    """Feeds the consumers of one process.

    Args:
        subscriptions: by name; only those in `names` are read.
        refused: called with each delivery that no handler here can take.
        spared: called with each delivery that was read and should go to whoever is free.
        reopen: declares this process's subscribers again after Redis lost them.
        beat: what this process says of itself, JSON; sent once a tick, and when a pause is heeded.
        busy: tells how many handlers of each subscriber have been running here for a while, or usually do.
    """

    def __init__(
        self,
        deliveries: Deliveries,
        held: Held,
        subscriptions: Mapping[str, Subscription],
        credits: Credits,
        *,
        lease_s: float,
        refused: Callable[[Lease], None],
        spared: Callable[[Lease], None],
        reopen: Callable[[], None],
        beat: Callable[[], str],
        busy: Callable[[], Mapping[str, int]],
    ) -> None:
        self._deliveries = deliveries
        self._held = held
        self._subscriptions = subscriptions
        self._credits = credits
        self._lease_s = lease_s
        self._refused = refused
        self._spared = spared
        self._beat = beat
        self._busy = busy
        self._tick_s = min(MAX_BLOCK_MS / 1000, lease_s / 4)
        self._next_tick, self._next_due, self._ticks, self._turns = 0.0, math.inf, 0, 0
        self._changed_at = self._owed_at = 0.0
        self._has_news = self._stopping = False
        self._untended = Damage("its deliveries, retries and take-overs")
        self._unreaped = Damage("take-overs")
        self.paused: frozenset[str] = frozenset()
        """Subscribers of whom nothing is to be started, as Redis said last."""
        self.filling: frozenset[str] = frozenset()
        """Subscribers that are being back-filled, likewise."""
        self._telling = Telling(subscriptions, self._tick_s)
        self.announce: Callable[[float | None], None] = lambda due_s: None  # when the next scheduled event is due
        self._names: list[str] = []
        self._here = Ready(subscriptions)
        self._prefetch = Prefetch(subscriptions, credits, self._here)
        self.quick = self._prefetch.quick
        self._starting = Starting()
        self._attention = Attention()
        self._on_the_loop = frozenset(name for name, one in subscriptions.items() if one.is_async)
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)
        self._takers = Takers(subscriptions, self._lock, self._here, self._prefetch, self._free, self._candidate)
        self.reads = False  # whether every queue is read: Redis has answered a tick for all of them
        self._thread = threading.Thread(
            target=repeat, args=(self._turn, reopen, self._pause), name="eventbus-receiver", daemon=True
        )

    def start(self) -> None:
        """Start the thread; it says that the process lives even where there is nobody to attend to."""
        self._thread.start()

    def attend(self, name: str) -> None:
        """Read this subscriber's queue from now on."""
        with self._lock:
            if name not in self._names:
                self._names.append(name)
                self._next_tick = 0.0
                self._room.notify_all()

    def take(self, name: str, timeout_s: float) -> Lease | None:
        """Wait for a delivery and a credit; None when the time is over or reading has stopped."""
        until, subscription = time.monotonic() + timeout_s, self._subscriptions[name]
        with self._lock:
            return self._takers.take(subscription, partial(self._next, name, subscription), until)

    def asks(self, leases: Iterable[Lease]) -> None:
        """Note that the loop is about to be asked to begin a delivery that `take` gave, with those that it leads."""
        with self._lock:
            self._starting.ask(leases)

    def began(self, leases: Iterable[Lease]) -> None:
        """Note that the loop has come to them; ask `has_let_go` afterwards."""
        with self._lock:
            stood_still = self._starting.stands_still
            self._starting.began(leases)
            if stood_still or (self._takers.leaves_out and len(self._starting) <= MAX_STARTING // 2):
                self._takers.wake()
            if stood_still:
                self._room.notify_all()

    def has_let_go(self, lease: Lease) -> bool:
        """Whether a delivery that `take` gave was handed back, because the loop stood still; never to be started."""
        return self._starting.has_let_go(lease)

    def take_more(self, name: str, count: int) -> list[Lease]:
        """Return deliveries that wait here, at most so many, for one that `take` gave to lead."""
        with self._lock:
            self._room.notify_all()
            led = self._here.take_while(name, count, lambda: self._candidate(name))
            self._prefetch.leads(name, len(led))
            return led

    def finished(
        self, leases: Sequence[Lease], elapsed_s: float, *, goes_on: bool = False, lingers_until: float = 0.0
    ) -> Lease | None:
        """Take back the credit of a delivery that `take` gave.

        Args:
            leases: that one, then those that it led.
            goes_on: whether the caller starts another one of its subscriber, and on the loop asks Redis nothing.
            lingers_until: until when it waits for one, monotonic seconds.

        Returns:
            That one, with the credit; None when none is here, or it is another subscriber's turn.
        """
        lease, name = leases[0], leases[0].subscriber
        subscription = self._subscriptions[name]
        with self._lock:
            self._credits.give_back(subscription, elapsed_s)
            self._changed_at = time.monotonic()
            self._prefetch.ended(lease, elapsed_s, len(leases) - 1)
            self._starting.ended(leases)
            self._telling.ended(name, len(leases))
            if lease.suspect and not self._here.alone:
                self._next_tick = min(self._next_tick, self._changed_at + 0.05)
            may_follow = goes_on and not self._here.asks_first(subscription)
            following = self._next(name, subscription) if may_follow else None
            if following is None:
                if self._credits.free(subscription) > len(self._here.buffers[name]):
                    self._room.notify_all()
                self._takers.wake()
                if may_follow and lingers_until and not self._starting.wants_thread:
                    take = partial(self._next, name, subscription)
                    following = self._takers.linger(subscription, take, lingers_until)
            return following

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits here to be started; true of this moment only."""
        return self._here.is_empty

    def settled(self, lease: Lease) -> None:
        """Let the next one run alone. Not before Redis has the end of this one: should the next kill the
        process, this one would be counted as a killer too."""
        with self._lock:
            if self._here.settled(lease):
                self._takers.wake()

    def forget(self, lease: Lease) -> None:
        """Drop a delivery that another worker has, if it still waits here."""
        with self._lock:
            self._here.drop(lease)
            self._takers.wake()

    def stop(self) -> list[Lease]:
        """Stop reading; spare at once what was read and not taken, and return what a read still brought."""
        with self._lock:
            self._stopping = True
            self._takers.stop()
            self._room.notify_all()
            left = self._here.empty()
        for lease in left:
            self._spared(lease)
        if self._thread.is_alive():
            self._thread.join(MAX_BLOCK_MS / 1000 + 5)
        with self._lock:
            return self._here.empty()

    def _turn(self) -> None:
        self._tend()
        self._read()

    def _pause(self, seconds: float) -> bool:
        """Wait for so long, or until it is over; return whether it is."""
        if seconds:
            with self._lock:
                self._room.wait_for(lambda: self._stopping, seconds)
        return self._stopping

    def _tend(self) -> None:
        now = time.monotonic()
        names, is_tick = list(self._names), now >= self._next_tick
        if now < min(self._next_tick, self._next_due) or (self._subscriptions and not names):
            return
        self._promote(names, is_tick)
        self._spare()
        if not is_tick:
            return
        self._next_tick = now + self._tick_s
        self._ticks += 1
        if self._ticks % 2 or self._lease_s < LONG_LEASE_S:
            self._take_over([name for name in names if name not in self._untended])
        self.reads = len(names) == len(self._subscriptions)

    def _take_over(self, names: list[str]) -> None:
        """Take over what silent workers hold, as much as could start here; nothing for a loop that stands still."""
        with self._lock:
            if self._starting.stands_still:
                names = [name for name in names if name not in self._on_the_loop]
            could_start = max((self._credits.free(self._subscriptions[name]) for name in names), default=0)
            rooms = self._prefetch.rooms(names, self._closed())
            room = max(rooms.values(), default=0) or len(self._prefetch.owed(rooms, self._closed()))
            alone = max(0, MAX_ALONE - self._here.alone)  # none of them is of a closed one: that was spared
            limit = min(MAX_TAKEN_OVER, max(could_start - self._here.buffered, room))
        held = self._held.unrenewed(self._lease_s / 2)
        sweep = self._ticks % SWEEP_EVERY_TICKS == 1
        lease_ms = int(self._lease_s * 1000)

        def reap(some: list[str]) -> None:
            self._accept(self._deliveries.reap(some, lease_ms, limit, held, alone=alone, sweep=sweep))

        self._unreaped.ask(names, reap, again=True)

    def _promote(self, names: list[str], is_tick: bool) -> None:
        """Bring back what is due, tell what runs, and learn when the next is due, who is paused and who held back."""
        self._turns += 1
        turn = self._turns % max(1, len(names))  # so that one subscriber's retries do not use up the budget of all
        busy, beat = self._busy(), self._beat() if is_tick or self._has_news else ""
        replies = self._untended.ask(
            names[turn:] + names[:turn],
            lambda some: self._deliveries.promote({name: busy.get(name, 0) for name in some}, MAX_PROMOTED, beat),
            again=is_tick,
        )
        self._learn(replies, {name: busy.get(name, 0) for name in names if name not in self._untended})

    def _learn(self, replies: list[Tended], running: Mapping[str, int]) -> None:
        """Heed what Redis said of all that are tended; of those left out, what it said last."""
        now = time.monotonic()
        is_full = any(reply.promoted >= MAX_PROMOTED for reply in replies)
        wait_s = min((reply.wait_s for reply in replies if reply.wait_s is not None), default=math.inf)
        self.announce(min((reply.scheduled_s for reply in replies if reply.scheduled_s is not None), default=None))
        self._next_due = now + (0.0 if is_full else max(wait_s, MIN_DUE_S))
        paused = self.paused & self._untended.names()
        with self._lock:
            held_back = frozenset[str]().union(*(reply.held_back for reply in replies))
            self._telling.told(running, held_back, max((reply.tell_s for reply in replies), default=0.0))
            paused = paused.union(*(reply.paused for reply in replies))
            self._has_news = paused != self.paused
            if self._has_news:
                self._next_due = now  # say soon that it is heeded
            self.paused = paused
            self.filling = frozenset().union(*(reply.filling for reply in replies))
            self._takers.wake()

    def _spare(self) -> None:
        """Hand back what will not start soon, the last first, for whoever is free."""
        with self._lock:
            closed = self._closed()
            spared = self._here.take_back(self._prefetch.surplus(closed), closed)
            spared += reversed(self._starting.let_go())
        for lease in spared:
            self._spared(lease)

    def _read(self) -> None:
        with self._lock:
            now = time.monotonic()
            sound = [name for name in self._attention.names(self._names, now) if name not in self._untended]
            rooms = self._prefetch.rooms(sound, self._closed())
            open_names = [name for name, room in rooms.items() if room > 0]
            held_back = [name for name in open_names if self._telling.is_held_back(name, self._prefetch.at_hand(name))]
            if held_back:
                self._next_due = min(self._next_due, self._telling.again_at)
            if self._prefetch.surplus(self._closed()):
                self._next_due = min(self._next_due, now + READY_S)
            self._next_due = min(self._next_due, self._starting.overdue_at)
            wait_s = max(0.0, min(self._next_tick, self._next_due, self._attention.until) - now)
            owed = self._prefetch.owed(rooms, self._closed())
            if not open_names and (not owed or now < self._owed_at):
                self._room.wait(min(wait_s, self._tick_s, OWED_S if owed else math.inf) or 0.001)
                return
        if owed and now >= self._owed_at:
            self._owed_at = 0.0 if self._fetch(owed, 1, None) else now + OWED_S
        if not open_names:
            return
        quiet_s = time.monotonic() - self._changed_at
        if roomy := worth_a_read_of_their_own(rooms, quiet_s):
            self._fetch(roomy, min(rooms[name] for name in roomy), None)
        count = min(rooms[name] for name in open_names)
        may_open = any(room <= 0 and name not in self.paused for name, room in rooms.items())
        block_ms = longest_block_ms(may_open, quiet_s)
        if held_back == open_names and wait_s < 2 * TELL_S:  # nothing comes before more is told, and that is due soon
            self._look(open_names, count, wait_s)
        else:
            self._fetch(open_names, count, max(1, min(block_ms, int(wait_s * 1000))))

    def _look(self, names: list[str], count: int, wait_s: float) -> None:
        """Read what is there, or wait: an idle Redis ends a read that has waited enough up to 0.1 s late."""
        if not self._fetch(names, count, None):
            with self._lock:
                self._room.wait(wait_s)

    def _fetch(self, names: Sequence[str], count: int, block_ms: int | None) -> bool:
        """Read, and return whether that brought something."""
        leases = self._deliveries.read(names, count, block_ms)
        self._attention.came(leases, time.monotonic())
        self._accept(leases)
        return bool(leases)

    def _accept(self, leases: list[Lease]) -> None:
        if leases:
            self._changed_at = time.monotonic()
        for lease in leases:
            self._held.add(lease)
        if math.isinf(self._next_due) and any(self._subscriptions[x.subscriber].options.rate_limit for x in leases):
            self._next_due = 0.0  # a rate may hold the next ones back, and nobody else says until when
        refused = []
        with self._lock:
            for lease in leases:
                if lease.fault is not None or not self._subscriptions[lease.subscriber].takes(lease.frame.type):
                    refused.append(lease)
                else:
                    self._here.add(lease)
            self._takers.wake()
        for lease in refused:
            self._refused(lease)

    # under the lock

    def _candidate(self, name: str) -> Lease | None:
        """The delivery of a subscriber that would start next, if there is one that may."""
        lease = self._here.next(name)
        if lease is None or self._stopping or name in self._closed():
            return None
        if name in self._on_the_loop and len(self._starting) >= MAX_STARTING:
            return None
        return lease if lease.is_surely_ours(self._lease_s) else None

    def _next(self, name: str, subscription: Subscription) -> Lease | None:
        lease = self._candidate(name)
        if lease is None or not self._takers.is_turn(name) or not self._credits.take(subscription):
            return None
        self._here.take(name)
        if subscription.is_async:
            self._starting.take(lease)
        self._prefetch.took(lease)
        if len(self._here.buffers[name]) in (0, LOW_READY):
            self._room.notify_all()
        return lease

    def _free(self, is_async: bool) -> int:
        """How many plain deliveries could start now, or async ones: as many as the loop may be asked to begin."""
        free = self._credits.free_of(is_async)
        return min(free, MAX_STARTING - len(self._starting)) if is_async else free

    def _closed(self) -> frozenset[str]:
        """Subscribers of whom nothing is to be started now: they are paused, or the loop stands still."""
        return self.paused | self._on_the_loop if self._starting.stands_still else self.paused
