"""Reading history and outcomes from Redis, and telling Redis how far SQL has them.

Implements the ports `HistoryTail` and `PositionClock`. An entry that this project did not write
becomes a `Rejected` with its reason; it never stops a reader.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

from events.budget import CHUNK, READ_BYTES, Budget
from events.connection import mapped
from events.encoding import decode
from events.errors import MalformedEntry
from events.kept import kept
from events.namespace import Namespace
from events.ports import TailPage
from events.records import AttemptState, Outcome, RecordedEvent, Rejected

Stream = Literal["history", "outcomes"]
Entry = tuple[str, RecordedEvent | Outcome | Rejected]
MAX_IDS = 5000
MAX_POSITION = 9_007_199_254_740_000
"""No position reaches it (`events/lua/library.lua`): an entry with such an id was written by hand."""


class HistoryStream:
    """History and outcomes of one namespace. Threads may share it.

    Args:
        batch_bytes: about how many bytes of entries one read returns at most; one entry at least.
    """

    def __init__(self, namespace: Namespace, batch_bytes: int = READ_BYTES) -> None:
        self._namespace = namespace
        self._batch_bytes = batch_bytes

    @property
    def namespace(self) -> Namespace:
        """Whose history it is."""
        return self._namespace

    def after(self, position: int, limit: int) -> TailPage:
        """See `events.ports.HistoryTail.after`.

        The page is read in chunks. Each says how far SQL is when it is read; the page ends before one
        that SQL has overtaken since, because Redis may have trimmed what it lacks.
        """
        budget = Budget(limit, self._batch_bytes)
        events: list[RecordedEvent] = []
        last, first_archived, complete = position, -1, False
        while not complete and (ask := budget.chunk()):
            archived, entries = self._namespace.scripts.call("tail", ["", last, ask])
            with kept(self._namespace.keys("archived")):
                archived = int(archived)
            if first_archived < 0:
                first_archived = archived
            elif archived > max(position, first_archived):
                break
            complete = len(entries) < ask
            for entry_id, flat in entries:
                if is_beyond(entry_id):
                    complete = True  # only more of its kind can follow
                    break
                budget.spend(sum(map(len, flat)))
                record = read_event(entry_id, dict(zip(flat[::2], flat[1::2], strict=True)))
                last = max(last, int(entry_id.partition(b"-")[0]))
                if isinstance(record, RecordedEvent):
                    events.append(record)
        return TailPage(first_archived, tuple(events), last, complete)

    def next_position(self) -> int:
        """See `events.ports.PositionClock.next_position`."""
        return int(self._namespace.call("position", 0))

    def lift(self, floor: int) -> None:
        """Make every later position later than `floor`."""
        self._namespace.call("position", floor)

    def clock(self) -> int:
        """Return the last position given, 0 when none was."""
        client = self._namespace.client
        with mapped(client), kept(self._namespace.keys("clock")):
            return int(client.get(self._namespace.keys("clock")) or 0)

    def clock_and_archived(self) -> tuple[int, int]:
        """Return the last position given and the one up to which Redis knows that SQL has history, read in one step."""
        client, keys = self._namespace.client, self._namespace.keys
        with mapped(client):
            clock, archived = client.mget(keys("clock"), keys("archived"))
        with kept(keys("clock")):
            last = int(clock or 0)
        with kept(keys("archived")):
            return last, int(archived or 0)

    def entries_after(self, stream: Stream, last_entry: str, limit: int) -> list[Entry]:
        """Return entries after an entry id, oldest first, each with its id.

        At most `limit`, and fewer when they are large (`batch_bytes`); empty means that none follows.
        """
        client, key = self._namespace.client, self._namespace.keys(stream)
        read = read_event if stream == "history" else read_outcome
        budget = Budget(limit, self._batch_bytes)
        found: list[Entry] = []
        while ask := budget.chunk():
            with mapped(client):
                raw: Any = client.xrange(key, min=f"({last_entry}", max="+", count=ask)
            for entry_id, fields in raw:
                budget.spend(sum(map(len, [*(fields or {}).keys(), *(fields or {}).values()])))
                found.append((entry_id.decode(), read(entry_id, fields or {})))
            if len(raw) < ask:
                break
            last_entry = found[-1][0]
        return found

    def missing(self, positions: Iterable[int]) -> set[int]:
        """Return those positions at which history, as Redis has it, holds nothing."""
        client, asked = self._namespace.client, sorted(positions)
        missing: set[int] = set()
        for start in range(0, len(asked), CHUNK):
            chunk = asked[start : start + CHUNK]
            with mapped(client), client.pipeline(transaction=False) as pipe:
                for position in chunk:
                    pipe.xrange(self._namespace.keys("history"), position, position, count=1)
                missing.update(position for position, found in zip(chunk, pipe.execute(), strict=True) if not found)
        return missing

    def length(self, stream: Stream) -> int:
        """Return how many entries the stream holds."""
        client = self._namespace.client
        with mapped(client):
            return int(client.xlen(self._namespace.keys(stream)))

    def note_archived(
        self, stream: Stream, position: int, trim: int, dedupe_s: float, event_ids: Sequence[str] = ()
    ) -> None:
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


def is_beyond(entry_id: str | bytes) -> bool:
    """Tell whether an entry's id is one that no position reaches: nothing of ours can follow it."""
    first = entry_id.partition("-")[0] if isinstance(entry_id, str) else entry_id.partition(b"-")[0]
    return int(first) >= MAX_POSITION


