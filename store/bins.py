"""How long things took, counted in bins from which percentiles are read.

    0 .. 127 us     a bin for each microsecond
    above           64 bins an octave: the seven leading bits of the number tell the bin

Whole numbers only: the same durations give the same bins on every machine, in whatever order they come;
and bins of different events add up. A value read from a bin is its middle, less than 1/128 off.

Source: HdrHistogram's log-linear buckets.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from itertools import accumulate

_LEADING_BITS = 7
_PER_OCTAVE = 1 << (_LEADING_BITS - 1)


def bin_of(duration_us: int) -> int:
    """Return the bin of a duration of at least 0 microseconds; longer ones have no lower bins."""
    shift = max(0, duration_us.bit_length() - _LEADING_BITS)
    return _PER_OCTAVE * shift + (duration_us >> shift)


def middle_of(number: int) -> int:
    """Return the duration in the middle of a bin, in microseconds."""
    shift = max(0, number // _PER_OCTAVE - 1)
    first = (number - _PER_OCTAVE * shift) << shift
    return first + ((1 << shift) - 1) // 2


@dataclass(slots=True)
class Durations:
    """Durations that were added up.

    Attributes:
        total_us: their exact sum.
        bins: how many are in each bin; none has 0.
    """

    total_us: int = 0
    bins: dict[int, int] = field(default_factory=dict)

    def add(self, duration_us: int, times: int = 1) -> None:
        """Add a duration as often as said; a negative number takes it away."""
        self.total_us += duration_us * times
        self._count(bin_of(duration_us), times)

    def merge(self, other: Durations) -> None:
        """Add everything that another one has."""
        self.total_us += other.total_us
        bins = self.bins
        if not bins:
            bins.update(other.bins)
            return
        so_far = bins.get
        for number, times in other.bins.items():
            if count := so_far(number, 0) + times:
                bins[number] = count
            else:
                bins.pop(number, None)

    @property
    def count(self) -> int:
        """How many durations."""
        return sum(self.bins.values())

    @property
    def average_ms(self) -> float | None:
        """Their exact average in milliseconds; None when there are none."""
        return self.total_us / 1e3 / self.count if self.bins else None

    def percentiles_ms(self, *percents: int) -> list[float | None]:
        """Return nearest-rank percentiles in milliseconds, each less than 1/128 off; None when there are none."""
        numbers = sorted(self.bins)
        up_to = list(accumulate(map(self.bins.__getitem__, numbers)))
        if not up_to:
            return [None for _ in percents]
        ranks = [-(-up_to[-1] * percent // 100) for percent in percents]
        return [middle_of(numbers[bisect_left(up_to, rank)]) / 1e3 for rank in ranks]

    def _count(self, number: int, times: int) -> None:
        count = self.bins.get(number, 0) + times
        if count:
            self.bins[number] = count
        else:
            self.bins.pop(number, None)
