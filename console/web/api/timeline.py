"""A project's timeline over HTTP."""

from __future__ import annotations

from typing import Any

from console.timeline import timeline
from console.web.api import questions
from console.web.operations import Answer, Asked, Operation
from console.web.shapes import Timeline


async def get_timeline(asked: Asked) -> dict[str, Any]:
    """Return the timeline of a project."""
    query, backend = asked.query, asked.house.backend
    return await asked.read(lambda: timeline(backend, query.project, query.limit))


OPERATIONS = (
    Operation(
        method="GET",
        path="/timeline",
        name="get_timeline",
        tag="Statistics",
        summary="What happened in a project: who waited for what, what ran how long, and when events were published.",
        call=get_timeline,
        query=questions.Timeline,
        answers={200: Answer("Spans and marks, in the order of the events.", Timeline)},
    ),
)
