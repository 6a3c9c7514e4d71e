"""One attempt at one delivery: run the handler's result or failure into a settlement.

running ── returned ──────────────────> end    done, returned events published with it
        ── Discard ───────────────────> end    discarded
        ── Retry, any exception, time limit:
             attempts left ───────────> again  retried, after a backoff
             none left ───────────────> dead
             retry_on, give_up_on ────> dead   at the first failure
        ── the worker stops ──────────> again  interrupted, at once, not counted
        ── returned what cannot be published -> dead, output kept: paid work is not repeated
not started ── killed three workers, or a worker's death was the last attempt -> dead
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dramatiq.middleware import Interrupt, SkipMessage

from events.context import Handling, handling
from events.deliveries import Settlement
from events.encoding import encode
from events.errors import Discard, EventBusError, EventTooLarge, InvalidEvent, Retry
from events.event import Event
from events.frame import Lease
from events.joining import Joined
from events.publisher import event_arguments
from events.records import AttemptState
from events.scripts import Argument
from events.subscriptions import Subscription
from workers.backoff import delay_s, giving_up
from workers.derived import derived

if TYPE_CHECKING:
    from workers.spans import Processing

MAX_RETURNED_EVENTS = 1000
MAX_RETURNED_BYTES = 16_000_000


class Interrupted(Interrupt):
    """Raised inside a handler whose worker stops, or whose delivery another worker has taken over."""


class NotStartedAgain(EventBusError):
    """A delivery's workers died too often; it becomes a dead letter and its handler is not called."""


class JoinIncomplete(EventBusError):
    """A join does not have all that it waits for, and its subscriber wants all or nothing."""


class NotAnEvent(EventBusError, TypeError):
    """A handler returned something that cannot be published."""


@dataclass(slots=True, eq=False, repr=False)
class Attempt:
    """A delivery on its way through a handler.

    Attributes:
        lease: the delivery. subscription: whose handler runs. namespace: whose delivery it is.
        handling: what the handler's context shows.
        started_at: monotonic seconds; 0.0 before the handler starts.
        result: what it returned. error: what it raised.
        deferred: the attempt is settled by the event loop, not by Dramatiq's acknowledgement.
        abandoned: another worker owns the delivery now; whatever comes of this is void.
        cancelled: this process does not want it to start, or asked its handler to stop.
        interrupted_at: when it asked so, monotonic seconds; 0.0 when it never has.
        expired: its async handler was cancelled because of its time limit.
        finished: its settlement is on its way.
        task: the one in which an async handler runs, while it does; another attempt may have it before or after.
        joined: what a join has seen; None of a subscriber that joins nothing.
        trace: its span, where spans are made.
        others: where this one leads a batch, its other attempts.
        led: it is one of those.
    """

    lease: Lease
    subscription: Subscription
    namespace: str = "eventbus"
    started_at: float = 0.0
    result: object = None
    error: BaseException | None = None
    deferred: bool = False
    abandoned: bool = False
    cancelled: bool = False
    interrupted_at: float = 0.0
    expired: bool = False
    finished: bool = False
    task: asyncio.Task[None] | None = None
    joined: Joined | None = None
    trace: Processing | None = None
    others: Sequence[Attempt] = ()
    led: bool = False
    handling: Handling = field(init=False)

    def __post_init__(self) -> None:
        lease = self.lease
        self.handling = Handling(lease.event, self.subscription.name, lease.attempt, lease.delivery, self.namespace)

    def __repr__(self) -> str:
        return repr(self.lease)

    @property
    def batch(self) -> tuple[Attempt, ...]:
        """This one and those that it leads."""
        return (self, *self.others)

    @property
    def context(self) -> Handling | None:
        """What the handler's context shows; of a batch nothing, because it handles no single event."""
        return None if self.subscription.options.batch else self.handling

    def call(self) -> object:
        """Call the handler."""
        subscription, event = self.subscription, self.lease.event
        handler = subscription.handler
        if subscription.options.batch:
            return handler([attempt.lease.event for attempt in self.batch if attempt.started_at])
        if self.joined is not None:
            return handler(event, self.joined)
        return handler(event, subscription.schemas.read(event)) if subscription.wants_payload else handler(event)

    def call_in_context(self) -> object:
        """Call a plain handler with its context set."""
        token = handling.set(self.context)
        try:
            if self.trace is None:
                return materialized(self.call())
            with self.trace.inside():
                return materialized(self.call())
        except SkipMessage as error:  # Dramatiq would take a message that was skipped for one that went well
            raise Discard(f"{type(error).__name__}: {error}") from error
        finally:
            handling.reset(token)

    @property
    def elapsed_us(self) -> int:
        return int((time.monotonic() - self.started_at) * 1e6) if self.started_at else 0


