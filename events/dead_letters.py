"""Dead letters as Redis keeps them: found a page at a time, and decided about, each once.

    settle dead ──> open ──redelivered──> a new delivery, redelivery + 1, its attempts begin anew
                     │  ──discarded───> gone for good; its ordered lane goes on
                     └──purged─────> likewise, and SQL forgets what it held

The letter is in `dead:<S>` exactly as long as nobody has decided (`lua/resolve.lua`). Its copy in SQL stays.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from events.budget import Budget
from events.connection import mapped
from events.digits import whole
from events.encoding import decode
from events.errors import MalformedEntry
from events.event import Event
from events.frame import UNREADABLE, Frame, parse_frame
from events.kept import kept
from events.namespace import Namespace
from events.publisher import order_key_of
from events.records import DeadLetter, LetterFilter
from events.scripts import Argument

Decision = Literal["redelivered", "discarded", "purged"]
Verdict = Literal["settled", "gone", "unreadable", "undeclared"]
MAX_BATCH = 100
"""Most letters that one call decides about."""
PAGE_BYTES = 8_000_000
_VERDICTS: dict[bytes, Verdict] = {b"gone": "gone", b"unreadable": "unreadable", b"undeclared": "undeclared"}


@dataclass(frozen=True, slots=True)
class Decided:
    """What came of deciding about one letter.

    Attributes:
        letter: as it was read.
        verdict: `settled`; `gone` when somebody has decided before; `unreadable` when it never was a
            delivery and cannot be delivered again; `undeclared` when nobody declares its subscriber.
        redelivery: of the delivery that it is now, when it is delivered again.
    """

    letter: DeadLetter
    verdict: Verdict
    redelivery: int = 0


class DeadLetters:
    """The dead letters of one namespace that nobody has decided about. Threads may share it.

    Raises, in every method:
        RedisUnavailable, ScriptFailed.
    """

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self._client = namespace.client
        self._keys = namespace.keys

    def subscribers(self) -> list[str]:
        """Return every declared subscriber, by name."""
        with mapped(self._client):
            names: Any = self._client.smembers(self._keys("subscribers"))
        with kept(self._keys("subscribers")):
            return sorted(name.decode() for name in names)

    def iterate(self, wanted: LetterFilter, page: int = MAX_BATCH) -> Iterator[DeadLetter]:
        """Iterate over the letters that match, subscriber by subscriber, each's oldest first; see `pages`."""
        for letters in self.pages(wanted, page):
            yield from letters

    def pages(self, wanted: LetterFilter, page: int = MAX_BATCH) -> Iterator[list[DeadLetter]]:
        """Iterate over pages of letters that match, none of them empty.

        A page is read at a time, of at most `page` letters, fewer when they are large. What dies while this
        goes on may be among them, unless `wanted.before` says otherwise; what is decided meanwhile makes
        no gap.
        """
        for subscriber in wanted.subscribers or self.subscribers():
            for letters in self._pages(subscriber, wanted, page):
                if matching := [letter for letter in letters if wanted.matches(letter)]:
                    yield matching

    def newest(self, subscriber: str) -> DeadLetter | None:
        """Return the last dead letter of a subscriber; None when it has none."""
        with mapped(self._client):
            entries: Any = self._client.xrevrange(self._keys("dead", subscriber), count=1)
        return read_letter(subscriber, *entries[0]) if entries else None

    def has(self, letters: Sequence[DeadLetter]) -> list[bool]:
        """Tell of each letter whether nobody has decided about it, and Redis has not lost it."""
        with mapped(self._client), self._client.pipeline(transaction=False) as pipe:
            for letter in letters:
                pipe.xrange(self._keys("dead", letter.subscriber), letter.position, letter.position, count=1)
            return [bool(found) for found in pipe.execute()]

    def holders(self, letters: Sequence[DeadLetter]) -> list[str]:
        """Return for each letter the delivery that holds its lane, `<position>:<redelivery>`; empty if none does."""
        with mapped(self._client), self._client.pipeline(transaction=False) as pipe:
            for letter in letters:
                pipe.hget(self._keys("held", letter.subscriber), letter.lane)
            return [(holder or b"").decode(errors="replace") for holder in pipe.execute()]

    def decide(self, decision: Decision, letters: Sequence[DeadLetter], by: str, reason: str = "") -> list[Decided]:
        """Bring deliveries back, or give them up for good; each in one step, with its outcome.

        Args:
            letters: as they were read from Redis; sent at most `MAX_BATCH` at a time.
            by: who decides, one line; the outcome keeps it. reason: why, one line.

        Returns:
            What came of each, in their order.

        Guarantee: each is decided once, whoever else decides at the same time. Deciding again after
            an error is safe; what an earlier call settled is `gone` then.
        """
        answers: dict[int, Decided] = {}
        left = list(enumerate(letters))
        while left:
            batch, left = left[:MAX_BATCH], left[MAX_BATCH:]
            flat = [argument for _, letter in batch for argument in _arguments(letter)]
            replies = self._namespace.call("resolve", decision, line(by, 200), line(reason, 2000), *flat)
            pairs = list(zip(batch, replies, strict=True))
            answers.update((number, _decided(letter, reply)) for (number, letter), reply in pairs if reply != b"LATER")
            left = [item for item, reply in pairs if reply == b"LATER"] + left
        return [answers[number] for number in range(len(letters))]

    def _pages(self, subscriber: str, wanted: LetterFilter, page: int) -> Iterator[list[DeadLetter]]:
        key, start, end = self._keys("dead", subscriber), str(wanted.after + 1), f"({wanted.before}"
        while True:
            budget = Budget(page, PAGE_BYTES)
            read: list[DeadLetter] = []
            while ask := budget.chunk():
                with mapped(self._client):
                    entries: Any = self._client.xrange(key, min=start, max=end, count=ask)
                for entry_id, fields in entries:
                    budget.spend(sum(map(len, (fields or {}).values())))
                    read.append(read_letter(subscriber, entry_id, fields or {}))
                if len(entries) < ask:
                    yield read
                    return
                start = f"({entries[-1][0].decode()}"
            yield read


