"""The web application: routes to operations and pages, and what lives as long as the process does."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from console.web import health, openapi
from console.web.access import Access, Tokens
from console.web.api import deliveries, fleet, history, letters, live, log, numbers, publishing, timeline
from console.web.audit import AuditLog
from console.web.guards import Guards
from console.web.live.feed import Feed
from console.web.live.pulse import Pulse, take
from console.web.operations import PREFIX, House, Operation, json_response
from console.web.pages import routes as pages
from console.web.problems import OURS, problem_response
from events.bus import EventBus
from events.settings import Settings
from store.audit import Audit

# In the order of the OpenAPI document; `/events/stream` is matched before `/events/{event_id}`.
OPERATIONS: tuple[Operation, ...] = (
    *publishing.OPERATIONS, *live.OPERATIONS, *history.OPERATIONS, *numbers.OPERATIONS, *timeline.OPERATIONS,
    *deliveries.OPERATIONS, *letters.OPERATIONS, *fleet.OPERATIONS, *log.OPERATIONS,
)  # fmt: skip
# A batch of events may be so much larger than the largest event.
BATCH_FACTOR = 16
_ANY_ID = re.compile(r"\{(\w+)\}")


class Web:
    """One web process's application, and the parts that end with it.

    Args:
        settings: where the servers are, and the tokens.
    """

    def __init__(self, settings: Settings) -> None:
        bus = EventBus(settings)
        access = Access(Tokens(settings.web_token, settings.web_read_token))
        read = functools.partial(_read, bus)
        audit = AuditLog(lambda: Audit(bus.backend.blackboard.engine, settings.namespace), read)
        self.feed = Feed(lambda: bus.backend.replay, lambda: bus.backend.history.clock(), read)
        self.pulse = Pulse(lambda: take(bus.backend), read)
        self.house = House(bus, access, audit, self.feed, self.pulse)
        document = openapi.document(OPERATIONS)
        handlers: Any = {**dict.fromkeys(OURS, self._problem), Exception: self._bug}
        self.app = Starlette(routes=self._routes(document), lifespan=self._lifespan, exception_handlers=handlers)
        self.app.state.document = document
        self.app.add_middleware(Guards, max_body_bytes=settings.max_event_bytes * BATCH_FACTOR)

    def close(self) -> None:
        """End the connections that would never end by themselves; the server ends the others."""
        self.feed.close()
        self.pulse.close()

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        pulse = asyncio.create_task(self.pulse.run(), name="eventbus-pulse")
        try:
            yield
        finally:
            self.close()
            pulse.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await pulse
            await self.house.bus.disconnect()

    async def _problem(self, request: Request, error: Exception) -> Response:
        if pages.wants_page(request):
            return pages.error_page(self.house, request, error)
        return problem_response(error)

    async def _bug(self, request: Request, error: Exception) -> Response:
        """Answer that something failed, without what: the log has it."""
        return await self._problem(
            request, HTTPException(500, "Something failed that should not have; the web process's log says what.")
        )

    def _routes(self, document: dict[str, Any]) -> list[BaseRoute]:
        async def get_document(request: Request) -> Response:
            return json_response(document)

        return [
            Route("/livez", self._asked(health.livez)),
            Route("/readyz", self._asked(health.readyz)),
            Route("/metrics", self._asked(health.metrics)),
            Route(f"{PREFIX}/openapi.json", get_document),
            # A path that ends with an id goes last: ids may hold slashes.
            *(_route(operation, self.house) for operation in sorted(OPERATIONS, key=_ends_with_a_part)),
            *pages.routes(self.house),
        ]

    def _asked(self, call: Callable[[House, Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            return await call(self.house, request)

        return endpoint


def _ends_with_a_part(operation: Operation) -> bool:
    return operation.path.endswith("}")


def _route(operation: Operation, house: House) -> Route:
    async def endpoint(request: Request) -> Response:
        return await operation.serve(house, request)

    path = PREFIX + _ANY_ID.sub(r"{\1:path}", operation.path)
    return Route(path, endpoint, methods=[operation.method], name=operation.name)


async def _read(bus: EventBus, ask: Callable[[], Any]) -> Any:
    """Run what blocks on a thread of the SQL pool."""
    pool = await asyncio.to_thread(lambda: bus.backend.blackboard.pool)
    return await asyncio.get_running_loop().run_in_executor(pool, ask)
