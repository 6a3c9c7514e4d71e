"""What is to be published later, as JSON and in stretches: scheduled events, and the crons that workers run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from console.exits import Mistake
from console.punctuality import is_late, next_slot

if TYPE_CHECKING:
    from events.scheduled import ScheduledEvents, Waiting
    from events.slots import PlannedSchedule
    from store.filter import EventFilter


def matching(scheduled: ScheduledEvents, wanted: EventFilter, after: tuple[int, str] = (0, "")) -> Iterator[Waiting]:
    """Iterate over the scheduled events of a project and of types, the next due first, those after a place."""
    for waiting in scheduled.after(*after):
        is_of_project = wanted.project_id in (None, waiting.project_id)
        if is_of_project and (not wanted.types or waiting.type in wanted.types):
            yield waiting


def place(waiting: Waiting) -> str:
    """Return the place of a scheduled event, after which others follow: DUE:EVENT_ID, in microseconds since 1970."""
    from events.due import microseconds

    return f"{microseconds(waiting.due)}:{waiting.event_id}"


def placed(option: str, text: str | None) -> tuple[int, str]:
    """Return the place that a text names; the beginning where it is not given.

    Raises:
        Mistake: it is no place.
    """
    if text is None:
        return 0, ""
    due, colon, event_id = text.partition(":")
    if not (colon and due.isdecimal() and due.isascii() and len(due) <= 18 and event_id):
        raise Mistake(f"{option} must be a scheduled event's place, DUE:EVENT_ID, not {text!r:.200}.")
    return int(due), event_id


def schedule_object(planned: PlannedSchedule) -> dict[str, Any]:
    """Return a cron schedule as JSON shows it."""
    following = next_slot(planned)
    return {
        "name": planned.name,
        "cron": planned.cron,
        "timezone": planned.timezone,
        "missed": planned.missed,
        "last": planned.last,
        "next": following,
        "overdue": is_late(following),
    }
