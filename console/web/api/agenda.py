"""What is to be published later over HTTP: scheduled events, and the cron schedules that workers run."""

from __future__ import annotations

from itertools import islice
from typing import Any

from starlette.responses import Response

from console.agenda import matching, place, placed, schedule_object
from console.options import event_filter
from console.web.access import Role
from console.web.api import questions
from console.web.operations import Answer, Asked, Operation
from console.web.problems import refused
from console.web.shapes import ScheduledPage, ScheduleList
from events.scheduled import ScheduledEvents
from events.slots import Slots


async def list_scheduled(asked: Asked) -> dict[str, Any]:
    """Return a page of scheduled events."""
    query, backend = asked.query, asked.house.backend
    wanted = event_filter(query.project, query.type, None, written="{}")
    after = placed("after", query.after)

    def read() -> dict[str, Any]:
        scheduled = ScheduledEvents(backend.namespace, backend.settings.max_routes)
        found = list(islice(matching(scheduled, wanted, after), query.limit + 1))
        more = place(found[query.limit - 1]) if len(found) > query.limit else None
        return {"scheduled": found[: query.limit], "next": more, "count": scheduled.agenda().count}

    return await asked.read(read)


async def list_schedules(asked: Asked) -> dict[str, Any]:
    """Return the cron schedules."""
    backend = asked.house.backend
    found = await asked.read(Slots(backend.namespace, backend.settings.max_routes).all)
    return {"schedules": list(map(schedule_object, found))}


async def cancel(asked: Asked) -> Response:
    """Take a scheduled event back."""
    event_id = asked.path["event_id"]
    if not await asked.read(lambda: asked.house.bus.cancel(event_id)):
        raise refused(404, f"No event {event_id!r:.200} is scheduled: it is unknown, or was published already.")
    return Response(status_code=204)


OPERATIONS = (
    Operation(
        method="GET",
        path="/scheduled",
        name="list_scheduled_events",
        tag="Scheduled",
        summary="Events that are to be published later.",
        about="They are not in history before they are due.",
        call=list_scheduled,
        query=questions.Scheduled,
        answers={200: Answer("A page, the next due first.", ScheduledPage)},
    ),
    Operation(
        method="DELETE",
        path="/scheduled/{event_id}",
        name="cancel_scheduled_event",
        tag="Scheduled",
        summary="Take a scheduled event back.",
        call=cancel,
        answers={204: Answer("It will not be published.")},
        refusals=(404,),
        needs=Role.OPERATOR,
    ),
    Operation(
        method="GET",
        path="/schedules",
        name="list_schedules",
        tag="Scheduled",
        summary="The cron schedules that workers run, or have run.",
        about="A `next` slot that is past is one that nobody fires: no worker runs the schedule, or its factory fails.",
        call=list_schedules,
        answers={200: Answer("Schedules by name, as workers declared them last.", ScheduleList)},
    ),
)
