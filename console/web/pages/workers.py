"""*Workers*: the processes, what each is at, and since when."""

from __future__ import annotations

from starlette.responses import Response

from console.web.api import fleet
from console.web.pages.rendering import render
from console.web.pages.visit import Page, Visit


async def show(visit: Visit) -> Response:
    """Show the worker processes."""
    found = await visit.ask(fleet.list_workers)
    return render(visit, "workers.html", workers=found["workers"])


PAGE = Page(path="/workers", call=show)
