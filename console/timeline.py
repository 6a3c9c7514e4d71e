"""A project in time: what each subscriber waited for and ran, and when each event was published.

Everything is told by one clock, history's: an attempt ended at its outcome's position and began as long before as its
handler ran; until then its delivery waited, since the event's own position or the end of the attempt before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from console import wording
from console.dossier import unarchived
from console.latest import latest
from events.records import AttemptState
from store.filter import EventFilter
from store.fold import FINAL

if TYPE_CHECKING:
    from events.backend import Backend
    from events.records import Outcome, RecordedEvent


def timeline(backend: Backend, project_id: str, limit: int) -> dict[str, Any]:
    """Return the timeline of a project's newest events, what is not archived included."""
    end = backend.history.clock()
    events, is_all = latest(backend.blackboard.replay, EventFilter(project_id=project_id), limit, end)
    ended = _ended(backend, [recorded.position for recorded in events])
    spans = [span for recorded in events for span in _spans(recorded, ended.get(recorded.position, ()))]
    return {
        "project_id": project_id,
        "is_all": is_all,
        "marks": [_mark(recorded) for recorded in events],
        "spans": spans,
        "roots": _roots(events),
    }


def _roots(events: Sequence[RecordedEvent]) -> list[dict[str, Any]]:
    """Return the ids of the events that set these off, each with how many are its, the most first."""
    counts = Counter(recorded.event.correlation_id or recorded.event.event_id for recorded in events)
    return [{"event_id": event_id, "count": count} for event_id, count in counts.most_common()]


def _ended(backend: Backend, positions: Sequence[int]) -> dict[int, list[Outcome]]:
    """Return the outcomes of the events at some positions, by these, oldest first."""
    wanted = set(positions)
    # Redis first: what it has no more when SQL is asked, SQL has by then.
    fresh = [outcome for outcome in unarchived(backend) if outcome.event_position in wanted]
    every = {outcome.position: outcome for outcome in [*fresh, *backend.blackboard.deliveries.attempts_at(wanted)]}
    found: dict[int, list[Outcome]] = {}
    for position in sorted(every):
        found.setdefault(every[position].event_position, []).append(every[position])
    return found


def _spans(recorded: RecordedEvent, ended: Sequence[Outcome]) -> Iterator[dict[str, Any]]:
    keys = dict.fromkeys([(name, 0) for name in recorded.deliveries])
    keys |= dict.fromkeys((outcome.subscriber, outcome.redelivery) for outcome in ended)
    for subscriber, redelivery in keys:
        mine = [one for one in ended if (one.subscriber, one.redelivery) == (subscriber, redelivery)]
        yield from _of_delivery(recorded, subscriber, redelivery, mine)


def _of_delivery(
    recorded: RecordedEvent, subscriber: str, redelivery: int, ended: Sequence[Outcome]
) -> Iterator[dict[str, Any]]:
    since, tried, is_over = recorded.position, 0, False
    for outcome in ended:
        if outcome.state is AttemptState.REDELIVERED:
            since = outcome.position
        elif outcome.attempt:
            began = max(since, outcome.position - outcome.elapsed_us)
            yield _span(recorded, subscriber, redelivery, outcome.attempt, since, began, outcome)
            since, tried = outcome.position, outcome.attempt
        is_over = is_over or outcome.state in FINAL
    if not is_over:
        yield _span(recorded, subscriber, redelivery, tried + 1, since, None, None)


def _span(
    recorded: RecordedEvent, subscriber: str, redelivery: int, attempt: int, since: int, began: int | None,
    outcome: Outcome | None,
) -> dict[str, Any]:  # fmt: skip
    return {
        "subscriber": subscriber,
        "name": f"{recorded.position}:{subscriber}:{redelivery}",
        "event_id": recorded.event.event_id,
        "type": recorded.event.type.value,
        "attempt": attempt,
        "state": outcome.state.value if outcome else "waiting",
        "waited_from": wording.at(since),
        "began": None if began is None else wording.at(began),
        "ended": wording.at(outcome.position) if outcome else None,
        "error": outcome.error if outcome else "",
    }


def _mark(recorded: RecordedEvent) -> dict[str, Any]:
    event = recorded.event
    return {
        "actor": event.actor,
        "event_id": event.event_id,
        "type": event.type.value,
        "at": wording.at(recorded.position),
    }
