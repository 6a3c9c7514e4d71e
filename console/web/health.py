"""What hosts ask of a process: does it live, can it serve, and what are its numbers. The first two need no token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response

from console.web.metrics import MEDIA, exposition
from console.web.operations import JSON, House, allowed
from console.web.reading import Shared
from events.connection import mapped
from events.errors import EventBusError
from store.migrate import require_current

if TYPE_CHECKING:
    from events.backend import Backend


class Health:
    """Answers hosts. Anybody may ask whether it is ready, so all who ask at once share one look."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._look = Shared(lambda: house.reading.vital(lambda: _ready(house.backend)))

    async def livez(self, request: Request) -> Response:
        """Answer: it lives, whatever the servers do. Restarting it would not mend them."""
        return Response(b"ok\n", media_type="text/plain")

    async def readyz(self, request: Request) -> Response:
        """Answer whether Redis and the database can be reached, and have this version's schema."""
        found = await self._look.get()
        is_ready = all(each == "ok" for each in found.values())
        return Response(to_json({"ready": is_ready, **found}), 200 if is_ready else 503, media_type=JSON)

    async def metrics(self, request: Request) -> Response:
        """Answer with every metric, to readers."""
        allowed(self._house.access, request)
        found = await self._house.reading.ask(lambda: exposition(self._house.backend))
        return Response(found, headers={"Content-Type": MEDIA})


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
