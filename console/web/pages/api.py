"""*API*: the OpenAPI document as a page that can be read."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from console.web.pages.formats import schema
from console.web.pages.rendering import render
from console.web.pages.visit import Page, Visit


async def show(visit: Visit) -> Response:
    """Show every operation, by subject."""
    document: dict[str, Any] = visit.request.app.state.document
    subjects: dict[str, list[dict[str, Any]]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            subjects.setdefault(operation["tags"][0], []).append(
                {"method": method.upper(), "path": path, **operation, "bodies": _bodies(operation)}
            )
    return render(visit, "api.html", document=document, subjects=subjects, schemas=document["components"]["schemas"])


def _bodies(operation: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the media types of an operation's body, each with the name of its schema."""
    content = operation.get("requestBody", {}).get("content", {})
    return [(media, schema(described["schema"])) for media, described in content.items()]


PAGE = Page(path="/api", call=show)