def read_event(entry_id: bytes, fields: dict[bytes, bytes]) -> RecordedEvent | Rejected:
    """Read a history entry."""
    try:
        position = _position(entry_id, "publish writes history")
        body, root, origin = fields[b"e"], fields[b"r"].decode(), fields[b"o"].decode() or "publish"
        event = decode(body, root)
        subscribers = tuple(filter(None, fields[b"s"].decode().split("\t")))
        return RecordedEvent(position, event, int(fields[b"d"]), subscribers, origin)
    except KeyError as error:
        return _rejected(entry_id, f"The entry is not an event: it has no field {error.args[0].decode()!r}.", fields)
    except ValueError as error:
        return _rejected(entry_id, str(error), fields)


def read_outcome(entry_id: bytes, fields: dict[bytes, bytes]) -> Outcome | Rejected:
    """Read an outcomes entry."""
    try:
        position = _position(entry_id, "settle and reap writes outcomes")
        event_position, subscriber, redelivery, attempt, state, worker, elapsed, error = (
            fields[b"o"].decode().split("\t", 7)
        )
        traceback, output, raw = (
            fields.get(name, b"").decode(errors="backslashreplace") for name in (b"t", b"x", b"f")
        )
        return Outcome(
            position, int(event_position), subscriber, int(redelivery), int(attempt), AttemptState(state), worker,
            int(elapsed), error, int(fields.get(b"d", b"0")), traceback, output, raw,
        )  # fmt: skip
    except KeyError:
        return _rejected(entry_id, "The entry is not an outcome: it has no field 'o'.", fields)
    except ValueError as error:
        return _rejected(entry_id, f"The entry is not an outcome: {error}", fields)


def _position(entry_id: bytes, writer: str) -> int:
    position, sequence = entry_id.split(b"-")
    if is_beyond(entry_id):
        raise MalformedEntry(
            f"The entry's id is beyond the year 2255: nobody but {writer}, and after this one it cannot. "
            "When all before it is archived, RENAME the stream."
        )
    if sequence != b"0":
        raise MalformedEntry(f"The entry's id is not a position: nobody but {writer}.")
    return int(position)


def _rejected(entry_id: bytes, reason: str, fields: dict[bytes, bytes]) -> Rejected:
    shown = [(k.decode(errors="backslashreplace"), v.decode(errors="backslashreplace")) for k, v in fields.items()]
    raw = " ".join(f"{name}={value}" for name, value in shown)
    return Rejected(entry_id.decode(), reason, raw.replace("\0", "\\x00")[:65_536])
