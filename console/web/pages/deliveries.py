"""*Deliveries*: what became of each event at each subscriber, by subscriber, state and project."""

from __future__ import annotations

from starlette.responses import Response

from console import wording
from console.exits import Mistake
from console.web.api import deliveries, questions
from console.web.pages.rendering import render
from console.web.pages.visit import Page, Visit, question
from events.errors import InvalidFilter
from store.tally import STATES

SHOWN = 100
FIELDS = ("subscriber", "state", "project")


async def show(visit: Visit) -> Response:
    """Show a page of deliveries, in the order of their events."""
    given, sentence = visit.given, ""
    filters = {name: visit.one(name) for name in FIELDS if name in given}
    try:
        asked = question(questions.Deliveries, {**filters, "after": visit.one("after") or None, "limit": SHOWN})
        found = await visit.ask(deliveries.list_deliveries, asked)
    except (Mistake, InvalidFilter) as error:
        found, sentence = {"deliveries": [], "next": None}, str(error)
    return render(
        visit,
        "deliveries.html",
        400 if sentence else 200,
        deliveries=[one | {"published_at": wording.at(one["event_position"])} for one in found["deliveries"]],
        next=found["next"],
        given={name: filters.get(name, "") for name in FIELDS},
        filters=filters,
        is_first="after" not in given,
        sentence=sentence,
        states=STATES,
        names=visit.subscribers,
    )


PAGE = Page(path="/deliveries", call=show)
