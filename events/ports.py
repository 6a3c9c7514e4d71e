"""What the floors ask of each other, where a call would point upwards.

Each port has a few methods and a contract in prose. `events.backend` joins them to Redis;
`store` uses them without knowing Redis.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from events.records import RecordedEvent


@dataclass(frozen=True, slots=True)
class TailPage:
    """A stretch of history that Redis holds, and how far SQL already has it.

    Attributes:
        archived: the position up to which SQL had everything when this page was read, taken in
            the same atomic step as the events.
        events: ascending by position, all after the asked one; malformed entries are left out.
        last_position: the position of the last entry looked at (malformed ones included); the
            asked position when there was none.
        complete: True when nothing followed the page when it was read.
    """

    archived: int
    events: tuple[RecordedEvent, ...]
    last_position: int
    complete: bool


class HistoryTail(Protocol):
    """Reads the part of history that may not be in SQL yet, and says what Redis needs of the part that is."""

    def after(self, position: int, limit: int) -> TailPage:
        """Return at most `limit` events after a position (exclusive), oldest first; fewer when they are large.

        A reader that has everything up to `position` from SQL may append the page when
        `page.archived <= position`; otherwise SQL has moved on (and Redis may have been trimmed
        up to `archived`): it must read SQL again first.

        Raises:
            RedisUnavailable: when Redis cannot be reached.
        """
        ...

    def needed_from(self, stored: int) -> int:
        """Return the first position that something in Redis needs from SQL, or may need; `records.END` when none is.

        What is older may be pruned, if SQL itself knows of nothing that keeps it.

        Args:
            stored: how far SQL has history.

        Raises:
            RedisUnavailable, ScriptFailed.
        """
        ...

    def open_letters(self) -> Iterator[dict[int, int]]:
        """Iterate over the dead letters that Redis has, a page at a time: their events' positions by their own.

        Raises:
            RedisUnavailable, ScriptFailed.
        """
        ...


class PositionClock(Protocol):
    """Gives positions for events that are stored without being published."""

    def next_position(self) -> int:
        """Return a position later than every one given before, in integer microseconds.

        Raises:
            RedisUnavailable: when Redis cannot be reached.
            HistoryReset: when the namespace lost its epoch.
        """
        ...
