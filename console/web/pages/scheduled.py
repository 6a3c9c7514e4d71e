"""*Scheduled*: what is to be published later, and taking it back; the crons that workers run."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from console.exits import Mistake
from console.web.api import agenda, questions
from console.web.pages.rendering import render
from console.web.pages.visit import Page, Visit, question
from events.errors import InvalidFilter

SHOWN = 100
FIELDS = ("project", "type")


async def show(visit: Visit) -> Response:
    """Show a page of scheduled events, the next due first, and all cron schedules."""
    given, sentence = visit.split("type"), ""
    filters = {name: given[name] for name in FIELDS if name in given}
    try:
        asked = question(questions.Scheduled, {**filters, "after": visit.one("after") or None, "limit": SHOWN})
        found: dict[str, Any] = await visit.ask(agenda.list_scheduled, asked)
    except (Mistake, InvalidFilter) as error:
        found, sentence = {"scheduled": [], "next": None, "count": 0}, str(error)
    schedules = await visit.ask(agenda.list_schedules)
    return render(
        visit,
        "scheduled.html",
        400 if sentence else 200,
        found=found,
        schedules=schedules["schedules"],
        given={name: given.get(name, "") for name in FIELDS},
        filters=filters,
        is_first="after" not in given,
        sentence=sentence,
    )


PAGE = Page(path="/scheduled", call=show)
