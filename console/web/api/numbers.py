"""Statistics over HTTP: of one project or all, by type, actor, subscriber, day and hour."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from console.options import moment
from console.web.api import questions
from console.web.operations import Answer, Asked, Operation
from console.web.shapes import ProjectPage, Series, StatisticsShape

MAX_PROJECTS = 1000


class Projects(BaseModel):
    """Which projects."""

    model_config = ConfigDict(extra="forbid")

    search: str = Field("", max_length=200, description="Only those whose name holds this text, whichever case.")
    order: str = Field(
        "recent", pattern="^(recent|cost)$", description="`recent`: last activity first; `cost`: dearest first."
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
    """Return projects with their numbers."""
    query, statistics = asked.query, asked.house.backend.blackboard.statistics
    found = await asked.read(lambda: statistics.projects(query.limit + 1, search=query.search, order=query.order))
    return {"projects": found[: query.limit], "is_all": len(found) <= query.limit}


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
        call=list_projects,
        query=Projects,
        answers={200: Answer("Projects.", ProjectPage)},
    ),
)