def require_an_attempt(attempt: Attempt) -> None:
    """Check that an attempt is left. A crash counts as one: nobody knows whether the dead worker had started it.

    Raises:
        NotStartedAgain: when the attempts that ended with their workers were the last ones.
    """
    most = attempt.subscription.options.max_attempts
    if attempt.lease.attempt > most:
        how = "max_attempts was lowered since, or the last one's worker died or fell silent"
        if attempt.lease.suspect:
            how = "the last one's worker died, or fell silent, while it held the delivery"
        raise NotStartedAgain(f"Not started again: max_attempts={most} are used up, and {how}.")


def conclude(attempt: Attempt, max_event_bytes: int) -> Settlement:
    """Decide how the attempt ends.

    Args:
        max_event_bytes: largest encoded event that a handler may return.
    """
    error = attempt.error
    if error is None:
        try:
            returned = outputs(attempt.result)
        except NotAnEvent as problem:
            return failed(attempt, problem)
        return _done(attempt, returned, max_event_bytes)
    if isinstance(error, Discard):
        return Settlement(
            attempt.lease, "end", AttemptState.DISCARDED, elapsed_us=attempt.elapsed_us, reason=str(error.reason)
        )
    if isinstance(error, Interrupted):
        return hand_back(attempt.lease, started=attempt.started_at > 0, elapsed_us=attempt.elapsed_us)
    if isinstance(error, NotStartedAgain | JoinIncomplete):
        return dead(attempt.lease, str(error))
    return failed(attempt, error)


def failed(attempt: Attempt, error: BaseException) -> Settlement:
    """Try again after a backoff, or give up: no attempts are left, or an option says so."""
    lease, options = attempt.lease, attempt.subscription.options
    reason, clause = described(error), giving_up(error, options)
    if clause is not None:
        reason = f"Given up at once, because {clause}: {reason}"
    if clause is not None or lease.attempt >= options.max_attempts:
        text = "".join(traceback.format_exception(error))
        return dead(lease, reason, elapsed_us=attempt.elapsed_us, text=text)
    after = delay_s(lease.attempt, options)
    if isinstance(error, Retry) and error.after is not None:
        after = max(error.after, after) if error.at_least else error.after
    return Settlement(
        lease, "again", AttemptState.RETRIED, attempts=lease.attempt, delay_us=int(after * 1e6),
        elapsed_us=attempt.elapsed_us, reason=reason,
    )  # fmt: skip


def described(error: BaseException) -> str:
    """Return an exception's type and text; one whose text cannot be made is named by its type alone."""
    try:
        text = str(error)
    except BaseException:
        text = "its text cannot be shown"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def hand_back(lease: Lease, *, started: bool = False, elapsed_us: int = 0, delay_us: int = 0) -> Settlement:
    """Give the delivery to whoever is free; the try is not counted."""
    state = AttemptState.INTERRUPTED if started else None
    reason = "the worker stopped while the handler ran" if started else ""
    return Settlement(
        lease, "again", state, attempts=lease.attempt - 1, delay_us=delay_us, elapsed_us=elapsed_us, reason=reason
    )


def dead(lease: Lease, reason: str, *, output: Sequence[Event] = (), elapsed_us: int = 0, text: str = "") -> Settlement:
    """Give up at once, with a reason, keeping events that could not be published."""
    kept = b"[" + b",".join(map(encode, output)) + b"]" if output else b""
    return Settlement(
        lease, "dead", AttemptState.DEAD, elapsed_us=elapsed_us, reason=reason, traceback=text, output=kept
    )


