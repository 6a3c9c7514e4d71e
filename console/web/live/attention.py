"""What needs somebody's attention, the worst first: each with a code, the values of its sentence, and the sentence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

from console import wording
from events.inspection import Backlog
from events.roster import Worker
from events.standing import Standing

Level = Literal["wrong", "warning", "note"]
_ORDER = ("wrong", "warning", "note")
OLD_S = 60.0
LATE_ARCHIVE_S = 60.0

# code -> sentence; the console translates them by their codes.
SENTENCES = {
    "nobody_works": "No worker is alive, and {count} deliveries wait.",
    "orphaned": "{subscriber}: no live worker takes it, and {count} deliveries wait for one.",
    "dead_letters": "{subscriber}: {count} dead letters wait for a decision.",
    "archive_late": "The oldest event that is not archived has waited for {age}.",
    "outcomes_late": "The oldest outcome that is not archived has waited for {age}.",
    "silent_worker": "The worker {worker} has been silent for {age}: killed, stalled, or cut off from Redis.",
    "old": "{subscriber}: its oldest delivery has waited for {age}.",
    "paused": "{subscriber} is paused, and {count} deliveries wait.",
    "half_dropped": "{subscriber} is half dropped: repeat the drop.",
    "undeclared": "{subscriber} is routed types that no live worker's code declares: {types}.",
}


def attention(subscribers: Sequence[Standing], workers: Sequence[Worker], backlog: Backlog) -> list[dict[str, Any]]:
    """Return what needs attention, the worst first; empty when nothing does."""
    found = [*_of_fleet(subscribers, workers), *_of_archive(backlog)]
    for one in subscribers:
        found += _of_subscriber(one, any(worker.is_alive for worker in workers))
    return sorted(found, key=lambda each: _ORDER.index(each["level"]))


def _of_fleet(subscribers: Sequence[Standing], workers: Sequence[Worker]) -> Iterator[dict[str, Any]]:
    waiting = sum(one.queue.unsettled for one in subscribers)
    if waiting and not any(worker.is_alive for worker in workers):
        yield _finding("wrong", "nobody_works", count=waiting)
    for worker in workers:
        if not worker.is_alive:
            name = f"{worker.said.host}:{worker.said.pid}" if worker.said.pid else worker.consumer
            yield _finding("warning", "silent_worker", worker=name, age=_age(worker.silent_s))


def _of_archive(backlog: Backlog) -> Iterator[dict[str, Any]]:
    if (backlog.oldest_s or 0) > LATE_ARCHIVE_S:
        yield _finding("wrong", "archive_late", age=_age(backlog.oldest_s))
    if (backlog.outcomes_oldest_s or 0) > LATE_ARCHIVE_S:
        yield _finding("wrong", "outcomes_late", age=_age(backlog.outcomes_oldest_s))


def _of_subscriber(one: Standing, somebody_works: bool) -> Iterator[dict[str, Any]]:
    queue, name = one.queue, one.queue.subscriber
    if queue.state == "dropping":
        yield _finding("wrong", "half_dropped", subscriber=name)
    if queue.dead:
        yield _finding("warning", "dead_letters", subscriber=name, count=queue.dead)
    if queue.is_paused and queue.unsettled:
        yield _finding("note", "paused", subscriber=name, count=queue.unsettled)
    elif one.is_orphaned and queue.unsettled and somebody_works:
        yield _finding("wrong", "orphaned", subscriber=name, count=queue.unsettled)
    elif (queue.oldest_s or 0) > OLD_S:
        yield _finding("warning", "old", subscriber=name, age=_age(queue.oldest_s))
    if one.undeclared:
        yield _finding("note", "undeclared", subscriber=name, types=", ".join(one.undeclared))


def _finding(level: Level, code: str, **values: Any) -> dict[str, Any]:
    shown = {name: f"{value:,}" if isinstance(value, int) else value for name, value in values.items()}
    return {"level": level, "code": code, "values": shown, "says": SENTENCES[code].format(**shown)}


def _age(seconds: float | None) -> str:
    return wording.duration((seconds or 0.0) * 1000)
