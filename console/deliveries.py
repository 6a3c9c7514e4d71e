"""Deliveries on a screen and as JSON: many on a line each, and those of one event with all their attempts."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from console import wording
from console.exits import Mistake
from console.letters import ATTEMPTS, attempt_row, outcome_object
from console.named import event_id_of
from console.printing import Lines, plain, print_json

if TYPE_CHECKING:
    from events.backend import Backend
    from events.records import Outcome, RecordedEvent
    from store.deliveries import Delivery, DeliveryFilter

HEADINGS = ("DELIVERY", "TYPE", "PROJECT", "STATE", "TRIES", "SETTLED (UTC)", "EVENT")
_PAGE = 500


def list_deliveries(backend: Backend, wanted: DeliveryFilter, after: str | None, limit: int, as_json: bool) -> None:
    """Print deliveries that match, in the order of their events, those after a named one."""
    stored, last = backend.blackboard.deliveries, named("--after", after)
    lines, count = Lines(HEADINGS, ("TRIES",), cuts=True), 0
    while count < limit:
        page = stored.page(wanted, last, min(_PAGE, limit - count))
        if as_json:
            for one in page:
                print_json(delivery_object(one))
        else:
            lines.rows(map(_row, page))
        count += len(page)
        if not page:
            break
        last = page[-1]
    if not count:
        print("No delivery matches.", file=sys.stderr)
    elif count == limit and last is not None and stored.page(wanted, last, 1):
        print(f"There are more: --after {last.name}", file=sys.stderr)


def show_event(backend: Backend, text: str, as_json: bool) -> None:
    """Print the deliveries of one event, with every attempt that archive and Redis know.

    Raises:
        Mistake: there is no such event.
    """
    recorded = found(backend, text)
    if as_json:
        for one in deliveries_object(backend, recorded):
            print_json(one)
        return
    rows, attempts = _of_event(backend, recorded)
    event = recorded.event
    print(f"{plain(event.event_id)}, {event.type.value} of {plain(event.project_id)}, at position {recorded.position}")
    if not Lines(HEADINGS[:-1], ("TRIES",), cuts=True).rows(_row(one)[:-1] for one in rows):
        print("It was delivered to nobody.")
    if attempts:
        print()
        Lines(ATTEMPTS, ("TRY", "TOOK"), cuts=True).rows(map(attempt_row, attempts))


def deliveries_object(backend: Backend, recorded: RecordedEvent) -> list[dict[str, Any]]:
    """Return the deliveries of one event as JSON shows them, each with every attempt that archive and Redis know."""
    rows, attempts = _of_event(backend, recorded)
    return [
        delivery_object(one) | {"outcomes": [outcome_object(each) for each in attempts if _is_of(each, one)]}
        for one in rows
    ]


def delivery_object(one: Delivery) -> dict[str, Any]:
    """Return a delivery as JSON shows it."""
    return {
        "name": one.name,
        "event_position": one.event_position,
        "subscriber": one.subscriber,
        "redelivery": one.redelivery,
        "state": one.state,
        "attempts": one.attempts,
        "settled_position": one.settled_position,
        "settled_at": wording.at(one.settled_position) if one.settled_position else None,
        "event_id": one.event_id or None,
        "type": one.type or None,
        "project_id": one.project_id or None,
    }


def found(backend: Backend, text: str) -> RecordedEvent:
    """Return the event that a text names, by id or position.

    Raises:
        Mistake: there is no such event.
    """
    recorded = backend.blackboard.replay.find(event_id_of(backend, text))
    if recorded is None:
        raise Mistake(f"There is no event {text!r:.200}: `eventbus replay` shows the ids and positions of events.")
    return recorded


def _of_event(backend: Backend, recorded: RecordedEvent) -> tuple[list[Delivery], list[Outcome]]:
    """Return the deliveries of an event and their outcomes, what is not archived included."""
    from store.deliveries import DeliveryFilter, joined

    # Redis first: what it has no more when SQL is asked, SQL has by then.
    fresh = list(_unarchived(backend, recorded.position))
    stored = backend.blackboard.deliveries
    archived = {outcome.position: outcome for outcome in stored.attempts(recorded.position)}
    every = archived | {outcome.position: outcome for outcome in fresh}
    attempts = [every[position] for position in sorted(every)]
    rows = list(stored.iterate(DeliveryFilter(event_position=recorded.position)))
    return joined(recorded, rows, attempts), attempts


def _unarchived(backend: Backend, position: int) -> Iterator[Outcome]:
    from console.dossier import unarchived

    return (outcome for outcome in unarchived(backend) if outcome.event_position == position)


def named(option: str, name: str | None) -> Delivery | None:
    """Return the place of a delivery that an option names; None where it is not given.

    Raises:
        Mistake: it is no delivery's name.
    """
    from store.deliveries import Delivery

    if name is None:
        return None
    parts = name.split(":")
    if len(parts) != 3 or not all(part.isdecimal() and len(part) <= 18 for part in (parts[0], parts[2])):
        raise Mistake(f"{option} must be a delivery, POSITION:SUBSCRIBER:REDELIVERY, not {name!r:.200}.")
    return Delivery(int(parts[0]), parts[1], int(parts[2]), "", 0, None)


def _row(one: Delivery) -> Sequence[str]:
    settled = wording.moment(wording.at(one.settled_position)) if one.settled_position else ""
    return (
        one.name,
        one.type or "?",
        plain(one.project_id or "?"),
        one.state,
        str(one.attempts),
        settled,
        plain(one.event_id or "?"),
    )  # fmt: skip


def _is_of(outcome: Outcome, one: Delivery) -> bool:
    return (outcome.subscriber, outcome.redelivery) == (one.subscriber, one.redelivery)
