"""What is measured, a function each: it takes the ground and how many events, and returns figures.

Figures are named after their units: `per_s` events a second, `..._us` microseconds of CPU per event, `commands` of the
server per event (those inside scripts too), `bytes` to and from it per event, `..._ms` milliseconds. The server's are
those of everybody who uses it meanwhile.
"""

from __future__ import annotations

import asyncio
import signal
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from console.bench import meter
from console.bench.app import AWAITING, BATCHED, PLAIN, UNHEARD, event
from console.bench.ground import Ground
from events.bus import EventBus
from events.errors import EventBusError
from events.event import Event
from events.publisher import Receipt
from events.stream import Stream
from workers.archiver import Archiver

WAIT_S = 120.0
PAUSE_S = 0.03
PATIENCE_S = 10.0

Figures = dict[str, float]
Publish = Callable[[EventBus, Sequence[Event]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Work:
    """Something to measure.

    Attributes:
        title: as tables show it. share: of the events that a round has, how many of them it takes.
        run: takes the turn.
    """

    title: str
    share: float
    run: Callable[[Ground, int], Figures]


def publish_one(ground: Ground, count: int) -> Figures:
    """One `await bus.publish(event)` after another."""
    return _publish(ground, count, _one_by_one)


def publish_hundred(ground: Ground, count: int) -> Figures:
    """A hundred awaiting at once, each its own `bus.publish(event)`."""
    return _publish(ground, count, _hundred_at_once)


def publish_many(ground: Ground, count: int) -> Figures:
    """One `await bus.publish_many(events)`."""
    return _publish(ground, count, _all_at_once)


def drain_plain(ground: Ground, count: int) -> Figures:
    """Workers find everything waiting; plain handlers that do nothing."""
    return _drain(ground, count, PLAIN)


def drain_async(ground: Ground, count: int) -> Figures:
    """The same with async handlers."""
    return _drain(ground, count, AWAITING)


def drain_batches(ground: Ground, count: int) -> Figures:
    """The same with a plain handler that takes up to a hundred events in a call."""
    return _drain(ground, count, BATCHED)


def idle(ground: Ground, count: int) -> Figures:
    """An event comes when nothing else is under way: how long until its handler has run."""
    return asyncio.run(_idle(ground, count))


def archive(ground: Ground, count: int) -> Figures:
    """Everything that was published and became of it goes into the database; CPU is that of this process."""
    moved = {"history": 0, "outcomes": 0}

    def note(stream: Stream, entries: int) -> None:
        moved[stream] += entries

    archiver = Archiver(ground.backend.history, ground.backend.archive, ground.settings, note)
    began, cpu, before = time.monotonic(), time.process_time(), ground.spent()
    for stream in ("history", "outcomes"):
        while archiver.step(stream).entries:
            pass
    took, cpu, spent = time.monotonic() - began, time.process_time() - cpu, ground.spent().since(before)
    entries = max(1, sum(moved.values()))
    return {"per_s": entries / took, "archiver_us": cpu / entries * 1e6, "server_us": spent.cpu_s / entries * 1e6}


def replay(ground: Ground, count: int) -> Figures:
    """All of history is read as `Event` objects, in order."""
    began, cpu = time.monotonic(), time.process_time()
    read = sum(1 for _ in ground.backend.replay.iterate())
    took, cpu = time.monotonic() - began, time.process_time() - cpu
    return {"per_s": read / took, "reader_us": cpu / max(1, read) * 1e6}


WORKS = (
    Work("publish, one awaited after another", 0.4, publish_one),
    Work("publish, a hundred at once", 1, publish_hundred),
    Work("publish_many", 1, publish_many),
    Work("drain, plain handlers", 1, drain_plain),
    Work("drain, async handlers", 1, drain_async),
    Work("drain, handlers of batches", 1, drain_batches),
    Work("idle to handled", 0.02, idle),
    Work("archive, events and outcomes", 0, archive),
    Work("replay", 0, replay),
)


def _publish(ground: Ground, count: int, publish: Publish) -> Figures:
    async def run() -> Figures:
        bus = EventBus(ground.settings)
        try:
            await bus.publish(event(UNHEARD, -1))  # connects
            events = [event(UNHEARD, n) for n in range(count)]
            before, began, cpu = ground.spent(), time.monotonic(), time.process_time()
            await publish(bus, events)
            took, cpu, spent = time.monotonic() - began, time.process_time() - cpu, ground.spent().since(before)
        finally:
            await bus.disconnect()
        return {"per_s": count / took, "publisher_us": cpu / count * 1e6, **_of_server(spent, count)}

    return asyncio.run(run())


async def _one_by_one(bus: EventBus, events: Sequence[Event]) -> None:
    for one in events:
        await bus.publish(one)


async def _hundred_at_once(bus: EventBus, events: Sequence[Event]) -> None:
    await asyncio.gather(*(_one_by_one(bus, events[start::100]) for start in range(100)))


async def _all_at_once(bus: EventBus, events: Sequence[Event]) -> None:
    answers = await bus.publish_many(events)
    if refused := [answer for answer in answers if not isinstance(answer, Receipt)]:
        raise EventBusError(f"{len(refused)} events of {len(events)} were not published: {refused[0]}")


def _drain(ground: Ground, count: int, kind: str) -> Figures:
    ground.signal_workers(signal.SIGSTOP)
    numbers = ground.numbers(count)
    ground.backend.publisher.publish_many([event(kind, n) for n in numbers])
    cpu, before, began = meter.cpu_s(ground.workers), ground.spent(), time.monotonic()
    ground.signal_workers(signal.SIGCONT)
    ended = ground.wait(numbers, WAIT_S)
    ground.wait_settled()
    spent, cpu = ground.spent().since(before), meter.cpu_s(ground.workers) - cpu
    return {"per_s": count / (ended - began), "worker_us": cpu / count * 1e6, **_of_server(spent, count)}


async def _idle(ground: Ground, count: int) -> Figures:
    bus = EventBus(ground.settings)
    latencies = []
    try:
        await bus.publish(event(UNHEARD, -1))
        for n in ground.numbers(count):
            await asyncio.sleep(PAUSE_S)
            began = time.monotonic()
            await bus.publish(event(PLAIN, n))
            while not ground.ledger.has(n):
                if time.monotonic() > began + PATIENCE_S:
                    raise EventBusError(f"An event was not handled within {PATIENCE_S:.0f} s, though nothing waited.")
            latencies.append((time.monotonic() - began) * 1e3)
    finally:
        await bus.disconnect()
    latencies.sort()
    return {"p50_ms": statistics.median(latencies), "p99_ms": latencies[-(-count * 99 // 100) - 1]}


def _of_server(spent: meter.Spent, count: int) -> Figures:
    return {
        "server_us": spent.cpu_s / count * 1e6,
        "commands": spent.commands / count,
        "bytes": (spent.bytes_in + spent.bytes_out) / count,
    }
