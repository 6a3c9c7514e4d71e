"""Facts that have a place: an event at its position, the outcome of one attempt or decision, a dead letter.

Leaf values shared by history, store and workers. They depend on nothing but the event.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from events.event import Event


@dataclass(frozen=True, slots=True)
class RecordedEvent:
    """An event and its place in the one order.

    Attributes:
        position: integer microseconds, unique and increasing in a namespace.
        event: with `correlation_id` filled: the root's id.
        depth: 0 for a root, else one more than its cause's.
        deliveries: names of the subscribers it was delivered to, sorted.
        origin: `publish`; `direct` when persisted without being published, `import` when imported; else the delivery
            that returned it, `<position>:<subscriber>:<redelivery>`.
    """

    position: int
    event: Event
    depth: int = 0
    deliveries: tuple[str, ...] = ()
    origin: str = "publish"

    def __getattr__(self, name: str) -> Any:
        """Read the event's own attributes: `recorded.type` is `recorded.event.type`."""
        if name in Event.model_fields or name in ("cost", "latency_ms"):
            return getattr(self.event, name)
        raise AttributeError(f"A RecordedEvent has no attribute {name!r}.")


class AttemptState(StrEnum):
    """How one attempt ended. `done`, `dead`, `discarded` and `dropped` end the delivery; the others do not.

    `dropped` ends a delivery that may never have been tried: its subscriber was dropped. `redelivered` and
    `purged` are no attempts: somebody decided about a dead letter; nor are `discarded` and `dropped` when
    their outcome names one.
    """

    DONE = "done"
    RETRIED = "retried"
    DEAD = "dead"
    DISCARDED = "discarded"
    DROPPED = "dropped"
    LOST = "lost"
    INTERRUPTED = "interrupted"
    REDELIVERED = "redelivered"
    PURGED = "purged"


OPEN = "open"
"""The resolution of a dead letter that nobody has decided about."""
END = 2**63 - 1
"""Beyond every position."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one attempt at one delivery ended, or what was decided about a dead letter.

    Attributes:
        position: the outcome's own place, from the same clock as events.
        event_position: the event's position; 0 when the entry was too malformed to tell.
        subscriber: whose delivery it was.
        redelivery: 0 for the delivery that publish made, a subscriber's `first_redelivery` for one of its
            back-fill; counted up by each explicit redelivery.
        attempt: 1 for the first try; 0 for a decision.
        state: how it ended; `redelivered` begins the delivery that its `redelivery` names.
        worker: the consumer name that held the lease; who decided.
        elapsed_us: microseconds that the handler ran; 0 when it did not run or nobody knows.
        error: one line that says why, empty when it went well.
        letter: position of the dead letter that this outcome makes (`dead`) or decides about; 0 for none.
        traceback: of a dead letter.
        output: of a dead letter: returned events that could not be published, a JSON list; or empty.
        raw: of a dead letter: what was queued, when it could not be read, cut at 64 KiB; or empty.
    """

    position: int
    event_position: int
    subscriber: str
    redelivery: int
    attempt: int
    state: AttemptState
    worker: str
    elapsed_us: int = 0
    error: str = ""
    letter: int = 0
    traceback: str = ""
    output: str = ""
    raw: str = ""

    @property
    def resolution(self) -> str:
        """What its dead letter is after this outcome: `open`, `retried`, `discarded`, `purged`, `dropped`."""
        words = {AttemptState.DEAD: OPEN, AttemptState.REDELIVERED: "retried"}
        return words.get(self.state, self.state.value)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A delivery that was given up.

    Attributes:
        position: its own place, from the same clock as events; with it a letter is named in the store.
        subscriber, event_position, redelivery: of the delivery; position 0 when nobody could tell.
        attempts: tries that were made. worker: who made the last. reason: one line.
        event: what was delivered; None when it cannot be read, or is not known here.
        traceback, output, raw: as in `Outcome`; the store's lists leave them out.
        entry_id, lane: in Redis only: its entry, and the lane in which its delivery waited.
        resolution: `open`, `retried`, `discarded`, `purged`, or `dropped` with its subscriber.
        resolved_position: of the outcome that says so.
    """

    position: int
    subscriber: str
    event_position: int
    redelivery: int
    attempts: int
    worker: str
    reason: str
    event: Event | None = None
    traceback: str = ""
    output: str = ""
    raw: str = ""
    entry_id: str = ""
    lane: str = ""
    resolution: str = OPEN
    resolved_position: int | None = None

    @property
    def delivery(self) -> str:
        """The delivery's name, `<position>:<subscriber>:<redelivery>`."""
        return f"{self.event_position}:{self.subscriber}:{self.redelivery}"

    @property
    def name(self) -> str:
        """What names this letter to a command: its delivery; its own position where that says nothing."""
        return self.delivery if self.event_position else str(self.position)


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterFilter:
    """Dead letters that meet every given condition; none given, all of them.

    Attributes:
        subscribers, types, project_id: of the delivery; empty means any. A letter whose event is not known
            has neither type nor project.
        after, before: given up in between, positions, exclusive.
        error: part of its reason, whichever case.
        names: named so: by delivery, event id, or the letter's own position.
    """

    subscribers: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    project_id: str | None = None
    after: int = 0
    before: int = END
    error: str = ""
    names: frozenset[str] = frozenset()

    def matches(self, letter: DeadLetter) -> bool:
        """Tell whether a letter meets the conditions."""
        event = letter.event
        return (
            self.after < letter.position < self.before
            and (not self.subscribers or letter.subscriber in self.subscribers)
            and (not self.types or (event is not None and event.type.value in self.types))
            and (self.project_id is None or (event is not None and event.project_id == self.project_id))
            and self.error.casefold() in letter.reason.casefold()
            and (not self.names or not self.names.isdisjoint(self.names_of(letter)))
        )

    @staticmethod
    def names_of(letter: DeadLetter) -> set[str]:
        """Return every name by which a letter may be asked for."""
        names = {letter.name, str(letter.position)}
        return names | {letter.event.event_id} if letter.event else names


@dataclass(frozen=True, slots=True)
class Rejected:
    """An entry that could not be read, set aside with its reason so that it blocks nothing.

    Attributes:
        entry_id: its id in the stream, `<milliseconds or position>-<sequence>`.
        reason: a sentence.
        raw: what it held, as text, cut at 64 KiB.
    """

    entry_id: str
    reason: str
    raw: str
