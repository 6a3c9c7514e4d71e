"""Statistics over HTTP: of one project or all, by type, actor, subscriber, day and hour."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from console.exits import Mistake
from console.options import moment
from console.web.api import questions
from console.web.operations import Answer, Asked, Operation
from console.web.shapes import ProjectPage, Series, StatisticsShape
from store.statistics import Place

MAX_PROJECTS = 1000
_PLACE = re.compile(r"(-?\d{1,40}):(-?\d{1,20}):(.+)", re.DOTALL)


class Projects(BaseModel):
    """Which projects."""

    model_config = ConfigDict(extra="forbid")

    search: str = Field("", max_length=200, description="Only those whose name holds this text, whichever case.")
    order: Literal["recent", "cost"] = Field(
        "recent", description="`recent`: last activity first; `cost`: dearest first."
    )
    after: str | None = Field(
        None, max_length=400, description="Those after this one in the same order: the last page's `last`."
    )
    limit: int = Field(100, ge=1, le=MAX_PROJECTS, description="At most so many.")


async def get_statistics(asked: Asked) -> dict[str, Any]:
    """Return the numbers of one project, or of all."""
    project, board = asked.query.project, asked.house.backend.blackboard

    def read() -> dict[str, Any]:
        found = board.statistics.project(project)
        return {
            "project_id": found.project_id,
            "total": found.total,
            "types": found.types,
            "actors": found.actors,
            "deliveries": board.statistics.deliveries(project),
            "open_dead_letters": board.dead_letters.open_counts(),
        }

    return await asked.read(read)


async def get_series(asked: Asked) -> dict[str, Any]:
    """Return numbers by day or hour."""
    query, statistics = asked.query, asked.house.backend.blackboard.statistics
    start, end = moment("since", query.since), moment("until", query.until)

    def read() -> dict[str, Any]:
        return {
            "project_id": query.project,
            "grain": query.grain,
            "buckets": statistics.series(query.project, query.grain, start, end),
            "deliveries": statistics.delivery_series(query.project, query.grain, start, end),
        }

    return await asked.read(read)


async def list_projects(asked: Asked) -> dict[str, Any]:
    """Return a page of projects with their numbers."""
    query, statistics = asked.query, asked.house.backend.blackboard.statistics
    after = None if query.after is None else _place(query.after)
    found = await asked.read(
        lambda: statistics.projects_after(after, query.limit + 1, search=query.search, order=query.order)
    )
    page = found[: query.limit]
    return {
        "projects": [numbers for _, numbers in page],
        "is_all": len(found) == len(page),
        "last": ":".join(map(str, page[-1][0])) if page else None,
    }


def _place(text: str) -> Place:
    """Read where the last page ended: two whole numbers and the project's id.

    Raises:
        Mistake: it is no such place.
    """
    found = _PLACE.fullmatch(text)
    if found is None:
        raise Mistake(f"The parameter 'after' must be the `last` of the page before, not {text!r:.120}.")
    return int(found[1]), int(found[2]), found[3]


OPERATIONS = (
    Operation(
        method="GET",
        path="/statistics",
        name="get_statistics",
        tag="Statistics",
        summary="Counts, costs, latencies and what deliveries came to.",
        about="Events are exact to the last one published; deliveries as far as archived.",
        call=get_statistics,
        query=questions.OfProject,
        answers={200: Answer("The numbers.", StatisticsShape)},
    ),
    Operation(
        method="GET",
        path="/statistics/series",
        name="get_series",
        tag="Statistics",
        summary="The same by day or hour.",
        call=get_series,
        query=questions.Series,
        answers={200: Answer("A number for each day or hour that has events.", Series)},
    ),
    Operation(
        method="GET",
        path="/projects",
        name="list_projects",
        tag="Statistics",
        summary="Projects with their numbers, searched by name.",
        about="Pages follow each other by `after`. What is published meanwhile of a project may move it between them.",
        call=list_projects,
        query=Projects,
        answers={200: Answer("Projects.", ProjectPage)},
    ),
)
