"""Reading history and outcomes from Redis, and telling Redis how far SQL has them.

Implements the ports `HistoryTail` and `PositionClock`. An entry that this project did not write
becomes a `Rejected` with its reason; it never stops a reader.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from events.connection import mapped
from events.errors import MalformedEntry
from events.event import decode
from events.namespace import Namespace
from events.ports import TailPage
from events.records import AttemptState, Outcome, RecordedEvent, Rejected

Stream = Literal["history", "outcomes"]
RawEntry = tuple[bytes, Any]
MAX_IDS = 5000


class HistoryStream:
    """History and outcomes of one namespace. Threads may share it."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace

    def after(self, position: int, limit: int) -> TailPage:
        """See `events.ports.HistoryTail.after`."""
        archived, entries = self._namespace.scripts.call("tail", ["", position, limit])
        events = []
        last = position
        for entry_id, flat in entries:
            fields = dict(zip(flat[::2], flat[1::2], strict=True))
            record = read_event(entry_id, fields)
            last = max(last, int(entry_id.partition(b"-")[0]))
            if isinstance(record, RecordedEvent):
                events.append(record)
        return TailPage(int(archived), tuple(events), last, complete=len(entries) < limit)

    def next_position(self) -> int:
        """See `events.ports.PositionClock.next_position`."""
        return int(self._namespace.call("position", 0))

    def lift(self, floor: int) -> None:
        """Make every later position later than `floor`."""
        self._namespace.call("position", floor)

    def clock(self) -> int:
        """Return the last position given, 0 when none was."""
        client = self._namespace.client
        with mapped(client):
            return int(client.get(self._namespace.keys("clock")) or 0)

    def entries_after(self, stream: Stream, last_entry: str, limit: int) -> list[tuple[str, RecordedEvent | Outcome | Rejected]]:
        """Return at most `limit` entries after an entry id, oldest first, each with its id."""
        client = self._namespace.client
        with mapped(client):
            raw: Any = client.xrange(self._namespace.keys(stream), min=f"({last_entry}", max="+", count=limit)
        read = read_event if stream == "history" else read_outcome
        return [(entry_id.decode(), read(entry_id, fields or {})) for entry_id, fields in raw]

    def length(self, stream: Stream) -> int:
        """Return how many entries the stream holds."""
        client = self._namespace.client
        with mapped(client):
            return int(client.xlen(self._namespace.keys(stream)))

    def archived_position(self) -> int:
        """Return the position up to which Redis knows that SQL has history."""
        client = self._namespace.client
        with mapped(client):
            return int(client.get(self._namespace.keys("archived")) or 0)

    def note_archived(self, stream: Stream, position: int, trim: int, dedupe_s: float, event_ids: Sequence[str] = ()) -> None:
        """Tell Redis that SQL has the stream up to a position, and trim it below `trim`.

        Args:
            trim: entries before this position may go; never past `position`.
            dedupe_s: seconds for which the ids of archived events are remembered.
            event_ids: ids of events up to the position that were archived since the last call.
        """
        expiry_ms = int(dedupe_s * 1000)
        for start in range(0, max(len(event_ids), 1), MAX_IDS):
            chunk = event_ids[start : start + MAX_IDS]
            self._namespace.call("archived", stream, position, trim, expiry_ms, *chunk)


def read_event(entry_id: bytes, fields: dict[bytes, bytes]) -> RecordedEvent | Rejected:
    """Read a history entry."""
    try:
        position, sequence = entry_id.split(b"-")
        if sequence != b"0":
            raise MalformedEntry("The entry's id is not a position: nobody but publish writes history.")
        body, root, origin = fields[b"e"], fields[b"r"].decode(), fields[b"o"].decode()
        event = decode(body, root)
        subscribers = tuple(filter(None, fields[b"s"].decode().split("\t")))
        return RecordedEvent(int(position), event, int(fields[b"d"]), subscribers, origin)
    except KeyError as error:
        return _rejected(entry_id, f"The entry is not an event: it has no field {error.args[0].decode()!r}.", fields)
    except ValueError as error:
        return _rejected(entry_id, str(error), fields)


def read_outcome(entry_id: bytes, fields: dict[bytes, bytes]) -> Outcome | Rejected:
    """Read an outcomes entry."""
    try:
        position, sequence = entry_id.split(b"-")
        if sequence != b"0":
            raise MalformedEntry("The entry's id is not a position: nobody but settle and reap writes outcomes.")
        event_position, subscriber, redelivery, attempt, state, worker, elapsed, error = (
            fields[b"o"].decode().split("\t", 7)
        )
        return Outcome(
            int(position), int(event_position), subscriber, int(redelivery), int(attempt), AttemptState(state), worker,
            int(elapsed), error,
        )  # fmt: skip
    except KeyError:
        return _rejected(entry_id, "The entry is not an outcome: it has no field 'o'.", fields)
    except ValueError as error:
        return _rejected(entry_id, f"The entry is not an outcome: {error}", fields)


def _rejected(entry_id: bytes, reason: str, fields: dict[bytes, bytes]) -> Rejected:
    raw = " ".join(f"{k.decode(errors='backslashreplace')}={v.decode(errors='backslashreplace')}" for k, v in fields.items())
    return Rejected(entry_id.decode(), reason, raw.replace("\0", "\\x00")[:65_536])
