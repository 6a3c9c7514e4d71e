"""Slopes: whether what was sampled grows, and how much it may.

A slope is the median of those of all pairs of samples of one incarnation, after its warm-up; pairs of all incarnations
of one kind count together. Up to 29 % of the samples may be anything: an outage, a burst, a collection of garbage.
Source: Theil 1950; Sen, Journal of the American Statistical Association 63 (1968).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from tests.soak.samples import Measure, Samples, Track

LEAST_SPAN_S = 300.0
"""Of all incarnations together, after their warm-up: what was seen for less is printed, and not judged."""
MOST_SAMPLES = 400
"""Of one incarnation: of more, every second, third, ... one."""
HOUR_S = 3600.0


@dataclass(frozen=True)
class Limit:
    """How much a measure may grow: so much for each event of the soak, or in an hour; and why."""

    most: float
    per: Literal["event", "hour"]
    why: str


LIMITS: dict[str, Limit] = {
    "memory": Limit(32, "event", "whoever keeps an event's id keeps 66 bytes and a place for it"),
    "redis memory": Limit(16, "event", "the smallest key takes some 60 bytes, an entry of a stream 20"),
    "keys": Limit(0.01, "event", "one key in a hundred events"),
    "descriptors": Limit(4, "hour", "one for each fault would be some 30"),
    "threads": Limit(4, "hour", "one for each fault would be some 30"),
    "connections": Limit(4, "hour", "one for each fault would be some 30"),
    "size": Limit(4000, "event", "the rows of an event and its two deliveries take some 1,600: docs/operations.md"),
}


def limit_of(measure: Measure) -> Limit:
    """Return the limit of a measure; Redis's memory has its own."""
    return LIMITS.get(f"{measure.of} {measure.what}") or LIMITS[measure.what]


@dataclass(frozen=True)
class Trend:
    """What came of one measure.

    Attributes:
        middle: the median of its values. slope: per event, or in an hour, as the limit is.
        incarnations: how many processes, one after another or at once. span_s: how long they were looked at, together.
    """

    of: str
    what: str
    middle: float
    slope: float
    per: str
    most: float
    incarnations: int
    span_s: float

    @property
    def is_judged(self) -> bool:
        return self.span_s >= LEAST_SPAN_S

    @property
    def grows(self) -> bool:
        return self.is_judged and self.slope > self.most


def trends(samples: Samples, warm_up_s: float, events_per_s: float) -> Iterator[Trend]:
    """Iterate over the trends of all measures of which an incarnation outlived its warm-up."""
    for measure, tracks in samples:
        warm = [track for track in (_after(track, warm_up_s) for track in tracks) if len(track.at) > 1]
        if warm:
            limit = limit_of(measure)
            slope = theil_sen(warm) * HOUR_S if limit.per == "hour" else theil_sen(warm) / events_per_s
            middle = median([value for track in warm for value in track.values])
            span_s = sum(track.at[-1] - track.at[0] for track in warm)
            yield Trend(measure.of, measure.what, middle, slope, limit.per, limit.most, len(warm), span_s)


def theil_sen(tracks: Iterable[Track]) -> float:
    """Return the median of the slopes, per second, of all pairs of samples within a track.

    Raises:
        ValueError: no track has two samples.
    """
    slopes: list[float] = []
    for track in tracks:
        step = -(-len(track.at) // MOST_SAMPLES)
        slopes += _slopes(track.at[::step], track.values[::step])
    if not slopes:
        raise ValueError("A slope takes two samples of one process; there are none.")
    return median(slopes)


def _slopes(at: Sequence[float], values: Sequence[float]) -> Iterator[float]:
    for later in range(1, len(at)):
        for earlier in range(later):
            yield (values[later] - values[earlier]) / (at[later] - at[earlier])


def _after(track: Track, warm_up_s: float) -> Track:
    """Leave out an incarnation's first samples."""
    first = next((n for n, at in enumerate(track.at) if at - track.at[0] >= warm_up_s), len(track.at))
    return Track(track.at[first:], track.values[first:])
