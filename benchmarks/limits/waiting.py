"""What waits: callers that publish, handlers that await, and events in Redis's memory."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.limits.limit import Limit, Sides
from benchmarks.peers.eventbus import event
from benchmarks.server import Server
from benchmarks.works import WARM
from events.bus import EventBus
from events.encoding import encode
from events.event import Event
from events.keys import Keys
from events.settings import Settings

PAUSE_S = 0.05
AT_ONCE = 400


@contextmanager
def _awaiting(size: int) -> Iterator[Sides]:
    def ours() -> float:
        return asyncio.run(_handled(size))

    yield {"events handled": ours, f"{AT_ONCE} at once, each {PAUSE_S * 1000:.0f} ms": lambda: AT_ONCE / PAUSE_S}


async def _handled(size: int) -> float:
    """Handle events that wait already, in this process; return how many a second."""
    with tempfile.TemporaryDirectory(prefix="eventbus-bench-") as home, Server() as server:
        bus = EventBus(Settings(redis_url=server.url, home=home, concurrency=AT_ONCE))
        done, first, last = 0, 0.0, 0.0

        @bus.subscriber("Waits", ["SHOT_PLANNED"])
        async def wait(event: Event) -> None:
            nonlocal done, first, last
            first = first or time.monotonic()
            await asyncio.sleep(PAUSE_S)
            done, last = done + 1, time.monotonic()

        await bus.publish_many([event(n) for n in range(size)])
        await bus.start_consuming(archive=False)  # as a worker process, beside which others archive
        while done < size:
            await asyncio.sleep(0.05)
        await bus.disconnect()
        return size / (last - first)


@contextmanager
def _fan_out(size: int) -> Iterator[Sides]:
    yield {
        "to ten subscribers": lambda: asyncio.run(_published(size // 8, 10)),
        "to one": lambda: asyncio.run(_published(size // 8, 1)),
    }


async def _published(size: int, subscribers: int) -> float:
    """Publish one after another, each awaited; return the microseconds of one. Nobody handles them."""
    with tempfile.TemporaryDirectory(prefix="eventbus-bench-") as home, Server() as server:
        bus = EventBus(Settings(redis_url=server.url, home=home))
        for number in range(subscribers):
            bus.subscriber(f"S{number}", ["SHOT_PLANNED"])(print)
        for n in range(WARM):
            await bus.publish(event(n))
        began = time.monotonic()
        for n in range(WARM, WARM + size):
            await bus.publish(event(n))
        took_s = time.monotonic() - began
        await bus.disconnect()
        return took_s / size * 1e6


@contextmanager
def _memory(size: int) -> Iterator[Sides]:
    yield {
        "bytes of a waiting event, one subscriber": lambda: _bytes(size, 1),
        "two subscribers": lambda: _bytes(size, 2),
        "handled and archived, its id remembered": lambda: asyncio.run(_left(size)),
        "its JSON": lambda: float(len(encode(event(size)))),
    }


def _bytes(size: int, subscribers: int) -> float:
    with tempfile.TemporaryDirectory(prefix="eventbus-bench-") as home, Server() as server:
        client: Any = server.client
        bus = EventBus(Settings(redis_url=server.url, home=str(Path(home) / str(os.getpid()))))
        for number in range(subscribers):
            bus.subscriber(f"S{number}", ["SHOT_PLANNED"])(print)
        bus.publish_sync(event(0))
        before = client.info("memory")["used_memory"]
        bus.publish_many_sync([event(n) for n in range(1, size + 1)])
        used: int = client.info("memory")["used_memory"] - before
        bus.close()
        return used / size


async def _left(size: int) -> float:
    """Handle and archive events in this process; return what is left of each in Redis."""
    with tempfile.TemporaryDirectory(prefix="eventbus-bench-") as home, Server() as server:
        client: Any = server.client
        bus = EventBus(Settings(redis_url=server.url, home=home, history_margin_s=0.0))
        bus.subscriber("S", ["SHOT_PLANNED"])(lambda event: None)
        await bus.start_consuming()
        keys = Keys(bus.settings.namespace)
        streams = (keys("history"), keys("queue", "S"), keys("outcomes"))
        await bus.publish(event(0))
        await _emptied(client, streams)
        before = client.info("memory")["used_memory"]
        await bus.publish_many([event(n) for n in range(1, size + 1)])
        await _emptied(client, streams)
        used: int = client.info("memory")["used_memory"] - before
        await bus.disconnect()
        return used / size


async def _emptied(client: Any, streams: Sequence[str]) -> None:
    while any(client.xlen(stream) for stream in streams):
        await asyncio.sleep(0.05)


LIMITS = (
    Limit("fan-out", "A single publish, awaited", "us", _fan_out),
    Limit("awaiting", f"Async handlers that await {PAUSE_S * 1000:.0f} ms", "events/s", _awaiting),
    Limit("memory", "Redis's memory", "bytes", _memory),
)
