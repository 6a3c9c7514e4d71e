"""*Events*: history with filters, the newest first; follows what happens if wanted."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from console.exits import Mistake
from console.web.api import history, numbers, questions
from console.web.pages.rendering import render
from console.web.pages.visit import Page, Visit, question
from events.errors import InvalidFilter

SHOWN = 100
FIELDS = ("project", "type", "actor", "correlation", "since", "until", "payload", "metadata")


async def show(visit: Visit) -> Response:
    """Show a stretch of history: the newest, or what is before or after a position."""
    given, sentence = visit.given, ""
    try:
        found = await stretch(visit, SHOWN)
    except (Mistake, InvalidFilter) as error:
        found, sentence = {"events": [], "older": None, "newer": None}, str(error)
    statistics = await visit.ask(numbers.get_statistics, questions.OfProject(project=visit.one("project") or None))
    return render(
        visit,
        "events.html",
        400 if sentence else 200,
        found=found,
        given={name: given.get(name, "") for name in FIELDS},
        filters={name: given[name] for name in FIELDS if name in given},
        sentence=sentence,
        statistics=statistics,
    )


async def stretch(visit: Visit, shown: int, **fixed: Any) -> dict[str, Any]:
    """Return the events that a visit asks for, newest first, and the places where older and newer ones begin.

    Raises:
        Mistake, InvalidFilter: a field cannot be read.
    """
    given = {name: value for name, value in visit.given.items() if name in FIELDS} | fixed
    after, before = visit.one("after"), visit.one("before")
    place = {"after": after} if after else {"newest": True, "before": before or None}
    asked = question(questions.Page, {**given, **place, "limit": shown})
    page = await visit.ask(history.list_events, asked)
    events = page["events"][::-1]
    older, newer = page["earlier"] or after, page["last"] if after and not page["complete"] else None
    return {
        "events": events,
        "older": events[-1]["position"] if events and older else None,
        "newer": events[0]["position"] if events and before else newer,
    }


PAGE = Page(path="/events", call=show)
