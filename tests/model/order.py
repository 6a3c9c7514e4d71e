"""A machine of rules that drives one ordered subscriber, and what must hold of its order after each of them.

Publishing, reading, settling, crashes, take-overs, retries, zombies and pauses come in any order that
Hypothesis can think of; a failure is printed as the shortest sequence of rules that still fails. Unlike
`oracle.py` this knows nothing of lanes, windows or leases: only events, keys, and what has ended.

Time is ours: a lease is made an hour old by XCLAIM IDLE, a retry due by its score.
"""

from __future__ import annotations

import re
import secrets
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from events.deliveries import Deliveries, Settlement
from events.event import Event
from events.frame import Lease
from events.keys import GROUP
from events.namespace import Declared, Namespace, Remembered
from events.publisher import Publisher, Receipt, event_arguments
from events.records import AttemptState
from events.routes import declare
from events.steering import steer
from tests.model.oracle import demand
from tests.model.scene import MAX_EVENT_BYTES, MAX_ROUTES, Role

NAME = "Keyed"
WORKERS = ("w0", "w1")
KEYS = st.sampled_from(("k1", "k2", "k3"))
LEASE_MS, HOUR_MS, HOUR_US = 600_000, 3_600_000, 3_600_000_000
MAX_EVENTS = 40
ENDS = ("done", "discarded", "dead")

# how -> the settlement's action, the outcome's state, microseconds until the next try
HOWS: dict[str, tuple[str, str | None, int]] = {
    "done": ("end", "done", 0),
    "discarded": ("end", "discarded", 0),
    "dead": ("dead", "dead", 0),
    "retried": ("again", "retried", HOUR_US),
    "retried at once": ("again", "retried", 0),
    "interrupted": ("again", "interrupted", 0),
    "handed back": ("again", None, 0),
}

Endings = list[tuple[int, str, list[str | None]]]  # of which attempt, how, and the keys of the events it returns
ENDINGS = st.lists(
    st.tuples(
        st.integers(0, 1000),
        st.sampled_from(("done", "done", *HOWS)),
        st.lists(st.sampled_from((None, None, "k1", "k2", "k3")), max_size=2),  # None: the key of the first
    ),
    min_size=1,
    max_size=3,
)


@dataclass(eq=False)
class Attempt:
    """A handler that runs, or believes so: its worker, its lease, and the event."""

    worker: str
    lease: Lease

    @property
    def event_id(self) -> str:
        return self.lease.event.event_id


