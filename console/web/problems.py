"""Errors as problems: `application/problem+json`, with the error's own sentence. Source: RFC 9457."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, Field
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route

from console.exits import Mistake
from events import errors

MEDIA = "application/problem+json"
RETRY_AFTER_S = 1
BUG = "Something failed that should not have; the web process's log says what."

# The first that an error is one of.
_STATUS: tuple[tuple[type[Exception], int], ...] = (
    (errors.EventTooLarge, 413),
    (errors.InvalidEvent, 422),
    (errors.MalformedEntry, 500),
    (errors.EventIdConflict, 409),
    (errors.TooManyRoutes, 409),
    (errors.VersionConflict, 409),
    (errors.DropRefused, 409),
    (errors.RedeliveryRefused, 409),
    (errors.HistoryReset, 503),
    (errors.Unavailable, 503),
    (errors.NotMigrated, 503),
    (errors.NotDurable, 503),
    (LookupError, 404),
    (ValueError, 400),
)


class Problem(BaseModel):
    """What went wrong.

    Attributes:
        title: of the status. status: the HTTP status. detail: a sentence: what was wrong, with what value, what to do.
        code: the error's name in docs/reference/errors.md, e.g. `EventIdConflict`.
        problems: of an event that is not valid: a sentence for each field.
    """

    title: str = Field(description="The status in words.")
    status: int
    detail: str = Field(description="A sentence: what was wrong, with what value, what to do.")
    code: str = Field(description="The error's name, e.g. `EventIdConflict`.")
    problems: list[str] | None = Field(None, description="A sentence for each field of an event that is not valid.")


def status_of(error: Exception) -> int:
    """Return the HTTP status of an error of ours."""
    if isinstance(error, errors.ScriptFailed):
        return 503 if error.passes else 500
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def problem_object(error: Exception) -> dict[str, Any]:
    """Return an error as JSON shows it."""
    status = error.status_code if isinstance(error, HTTPException) else status_of(error)
    sentence = error.detail if isinstance(error, HTTPException) else str(error)
    found = {
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": sentence,
        "code": "HttpError" if isinstance(error, HTTPException) else type(error).__name__,
    }
    return found | ({"problems": error.problems} if isinstance(error, errors.InvalidEvent) else {})


def problem_response(error: Exception) -> Response:
    """Return the response that tells of an error."""
    found = problem_object(error)
    return Response(to_json(found), found["status"], problem_headers(error), MEDIA)


def problem_headers(error: Exception) -> dict[str, str]:
    """Return the headers of an error's answer: its own, and when to ask again if that may help."""
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    if problem_object(error)["status"] == 503:
        headers.setdefault("Retry-After", str(RETRY_AFTER_S))
    return headers


def refused(status: int, sentence: str, headers: dict[str, str] | None = None) -> HTTPException:
    """Return the error of a request that is answered with a status and a sentence."""
    return HTTPException(status, sentence, headers)


def in_a_sentence(request: Request, error: Exception) -> Exception:
    """Return an error that says what was wrong where the framework's own says the status alone: of an unknown path.

    A method that a path does not have is answered with all that it has (RFC 9110, 15.5.6); each is a route of its own.
    """
    if not isinstance(error, HTTPException) or error.detail != HTTPStatus(error.status_code).phrase:
        return error
    headers = dict(error.headers or {})
    path, there = f"{request.url.path!r:.200}", "the API's paths are in /api/v1/openapi.json, the console is at /."
    if error.status_code == 405:
        sentence = f"{path} is not asked with {request.method:.20}: {there}"
        headers["Allow"] = ", ".join(_methods(request)) or headers.get("Allow", "")
    else:
        sentence = f"There is nothing at {path}: {there}"
    return refused(error.status_code, sentence, headers)


def _methods(request: Request) -> list[str]:
    """Return the methods that a request's path can be asked with."""
    routes = [route for route in request.app.routes if isinstance(route, Route)]
    there = [route for route in routes if route.matches(request.scope)[0] is not Match.NONE]
    return sorted({method for route in there for method in route.methods or ()})


OURS = (errors.EventBusError, Mistake, HTTPException)
"""Errors that are told to whoever asked; anything else is a bug, and is not."""
