"""The model: what every script must answer and leave behind, in plain Python.

It knows deliveries, not lists and streams: a delivery is queued (in a lane or in the window), leased,
delayed, or ended. Where Redis keeps it, and whether that keeps the promises, is `snapshot`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from tests.model.scene import CAST, Spec, body_of, digest_of


class Violation(AssertionError):
    """Redis did what the model forbids."""


def demand(condition: object, sentence: str) -> None:
    """Raise a violation unless the condition holds."""
    if not condition:
        raise Violation(sentence)


class Ref(NamedTuple):
    """An attempt: the `handed`-th time that the delivery of an event to a subscriber was handed out."""

    subscriber: str
    event_id: str
    handed: int

    def __str__(self) -> str:
        return f"{self.subscriber}<-{self.event_id}#{self.handed}"


class Item(NamedTuple):
    """One settlement as data: how the attempt ends, and what its handler returned."""

    ref: Ref
    how: str
    returned: tuple[Spec, ...] = ()

    def __str__(self) -> str:
        return f"{{{self.ref} {self.how}{' returns ' if self.returned else ''}{' '.join(map(str, self.returned))}}}"


@dataclass(slots=True)
class Fact:
    """An event in history."""

    spec: Spec
    origin: str
    root: str
    depth: int
    subscribers: tuple[str, ...]
    position: int = 0


@dataclass(slots=True)
class Delivery:
    """A delivery that has not ended; `foreign` when somebody wrote it into the queue by hand, `revived` when it
    is a dead letter's and came back behind whoever holds its lane."""

    subscriber: str
    event_id: str
    lane: str
    position: int = 0
    attempts: int = 0
    place: str = "queued"
    entry: str = ""
    owner: str = ""
    count: int = 0
    handed: int = 0
    silent: bool = False
    due: bool = False
    due_rank: int = 0
    head: int = 0
    starts: int = 0
    counted: bool = False
    begun: bool = False
    suspect: bool = False
    foreign: bytes = b""
    redelivery: int = 0
    revived: bool = False

    @property
    def name(self) -> str:
        return f"{self.position}:{self.redelivery}"

    @property
    def returned(self) -> bool:
        """It came back, and goes before all of its lane that came back earlier."""
        return self.head < 0


# how -> action, the outcome's state, whether the attempt counts, due (0: at once, 1: past, 2: far)
ENDINGS: dict[str, tuple[str, str, bool, int]] = {
    "done": ("end", "done", True, 0),
    "discarded": ("end", "discarded", True, 0),
    "dead": ("dead", "dead", True, 0),
    "retried": ("again", "retried", True, 1),
    "retried later": ("again", "retried", True, 2),
    "put off": ("again", "", False, 1),
    "handed back": ("again", "", False, 0),
    "interrupted": ("again", "interrupted", False, 0),
}
FAR_US = 3_600_000_000


def entry_order(entry: str) -> tuple[int, int]:
    """Return a stream id as it sorts."""
    ms, _, sequence = entry.partition("-")
    return int(ms), int(sequence)


