"""The actors, and one method per operation: call Redis, ask the oracle, compare, look at what is left.

Operations are data (a name and plain arguments) and refer to events, attempts and workers by name, so
that a history can be replayed with some of its operations left out: one whose attempt or delivery
does not exist does nothing.

Time is ours: a lease is made an hour old by XCLAIM IDLE, a retry due by its score. No test waits.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from events.dead_letters import DeadLetters, Decision
from events.deliveries import Deliveries, Settlement
from events.errors import EventBusError, EventIdConflict
from events.frame import Lease
from events.keys import GROUP
from events.namespace import Declared, Namespace, Remembered
from events.publisher import Publisher, Receipt, event_arguments
from events.records import AttemptState, DeadLetter, LetterFilter
from events.routes import declare, undeclare
from events.scripts import Argument
from tests.model.archive import Archive
from tests.model.oracle import ENDINGS, FAR_US, Delivery, Item, Oracle, Ref, demand, origin_of, reason_of
from tests.model.scene import CAST, MAX_EVENT_BYTES, MAX_ROUTES, Spec, Stage, event_of
from tests.model.snapshot import Observer

LEASE_MS = 600_000
AGE_MS = 3_600_000
WORKERS = ("w0", "w1", "w2")
Operation = tuple[object, ...]


@dataclass
class Worker:
    """A process: the leases it believes in, and the attempts that run in it, zombies among them."""

    name: str
    life: int = 0
    held: dict[Ref, Lease] = field(default_factory=dict)
    running: dict[Ref, Lease] = field(default_factory=dict)
    unanswered: list[tuple[Item, ...]] = field(default_factory=list)

    @property
    def consumer(self) -> str:
        return f"{self.name}.{self.life}"


class World:
    """One namespace, its actors and its oracle.

    Args:
        client: a real server.
        stage: who plays.
        texts: the scripts' sources, perhaps with a mutation; None takes the real ones.
    """

    def __init__(self, client: Any, stage: Stage, texts: dict[str, str] | None = None) -> None:
        floor = (time.time_ns() // 1000 + 3_600_000_000) if stage.ahead else 1
        self.client = client
        self.stage = stage
        declared = [Declared(name, CAST[name].types, CAST[name].record()) for name in stage.cast]
        self.namespace = Namespace(
            client,
            f"model-{secrets.token_hex(6)}",
            lambda: Remembered(floor, declared),
            may_restore=True,
            texts=texts,
        )
        self.oracle = Oracle(stage.cast)
        self.observer = Observer(self.namespace, self.oracle, floor)
        self.archive = Archive(self.namespace, self.observer)
        self.publisher = Publisher(self.namespace, MAX_EVENT_BYTES, MAX_ROUTES)
        self.workers = {name: Worker(name) for name in WORKERS}
        self.letters: dict[tuple[str, str, int], DeadLetter] = {}
        self.namespace.open()
        self.observer.look()

    def apply(self, operation: Operation) -> None:
        """Do one operation and check everything."""
        name, *arguments = operation
        getattr(self, str(name))(*arguments)
        self.observer.look()
        self.archive.check()

    def deliveries(self, worker: Worker) -> Deliveries:
        return Deliveries(self.namespace, worker.consumer, MAX_ROUTES)

    # publishers

    def publish(self, specs: Sequence[Spec], by: Ref | None = None) -> None:
        """Publish, perhaps by a handler; a spec seen before is a publish whose reply was lost."""
        origin = "publish"
        if by is not None:
            running = [lease for worker in self.workers.values() for ref, lease in worker.running.items() if ref == by]
            if not running:
                return
            origin = running[0].delivery
        answers = self.publisher.publish_many([event_of(spec) for spec in specs], origin)
        expected = self.oracle.publish(specs, origin)
        self.observer.look()
        for spec, answer, (word, fact) in zip(specs, answers, expected, strict=True):
            said = (
                ("new" if answer.is_new else "known", answer.position)
                if isinstance(answer, Receipt)
                else ("conflict" if isinstance(answer, EventIdConflict) else repr(answer), 0)
            )
            wanted = (word, fact.position if fact else 0)
            demand(said == wanted, f"publish of {spec.id} answered {said}, the model says {wanted}")

    # workers

    def read(self, who: str, subscribers: Sequence[str], count: int, reply_lost: bool) -> None:
        worker = self.workers[who]
        leases = self.deliveries(worker).read(subscribers, count, None)
        expected = self.oracle.read(subscribers, count, worker.consumer)
        said = sorted((lease.subscriber, lease.entry_id) for lease in leases)
        wanted = sorted((delivery.subscriber, delivery.entry) for delivery in expected)
        demand(said == wanted, f"{who} read {said}, the model says {wanted}")
        if not reply_lost:
            self._take(worker, leases, expected)

    def renew(self, who: str) -> None:
        worker = self.workers[who]
        leases = list(worker.held.values())
        lost = self.deliveries(worker).renew(leases)
        gone = {ref for ref, lease in worker.held.items() if any(lease is other for other in lost)}
        expected = set(self.oracle.renew(list(worker.held), worker.consumer))
        demand(gone == expected, f"{who} is told to have lost {_names(gone)}, the model says {_names(expected)}")
        for ref in gone:
            del worker.held[ref]

    def silence(self, names: Sequence[tuple[str, str]]) -> None:
        """An hour passes without renewal of these leases."""
        for subscriber, event_id in names:
            delivery = self.oracle.live[subscriber].get(event_id)
            if delivery and delivery.place == "leased":
                queue = self.namespace.keys("queue", subscriber)
                self.client.xclaim(queue, GROUP, delivery.owner, 0, [delivery.entry], idle=AGE_MS, justid=True)
                delivery.silent = True
                self.oracle.touched.add(subscriber)

    def reap(self, who: str, subscribers: Sequence[str], limit: int, after_outage: bool) -> None:
        worker = self.workers[who]
        seconds, micros = self.client.time()
        reaped_at = 1 if after_outage else seconds * 1_000_000 + micros
        pipe = self.client.pipeline(transaction=False)
        for name in subscribers:
            pipe.hset(self.namespace.keys("sub", name), mapping={"reaped_at": reaped_at, "reap_from": 0})
        pipe.execute()
        held = list(worker.held.values())
        leases = self.deliveries(worker).reap(subscribers, LEASE_MS, limit, held)
        names = {(lease.subscriber, lease.entry_id) for lease in held}
        expected = self.oracle.reap(() if after_outage else subscribers, limit, worker.consumer, names)
        said = [(lease.subscriber, lease.entry_id, lease.count) for lease in leases]
        wanted = [(d.subscriber, d.entry, d.count) for d in expected]
        demand(said == wanted, f"{who} took over {said}, the model says {wanted}")
        self._take(worker, leases, expected)

    def begin(self, who: str, ref: Ref) -> None:
        worker = self.workers[who]
        if ref in worker.running:
            said = self.deliveries(worker).begin(worker.running[ref])
            wanted = self.oracle.begin(ref, worker.consumer)
            demand(said == wanted, f"{ref} begins for the {said}. time, the model says {wanted}")

    def settle(self, who: str, items: Sequence[Item], reply_lost: bool) -> None:
        worker = self.workers[who]
        items = [item for item in items if item.ref in worker.running]
        if not items:
            return
        said = self._settle(worker, items)
        wanted = self.oracle.settle(items, worker.consumer)
        demand(said == wanted, f"settling {' '.join(map(str, items))} answered {said}, the model says {wanted}")
        if reply_lost:
            worker.unanswered.append(tuple(items))
            return
        for item, verdict in zip(items, said, strict=True):
            if verdict != "conflict":
                worker.running.pop(item.ref, None)
                worker.held.pop(item.ref, None)

    def promote(self, who: str, subscribers: Sequence[str], limit: int) -> None:
        said = self.deliveries(self.workers[who]).promote(dict.fromkeys(subscribers, 0), limit).promoted
        wanted = self.oracle.promote(subscribers, limit)
        demand(said == wanted, f"{said} retries came back, the model says {wanted}")

    def due(self, names: Sequence[tuple[str, str]]) -> None:
        """Time passes until these retries are due."""
        for subscriber, event_id in names:
            delivery = self.oracle.live[subscriber].get(event_id)
            if delivery and delivery.place == "delayed" and not delivery.due:
                delayed = self.namespace.keys("delayed", subscriber)
                found: Any = self.client.zrange(delayed, 0, -1)
                frames = {frame: 1 for frame in found if frame.startswith(b"%d\t" % delivery.position)}
                demand(frames, f"{event_id} is not among the delayed of {subscriber}")
                self.client.zadd(delayed, frames, xx=True)
                delivery.due, delivery.due_rank = True, 0
                self.oracle.touched.add(subscriber)

    def crash(self, who: str) -> None:
        """The process dies and another starts, under a new name and with an empty memory."""
        self.workers[who] = Worker(who, self.workers[who].life + 1)

    # operators

    def retry_dead(self, subscriber: str, names: Sequence[tuple[str, int]]) -> None:
        self._decide("redelivered", subscriber, names)

    def discard_dead(self, subscriber: str, names: Sequence[tuple[str, int]]) -> None:
        self._decide("discarded", subscriber, names)

    def _decide(self, decision: Decision, subscriber: str, names: Sequence[tuple[str, int]]) -> None:
        """Decide about letters, by event and redelivery; those that were seen once are asked about again."""
        letters = DeadLetters(self.namespace)
        for letter in letters.iterate(LetterFilter(subscribers=(subscriber,))):
            raw = letter.raw.encode()
            poison = [
                event_id for (event_id, _), dead in self.oracle.letters[subscriber].items() if dead.foreign == raw
            ]
            event_id = letter.event.event_id if letter.event else poison[0]
            self.letters[subscriber, event_id, letter.redelivery] = letter
        known = [
            name
            for name in names
            if (subscriber, *name) in self.letters
            # What was written by hand and looks like a delivery would be one from now on, without an event.
            and not (decision == "redelivered" and self.oracle.is_half_readable(subscriber, name))
        ]
        said = letters.decide(decision, [self.letters[subscriber, *name] for name in known], "ann", "as asked")
        wanted = self.oracle.decide(decision, subscriber, known, "ann")
        verdicts = [decided.verdict for decided in said]
        demand(
            verdicts == wanted, f"{decision} of {known} at {subscriber} answered {verdicts}, the model says {wanted}"
        )

    # everything else

    def declare(self, name: str, types: Sequence[str]) -> None:
        declare(self.namespace, Declared(name, tuple(types), CAST[name].record()), MAX_ROUTES)
        self.oracle.routes[name] |= set(types)

    def undeclare(self, name: str, types: Sequence[str]) -> None:
        said = undeclare(self.namespace, name, types)
        wanted = self.oracle.routes[name] & set(types or self.oracle.routes[name])
        demand(set(said) == wanted, f"undeclaring {types} of {name} answered {said}")
        self.oracle.routes[name] -= wanted

    def archive_step(self, who: str, limit: int, margin: int, then: str) -> None:
        self.archive.step(who, limit, margin, then)

    def archive_outcomes(self, who: str, limit: int, then: str) -> None:
        self.archive.step_outcomes(who, limit, then)

    def archive_late(self, who: str) -> None:
        self.archive.late(who)

    def history(self, since: int) -> None:
        self.archive.look(since)

    def position(self) -> None:
        self.observer.direct(int(self.namespace.call("position", 0)))

    def forget_scripts(self) -> None:
        self.client.script_flush()

    def poison(self, subscriber: str, number: int, lane: str) -> None:
        """Somebody writes into a queue by hand: a frame that no publish made, or no frame at all."""
        position = 1000 + number if lane else 0
        raw = f"{position}\t0\t0\t0\tA\tnobody\t{lane}\t0\t\nnot an event".encode() if lane else b"garbage %d" % number
        event_id = f"poison {number}"
        if (subscriber, event_id) in self.oracle.ended or event_id in self.oracle.live[subscriber]:
            return
        self.client.xadd(self.namespace.keys("queue", subscriber), {"f": raw})
        self.oracle.live[subscriber][event_id] = Delivery(subscriber, event_id, lane, position, foreign=raw)
        self.oracle.touched.add(subscriber)

    # the end

    def drain(self) -> None:
        """Everybody dies; one worker that only does its duty handles all that is left."""
        for name in self.workers:
            self.crash(name)
        everyone, who = self.stage.cast, WORKERS[0]
        worker = self.workers[who]
        for _ in range(20 + 4 * sum(len(live) for live in self.oracle.live.values())):
            live = [d for deliveries in self.oracle.live.values() for d in deliveries.values()]
            if all(d.place == "queued" and d.lane in self.oracle.blocked[d.subscriber] for d in live):
                break
            self.due([(d.subscriber, d.event_id) for d in live])
            self.apply(("promote", who, everyone, 1000))
            stale = [(d.subscriber, d.event_id) for d in live if d.place == "leased"]
            if stale:
                self.silence(stale)
                self.apply(("reap", who, everyone, 1000, False))
            self.apply(("read", who, everyone, 100, False))
            ends = [Item(ref, "dead" if lease.fault else "done") for ref, lease in worker.running.items()]
            self.apply(("settle", who, ends, False))
        self.observer.look_at_all()
        self.archive.finish()
        self.observer.look_at_all()
        self.observer.check_end()

    def erase(self) -> None:
        """Delete the namespace."""
        keys = list(self.client.scan_iter(f"{self.namespace.keys.prefix}*", 5000))
        if keys:
            self.client.unlink(*keys)

    def _take(self, worker: Worker, leases: Sequence[Lease], expected: Sequence[Delivery]) -> None:
        found = {(delivery.subscriber, delivery.entry): delivery for delivery in expected}
        for lease in leases:
            delivery = found[lease.subscriber, lease.entry_id]
            ref = Ref(lease.subscriber, delivery.event_id, delivery.handed)
            said, wanted = (lease.attempt, lease.count), (delivery.attempts + delivery.count, delivery.count)
            demand(said == wanted, f"the attempt of {ref} is {said}, the model says {wanted}")
            demand(
                delivery.foreign or lease.starts == delivery.starts,
                f"{ref} was started {lease.starts} times, the model says {delivery.starts}",
            )
            demand(delivery.foreign or lease.fault is None, f"{ref} cannot be read: {lease.fault}")
            demand(delivery.foreign or lease.delivery == origin_of(delivery), f"{ref} is called {lease.delivery}")
            worker.held[ref] = worker.running[ref] = lease

    def _settle(self, worker: Worker, items: Sequence[Item]) -> list[str]:
        settlements = [_settlement(item, worker.running[item.ref]) for item in items]
        return [_word(answer) for answer in self.deliveries(worker).settle(settlements)]


def _settlement(item: Item, lease: Lease) -> Settlement:
    action, state, counts, due = ENDINGS[item.how]
    events: list[list[Argument]] = [event_arguments(event_of(spec), MAX_EVENT_BYTES) for spec in item.returned]
    return Settlement(
        lease,
        cast(Literal["end", "again", "dead"], action),
        AttemptState(state) if state else None,
        attempts=lease.attempt if counts else lease.attempt - 1,
        delay_us=(0, -1, FAR_US)[due],
        elapsed_us=item.ref.handed,
        reason=reason_of(item),
        traceback="trace",
        output=b"kept",
        events=events,
    )


def _names(refs: Iterable[Ref]) -> list[str]:
    return sorted(map(str, refs))


def _word(answer: str | EventBusError) -> str:
    return "conflict" if isinstance(answer, EventIdConflict) else str(answer)
