"""*Audit log*: who did what, when, from where, and what came of it."""

from __future__ import annotations

from starlette.responses import Response

from console.web.api import log
from console.web.pages.rendering import render
from console.web.pages.visit import Page, Visit, question


async def show(visit: Visit) -> Response:
    """Show the log, newest first."""
    asked = question(log.Question, visit.given)
    entries = (await visit.ask(log.list_entries, asked))["entries"]
    older = entries[-1].id if len(entries) == asked.limit else None
    return render(visit, "audit.html", entries=entries, older=older)


PAGE = Page(path="/audit", call=show)