class Oracle:
    """All that is true, and what it makes scripts answer."""

    def __init__(self, cast: Sequence[str]) -> None:
        self.routes = {name: set(CAST[name].types) for name in cast}
        self.facts: dict[str, Fact] = {}
        self.live: dict[str, dict[str, Delivery]] = {name: {} for name in cast}
        self.blocked: dict[str, dict[str, str]] = {name: {} for name in cast}
        self.ended: dict[tuple[str, str], str] = {}
        self.settles = self.heads = 0
        self.touched: set[str] = set()
        self.expected_facts: list[Fact] = []
        self.expected_outcomes: list[tuple[str, ...]] = []
        self.expected_texts: list[tuple[str, ...]] = []
        self.letters: dict[str, dict[tuple[str, int], Delivery]] = {name: {} for name in cast}
        self.expected_dead: dict[str, list[tuple[str, ...]]] = {name: [] for name in cast}

    # publishing

    def publish(self, specs: Sequence[Spec], origin: str) -> list[tuple[str, Fact | None]]:
        """Answer per event `new`, `known` or `conflict`."""
        batch: dict[str, tuple[str, str]] = {}
        accepted = [self._is_free(spec, origin, batch) for spec in specs]
        pairs = zip(specs, accepted, strict=True)
        return [self._write(spec, origin) if is_free else ("conflict", None) for spec, is_free in pairs]

    def _is_free(self, spec: Spec, origin: str, batch: dict[str, tuple[str, str]]) -> bool:
        fact = self.facts.get(spec.id)
        taken = (digest_of(fact.spec), fact.origin) if fact else batch.get(spec.id)
        if taken is None:
            batch[spec.id] = (digest_of(spec), origin)
            return True
        return taken[0] == digest_of(spec) or (origin != "publish" and taken[1] == origin)

    def _write(self, spec: Spec, origin: str) -> tuple[str, Fact]:
        if spec.id in self.facts:
            return "known", self.facts[spec.id]
        cause = self.facts.get(spec.cause)
        root = spec.correlation or (cause.root if cause else spec.cause) or spec.id
        depth = cause.depth + 1 if cause else int(bool(spec.cause))
        names = tuple(sorted(name for name, types in self.routes.items() if types & {spec.type, "*"}))
        fact = self.facts[spec.id] = Fact(spec, origin, root, depth, names)
        self.expected_facts.append(fact)
        self.touched.update(names)
        for name in names:
            self.live[name][spec.id] = Delivery(name, spec.id, lane_of(CAST[name].ordering, fact))
        return "new", fact

    # leases

    def holder(self, ref: Ref, consumer: str) -> Delivery | None:
        """Return the delivery if that attempt of that consumer holds its lease."""
        self.touched.add(ref.subscriber)
        found = self.live[ref.subscriber].get(ref.event_id)
        if found and found.place == "leased" and found.owner == consumer and found.handed == ref.handed:
            return found
        return None

    def read(self, subscribers: Sequence[str], count: int, consumer: str) -> list[Delivery]:
        """Lease the oldest entries of each window."""
        read = []
        for name in subscribers:
            ready = [d for d in self.live[name].values() if d.place == "queued" and d.entry]
            read += sorted(ready, key=lambda d: entry_order(d.entry))[:count]
        for delivery in read:
            self.touched.add(delivery.subscriber)
            delivery.place, delivery.owner, delivery.count, delivery.silent = "leased", consumer, 1, False
            delivery.handed += 1
            delivery.head, delivery.begun = 0, False
        return read

    def renew(self, refs: Sequence[Ref], consumer: str) -> list[Ref]:
        """Renew; return the lost ones."""
        lost = []
        for ref in refs:
            delivery = self.holder(ref, consumer)
            if delivery:
                delivery.silent = False
            else:
                lost.append(ref)
        return lost

    def reap(self, subscribers: Sequence[str], limit: int, consumer: str, held: set[tuple[str, str]]) -> list[Delivery]:
        """Take over what is silent, but not from oneself what one holds."""
        taken: list[Delivery] = []
        for name in subscribers:
            silent = [d for d in self.live[name].values() if d.place == "leased" and d.silent]
            for delivery in sorted(silent, key=lambda d: entry_order(d.entry)):
                own = delivery.owner == consumer and (name, delivery.entry) in held
                if not own and len(taken) < limit:
                    taken.append(delivery)
        for delivery in taken:
            self.touched.add(delivery.subscriber)
            self._outcome(delivery, "lost", delivery.owner, 0, "the worker was silent for longer than its lease")
            delivery.owner, delivery.silent, delivery.begun, delivery.suspect = consumer, False, False, True
            delivery.count += 1
            delivery.handed += 1
        return taken

    def begin(self, ref: Ref, consumer: str) -> int:
        """Count the start of a suspect; 0 when the lease is lost."""
        delivery = self.holder(ref, consumer)
        if delivery is None:
            return 0
        delivery.starts, delivery.begun, delivery.counted = delivery.starts + 1, True, True
        return delivery.starts

    def promote(self, subscribers: Sequence[str], limit: int) -> int:
        """Bring due retries back."""
        promoted = 0
        for name in subscribers:
            due = sorted((d for d in self.live[name].values() if d.due), key=lambda d: (d.due_rank, d.position))[
                : limit - promoted
            ]
            for delivery in reversed(due):
                self.touched.add(name)
                delivery.place, delivery.due = "queued", False
                self._come_back(delivery)
            promoted += len(due)
        return promoted

    # settling

    def settle(self, items: Sequence[Item], consumer: str) -> list[str]:
        """Answer per item `settled`, `refused` or `conflict`."""
        self.settles += 1
        verdicts: list[str] = []
        accepted: list[tuple[Item, Delivery]] = []
        batch: dict[str, tuple[str, str]] = {}
        for item in items:
            delivery = self.holder(item.ref, consumer)
            if delivery is None or any(delivery is other for _, other in accepted):
                verdicts.append("refused")
                continue
            origin, trial = origin_of(delivery), dict(batch)
            if all([self._is_free(spec, origin, trial) for spec in item.returned]):
                batch = trial
                accepted.append((item, delivery))
                verdicts.append("settled")
            else:
                verdicts.append("conflict")
        for item, delivery in accepted:
            self._end(item, delivery)
        return verdicts

    def _end(self, item: Item, delivery: Delivery) -> None:
        for spec in item.returned:
            self._write(spec, origin_of(delivery))
        action, state, counts, due = ENDINGS[item.how]
        attempt = delivery.attempts + delivery.count
        if state:
            texts = ("trace", "kept", delivery.foreign.decode()) if action == "dead" else ()
            self._outcome(delivery, state, delivery.owner, delivery.handed, reason_of(item), texts)
        if action == "dead":
            self.letters[delivery.subscriber][delivery.event_id, delivery.redelivery] = replace(delivery)
            self.expected_dead[delivery.subscriber].append(
                (delivery.name, reason_of(item), "trace", str(attempt), delivery.owner, "kept")
            )
        delivery.starts = 0 if state or action != "again" else delivery.starts - delivery.begun
        delivery.counted = delivery.suspect = delivery.suspect and not state and action == "again"
        delivery.entry = ""
        if action == "again":
            delivery.attempts = attempt if counts else attempt - 1
            delivery.place = "delayed" if due else "queued"
            delivery.due, delivery.due_rank = due == 1, self.settles
            if not due:
                self._come_back(delivery)
        else:
            self._close(delivery, state)

    def _come_back(self, delivery: Delivery) -> None:
        self.heads -= 1
        delivery.head = self.heads

    def _close(self, delivery: Delivery, state: str) -> None:
        name = delivery.subscriber
        demand((name, delivery.event_id) not in self.ended, f"{name} ends {delivery.event_id} twice")
        self.ended[name, delivery.event_id] = state
        del self.live[name][delivery.event_id]
        role = CAST[name]
        if state == "dead" and role.on_dead == "block" and not delivery.foreign:
            self.blocked[name][delivery.lane] = delivery.name

    def _outcome(
        self, delivery: Delivery, state: str, worker: str, elapsed: int, reason: str, texts: tuple[str, ...] = ()
    ) -> None:
        attempt, redelivery = delivery.attempts + delivery.count, str(delivery.redelivery)
        self.expected_outcomes.append(
            (str(delivery.position), delivery.subscriber, redelivery, str(attempt), state, worker, str(elapsed), reason)
        )
        self.expected_texts.append(texts)

    # deciding about dead letters

    def decide(self, decision: str, subscriber: str, names: Sequence[tuple[str, int]], by: str) -> list[str]:
        """Answer per letter `settled`, `gone` or `unreadable`; in which order, `_in_turn` tells."""
        self.touched.add(subscriber)
        letters, verdicts, decided = self.letters[subscriber], [], []
        for name in names:
            if name not in letters or name in decided:
                verdicts.append("gone")
            elif decision == "redelivered" and not letters[name].position:
                verdicts.append("unreadable")
            else:
                verdicts.append("settled")
                decided.append(name)
        for name in self._in_turn(decision, letters, decided):
            letter = letters.pop(name)
            holds = self._holds(letter)
            if holds:
                del self.blocked[subscriber][letter.lane]
            now = replace(letter, attempts=0, count=0)
            if decision == "redelivered":
                now = self._revive(letter, holds)
            self._outcome(now, decision, by, 0, "as asked")
        return verdicts

    def _holds(self, letter: Delivery) -> bool:
        return self.blocked[letter.subscriber].get(letter.lane) == letter.name

    def _in_turn(
        self, decision: str, letters: dict[tuple[str, int], Delivery], decided: Sequence[tuple[str, int]]
    ) -> list[tuple[str, int]]:
        """The last one first; after them what goes between others of an ordered lane, the earliest first."""

        def goes_between(name: tuple[str, int]) -> bool:
            letter = letters[name]
            return decision == "redelivered" and bool(CAST[letter.subscriber].ordering) and not self._holds(letter)

        heads = [name for name in reversed(decided) if not goes_between(name)]
        return heads + sorted(filter(goes_between, decided), key=lambda name: letters[name].position)

    def is_half_readable(self, subscriber: str, name: tuple[str, int]) -> bool:
        """Tell whether a letter has the header of a delivery and no event."""
        letter = self.letters[subscriber].get(name)
        return letter is not None and bool(letter.foreign) and letter.position > 0

    def _revive(self, letter: Delivery, holds: bool) -> Delivery:
        ordered = bool(CAST[letter.subscriber].ordering)
        now = Delivery(
            letter.subscriber, letter.event_id, letter.lane, letter.position, handed=letter.handed,
            redelivery=letter.redelivery + 1, revived=ordered and not holds,
        )  # fmt: skip
        del self.ended[letter.subscriber, letter.event_id]
        self.live[letter.subscriber][letter.event_id] = now
        if not now.revived:
            self._come_back(now)
        return now


def lane_of(ordering: str, fact: Fact) -> str:
    """Return the lane an event waits in."""
    if ordering == "correlation":
        return fact.root
    if ordering == "order_key":
        return fact.spec.key or fact.spec.id
    if ordering or not fact.spec.priority:
        return fact.spec.project
    return f"{fact.spec.project}\x1f{fact.spec.priority}"


def origin_of(delivery: Delivery) -> str:
    """Return the delivery's name in its namespace."""
    return f"{delivery.position}:{delivery.subscriber}:{delivery.redelivery}"


def reason_of(item: Item) -> str:
    """Return the line an attempt leaves behind."""
    return f"{item.how} as {item.ref.handed}"


def frame_of(fact: Fact, delivery: Delivery) -> bytes:
    """Return the bytes in which the delivery waits."""
    spec = fact.spec
    root = fact.root if fact.root != spec.id else ""
    header = (
        fact.position, delivery.redelivery, delivery.attempts, fact.depth, spec.type, root, delivery.lane,
        spec.priority, "",
    )  # fmt: skip
    return "\t".join(map(str, header)).encode() + b"\n" + body_of(fact.spec)
