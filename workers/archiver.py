"""The archiver: copies history and outcomes from Redis into SQL, exactly once and in order.

    cursor c in SQL, locked
      └─ read entries after c ─> insert rows, advance the cursor, commit  ─> tell Redis: archived, trim
                                                    │
                       crash here: the next archiver starts after the committed cursor, and first
                       tells Redis what was never told

Invariant: Redis is told only of what is committed, so nothing is trimmed that SQL does not have.
One writer holds a stream's row; other archivers stand by, or hold the other stream.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from events.errors import EventBusError
from events.records import Outcome, RecordedEvent, Rejected
from events.settings import Settings
from events.stream import HistoryStream, Stream
from store.archive import Archive

IDLE_S = 0.2
STANDBY_S = 1.0
OUTAGE_S = 1.0
TRIM_EVERY_S = 5.0

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
        self._trimmed_at: dict[Stream, float] = {}
        self._told = -1
        self._stop = threading.Event()

    def run(self) -> None:
        """Archive until `stop`; outages of Redis or the database are waited out."""
        in_outage = False
        while not self._stop.is_set():
            try:
                moved = [self.step("history"), self.step("outcomes")]
            except EventBusError as error:
                if not in_outage:
                    log.error("Archiving waits: %s", error)
                in_outage = True
                self._stop.wait(OUTAGE_S)
                continue
            if in_outage:
                log.info("Archiving goes on.")
            in_outage = False
            if all(m.standby for m in moved):
                self._stop.wait(STANDBY_S)
            elif not any(m.entries for m in moved):
                self._stop.wait(IDLE_S)

    def stop(self) -> None:
        """Make `run` return after the step it is in."""
        self._stop.set()

    def finish(self, deadline: float) -> bool:
        """Archive until both streams are empty, or the deadline (monotonic seconds); for a clean stop.

        Returns:
            True when this archiver saw both empty; False when another one holds a stream, and goes on.
        """
        try:
            while time.monotonic() < deadline:
                moved = [self.step("history"), self.step("outcomes")]
                if not any(step.entries for step in moved):
                    return not any(step.standby for step in moved)
        except EventBusError as error:
            log.warning("The last events will be archived by the next archiver: %s", error)
        return False

    def step(self, stream: Stream) -> Moved:
        """Move one batch of a stream.

        Raises:
            Unavailable: nothing is lost; call again.
        """
        ids: list[str] = []
        with self._archive.writer(stream) as writer:
            if writer is None:
                return Moved(0, standby=True)
            start = position = writer.cursor.position
            entries = self._history.entries_after(stream, writer.cursor.last_entry, self._settings.archive_batch)
            if entries:
                records = [record for _, record in entries]
                recorded = [record for record in records if isinstance(record, RecordedEvent)]
                writer.append_events(recorded)
                writer.append_outcomes([record for record in records if isinstance(record, Outcome)])
                writer.reject([record for record in records if isinstance(record, Rejected)])
                ids = [record.event.event_id for record in recorded]
                last_entry = entries[-1][0]
                position = int(last_entry.partition("-")[0])
                writer.advance(position, last_entry)
        if entries:
            self._tell(stream, start, position, ids)
            self._on_moved(stream, len(entries))
        else:
            self._tend(stream, position)
        return Moved(len(entries))

    def _tell(self, stream: Stream, start: int, position: int, ids: list[str]) -> None:
        """Tell Redis that `start` to `position` is committed, and first what an archiver that died left unsaid."""
        trim = position + 1
        if stream == "history":
            if start != self._told:
                ids = self._untold(start) + ids
            trim = min(trim, int((time.time() - self._settings.history_margin_s) * 1e6))
        self._history.note_archived(stream, position, max(trim, 0), self._settings.dedupe_s, ids)
        self._trimmed_at[stream] = time.monotonic()
        if stream == "history":
            self._told = position

    def _tend(self, stream: Stream, position: int) -> None:
        """While nothing comes: trim what the margin kept, mend the clock."""
        if position == 0 or time.monotonic() - self._trimmed_at.get(stream, -TRIM_EVERY_S) < TRIM_EVERY_S:
            return
        if self._history.clock() < position:
            log.error(
                "Redis has gone back: SQL has %s up to position %d, Redis gives lower ones. What Redis lost since is "
                "in SQL if it was archived; the clock is lifted.", stream, position,
            )  # fmt: skip
            self._history.lift(position)
        self._tell(stream, position, position, [])

    def _untold(self, position: int) -> list[str]:
        """Return ids up to the cursor that Redis was never told of: an archiver died after its commit."""
        told = self._history.archived_position()
        ids: list[str] = []
        while told < position:
            page = self._history.after(told, 1000)
            ids += [recorded.event.event_id for recorded in page.events if recorded.position <= position]
            if page.complete:
                break
            told = page.last_position
        return ids
