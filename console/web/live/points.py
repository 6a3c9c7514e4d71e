"""What charts are drawn of: the bus at each of the last looks, and what its busiest subscribers had before them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from heapq import nlargest
from typing import Any

from events.inspection import Queue

KEPT = 450
MOST_DRAWN = 20
POINT = ("at", "published", "settled", "failures", "waiting", "running", "dead", "workers", "oldest_s")


@dataclass(frozen=True, slots=True)
class Point:
    """The bus at one look.

    Attributes:
        totals: the numbers that `POINT` names. busiest: by name, the lag and the age in seconds of the oldest
            delivery of the subscribers with the greatest lag, at most `MOST_DRAWN`: `KEPT` points stay small however
            many subscribers there are.
    """

    totals: list[float]
    busiest: dict[str, tuple[int, float | None]]


def lag(queue: Queue) -> int:
    """Return how many deliveries of a subscriber wait, be it for a worker, their turn, or their next attempt."""
    return queue.ready + queue.waiting + queue.delayed


def busiest(queues: Iterable[Queue]) -> dict[str, tuple[int, float | None]]:
    """Return lag and oldest age of the subscribers with the greatest lag, that one first; of equal ones the oldest."""
    found = nlargest(MOST_DRAWN, queues, key=lambda queue: (lag(queue), queue.oldest_s or 0.0))
    return {
        queue.subscriber: (lag(queue), None if queue.oldest_s is None else round(queue.oldest_s, 1)) for queue in found
    }


def drawn(points: Sequence[Point]) -> dict[str, Any]:
    """Return points as JSON shows them: totals, and the course of each subscriber that is among the busiest now.

    A course has a value for each point; null where the subscriber was not among the busiest then.
    """
    courses = {}
    for name in points[-1].busiest if points else ():
        course = [point.busiest.get(name, (None, None)) for point in points]
        courses[name] = {"lag": [lag for lag, _ in course], "oldest_s": [oldest_s for _, oldest_s in course]}
    return {"points": [point.totals for point in points], "busiest": courses}
