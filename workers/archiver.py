"""The archiver: copies history and outcomes from Redis into SQL, exactly once and in order; relays the outbox.

    cursor c in SQL, locked
      └─ compare c with Redis's clock and `archived`
           └─ read entries after c ─> insert rows, advance the cursor, commit  ─> tell Redis: archived, trim
                                                         │
                            crash here: the next archiver finds archived < c

    clock < c      Redis lost its last moments (`everysec`, an old snapshot, FLUSHALL): the clock is lifted at
                   once, or it would give positions that the archive is beyond
    archived < c   what lies between is read again: SQL has it, and Redis is told; or SQL lacks it, because
                   Redis gave those positions anew, and it is stored late
    archived > c   SQL is older than what Redis was told: what Redis has trimmed is missing from history

Invariant: Redis is told only of what is committed, so nothing is trimmed that SQL does not have.
Outcomes are trimmed as soon as they are archived, so they are always read from the beginning.
One writer holds a stream's row; other archivers stand by, or hold the other stream. What callers' own
transactions want published goes the other way, between its steps (`workers/relay.py`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from events.errors import EventBusError, ScriptFailed
from events.publisher import Publisher
from events.records import Outcome, RecordedEvent, Rejected
from events.settings import Settings
from events.stream import Entry, HistoryStream, Stream, is_beyond
from store.archive import Archive
from store.cursors import NOTHING_YET, Cursor
from store.writer import ArchiveWriter, Late
from workers.duty import Duty
from workers.relay import Relay

IDLE_S = 0.5
STANDBY_S = 1.0
OUTAGE_S = 1.0
TRIM_EVERY_S = 5.0
STREAMS: tuple[Stream, ...] = ("history", "outcomes")

T = TypeVar("T")

log = logging.getLogger("eventbus.archiver")


@dataclass(frozen=True, slots=True)
class Moved:
    """What one step did. `standby` is True when another archiver holds the stream."""

    entries: int
    standby: bool = False


class Archiver:
    """Archives one namespace until told to stop.

    Args:
        on_moved: called after each batch with the stream and the number of its entries.
    """

    def __init__(
        self,
        history: HistoryStream,
        archive: Archive,
        settings: Settings,
        on_moved: Callable[[Stream, int], None] | None = None,
    ) -> None:
        self._history = history
        self._archive = archive
        self._settings = settings
        self._on_moved = on_moved or (lambda stream, entries: None)
        publisher = Publisher(history.namespace, settings.max_event_bytes, settings.max_routes, resend_s=0.0)
        self._relay = Relay(history.namespace, publisher, archive.outgoing)
        self._trimmed_at = -TRIM_EVERY_S
        self._is_behind: dict[Stream, bool] = {}
        self._gap_told = False
        self._beyond: set[str] = set()
        self._troubles: dict[str, str] = {}
        self._duty = Duty()
        self._stop = threading.Event()

    def run(self) -> None:
        """Archive until `stop`. Outages are waited out; an unexpected error is logged and tried again: a
        stream that cannot go on never stops the other, nor this thread."""
        while not self._stop.is_set():
            relayed = self._try("the outbox", self.relay)
            moved = [self._turn(stream) for stream in STREAMS if not self._stop.is_set()]
            if relayed or any(step and step.entries for step in moved):
                continue
            if relayed is None or not all(moved):
                self._stop.wait(OUTAGE_S)
            elif all(step and step.standby for step in moved):
                self._stop.wait(STANDBY_S)
            else:
                self._stop.wait(IDLE_S)

    def stop(self) -> None:
        """Make `run` return after the step it is in."""
        self._stop.set()

    def finish(self, deadline: float) -> bool:
        """Relay and archive until outbox and streams are empty, or the deadline (monotonic seconds); for a clean stop.

        Returns:
            True when this archiver saw both empty; False when another one holds a stream, and goes on.
        """
        try:
            while time.monotonic() < deadline:
                relayed = self.relay()
                moved = [self.step(stream) for stream in STREAMS]
                if not relayed and not any(step.entries for step in moved):
                    return not any(step.standby for step in moved)
        except EventBusError as error:
            log.warning("The last events will be archived by the next archiver: %s", error)
        except Exception:
            log.exception("The last events will be archived by the next archiver.")
        return False

    def step(self, stream: Stream) -> Moved:
        """Move one batch of a stream.

        Returns:
            How many entries were archived; none when nothing is there that can be.

        Raises:
            Unavailable: nothing is lost; call again.
        """
        with self._archive.writer(stream) as writer:
            if writer is None:
                return Moved(0, standby=True)
            archived = self._compare(stream, writer)
            start = _start(stream, writer.cursor, archived)
            found = self._history.entries_after(stream, start, self._settings.archive_batch)
            entries = [entry for entry in found if not is_beyond(entry[0])]
            beyond = [record for entry_id, record in found if is_beyond(entry_id) and isinstance(record, Rejected)]
            late = _store(writer, entries)
            writer.reject([record for record in beyond if record.entry_id not in self._beyond])
            cursor = writer.cursor
        self._report(stream, late, beyond)
        if entries:
            ids = [record.event.event_id for _, record in entries if isinstance(record, RecordedEvent)]
            self._tell(stream, _position(entries[-1][0]), ids)
            self._on_moved(stream, len(entries))
        elif stream == "history" and not self._is_behind[stream]:
            self._tend(cursor.position, archived)
        return Moved(len(entries))

    def relay(self) -> int:
        """Publish one batch of the outbox; see `Relay.step`."""
        return self._relay.step()

    def _turn(self, stream: Stream) -> Moved | None:
        moved = self._try(stream, partial(self.step, stream))
        if moved is not None:
            (self._duty.stood_by if moved.standby else self._duty.wrote)(stream)
        return moved

    def _try(self, what: str, step: Callable[[], T]) -> T | None:
        """Make a step; log what goes wrong, once, and return None then."""
        try:
            moved = step()
        except Exception as error:
            trouble = f"{type(error).__name__}: {error}"
            if trouble not in self._troubles.values():
                if isinstance(error, EventBusError):
                    log.error("Archiving waits: %s", error)
                else:
                    log.exception("Archiving %s waits: an unexpected error.", what)
            self._troubles[what] = trouble
            return None
        if self._troubles.pop(what, None) and not self._troubles:
            log.info("Archiving goes on.")
        return moved

    def _compare(self, stream: Stream, writer: ArchiveWriter) -> int:
        """Make sure that Redis gives no position that SQL is beyond; return how far Redis was told.

        The lift comes before the read: whatever got a position below the cursor is there by then. A full
        server refuses it; then what is there is archived and trimmed all the same, which makes room.
        """
        position = writer.cursor.position
        clock, archived = self._history.clock_and_archived()
        self._is_behind[stream] = clock < position and not self._lift(stream, writer, clock)
        if stream == "history":
            self._look_for_gap(position, archived)
        return archived

    def _lift(self, stream: Stream, writer: ArchiveWriter, clock: int) -> bool:
        if not self._is_behind.get(stream):
            log.error(
                "Redis has gone back: SQL has %s up to position %d, and Redis's clock is at %d. It lost its last "
                "moments, or everything. The clock is lifted; what was given a position twice is compared with SQL.",
                stream, writer.cursor.position, clock,
            )  # fmt: skip
        try:
            self._history.lift(writer.highest_position())
        except ScriptFailed as error:
            if error.code != "OOM":
                raise
            return False
        return True

    def _look_for_gap(self, position: int, archived: int) -> None:
        if archived > position and not self._gap_told:
            log.error(
                "SQL is behind what Redis was told: SQL has history up to position %d, Redis was told %d and may have "
                "trimmed what lies between. SQL was restored from an older backup, or is another database. Archiving "
                "goes on with what Redis still has; restore a newer backup to close the gap.", position, archived,
            )  # fmt: skip
        self._gap_told = archived > position

    def _report(self, stream: Stream, late: Late, beyond: list[Rejected]) -> None:
        """Say what was not as it should be; called when it is committed."""
        if late.stored:
            log.warning(
                "%d events came below the archive's cursor and are stored at their positions, from %d to %d; readers "
                "who were beyond these do not see them.",
                len(late.stored), late.stored[0].position, late.stored[-1].position,
            )  # fmt: skip
        new = [entry for entry in beyond if entry.entry_id not in self._beyond]
        for entry in [*late.refused, *new]:
            log.error("Entry %s of %s is set aside in the table `rejected`: %s", entry.entry_id, stream, entry.reason)
        self._beyond |= {entry.entry_id for entry in new}

    def _tell(self, stream: Stream, position: int, ids: list[str]) -> None:
        """Tell Redis that everything up to a position is committed; it trims what is older than the margin."""
        trim = position + 1
        if stream == "history":
            trim = max(0, min(trim, int((time.time() - self._settings.history_margin_s) * 1e6)))
            self._trimmed_at = time.monotonic()
        self._history.note_archived(stream, position, trim, self._settings.dedupe_s, ids)

    def _tend(self, position: int, archived: int) -> None:
        """While nothing comes: tell Redis that nothing is left below the cursor, trim what the margin kept."""
        if archived < position or (position and time.monotonic() - self._trimmed_at >= TRIM_EVERY_S):
            self._tell("history", position, [])


def _start(stream: Stream, cursor: Cursor, archived: int) -> str:
    """Return the id of the entry to read after."""
    if stream == "outcomes":
        return NOTHING_YET
    return f"{archived}-0" if archived < cursor.position else cursor.last_entry


def _store(writer: ArchiveWriter, entries: list[Entry]) -> Late:
    """Store a batch, and move the cursor to its end if that is further."""
    if not entries:
        return Late()
    records = [record for _, record in entries]
    events = writer.append_events([record for record in records if isinstance(record, RecordedEvent)])
    outcomes = writer.append_outcomes([record for record in records if isinstance(record, Outcome)])
    writer.reject([record for record in records if isinstance(record, Rejected)])
    last_entry = entries[-1][0]
    if _key(last_entry) > _key(writer.cursor.last_entry):
        writer.advance(max(_position(last_entry), writer.cursor.position), last_entry)
    return Late(events.stored, events.refused + outcomes.refused)


def _position(entry_id: str) -> int:
    return int(entry_id.partition("-")[0])


def _key(entry_id: str) -> tuple[int, int]:
    """Split an entry's id, so that ids compare as Redis compares them."""
    first, _, second = entry_id.partition("-")
    return int(first), int(second)
