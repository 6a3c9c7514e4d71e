"""*Events*: history with filters, the newest first; follows what happens if wanted."""

from __future__ import annotations

from typing import Any

from starlette.responses import RedirectResponse, Response

from console.exits import Mistake
from console.named import event_id_of
from console.web.api import history, numbers, questions
from console.web.pages.formats import link
from console.web.pages.rendering import render
from console.web.pages.visit import Page, Visit, question
from events.errors import EventNotFound, InvalidFilter

SHOWN = 100
FIELDS = ("project", "type", "actor", "correlation", "since", "until", "payload", "metadata")
NOTHING_FOUND: dict[str, Any] = {"events": [], "older": None, "newer": None, "last": None}


async def show(visit: Visit) -> Response:
    """Show a stretch of history: the newest, or what is before or after a position."""
    given, sentence = visit.split("type"), ""
    try:
        found = await stretch(visit, SHOWN)
    except (Mistake, InvalidFilter) as error:
        found, sentence = NOTHING_FOUND, str(error)
    return await _shown(visit, given, found, sentence, 400 if sentence else 200)


async def find(visit: Visit) -> Response:
    """Go to the event that an id or a position names; one that is not there is told beside the form."""
    named = visit.one("id").strip()
    try:
        id = await visit.house.reading.ask(lambda: event_id_of(visit.house.backend, named))
        await visit.ask(history.find, event_id=id)
    except (EventNotFound, Mistake) as error:
        return await _shown(visit, {}, NOTHING_FOUND, str(error), 404)
    return RedirectResponse(link("/event", id=id), 303)


async def _shown(visit: Visit, given: dict[str, Any], found: dict[str, Any], sentence: str, status: int) -> Response:
    statistics = await visit.ask(numbers.get_statistics, questions.OfProject(project=visit.one("project") or None))
    return render(
        visit,
        "events.html",
        status,
        found=found,
        wanted=visit.one("id").strip(),
        given={name: given.get(name, "") for name in FIELDS},
        filters={name: given[name] for name in FIELDS if name in given},
        sentence=sentence,
        statistics=statistics,
    )


async def stretch(visit: Visit, shown: int, **fixed: Any) -> dict[str, Any]:
    """Return the events that a visit asks for, newest first, and the places where older and newer ones begin.

    `last` is the position after which nothing is shown, for who goes on following; None where newer ones are known.

    Raises:
        Mistake, InvalidFilter: a field cannot be read.
    """
    given = {name: value for name, value in visit.split("type").items() if name in FIELDS} | fixed
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
        "last": page["last"] if page["complete"] else None,
    }


PAGES = (Page(path="/events", call=show), Page(path="/find", call=find))