def unpublishable(settlement: Settlement, problem: EventBusError) -> Settlement:
    """Turn a settlement whose events Redis refused into a dead letter that keeps them."""
    bodies = [bytes(event[-1]) for event in settlement.events if isinstance(event[-1], bytes)]
    return Settlement(
        settlement.lease, "dead", AttemptState.DEAD, elapsed_us=settlement.elapsed_us,
        reason=f"What the handler returned could not be published: {problem}", output=b"[" + b",".join(bodies) + b"]",
    )  # fmt: skip


def materialized(result: object) -> object:
    """Return a handler's result with lazy iterables made lists, those in a mapping too, while its time limit holds."""
    if isinstance(result, Mapping):
        return {name: _listed(part) for name, part in result.items()}
    return _listed(result)


def _listed(result: object) -> object:
    if isinstance(result, Iterable) and not isinstance(result, Event | str | bytes | Mapping | list | tuple):
        return list(result)
    return result


def outputs(result: object, who: str = "A handler") -> list[Event]:
    """Return a handler's result as a list of events.

    Args:
        who: begins the sentence when it is wrong.

    Raises:
        NotAnEvent: when it is neither None, an event, nor an iterable of events.
    """
    if result is None:
        return []
    if isinstance(result, Event):
        return [result]
    if isinstance(result, Iterable) and not isinstance(result, str | bytes | Mapping):
        events = list(result)
        wrong = next((item for item in events if not isinstance(item, Event)), None)
        if wrong is None:
            return events
        raise NotAnEvent(f"{who} must return events only, but its list holds a {type(wrong).__name__}.")
    raise NotAnEvent(f"{who} must return None, an Event or a list of Events, not a {type(result).__name__}.")


def with_derived_ids(events: list[Event], handling: Handling) -> list[Event]:
    """Give the n-th returned event an id that every repetition of this delivery would give it too.

    The id comes from (event, subscriber, redelivery, n), so that a Redis that went back in time
    cannot double what was returned before. Ids that the handler chose itself stay, and so do those
    it has published; causation ids within the list follow.
    """
    seed = [handling.event.event_id, handling.delivery.partition(":")[2]]
    return derived(events, seed, handling.event.event_id[3:15], handling.published)


def _done(attempt: Attempt, returned: list[Event], max_event_bytes: int) -> Settlement:
    events = with_derived_ids(returned, attempt.handling) if returned else []
    try:
        arguments = _publishable(attempt, events, returned, max_event_bytes) if events else []
    except InvalidEvent as problem:
        reason = f"What the handler returned could not be published: {problem}"
        return dead(attempt.lease, reason, output=events, elapsed_us=attempt.elapsed_us)
    return Settlement(attempt.lease, "end", AttemptState.DONE, elapsed_us=attempt.elapsed_us, events=arguments)


def _publishable(
    attempt: Attempt, events: list[Event], returned: list[Event], max_event_bytes: int
) -> list[list[Argument]]:
    """Return the arguments by which events are published; with the attempt's span as context, where all have room.

    Raises:
        InvalidEvent: one cannot be published, or they are too many or too large together.
    """
    carrying = events if attempt.trace is None else attempt.trace.carried(events)
    arguments, size_bytes = _encoded(attempt, carrying, returned, max_event_bytes)
    if size_bytes > MAX_RETURNED_BYTES and carrying is not events:
        arguments, size_bytes = _encoded(attempt, events, returned, max_event_bytes)
    if len(events) > MAX_RETURNED_EVENTS or size_bytes > MAX_RETURNED_BYTES:
        raise EventTooLarge(
            [
                f"One handler may return {MAX_RETURNED_EVENTS} events of {MAX_RETURNED_BYTES} bytes together; this "
                f"one returned {len(events)} of {size_bytes} bytes. Let it publish them itself, or return events "
                "that others split further."
            ]
        )
    return arguments


def _encoded(
    attempt: Attempt, events: list[Event], returned: list[Event], max_event_bytes: int
) -> tuple[list[list[Argument]], int]:
    """Return the arguments by which events are published, and the size of the bodies among them in bytes."""
    checked = attempt.subscription.schemas.checked
    arguments = [
        event_arguments(checked(event), max_event_bytes, is_derived=event.event_id != made.event_id)
        for event, made in zip(events, returned, strict=True)
    ]
    return arguments, sum(len(fields[-1]) for fields in arguments if isinstance(fields[-1], bytes))
