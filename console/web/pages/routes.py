"""Every page at its path, who may see it, and what he sees instead when it cannot be shown."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from console.web.compressing import compressed_files
from console.web.operations import House, allowed
from console.web.pages import (
    api,
    audit,
    deliveries,
    event,
    events,
    graph,
    letters,
    login,
    overview,
    project,
    projects,
    scheduled,
    subscriptions,
    workers,
)
from console.web.pages.rendering import render
from console.web.pages.visit import Page, Visit
from console.web.problems import OURS, problem_headers, problem_object

STATIC = Path(__file__).parent.parent / "static"
PAGES: tuple[Page, ...] = (
    overview.PAGE, projects.PAGE, project.PAGE, *events.PAGES, event.PAGE, graph.PAGE, deliveries.PAGE,
    *letters.PAGES, subscriptions.PAGE, scheduled.PAGE, workers.PAGE, audit.PAGE, api.PAGE, *login.PAGES,
)  # fmt: skip


def routes(house: House) -> list[BaseRoute]:
    """Return the routes of all pages, and of the files that they load."""
    return [
        *(Route(page.path, _endpoint(page, house), methods=page.methods) for page in PAGES),
        Mount("/static", compressed_files(StaticFiles(directory=STATIC)), name="static"),
    ]


def wants_page(request: Request) -> bool:
    """Tell whether an error is to be shown to somebody who reads pages."""
    return not request.url.path.startswith("/api/v1") and "text/html" in request.headers.get("accept", "")


def error_page(house: House, request: Request, error: Exception) -> Response:
    """Return the page that tells of an error, in its own sentence."""
    problem = problem_object(error)
    who = house.access.who(request)
    page = render(Visit(house, request, who), "error.html", problem["status"], problem=problem)
    page.headers.update(problem_headers(error))
    return page


def _endpoint(page: Page, house: House):  # type: ignore[no-untyped-def]
    async def endpoint(request: Request) -> Response:
        try:
            who = None if page.needs_nobody else allowed(house.access, request)
            return await page.call(Visit(house, request, who or house.access.who(request)))
        except HTTPException as error:
            if error.status_code == 401:
                return _to_login(request)
            return error_page(house, request, error)
        except OURS as error:
            return error_page(house, request, error)

    return endpoint


def _to_login(request: Request) -> Response:
    wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    to = "" if wanted == "/" or request.method != "GET" else f"?to={quote(wanted, safe='')}"
    return RedirectResponse(f"/login{to}", 303)