def read_letter(subscriber: str, entry_id: bytes, fields: dict[bytes, bytes]) -> DeadLetter:
    """Read an entry of `dead:<S>`; whatever it holds, it is shown."""
    raw = fields.get(b"f", b"")
    frame, event = _delivery(raw)
    reason, traceback, worker, output = (
        fields.get(name, b"").decode(errors="backslashreplace") for name in (b"r", b"t", b"w", b"o")
    )
    return DeadLetter(
        position=int(entry_id.partition(b"-")[0]),
        subscriber=subscriber,
        event_position=frame.position,
        redelivery=frame.redelivery,
        attempts=whole(fields.get(b"a")) or 0,
        worker=worker,
        reason=reason,
        event=event,
        traceback=traceback,
        output=output,
        raw="" if event else raw.decode(errors="backslashreplace")[:65_536],
        entry_id=entry_id.decode(),
        lane=frame.lane,
    )


def _delivery(raw: bytes) -> tuple[Frame, Event | None]:
    try:
        frame = parse_frame(raw)
    except MalformedEntry:
        return UNREADABLE, None
    try:
        return frame, decode(frame.body, frame.root)
    except MalformedEntry:
        return frame, None


def _arguments(letter: DeadLetter) -> list[Argument]:
    event = letter.event
    told = [event.event_id, event.project_id, order_key_of(event)] if event else ["", "", ""]
    return [letter.subscriber, letter.entry_id, *told]


def _decided(letter: DeadLetter, reply: bytes) -> Decided:
    word, _, redelivery = reply.partition(b"\t")
    if word == b"settled":
        return Decided(letter, "settled", int(redelivery))
    return Decided(letter, _VERDICTS[word])


def line(text: str, chars: int) -> bytes:
    """Return text as one line that an outcome can carry."""
    return " ".join(text.split())[:chars].encode(errors="backslashreplace")
