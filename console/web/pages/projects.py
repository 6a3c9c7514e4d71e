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
    filters = {name: visit.given[name] for name in ("search", "order", "limit") if name in visit.given}
    return render(visit, "projects.html", found=found, asked=asked, filters=filters, states=states)


def states(project: ProjectNumbers) -> list[str]:
    """Return a project's state in a word, or two: `running` or `done`, and `dead` when something of it was given up."""
    is_running, is_dead = project.deliveries.waiting > 0, project.deliveries.dead > 0
    return ["running"] * is_running + ["dead"] * is_dead or ["done"]


PAGE = Page(path="/projects", call=show)
