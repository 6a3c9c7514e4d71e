"""The doctor's look at time: what was to be published by now, and was not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from console import wording

if TYPE_CHECKING:
    from console.checks import Report
    from events.backend import Backend
    from events.slots import PlannedSchedule

LATE = timedelta(seconds=60)


def examine_time(report: Report, backend: Backend) -> None:
    """Look at scheduled events and at cron schedules."""
    from events.scheduled import ScheduledEvents
    from events.slots import Slots

    max_routes = backend.settings.max_routes
    agenda = ScheduledEvents(backend.namespace, max_routes).agenda()
    report.numbers["scheduled"] = agenda
    if agenda.overdue_s > LATE.total_seconds():
        report.add(
            "wrong", "scheduled",
            f"{wording.plural(agenda.count, 'event')} scheduled, and the first is "
            f"{wording.duration(agenda.overdue_s * 1000)} overdue: nobody publishes them.",
            "Start a worker or an archiver, or look at its log.",
        )  # fmt: skip
    elif agenda.count:
        report.add("ok", "scheduled", f"{wording.plural(agenda.count, 'event')} scheduled.")
    for planned in Slots(backend.namespace, max_routes).all():
        following = next_slot(planned)
        if is_late(following):
            report.add(
                "warning", f"schedule {planned.name}",
                f"Its slot of {wording.moment(following)[:19]} (UTC) has not been fired.",
                "Look at the workers' log, or start a worker that runs it; `eventbus schedules forget "
                f"{planned.name}` removes one that is not wanted any more.",
            )  # fmt: skip


def next_slot(planned: PlannedSchedule) -> datetime | None:
    """Return the first slot that is not settled; None when this machine cannot read the cron or the timezone."""
    from events.errors import InvalidSchedule
    from workers.cron import Cron

    try:
        following = Cron(planned.cron, planned.timezone).after(planned.cursor)
    except InvalidSchedule:
        return None
    return following.astimezone(UTC) if following else None


def is_late(slot: datetime | None) -> bool:
    """Tell whether a slot should have been fired by now."""
    return slot is not None and datetime.now(UTC) - slot > LATE
