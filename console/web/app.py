"""The web application: routes to operations and pages, and what lives as long as the process does."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import unquote

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import ASGIApp, Scope

from console.web import openapi
from console.web.access import Access, Tokens
from console.web.api import agenda, deliveries, fleet, history, letters, live, log, numbers, publishing, timeline
from console.web.audit import AuditLog
from console.web.compressing import compressed
from console.web.guards import Guards
from console.web.health import Health
from console.web.live.feed import Feed
from console.web.live.pulse import Pulse, take
from console.web.live.sse import Streams
from console.web.operations import PREFIX, House, Operation, json_response
from console.web.pages import routes as pages
from console.web.problems import BUG, OURS, in_a_sentence, problem_response, refused
from console.web.reading import Reading
from events.bus import EventBus
from events.schemas import Schemas
from events.settings import Settings
from store.audit import Audit

# In the order of the OpenAPI document, and of matching: `/events/stream` goes before `/events/{event_id}`.
OPERATIONS: tuple[Operation, ...] = (
    *publishing.OPERATIONS, *agenda.OPERATIONS, *live.OPERATIONS, *history.OPERATIONS, *numbers.OPERATIONS,
    *timeline.OPERATIONS, *deliveries.OPERATIONS, *letters.OPERATIONS, *fleet.OPERATIONS, *log.OPERATIONS,
)  # fmt: skip
# A batch of events may be so much larger than the largest event.
BATCH_FACTOR = 16


class Web:
    """One web process's application, and the parts that end with it.

    Args:
        settings: where the servers are, and the tokens.
        models: what payloads are held against when they are published; nothing unless given.
    """

    def __init__(self, settings: Settings, models: Schemas | None = None) -> None:
        bus = EventBus(settings)
        if models is not None:
            bus.schemas.adopt(models)
        access = Access(Tokens(settings.web_token, settings.web_read_token))
        self._reading = reading = Reading(settings.sql_pool_size)
        audit = AuditLog(lambda: Audit(bus.backend.blackboard.engine, settings.namespace), reading.ask)
        self.feed = Feed(lambda: bus.backend.replay, lambda: bus.backend.history.clock(), reading.vital, reading.ask)
        self.pulse = Pulse(lambda: take(bus.backend), reading.ask)
        self.house = House(bus, access, audit, reading, self.feed, self.pulse, Streams())
        self.app: ASGIApp = Guards(
            self._starlette(), api=f"{PREFIX}/", max_body_bytes=settings.max_event_bytes * BATCH_FACTOR
        )

    def close(self) -> None:
        """End the connections that would never end by themselves; the server ends the others."""
        self.feed.close()
        self.pulse.close()

    @contextlib.asynccontextmanager
    async def lifespan(self, _app: object = None) -> AsyncIterator[None]:
        """Sample while the application serves; end what it holds when it does not any more."""
        pulse = asyncio.create_task(self.pulse.run(), name="eventbus-pulse")
        try:
            yield
        finally:
            self.close()
            pulse.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await pulse
            await asyncio.to_thread(self._reading.close)
            await self.house.bus.disconnect()

    def _starlette(self) -> Starlette:
        document = openapi.document(OPERATIONS)
        handlers: Any = {**dict.fromkeys(OURS, self._problem), Exception: self._bug}
        app = Starlette(routes=self._routes(document), lifespan=self.lifespan, exception_handlers=handlers)
        app.state.document = document
        return app

    async def _problem(self, request: Request, error: Exception) -> Response:
        error = in_a_sentence(request, error)
        if pages.wants_page(request):
            return pages.error_page(self.house, request, error)
        return problem_response(error)

    async def _bug(self, request: Request, error: Exception) -> Response:
        """Answer that something failed, without what: the log has it."""
        return await self._problem(request, refused(500, BUG))

    def _routes(self, document: dict[str, Any]) -> list[BaseRoute]:
        async def get_document(request: Request) -> Response:
            return await compressed(request, json_response(document))

        health = Health(self.house)
        return [
            Route("/livez", health.livez),
            Route("/readyz", health.readyz),
            Route("/metrics", health.metrics),
            Route(f"{PREFIX}/openapi.json", get_document),
            *(_route(operation, self.house) for operation in OPERATIONS),
            *pages.routes(self.house),
        ]


class _RawRoute(Route):
    """A route that reads the path as it was sent: `%2F` in an id is a part of the id, and no slash of the path."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Tell whether a request is this route's; the parts of its path that vary are decoded one by one."""
        if scope["type"] != "http":
            return Match.NONE, {}
        match, found = super().matches({**scope, "path": scope["raw_path"].decode("ascii")})
        if match is not Match.NONE:
            found["path_params"] = {name: unquote(part) for name, part in found["path_params"].items()}
        return match, found


def _route(operation: Operation, house: House) -> Route:
    async def endpoint(request: Request) -> Response:
        return await operation.serve(house, request)

    return _RawRoute(PREFIX + operation.path, endpoint, methods=[operation.method], name=operation.name)
