"""The audit log over HTTP."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from console.web.api import questions
from console.web.operations import Answer, Asked, Operation
from console.web.shapes import AuditPage


class Question(BaseModel):
    """Which entries."""

    model_config = ConfigDict(extra="forbid")

    before: int | None = Field(
        None, ge=1, le=questions.MAX_POSITION, description="Only those before the entry of this id."
    )
    limit: int = questions.Limit


async def list_entries(asked: Asked) -> dict[str, Any]:
    """Return the newest entries."""
    query = asked.query
    return {"entries": await asked.house.audit.newest(query.limit, query.before)}


OPERATIONS = (
    Operation(
        method="GET",
        path="/audit",
        name="list_audit_entries",
        tag="Audit",
        summary="Who changed what through the web process, newest first.",
        about="Published events are not in it: history has them, each with its actor, and the process's log has a line "
        "(`eventbus.audit`) with who sent them.",
        call=list_entries,
        query=Question,
        answers={200: Answer("Entries.", AuditPage)},
    ),
)
