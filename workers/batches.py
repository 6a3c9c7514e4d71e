"""Batches: one call of a handler for many deliveries, each of which ends by itself.

The first attempt of a batch leads: it has the credit, the time limit and the thread; the others have leases and ends of
their own. What the handler returned or raised is shared out among them:

    None                     each is done
    events                   each is done, and returns those events that name its own as their cause
    {event id: what of it}   None, an event or events; or an exception, with which that one fails, or `Retry`, `Discard`
    it raises                all of them fail with that
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from events.event import Event
from workers.attempt import Attempt, NotAnEvent, outputs

_WHO = "A handler of batches"


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
            parts = _parts(leader.result, [attempt.lease.event for attempt in started])
        except NotAnEvent as problem:
            error = problem
    for attempt in started:
        part = parts.get(attempt.lease.event_id)
        attempt.error = error or (part if isinstance(part, BaseException) else None)
        attempt.result = None if attempt.error else part


def _parts(result: object, events: Sequence[Event]) -> dict[str, object]:
    """Return what the handler said of each event, by its id.

    Raises:
        NotAnEvent: it is nothing that can be published, or says something of an event that is not in the batch.
    """
    known = {event.event_id for event in events}
    if isinstance(result, Mapping):
        if foreign := next((name for name in result if name not in known), None):
            raise NotAnEvent(f"{_WHO} must say something of its own events only, not of {foreign!r:.200}.")
        return {name: _caused_by(name, part) for name, part in result.items()}
    parts: dict[str, list[Event]] = {}
    for event in outputs(result, _WHO):
        if event.causation_id not in known:
            raise NotAnEvent(
                f"{_WHO} must return events that say which of its own caused them, made with `event.caused(...)`, and "
                f"{event.event_id!r:.200} names {event.causation_id!r:.200}."
            )
        parts.setdefault(event.causation_id, []).append(event)
    return dict(parts)


def _caused_by(event_id: str, part: object) -> object:
    if isinstance(part, BaseException):
        return part
    caused = outputs(part, _WHO)
    return [one if one.causation_id else one.model_copy(update={"causation_id": event_id}) for one in caused]
