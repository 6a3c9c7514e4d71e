"""Back-filling a new subscriber with events that were published before it: where to begin, and one step.

    absent ──declare, start="now"──────────────────────────> live
           ──declare, with another start──> backfill(cursor)
    backfill(cursor) ──fill──> backfill(later cursor) ──fill, and nothing follows──> live

While it is filled, publish gives a subscriber nothing. Any number of fillers may work at once: each says
from which cursor it has read, and only the first to say so writes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple

from events.errors import InvalidSubscription
from events.kept import kept
from events.namespace import Namespace
from events.publisher import MAX_BATCH_BYTES, MAX_BATCH_EVENTS, event_arguments
from events.records import RecordedEvent
from events.scripts import Argument
from events.stream import MAX_POSITION

ENOUGH = 2000
"""A filler adds nothing while that many deliveries of a subscriber wait."""
UNPUBLISHED = ("direct", "import")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Start = str | int | datetime


def cursor_of(start: Start) -> int | None:
    """Return the position after which a new subscriber's deliveries begin; None for those from now on.

    Args:
        start: `now`; `beginning`; a position, exclusive; or a moment, inclusive, naive read as UTC. One that
            has not come is now.

    Raises:
        InvalidSubscription: it is none of these.
    """
    if start == "now":
        return None
    if start == "beginning":
        return 0
    if isinstance(start, datetime):
        moment = start.replace(tzinfo=UTC) if start.tzinfo is None else start
        return max(0, (moment - _EPOCH) // timedelta(microseconds=1) - 1)
    if isinstance(start, int) and not isinstance(start, bool) and 0 <= start < MAX_POSITION:
        return start
    raise InvalidSubscription(
        f"start must be 'now', 'beginning', a datetime or a position (an event's place in history), not {start!r:.80}."
    )


def beginning(start: Start) -> dict[str, str]:
    """Return the fields with which the record of a new subscriber begins."""
    cursor = cursor_of(start)
    return {} if cursor is None else {"state": "backfill", "cursor": str(cursor)}


class Place(NamedTuple):
    """How far a back-fill has come.

    Attributes:
        verdict: of the step that was tried: `filled`; `live`, the back-fill has ended with it; `stale`,
            nothing was written, because it did not begin here; `done`, there is nothing to fill;
            `unknown`, nobody has declared the subscriber.
        cursor: the position up to which the subscriber has everything.
        types: what it is routed, as the script compares it.
        waiting: deliveries of it that wait, counted up to `ENOUGH`.
    """

    verdict: Literal["filled", "live", "stale", "done", "unknown"]
    cursor: int
    types: str
    waiting: int

    @property
    def is_filling(self) -> bool:
        return self.verdict in ("filled", "stale")

    @property
    def wanted(self) -> tuple[str, ...]:
        """Names of the types to read; empty means all of them, or that it has none."""
        names = tuple(filter(None, self.types.split("\t")))
        return () if "*" in names else names


def look(namespace: Namespace, name: str) -> Place:
    """Return how far a subscriber's back-fill has come.

    Raises:
        RedisUnavailable, ScriptFailed, HistoryReset.
    """
    with kept(namespace.keys("sub", name)):
        return _place(namespace.call("fill", name, "", "", 0, 0, ENOUGH))


def fill(
    namespace: Namespace, name: str, since: Place, upto: int, events: Sequence[RecordedEvent], *, is_end: bool
) -> Place:
    """Deliver what was read after a place, and move the cursor.

    Args:
        since: from where it was read, and with which types.
        upto: the last position that was looked at.
        events: of the subscriber's types, after the place and up to there, ascending. Those that were
            persisted without being published are not delivered.
        is_end: nothing followed when it was read. The script then delivers itself what has been published
            since.

    Returns:
        The new place. `stale` means that nothing was written.

    Raises:
        RedisUnavailable: it may or may not have been written; look, and go on.
        ScriptFailed, HistoryReset: nothing was written.
    """
    place = since
    published = [recorded for recorded in events if recorded.origin not in UNPUBLISHED] if since.types else []
    for part, last in parts(published, upto):
        flat: list[Argument] = [argument for one in part for argument in one]
        ends = int(is_end and last == upto)
        place = _place(namespace.call("fill", name, str(place.cursor), since.types, last, ends, ENOUGH, *flat))
        if place.verdict != "filled":
            break
    return place


def parts(events: Sequence[RecordedEvent], upto: int) -> Iterator[tuple[list[list[Argument]], int]]:
    """Yield what one script call delivers, and the position up to which that is all; the last one is `upto`."""
    part: list[list[Argument]] = []
    size = last = 0
    for recorded in events:
        arguments = event_arguments(recorded.event, sys.maxsize)
        body = arguments[-1]
        assert isinstance(body, bytes)
        if part and (len(part) == MAX_BATCH_EVENTS or size + len(body) > MAX_BATCH_BYTES):
            yield part, last
            part, size = [], 0
        root = recorded.event.correlation_id or recorded.event.event_id
        part.append([str(recorded.position), root, recorded.depth, *arguments])
        size, last = size + len(body), recorded.position
    yield part, upto


def _place(reply: list[bytes | int]) -> Place:
    verdict, cursor, types, waiting = reply
    assert isinstance(verdict, bytes) and isinstance(types, bytes)
    return Place(verdict.decode().lower(), int(cursor), types.decode(), int(waiting))  # type: ignore[arg-type]
