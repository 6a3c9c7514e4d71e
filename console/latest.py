"""The last events that match, found without reading all of history.

History is read forwards. So the place is searched from which at least `count` matching events follow, and
not many more: first by going back ever further, then by halving. Each step reads `count` events at most.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from events.records import RecordedEvent
    from store.filter import EventFilter
    from store.replay import Replay

_FIRST_SPAN = 60_000_000
_ENOUGH = 8
_MOST_A_PAGE = 10_000


def latest(replay: Replay, wanted: EventFilter, count: int, end: int) -> list[RecordedEvent]:
    """Return the last `count` events that match, oldest first; fewer when there are no more.

    Args:
        end: history's last position; positions are microseconds.
    """
    if count < 1:
        return []
    start = _start(replay, wanted, count, end)
    return list(deque(replay.iterate(wanted, start), maxlen=count))


def _start(replay: Replay, wanted: EventFilter, count: int, end: int) -> int:
    """Return a position after which `count` to `_ENOUGH` times `count` events match, or all that there are."""
    too_late, start, span = end, end - _FIRST_SPAN, _FIRST_SPAN
    while start > 0 and not _has(replay, wanted, start, count):
        too_late, span = start, span * 4
        start = end - span
    start = max(start, 0)
    while too_late - start > 1 and _has(replay, wanted, start, count * _ENOUGH):
        middle = (start + too_late) // 2
        if _has(replay, wanted, middle, count):
            start = middle
        else:
            too_late = middle
    return start


def _has(replay: Replay, wanted: EventFilter, start: int, count: int) -> bool:
    """Tell whether at least `count` matching events follow a position."""
    return sum(1 for _ in islice(replay.iterate(wanted, start, page=min(count, _MOST_A_PAGE)), count)) == count
