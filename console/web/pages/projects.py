"""*Projects*: searched by name, each with its state, its events, what it cost and when it was last active."""

from __future__ import annotations

from starlette.responses import Response

from console.web.api import numbers
from console.web.pages.rendering import render
from console.web.pages.visit import Page, Visit, question
from store.numbers import ProjectNumbers


async def show(visit: Visit) -> Response:
    """Show projects."""
    asked = question(numbers.Projects, visit.given)
    found = await visit.ask(numbers.list_projects, asked)
    return render(visit, "projects.html", found=found, asked=asked, state=state)


def state(project: ProjectNumbers) -> str:
    """Return a project's state in a word: `dead` when something of it was given up, `running`, or `done`."""
    if project.deliveries.dead:
        return "dead"
    return "running" if project.deliveries.waiting else "done"


PAGE = Page(path="/projects", call=show)
