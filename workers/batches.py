"""Batches: one call of a handler for many deliveries, each of which ends by itself.

The first attempt of a batch leads: it has the credit, the time limit and the thread; the others have leases and ends of
their own. What the handler returned or raised is shared out among them:

    None                     each is done
    events                   each is done, and returns those events that name its own as their cause, or such an event
    {event id: what of it}   None, an event or events; or an exception, with which that one fails, or `Retry`, `Discard`
    it raises                all of them fail with that, as they do where what it returned cannot be read
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from events.event import Event
from workers.attempt import Attempt, NotAnEvent, NotStartedAgain, outputs, require_an_attempt

_WHO = "A handler of batches"


def may_be_led(attempt: Attempt) -> bool:
    """Whether an attempt is left to one that is led; if not, it is given the error with which it ends."""
    try:
        require_an_attempt(attempt)
    except NotStartedAgain as error:
        attempt.error = error
        return False
    return True


def share_out(leader: Attempt) -> None:
    """Give each attempt of a batch its own result or error; that of one event by itself keeps what it has."""
    if leader.subscription.options.batch is None:
        return
    started = [attempt for attempt in leader.batch if attempt.started_at]
    if not started:
        for attempt in leader.others:
            attempt.cancelled = True  # nobody called the handler, whatever kept the leader from it
        return
    parts: Mapping[str, object] = {}
    error = leader.error
    if error is None:
        try:
            parts = _parts(leader.result, {attempt.lease.event_id for attempt in started})
        except BaseException as problem:  # the handler's own, where its answer runs code when it is read
            error = problem
    for attempt in started:
        part = parts.get(attempt.lease.event_id)
        attempt.error = error or (part if isinstance(part, BaseException) else None)
        attempt.result = None if attempt.error else part


def _parts(result: object, known: Collection[str]) -> dict[str, object]:
    """Return what the handler said of each event, by its id.

    Args:
        known: the ids of the batch's events.

    Raises:
        NotAnEvent: it is nothing that can be published, or says something of an event that is not in the batch.
    """
    if isinstance(result, Mapping):
        foreign = [name for name in result if name not in known]
        if foreign:
            raise NotAnEvent(f"{_WHO} must say something of its own events only, not of {foreign[0]!r:.200}.")
        return {name: _caused_by(name, part, known) for name, part in result.items()}
    parts: dict[str, Any] = {}
    for own, event in _with_their_own(outputs(result, _WHO), known):
        parts.setdefault(own, []).append(event)
    return parts


def _caused_by(event_id: str, part: object, known: Collection[str]) -> object:
    if isinstance(part, BaseException):
        return part
    events = outputs(part, _WHO)
    caused = [one if one.causation_id else one.model_copy(update={"causation_id": event_id}) for one in events]
    return [event for _, event in _with_their_own(caused, known)]


def _with_their_own(events: Iterable[Event], known: Collection[str]) -> Iterator[tuple[str, Event]]:
    """Yield events, each after the id of that one of the batch that caused it, or caused the earlier one that did.

    Raises:
        NotAnEvent: one names a cause that is neither.
    """
    earlier: dict[str, str] = {}
    for event in events:
        cause = event.causation_id or ""
        own = cause if cause in known else earlier.get(cause)
        if own is None:
            raise NotAnEvent(
                f"{_WHO} must return events that say which of its own caused them, made with `event.caused(...)`, and "
                f"{event.event_id!r:.200} names {event.causation_id!r:.200}."
            )
        earlier[event.event_id] = own
        yield own, event
