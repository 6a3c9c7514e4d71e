"""In an application: `start_consuming` runs the fleet's delivery code on the caller's event loop."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from events.bus import EventBus
from events.deliveries import Deliveries
from events.event import Event
from events.frame import Lease
from events.joining import Joined
from tests.fleet.fleet import World
from tests.fleet.test_delivery import make
from tests.waiting import wait_until
from workers.starting import STALL_S

MANY = 10_000
FEW_THREADS = 40


def test_ten_thousand_handlers_await_at_once_in_one_process(world: World, measured: Callable[[str], None]) -> None:
    bus = EventBus(replace(world.settings, concurrency=MANY, lease_s=60))
    gate = asyncio.Event()
    waiting: set[str] = set()
    ended: list[str] = []

    @bus.subscriber("Async", ["ASYNC_WORK"])
    async def handle(event: Event) -> None:
        waiting.add(event.event_id)
        await gate.wait()
        ended.append(event.event_id)

    async def serve() -> tuple[float, int, float]:
        await bus.start_consuming(archive=False)
        began = time.monotonic()
        for start in range(0, MANY, 1000):
            await bus.publish_many([make("ASYNC_WORK", project=f"p{n % 7}", n=n) for n in range(start, start + 1000)])
        await asyncio.to_thread(wait_until, lambda: len(waiting) == MANY, 60, "ten thousand handlers to run")
        filled_s, threads = time.monotonic() - began, threading.active_count()
        gate.set()
        began = time.monotonic()
        await asyncio.to_thread(world.until_settled, "Async", timeout=60)
        settled_s = time.monotonic() - began
        await bus.disconnect()
        return filled_s, threads, settled_s

    filled_s, threads, settled_s = asyncio.run(serve())

    measured(
        f"10,000 handlers awaited at once after {filled_s:.1f} s, in {threads} threads; settled in {settled_s:.1f} s"
    )
    assert sorted(ended) == sorted(waiting) and len(ended) == MANY
    assert threads <= FEW_THREADS


def test_a_join_that_takes_long_to_fetch_is_fetched_once_and_run(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    bus = EventBus(world.settings)
    fetched: list[str] = []
    ran: list[int] = []
    fetch = Deliveries.joined

    def slowly(deliveries: Deliveries, lease: Lease) -> Joined:
        fetched.append(lease.event_id)
        threading.Event().wait(4 * STALL_S)
        return fetch(deliveries, lease)

    monkeypatch.setattr(Deliveries, "joined", slowly)

    @bus.subscriber("Painter", ["SCRIPT"])
    async def paint(event: Event) -> list[Event]:
        return [event.caused("IMAGE", payload={"n": n}) for n in range(3)]

    @bus.join("Editor", after=["SCRIPT"], of=["IMAGE"])
    async def edit(event: Event, joined: Joined) -> None:
        ran.append(len(joined.events))

    async def serve() -> None:
        await bus.start_consuming(archive=False)
        await bus.publish(make("SCRIPT"))
        await asyncio.to_thread(wait_until, lambda: ran, 30, "the join to run")
        await asyncio.to_thread(world.until_settled, "Editor")
        await bus.disconnect()

    asyncio.run(serve())

    assert ran == [3] and len(fetched) == 1
