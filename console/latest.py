"""The last events that match, found without reading all of history.

History is read forwards. So the place is searched from which at least `count` matching events follow, and
not many more: first by going back ever further, then by halving. Each step reads `count` events at most.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import islice, takewhile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from events.records import RecordedEvent
    from store.filter import EventFilter
    from store.replay import Replay

_FIRST_SPAN = 60_000_000
_ENOUGH = 8
_MOST_A_PAGE = 10_000


def latest(replay: Replay, wanted: EventFilter, count: int, end: int, before: int | None = None) -> list[RecordedEvent]:
    """Return the last `count` events that match, oldest first; fewer when there are no more.

    Args:
        end: history's last position; positions are microseconds.
        before: a position, exclusive, at which history is taken to end; everything unless given.
    """
    if count < 1:
        return []
    if before is not None:
        end = min(end, before - 1)
    start = _start(replay, wanted, count, end, before)
    return list(deque(_until(replay.iterate(wanted, start), before), maxlen=count))


def _start(replay: Replay, wanted: EventFilter, count: int, end: int, before: int | None) -> int:
    """Return a position after which `count` to `_ENOUGH` times `count` events match, or all that there are."""
    too_late, start, span = end, end - _FIRST_SPAN, _FIRST_SPAN
    while start > 0 and not _has(replay, wanted, start, count, before):
        too_late, span = start, span * 4
        start = end - span
    start = max(start, 0)
    while too_late - start > 1 and _has(replay, wanted, start, count * _ENOUGH, before):
        middle = (start + too_late) // 2
        if _has(replay, wanted, middle, count, before):
            start = middle
        else:
            too_late = middle
    return start


def _has(replay: Replay, wanted: EventFilter, start: int, count: int, before: int | None) -> bool:
    """Tell whether at least `count` matching events follow a position."""
    events = _until(replay.iterate(wanted, start, page=min(count, _MOST_A_PAGE)), before)
    return sum(1 for _ in islice(events, count)) == count


def _until(events: Iterator[RecordedEvent], before: int | None) -> Iterator[RecordedEvent]:
    return events if before is None else takewhile(lambda recorded: recorded.position < before, events)