class Order(RuleBasedStateMachine):
    """One namespace, one ordered subscriber, and what is known of its events.

    Attributes:
        client, ordering, on_dead, window, texts: set by `machine`.
    """

    client: ClassVar[Any]
    ordering: ClassVar[str]
    on_dead: ClassVar[str]
    window: ClassVar[int]
    texts: ClassVar[dict[str, str] | None]

    @initialize(keys=st.lists(KEYS, min_size=4, max_size=12))
    def begin(self, keys: list[str]) -> None:
        self.namespace = Namespace(
            self.client, f"order-{secrets.token_hex(6)}", lambda: Remembered(0, ()), may_restore=True, texts=self.texts
        )
        self.namespace.open()
        role = Role(("A",), window=self.window, ordering=self.ordering, on_dead=self.on_dead)
        declare(self.namespace, Declared(NAME, role.types, role.record()), MAX_ROUTES)
        self.publisher = Publisher(self.namespace, MAX_EVENT_BYTES, MAX_ROUTES)
        self.history: dict[str, list[str]] = {}
        self.key_of: dict[str, str] = {}
        self.ended: dict[str, str] = {}
        self.blocked: set[str] = set()
        self.owner: dict[str, Attempt] = {}
        self.attempts: list[Attempt] = []
        self.lives = dict.fromkeys(WORKERS, 0)
        self.publish(keys, 0)

    # the rules

    @rule(keys=st.lists(KEYS, min_size=1, max_size=4), priority=st.sampled_from((0, 0, 9, -9)))
    def publish(self, keys: list[str], priority: int) -> None:
        if len(self.key_of) < MAX_EVENTS:
            answers = self.publisher.publish_many([self._event(key, priority) for key in keys])
            demand(all(isinstance(answer, Receipt) for answer in answers), f"publishing answered {answers}")

    @rule(who=st.sampled_from(WORKERS), count=st.integers(1, 4))
    def read(self, who: str, count: int) -> None:
        self._handed_out(who, self._deliveries(who).read([NAME], count, None))

    @rule(who=st.sampled_from(WORKERS), count=st.integers(1, 4), ends=ENDINGS)
    def work(self, who: str, count: int, ends: Endings) -> None:
        """A worker reads, and some of what it has ends in one call."""
        self.read(who, count)
        self._end([attempt for attempt in self.owner.values() if attempt.worker == self._consumer(who)], ends)

    @precondition(lambda self: self.attempts)
    @rule(ends=ENDINGS)
    def settle(self, ends: Endings) -> None:
        """Attempts of one worker end in one call, zombies and repetitions among them."""
        first = self.attempts[ends[0][0] % len(self.attempts)]
        self._end([attempt for attempt in self.attempts if attempt.worker == first.worker], ends)

    @rule(who=st.sampled_from((None, None, *WORKERS)))
    def crash(self, who: str | None) -> None:
        """A process dies, another takes its place, and what it held falls silent; now and then."""
        if who is not None:
            self._die(who)

    def _die(self, who: str) -> None:
        silent = [attempt for attempt in self.owner.values() if attempt.worker == self._consumer(who)]
        self.lives[who] += 1
        self.attempts = [attempt for attempt in self.attempts if attempt not in silent]
        self._fall_silent(silent)

    @precondition(lambda self: self.owner)
    @rule(which=st.integers(0, 1000))
    def stall(self, which: int) -> None:
        """A worker does not renew for a while, and lives: if another takes over, it is a zombie."""
        attempt = list(self.owner.values())[which % len(self.owner)]
        self._fall_silent([attempt])

    @rule(who=st.sampled_from(WORKERS), limit=st.sampled_from((1, 100)))
    def reap(self, who: str, limit: int) -> None:
        seconds, micros = self.client.time()
        record = {"reaped_at": seconds * 1_000_000 + micros, "reap_from": 0}
        self.client.hset(self.namespace.keys("sub", NAME), mapping=record)
        self._handed_out(who, self._deliveries(who).reap([NAME], LEASE_MS, limit))

    @rule(who=st.sampled_from(WORKERS), are_due=st.booleans())
    def promote(self, who: str, are_due: bool) -> None:
        """A worker tends the queue, perhaps after all retries have become due."""
        if are_due:
            delayed = self.namespace.keys("delayed", NAME)
            frames = dict.fromkeys(self.client.zrange(delayed, 0, -1), 1)
            if frames:
                self.client.zadd(delayed, frames)
        self._deliveries(who).promote({NAME: 0})

    @precondition(lambda self: self.key_of)
    @rule(key=KEYS)
    def tamper(self, key: str) -> None:
        """Somebody writes what is no event into the queue, in a key's name."""
        frame = f"{1000 + self.client.incr(self.namespace.keys('meta') + ':n')}\t0\t0\t0\tA\tr\t{key}\t0\t\nno event"
        self.client.xadd(self.namespace.keys("queue", NAME), {"f": frame})

    @rule(paused=st.sampled_from((False, False, False, True)))
    def steer(self, paused: bool) -> None:
        steer(self.namespace, NAME, paused=paused)

    # what always holds

    @invariant()
    def keeps_order_and_loses_nothing(self) -> None:
        if not hasattr(self, "namespace"):
            return
        waiting, window, delayed, dead = self._look()
        places = Counter([*waiting, *window, *delayed])
        for key, events in self.history.items():
            ended = [event_id in self.ended for event_id in events]
            demand(
                ended == sorted(ended, reverse=True),
                f"{key} ended out of order: {list(zip(events, ended, strict=True))}",
            )
            left = events[sum(ended) :]
            on_the_way = [event_id for event_id in [*window, *delayed] if self.key_of[event_id] == key]
            demand(len(on_the_way) <= 1, f"of {key}, {on_the_way} are on their way at once")
            demand(not on_the_way or on_the_way == left[:1], f"{on_the_way} is on its way before {left[:1]} of {key}")
            demand(not (on_the_way and key in self.blocked), f"{on_the_way} is on its way, and {key} is blocked")
            for event_id in events:
                wanted = 0 if event_id in self.ended else 1
                demand(places[event_id] == wanted, f"{event_id} of {key} is in {places[event_id]} places")
        demand(sorted(dead) == sorted(e for e, how in self.ended.items() if how == "dead"), f"dead letters are {dead}")

    def teardown(self) -> None:
        """All that is left is handled, in order, by one worker that only does its duty."""
        if not hasattr(self, "namespace"):
            return
        try:
            self._finish()
        finally:
            self.client.unlink(*self.client.scan_iter(f"{self.namespace.keys.prefix}*", 1000))

    def _finish(self) -> None:
        self.steer(False)
        for who in WORKERS:
            self._die(who)
        for _ in range(4 * MAX_EVENTS):
            self.promote(WORKERS[0], True)
            self.reap(WORKERS[0], 100)
            self.read(WORKERS[0], 100)
            held = [attempt for attempt in self.owner.values() if attempt.worker == self._consumer(WORKERS[0])]
            self._settle(dict.fromkeys(held, ("done", [])))
            self.keeps_order_and_loses_nothing()
            if not self._unended():
                return
        demand(False, f"{self._unended()} never ended")

    def _unended(self) -> list[str]:
        return [e for e, key in self.key_of.items() if e not in self.ended and key not in self.blocked]

    # inside

    def _event(self, key: str, priority: int) -> Event:
        """Make the next event of a key, and note its place in history."""
        number = len(self.key_of)
        event_id = f"e{number}"
        self.key_of[event_id] = key
        self.history.setdefault(key, []).append(event_id)
        fields: dict[str, Any] = {
            "project": {"project_id": key},
            "correlation": {"project_id": f"p{number % 2}", "correlation_id": key},
            "order_key": {"project_id": f"p{number % 2}", "metadata": {"order_key": key}},
        }[self.ordering]
        metadata = {"priority": priority, **fields.pop("metadata", {})}
        return Event(event_id=event_id, type="A", actor="player", metadata=metadata, **fields)

    def _handed_out(self, who: str, leases: list[Lease]) -> None:
        for lease in leases:
            if lease.fault is not None:  # as workers do with what they cannot read
                [said] = self._deliveries(who).settle([_settlement(lease, "dead", [])])
                demand(said == "settled", f"giving up what is no event answered {said}")
                continue
            attempt = Attempt(self._consumer(who), lease)
            key = self.key_of[attempt.event_id]
            left = [event_id for event_id in self.history[key] if event_id not in self.ended]
            demand(left[:1] == [attempt.event_id], f"{attempt.event_id} is handed out before {left[:1]} of {key}")
            demand(lease.suspect or attempt.event_id not in self.owner, f"{attempt.event_id} is handed out twice")
            self.owner[attempt.event_id] = attempt
            self.attempts = [*self.attempts[-20:], attempt]

    def _end(self, attempts: list[Attempt], ends: Endings) -> None:
        """End some of these attempts; what is done may return events, of the first one's key for instance."""
        if attempts:
            same = self.key_of[attempts[ends[0][0] % len(attempts)].event_id]
            self._settle(
                {attempts[which % len(attempts)]: (how, [key or same for key in keys]) for which, how, keys in ends}
            )

    def _settle(self, ends: dict[Attempt, tuple[str, list[str]]]) -> None:
        """Settle in one call, and see to it that only those are heard who hold their deliveries."""
        if not ends:
            return
        settlements = []
        for attempt, (how, returns) in ends.items():
            is_heard = how == "done" and self._holds(attempt) and len(self.key_of) < MAX_EVENTS
            settlements.append(_settlement(attempt.lease, how, [self._event(key, 0) for key in returns * is_heard]))
        [worker] = {attempt.worker for attempt in ends}
        for (attempt, (how, _)), said in zip(
            ends.items(), Deliveries(self.namespace, worker, MAX_ROUTES).settle(settlements), strict=True
        ):
            wanted = "settled" if self._holds(attempt) else "refused"
            demand(said == wanted, f"{how} of {attempt.event_id} answered {said}, and should be {wanted}")
            if said == "settled":
                self._ended(attempt, how)  # its handler may settle once more, for a reply that was lost
            elif attempt in self.attempts:
                self.attempts.remove(attempt)

    def _ended(self, attempt: Attempt, how: str) -> None:
        del self.owner[attempt.event_id]
        if how in ENDS:
            demand(attempt.event_id not in self.ended, f"{attempt.event_id} ended twice")
            self.ended[attempt.event_id] = how
            if how == "dead" and self.on_dead == "block":
                self.blocked.add(self.key_of[attempt.event_id])

    def _holds(self, attempt: Attempt) -> bool:
        return self.owner.get(attempt.event_id) is attempt

    def _fall_silent(self, attempts: list[Attempt]) -> None:
        queue = self.namespace.keys("queue", NAME)
        for attempt in attempts:
            self.client.xclaim(
                queue, GROUP, attempt.worker, 0, [attempt.lease.entry_id], idle=HOUR_MS, justid=True
            )  # fmt: skip

    def _look(self) -> tuple[list[str], list[str], list[str], list[str]]:
        """Return the events that wait in lanes, are in the window, are delayed, and are dead letters."""
        keys = self.namespace.keys
        lanes = [f"{keys('lane', NAME)}:{key}" for key in self.history]
        pipe = self.client.pipeline()
        for lane in lanes:
            pipe.lrange(lane, 0, -1)
        pipe.xrange(keys("queue", NAME))
        pipe.zrange(keys("delayed", NAME), 0, -1)
        pipe.xrange(keys("dead", NAME))
        *waiting, window, delayed, dead = pipe.execute()
        return (
            _events(frame for frames in waiting for frame in frames),
            _events(fields[b"f"] for _, fields in window),
            _events(delayed),
            _events(fields[b"f"] for _, fields in dead),
        )

    def _consumer(self, who: str) -> str:
        return f"{who}.{self.lives[who]}"

    def _deliveries(self, who: str) -> Deliveries:
        return Deliveries(self.namespace, self._consumer(who), MAX_ROUTES)


def machine(
    client: Any, ordering: str, on_dead: str = "skip", texts: dict[str, str] | None = None, window: int = 3
) -> type[Order]:
    """Return the machine for one subscriber; `texts` are the scripts' sources, perhaps with a fault planted."""
    name = f"Order by {ordering}, {on_dead}"
    return type(
        name, (Order,),
        {"client": client, "ordering": ordering, "on_dead": on_dead, "texts": texts, "window": window},
    )  # fmt: skip


def _settlement(lease: Lease, how: str, returned: list[Event]) -> Settlement:
    action, state, delay_us = HOWS[how]
    events = [event_arguments(event, MAX_EVENT_BYTES) for event in returned]
    return Settlement(
        lease, cast(Literal["end", "again", "dead"], action), AttemptState(state) if state else None,
        attempts=lease.attempt, delay_us=delay_us, events=events,
    )  # fmt: skip


def _events(frames: Iterable[bytes]) -> list[str]:
    """Return the ids of the events in these frames; what is no event has none."""
    found = [re.search(rb'"event_id":"(\w+)"', frame) for frame in frames]
    return [one[1].decode() for one in found if one]
