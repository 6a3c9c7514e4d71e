"""*Subscriptions*: who takes what, what each has before it; pause, resume, limits."""

from __future__ import annotations

from starlette.responses import Response

from console.web.api import fleet
from console.web.pages.rendering import render
from console.web.pages.visit import Page, Visit


async def show(visit: Visit) -> Response:
    """Show the subscribers, those whose name or types hold the text that is searched."""
    found = await visit.ask(fleet.list_subscribers)
    text = visit.one("search").casefold()
    shown = [
        one
        for one in found["subscribers"]
        if not text or text in one["subscriber"].casefold() or any(text in type.casefold() for type in one["types"])
    ]
    return render(
        visit, "subscriptions.html", subscribers=shown, total=len(found["subscribers"]), search=visit.one("search")
    )


PAGE = Page(path="/subscriptions", call=show)
