"""What hosts ask of a process: does it live, can it serve, and what are its numbers. The first two need no token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response

from console.web.access import Role
from console.web.metrics import MEDIA, exposition
from console.web.operations import JSON, House, allowed
from events.connection import mapped
from events.errors import EventBusError
from store.migrate import require_current

if TYPE_CHECKING:
    from events.backend import Backend


async def livez(house: House, request: Request) -> Response:
    """Answer: it lives, whatever the servers do. Restarting it would not mend them."""
    return Response(b"ok\n", media_type="text/plain")


async def readyz(house: House, request: Request) -> Response:
    """Answer whether Redis and the database can be reached, and have this version's schema."""
    found = await house.read(lambda: _ready(house.backend))
    is_ready = all(each == "ok" for each in found.values())
    return Response(to_json({"ready": is_ready, **found}), 200 if is_ready else 503, media_type=JSON)


async def metrics(house: House, request: Request) -> Response:
    """Answer with every metric, to readers."""
    allowed(house.access, request, Role.READER)
    return Response(await house.read(lambda: exposition(house.backend)), headers={"Content-Type": MEDIA})


def _ready(backend: Backend) -> dict[str, Any]:
    return {
        "redis": _tried(lambda: _ping(backend)),
        "database": _tried(lambda: require_current(backend.blackboard.engine)),
    }


def _ping(backend: Backend) -> None:
    with mapped(backend.client):
        backend.client.ping()


def _tried(ask: Any) -> str:
    """Return `ok`, or the name of what is wrong: who asks here need not be allowed to read more."""
    try:
        ask()
    except EventBusError as error:
        return type(error).__name__
    return "ok"
