"""The subscribers that are measured: they do nothing but mark an event as handled."""

from __future__ import annotations

import os
from typing import Any

from console.bench.ledger import VARIABLE, marks
from events.bus import EventBus
from events.event import Event

PLAIN, AWAITING, BATCHED, UNHEARD = "BENCH_PLAIN", "BENCH_ASYNC", "BENCH_BATCH", "BENCH_UNHEARD"

bus = EventBus()
_handled = marks() if VARIABLE in os.environ else bytearray()


@bus.subscriber("BenchPlain", [PLAIN])
def plain(event: Event) -> None:
    """Mark the event, on a thread."""
    _mark(event)


@bus.subscriber("BenchAsync", [AWAITING])
async def awaiting(event: Event) -> None:
    """Mark the event, on the loop."""
    _mark(event)


@bus.subscriber("BenchBatch", [BATCHED], batch=100)
def batched(events: list[Event]) -> None:
    """Mark events, many at a time, on a thread."""
    for event in events:
        _mark(event)


def _mark(event: Event) -> None:
    number: Any = event.payload["n"]
    _handled[number] += 1


def event(kind: str, n: int) -> Event:
    """Return event number n: some 300 bytes of JSON."""
    payload = {"n": n, "text": "A quiet harbour at dawn; the keeper climbs the stair and light"}
    return Event(project_id=f"P-{n % 10}", type=kind, actor="ShotDirector", payload=payload)
