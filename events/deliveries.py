"""A consumer's hold on its deliveries: read, renew, take over, settle. Scripts below, workers above.

                     publish
                        │
        lane (waiting) ─┴─> window (ready) ──read──> leased ──settle end──> gone   [done, discarded]
             ▲                                        │  │ └──settle dead─> dead letter
             │  come back, at the head                │  └── silent for a lease ──reap──> leased by another
             ├────────────── hand back ───────────────┤
             └── delayed <──────────── retry ─────────┘

Invariant: of all attempts at one delivery at most one settles, because the token of every settle
is (entry id, consumer, delivery count) and each change of hands changes it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from events.connection import exchange, mapped
from events.digits import whole
from events.encoding import decode
from events.errors import EventBusError, MalformedEntry
from events.event import Event
from events.frame import Lease, lease_of, parse_frame
from events.joining import Joined
from events.keys import GROUP
from events.namespace import Namespace
from events.publisher import refusal
from events.records import AttemptState
from events.scripts import Argument

MAX_CHUNK = 250
Verdict = Literal["settled", "refused", "later"]


def _bytes(text: str) -> bytes:
    """Encode text of an exception, which may hold what UTF-8 cannot: a file name's lone surrogates."""
    return text.encode(errors="backslashreplace")


_VERDICTS: dict[bytes, Verdict] = {b"settled": "settled", b"refused": "refused", b"LATER": "later"}


@dataclass(frozen=True, slots=True)
class Settlement:
    """How one attempt ends.

    Attributes:
        lease: whose token proves the right to settle.
        action: `end` gives up the delivery, `again` brings it back, `dead` makes a dead letter.
        state: what the outcome says; None writes no outcome (put off, handed back untouched).
        attempts: (again) tries to count so far. delay_us: (again) how long to wait; 0 is not at all.
        elapsed_us: how long the handler ran. reason: one line. traceback: text for a dead letter.
        output: returned events that could not be published, kept with a dead letter.
        events: the arguments of returned events, from `publisher.event_arguments`.
    """

    lease: Lease
    action: Literal["end", "again", "dead"]
    state: AttemptState | None
    attempts: int = 0
    delay_us: int = 0
    elapsed_us: int = 0
    reason: str = ""
    traceback: str = ""
    output: bytes = b""
    events: Sequence[Sequence[Argument]] = field(default=())

    @property
    def size_bytes(self) -> int:
        """About how much the settlement makes Redis move: what is sent, and the frame that comes back."""
        moved = len(self.lease.frame.body) if self.action != "end" else 0
        return moved + len(self.output) + sum(len(event[-1]) for event in self.events if isinstance(event[-1], bytes))

    def arguments(self, consumer: str) -> list[Argument]:
        """Return the item as settle.lua reads it: what ends, and nothing comes of it, takes few."""
        lease, frame = self.lease, self.lease.frame
        reason = _bytes(" ".join(self.reason.split())[:2000]) if self.reason else b""
        line: Argument = ""
        if self.state:
            line = f"{frame.position}\t{lease.subscriber}\t{frame.redelivery}\t{lease.attempt}\t{self.state.value}\t"
            line = f"{line}{consumer}\t{self.elapsed_us}\t".encode() + reason
        place: list[Argument] = [
            lease.subscriber, lease.entry_id, lease.count, frame.position, frame.redelivery, frame.lane, line,
        ]  # fmt: skip
        if self.action == "end" and not (self.events or frame.scopes or lease.begun):
            return [*place, 0]
        return [
            *place, 1, self.action, lease.attempt, self.attempts, self.delay_us, reason,
            _bytes(self.traceback[-16_000:]), self.output, lease.event_id, frame.root or lease.event_id, frame.depth,
            frame.scopes, 2 if lease.begun else int(lease.suspect),
            len(self.events), *(argument for event in self.events for argument in event),
        ]  # fmt: skip


def _event_in(frame: bytes) -> Event | None:
    try:
        read = parse_frame(frame)
        return decode(read.body, read.root)
    except MalformedEntry:
        return None


