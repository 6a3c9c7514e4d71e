"""Redis's side of the seam, in plain Python: the two ports that the store reads through. SQL is never doubled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from events.ports import TailPage
from events.records import END, RecordedEvent


@dataclass
class FakeTail:
    """A history that remembers every event, and how far it was told that SQL has it.

    Attributes:
        before_read: called before each page is read: the moment for an archiver to move.
        needed: the first position that something in Redis needs.
        letters: events' positions by those of the dead letters that Redis has.
        trimmed: whether events up to `archived` are gone, as Redis may trim them.
    """

    events: list[RecordedEvent] = field(default_factory=list)
    archived: int = 0
    trimmed: bool = True
    before_read: Callable[[], None] = lambda: None
    reads: int = 0
    needed: int = END
    letters: dict[int, int] = field(default_factory=dict)

    def needed_from(self, stored: int) -> int:
        return self.needed

    def open_letters(self) -> Iterator[dict[int, int]]:
        yield self.letters

    def after(self, position: int, limit: int) -> TailPage:
        self.before_read()
        self.reads += 1
        kept = [r for r in self.events if r.position > position and not (self.trimmed and r.position <= self.archived)]
        page = kept[:limit]
        return TailPage(self.archived, tuple(page), page[-1].position if page else position, len(page) == len(kept))


@dataclass
class FakeClock:
    """Counts positions up from a start."""

    latest: int = 1000

    def next_position(self) -> int:
        self.latest += 1
        return self.latest
