"""*Dead letters*: what was given up, why, and deciding about it, many at once, after a look at what will happen."""

from __future__ import annotations

from starlette.responses import Response

from console.exits import Mistake
from console.web.api import letters, questions
from console.web.pages.rendering import render
from console.web.pages.visit import Page, Visit, question
from events.errors import InvalidFilter

SHOWN = 200
FIELDS = ("subscriber", "type", "project", "since", "until", "error")


async def show(visit: Visit) -> Response:
    """Show the letters that match: open ones, or those about which somebody has decided."""
    given, sentence = visit.split("subscriber", "type"), ""
    decided = visit.one("decided") == "true"
    wanted = {name: given[name] for name in FIELDS if name in given}
    try:
        asked = question(questions.Letters, {**wanted, "decided": decided, "limit": SHOWN})
        found = await visit.ask(letters.list_letters, asked)
    except (Mistake, InvalidFilter) as error:
        found, sentence = {"dead_letters": [], "is_all": True}, str(error)
    open_counts = await visit.house.reading.ask(visit.house.backend.blackboard.dead_letters.open_counts)
    return render(
        visit,
        "letters.html",
        400 if sentence else 200,
        found=found,
        given={name: given.get(name, "") for name in FIELDS},
        order=order(wanted),
        decided=decided,
        sentence=sentence,
        open_counts=open_counts,
    )


def order(wanted: dict[str, object]) -> dict[str, object]:
    """Return the order that means every letter of a filter, as the API takes it."""
    if not wanted:
        return {"all": True}
    return {
        name: [value] if name in ("subscriber", "type") and not isinstance(value, list) else value
        for name, value in wanted.items()
    }


async def show_one(visit: Visit) -> Response:
    """Show all that is known of one letter."""
    letter = await visit.ask(letters.get_letter, name=visit.one("name"))
    return render(visit, "letter.html", letter=letter)


PAGES = (Page(path="/dead-letters", call=show), Page(path="/dead-letter", call=show_one))