class Tended(NamedTuple):
    """What tending queues found.

    Attributes:
        promoted: retries brought back.
        wait_s: seconds until a retry is due or a rate lets the next delivery in; None when neither waits.
        scheduled_s: seconds until an event is due that was scheduled; None when none is.
        paused: subscribers whose deliveries are not to be started.
        filling: subscribers that are being back-filled.
        held_back: subscribers of whom more waits than their unlimited window lets in, until it is told
            that more of them runs.
        tell_s: seconds before which it is not to be told more: many workers tell it, or of many subscribers.
    """

    promoted: int
    wait_s: float | None
    scheduled_s: float | None
    paused: frozenset[str]
    filling: frozenset[str]
    held_back: frozenset[str]
    tell_s: float


class Deliveries:
    """The deliveries of some subscribers, as one consumer of the group sees them.

    Args:
        namespace: where they wait.
        consumer: this consumer's name, random per start: a name that came back would own the
            leases of the process that had it before.
        max_routes: most subscribers of one type, for events that handlers return.
    """

    def __init__(self, namespace: Namespace, consumer: str, max_routes: int) -> None:
        self.namespace = namespace
        self.consumer = consumer
        self._max_routes = max_routes

    def read(self, subscribers: Sequence[str], count: int, block_ms: int | None) -> list[Lease]:
        """Lease up to `count` ready deliveries of each subscriber; wait for the first one.

        Args:
            block_ms: milliseconds to wait; None returns at once.

        Raises:
            ScriptFailed: with code NOGROUP when Redis lost the namespace.
        """
        client, keys = self.namespace.client, self.namespace.keys
        queues = [keys("queue", name) for name in subscribers]
        blocking = () if block_ms is None else ("BLOCK", block_ms)
        command = ("XREADGROUP", "GROUP", GROUP, self.consumer, "COUNT", count, *blocking, "STREAMS", *queues)
        asked_at = time.monotonic()  # not after the reply: this process may be stopped before it reads that
        with mapped(client):
            reply = exchange(client, *command, *(">" for _ in queues))
        names = {queue.encode(): name for queue, name in zip(queues, subscribers, strict=True)}
        leases = []
        for stream, entries in reply.items() if isinstance(reply, dict) else reply or ():
            name = names[stream]
            for entry_id, fields in entries:
                found = dict(zip(fields[::2], fields[1::2], strict=True)) if fields else {}
                starts = whole(found.get(b"s"))  # no suspect without them, or with what a hand wrote
                lease = lease_of(name, entry_id, 1, found.get(b"f"), suspect=starts is not None)
                lease.starts, lease.renewed_at = starts or 0, asked_at
                leases.append(lease)
        return leases

    def settle(self, settlements: Sequence[Settlement]) -> list[Verdict | EventBusError]:
        """End attempts in one step each; answer each by itself.

        Returns:
            Per settlement `settled`; `refused` when the lease is not this consumer's any more, or an
            earlier send whose reply was lost has settled it; `later` when the call had enough to do, to
            be sent again; or why its events were refused, in which case nothing of it was written.

        Raises:
            RedisUnavailable: some may be settled; sending all again is safe.
            ScriptFailed: nothing is settled for sure; send one by one.
        """
        flat = [argument for settlement in settlements for argument in settlement.arguments(self.consumer)]
        replies = self.namespace.call("settle", self.consumer, self._max_routes, *flat)
        return [_VERDICTS.get(reply) or refusal(reply, self._max_routes) or "refused" for reply in replies]

    def renew(self, leases: Sequence[Lease]) -> list[Lease]:
        """Renew leases without counting them; return those this consumer has lost."""
        lost: list[Lease] = []
        for start in range(0, len(leases), MAX_CHUNK):
            chunk = leases[start : start + MAX_CHUNK]
            flat: list[Argument] = []
            for lease in chunk:
                flat += (lease.subscriber, lease.entry_id, lease.count)
            asked_at = time.monotonic()
            gone = {number - 1 for number in self.namespace.call("renew", self.consumer, *flat)}
            for number, lease in enumerate(chunk):
                if number in gone:
                    lost.append(lease)
                else:
                    lease.renewed_at = asked_at
        return lost

    def reap(
        self,
        subscribers: Sequence[str],
        lease_ms: int,
        limit: int,
        held: Iterable[Lease] = (),
        *,
        alone: int = MAX_CHUNK,
        sweep: bool = False,
    ) -> list[Lease]:
        """Take over deliveries of silent workers; each comes as a suspect, its attempt counted.

        Args:
            limit: most to take over. alone: most of those whose last taker fell silent too.
            held: leases of this process that it has not renewed lately; never taken from itself.
            sweep: also remove consumers that hold nothing and have been idle for ten leases.
        """
        own = [part for lease in held for part in (lease.subscriber, lease.entry_id)]
        asked_at = time.monotonic()
        reply = self.namespace.call(
            "reap", self.consumer, lease_ms, limit, alone, int(sweep), len(subscribers), *subscribers, *own
        )
        taken = []
        for name, entry_id, count, starts, frame in reply:
            lease = lease_of(name.decode(), entry_id, int(count), frame, suspect=True)
            lease.starts = int(starts)
            lease.renewed_at = asked_at
            taken.append(lease)
        return taken

    def promote(self, running: Mapping[str, int], limit: int = 1000, beat: str = "") -> Tended:
        """Bring due retries back, let lanes move, and say that this consumer lives.

        Args:
            running: per subscriber, in the order to tend them, how many of its handlers have been
                running here for a while, or usually do; an unlimited window grows with it.
            beat: what this consumer says of itself, JSON; the empty text leaves what it said before.
        """
        flat = [part for pair in running.items() for part in pair]
        reply = self.namespace.call("promote", self.consumer, limit, beat, *flat)
        promoted, wait_us, due_us, tell_us, *names = reply
        wait_s, due_s = (int(us) / 1e6 if int(us) >= 0 else None for us in (wait_us, due_us))
        paused, filling, held_back = (frozenset(name.decode() for name in some) for some in names)
        return Tended(int(promoted), wait_s, due_s, paused, filling, held_back, int(tell_us) / 1e6)

    def leave(self, subscribers: Iterable[str] = ()) -> None:
        """Be no longer counted among the workers that live; call when nothing is held."""
        client, keys = self.namespace.client, self.namespace.keys
        with mapped(client), client.pipeline(transaction=True) as pipe:
            pipe.zrem(keys("workers"), self.consumer)
            pipe.hdel(keys("beats"), self.consumer)
            for name in subscribers:
                pipe.hdel(keys("running", name), self.consumer)
            pipe.execute()

    def joined(self, lease: Lease) -> Joined:
        """Return what the join whose delivery this is has seen so far; what cannot be read counts as left out."""
        client, keys = self.namespace.client, self.namespace.keys
        part = str(lease.frame.position)
        with mapped(client), client.pipeline(transaction=True) as pipe:
            pipe.hmget(keys("join", lease.subscriber, part), "why", "dead", "left")
            pipe.lrange(keys("joined", lease.subscriber, part), 0, -1)
            (why, dead, left), frames = pipe.execute()
        events = tuple(event for event in map(_event_in, frames) if event is not None)
        unreadable = len(frames) - len(events)
        reason: Any = why.decode(errors="replace") if why else "lost"
        if unreadable and reason == "complete":
            reason = "dead"
        return Joined(events, reason, whole(dead) or 0, (whole(left) or 0) + unreadable)

    def begin(self, lease: Lease) -> int:
        """Count the start of a suspect; return its starts so far, 0 when the lease is lost."""
        lease.begun = True  # should the reply be lost: better a start too few than a killer too many
        reply = self.namespace.call(
            "begin", self.consumer, lease.subscriber, lease.entry_id, lease.count, lease.frame.name
        )
        lease.begun = reply != b"refused"
        return int(reply) if lease.begun else 0
