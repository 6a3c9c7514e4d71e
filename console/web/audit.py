"""Who changed what, or tried to: an entry in the store before it is done, completed afterwards, and a line in the log.

An action that cannot be logged is not done. Published events have a line in the log alone, with their ids: history has
them, and publishing neither waits for the database nor needs it. Payloads are in neither.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from console.web.access import Who
from console.web.operations import NOT_HIS, read_json
from console.web.problems import OURS, problem_object
from console.wording import plural
from events.errors import EventBusError
from events.publisher import Answer
from store.audit import Audit, Entry
from store.rows import is_storable

# Operations whose events are in history; `published` logs who sent them.
IN_HISTORY = frozenset({"publish_event", "publish_events"})
MOST_BYTES = 10_000
MOST_IDS = 20
MOST_TARGET = 500
MOST_TRIED = 1000
TRIED_S = 60.0

log = logging.getLogger("eventbus.audit")


@dataclass(slots=True)
class Pending:
    """An action that is under way; `status` is of its answer."""

    status: int = 0


class AuditLog:
    """Writes the audit log.

    Args:
        store: returns the log in the store; called on the thread that `read` runs things on.
        read: runs what blocks.
    """

    def __init__(self, store: Callable[[], Audit], read: Callable[[Callable[[], Any]], Awaitable[Any]]) -> None:
        self._store = store
        self._read = read
        self._tried: dict[tuple[str, str, str], float] = {}

    @asynccontextmanager
    async def entry(self, who: Who, action: str, request: Request) -> AsyncIterator[Pending]:
        """Enter an action: logged at once, and again with what came of it.

        Raises:
            StoreUnavailable, NotMigrated: nothing was done.
        """
        pending = Pending()
        if action in IN_HISTORY:
            yield pending
            return
        address = _address(request)
        details = await _details(request)
        id = await self._read(lambda: self._store().begin(who.name, address, action, request.url.path, details))
        try:
            yield pending
        except Exception as error:
            pending.status = problem_object(error)["status"] if isinstance(error, OURS) else 500
            raise
        finally:
            log.info("%s (%s) %s %s: %s", who.name, address, action, _path(request), pending.status)
            await self._conclude(id, pending.status)

    async def turned_away(self, who: Who, action: str, request: Request) -> None:
        """Enter what somebody tried and may not do; it is refused also where it cannot be entered.

        Nothing of it is read: what was asked is not in the entry. Who goes on trying has an entry a minute; each try
        has a line in the log.
        """
        address, path = _address(request), request.url.path[:MOST_TARGET]
        log.warning("%s (%s) %s %s: %s", who.name, address, action, _path(request), NOT_HIS)
        if action in IN_HISTORY or not self._is_news((who.name, address, action)):
            return
        try:
            await self._read(lambda: self._store().begin(who.name, address, action, path, {}, NOT_HIS))
        except EventBusError as error:
            log.warning("The audit log cannot be written: %s", error)

    def _is_news(self, tried: tuple[str, str, str]) -> bool:
        """Whether this is to be entered: not tried for a minute, and one of the first `MOST_TRIED` within one."""
        now = time.monotonic()
        self._tried = {one: at for one, at in self._tried.items() if now - at < TRIED_S}
        is_news = tried not in self._tried and len(self._tried) < MOST_TRIED
        if is_news:
            self._tried[tried] = now
        return is_news

    def published(self, who: Who, request: Request, event_ids: Sequence[str], answers: Sequence[Answer] | None) -> None:
        """Log who published, or scheduled, which events.

        Args:
            answers: what became of each; None when nobody can tell.
        """
        named = ", ".join(event_ids[:MOST_IDS]) + (", ..." if len(event_ids) > MOST_IDS else "")
        refused = sum(isinstance(answer, EventBusError) for answer in answers or ())
        came = "unanswered" if answers is None else f"{len(answers) - refused} taken, {refused} refused"
        role, address = who.role.name.lower(), _address(request)
        count = plural(len(event_ids), "event")
        log.info("%s (%s, %s) publish %s, %s: %s", who.name, role, address, count, came, named)

    async def newest(self, limit: int, before: int | None = None) -> list[Entry]:
        """Return the last entries, newest first; those before the entry of an id, if one is given.

        Raises:
            StoreUnavailable, NotMigrated.
        """
        found: list[Entry] = await self._read(lambda: self._store().newest(limit, before))
        return found

    async def _conclude(self, id: int, status: int) -> None:
        try:
            await self._read(lambda: self._store().end(id, status))
        except EventBusError as error:  # what was done is done
            log.warning("The audit log's entry %s cannot be completed: %s", id, error)


def _address(request: Request) -> str:
    return request.client.host if request.client else ""


def _path(request: Request) -> str:
    """Return a request's path for a line of text: as it was sent, in which a line has no end."""
    return bytes(request.scope["raw_path"]).decode("ascii")


async def _details(request: Request) -> dict[str, Any]:
    """Return what was asked, whatever its type is said to be: operations do not look at that either.

    What is no JSON object, is too large, or holds text that no database stores, is kept as the text of its beginning:
    an action never loses its details by how it is written.
    """
    body = await request.body()
    if not body:
        return {}
    try:
        found = read_json(body) if len(body) <= MOST_BYTES else None
        if isinstance(found, dict) and _is_kept(found) and b"\\u0000" not in body:
            return found
    except (ValueError, RecursionError):
        pass
    return {"body": body[:MOST_BYTES].decode(errors="replace").replace("\0", "\ufffd"), "size_bytes": len(body)}


def _is_kept(found: dict[str, Any]) -> bool:
    """Tell whether every database keeps it; ValueError where it holds a number that JSON does not have."""
    return is_storable(json.dumps(found, ensure_ascii=False, allow_nan=False))
