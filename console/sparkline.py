"""How many events came when, as one line of blocks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from console import wording

if TYPE_CHECKING:
    from store.numbers import BucketStatistics, EventNumbers
    from store.statistics import Grain

_BLOCKS = "▁▂▃▄▅▆▇█"
_NOTHING = "·"
_WIDEST = 60
_WIDTHS = {"hour": timedelta(hours=1), "day": timedelta(days=1)}


def grain_for(total: EventNumbers) -> Grain:
    """Return the grain in which a line shows most: hours when they all find room, else days."""
    if total.first_time is None or total.last_time is None:
        return "day"
    return "hour" if total.last_time - total.first_time < _WIDEST * _WIDTHS["hour"] else "day"


def timeline(buckets: Sequence[BucketStatistics], grain: Grain) -> str:
    """Return a line from the first bucket to the last; several share a block where they find no room.

    Empty when all events are in one bucket, which says nothing.
    """
    if len(buckets) < 2:
        return ""
    first, last = buckets[0].start, buckets[-1].start
    width = _WIDTHS[grain]
    together = -(-((last - first) // width + 1) // _WIDEST)
    counts = [0] * ((last - first) // (width * together) + 1)
    for bucket in buckets:
        counts[(bucket.start - first) // (width * together)] += bucket.count
    each = grain if together == 1 else wording.plural(together, grain)
    shown = 16 if grain == "hour" else 10
    return (
        f"Events by {each} (UTC)  {wording.moment(first)[:shown]}  {sparkline(counts)}  {wording.moment(last)[:shown]}"
    )


def sparkline(counts: Sequence[int]) -> str:
    """Return a block for each number, the highest as high as it goes; a dot is none."""
    highest = max(counts, default=0)
    return "".join(_BLOCKS[(count * len(_BLOCKS) - 1) // highest] if count else _NOTHING for count in counts)
