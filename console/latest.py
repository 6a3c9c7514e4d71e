"""The last events that match, found without reading all of history.

History is read forwards. So the place is searched from which enough matching events follow, `count` or
`READ_BYTES` of them, and not many more: first by going back ever further, then by halving. No step reads more than that
a few times.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import takewhile
from typing import TYPE_CHECKING, NamedTuple

from events.budget import READ_BYTES
from store.replay import size_of

if TYPE_CHECKING:
    from events.records import RecordedEvent
    from store.filter import EventFilter
    from store.replay import Replay

_FIRST_SPAN = 60_000_000
_ENOUGH = 8
_MOST_A_PAGE = 10_000


class Latest(NamedTuple):
    """The end of what matches.

    Attributes:
        events: oldest first. is_all: whether nothing that matches is before them.
    """

    events: list[RecordedEvent]
    is_all: bool


def latest(replay: Replay, wanted: EventFilter, count: int, end: int, before: int | None = None) -> Latest:
    """Return the last `count` events that match; fewer when there are no more, or when they are large.

    Args:
        end: history's last position; positions are microseconds.
        before: a position, exclusive, at which history is taken to end; everything unless given.

    Guarantee: about `READ_BYTES` of events are in memory, and one at least is returned where there is one.
    """
    if count < 1:
        return Latest([], False)
    if before is not None:
        end = min(end, before - 1)
    start = _start(replay, wanted, count + 1, end, before)  # one more tells whether that is all
    kept: deque[tuple[RecordedEvent, int]] = deque()
    size_bytes, is_all = 0, start == 0
    for recorded in _until(replay.iterate(wanted, start), before):
        kept.append((recorded, size_of(recorded)))
        size_bytes += kept[-1][1]
        while len(kept) > count or (size_bytes > READ_BYTES and len(kept) > 1):
            size_bytes -= kept.popleft()[1]
            is_all = False
    return Latest([recorded for recorded, _ in kept], is_all)


def _start(replay: Replay, wanted: EventFilter, count: int, end: int, before: int | None) -> int:
    """Return a position after which enough events match, to `_ENOUGH` times that, or all that there are."""
    too_late, start, span = end, end - _FIRST_SPAN, _FIRST_SPAN
    while start > 0 and not _has(replay, wanted, start, count, before):
        too_late, span = start, span * 4
        start = end - span
    start = max(start, 0)
    while too_late - start > 1 and _has(replay, wanted, start, count, before, _ENOUGH):
        middle = (start + too_late) // 2
        if _has(replay, wanted, middle, count, before):
            start = middle
        else:
            too_late = middle
    return start


def _has(replay: Replay, wanted: EventFilter, start: int, count: int, before: int | None, times: int = 1) -> bool:
    """Tell whether so many times `count` matching events, or `READ_BYTES` of them, follow a position."""
    number = size_bytes = 0
    for recorded in _until(replay.iterate(wanted, start, page=min(count * times, _MOST_A_PAGE)), before):
        number, size_bytes = number + 1, size_bytes + size_of(recorded)
        if number == count * times or size_bytes > READ_BYTES * times:
            return True
    return False


def _until(events: Iterator[RecordedEvent], before: int | None) -> Iterator[RecordedEvent]:
    return events if before is None else takewhile(lambda recorded: recorded.position < before, events)
