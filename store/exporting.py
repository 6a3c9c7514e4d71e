"""Events as flat rows with typed columns, one JSON object a line: what an export holds and an import reads.

Every row has every column, in this order, so that a table can be made of them without looking at each. What is
nested (payload, metadata, deliveries) is JSON text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from events.records import RecordedEvent
from store.filter import EventFilter
from store.replay import Replay
from store.rows import Unstorable, event_row

# Each column and its type, in the words of Arrow; those with `?` may be null.
COLUMNS = {
    "position": "int64",
    "event_id": "string",
    "project_id": "string",
    "type": "string",
    "actor": "string",
    "causation_id": "string?",
    "correlation_id": "string",
    "depth": "int32",
    "timestamp": "string",  # UTC, 2026-01-31T12:00:00.000000Z: of one length, so that its order is the time's
    "payload": "string",
    "blackboard_pointer": "string?",
    "metadata": "string",
    "cost_micros": "int64?",
    "currency": "string?",
    "latency_us": "int64?",
    "origin": "string",
    "deliveries": "string",
}


def lines(
    replay: Replay, filter: EventFilter, after: int, horizon: int, page: int = 500
) -> Iterator[tuple[list[str], int]]:
    """Iterate over pages of events after a position and up to a horizon, as lines without their ends.

    Args:
        horizon: from `DirectWriter.horizon`: nothing at or below it can still appear, so that an export that is gone
            on with after its last position has no gap.

    Yields:
        The lines, none or more, and how many events were left out because no database can keep them.

    Raises:
        StoreUnavailable, NotMigrated, RedisUnavailable.
    """
    complete = False
    while not complete and after < horizon:
        stretch = replay.page(filter, after, page)
        texts = [_line(recorded) for recorded in stretch.events if recorded.position <= horizon]
        written = [text for text in texts if text is not None]
        yield written, len(texts) - len(written)
        after, complete = stretch.last, stretch.complete


def row(recorded: RecordedEvent) -> dict[str, Any]:
    """Return an event's columns.

    Raises:
        Unstorable: a value that no database can keep; the archive sets such an event aside.
    """
    found = event_row("", recorded, is_read=True)
    found["timestamp"] = _utc(found["timestamp"])
    return {name: found[name] for name in COLUMNS}


def _line(recorded: RecordedEvent) -> str | None:
    try:
        return json.dumps(row(recorded), ensure_ascii=False, separators=(",", ":"))
    except Unstorable:
        return None


def _utc(moment: datetime) -> str:
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
