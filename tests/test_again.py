"""`bus.redeliver`: events of the past to one subscriber again, from an event loop, cancelled and called again."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from events.bus import EventBus
from events.errors import InvalidFilter, RedeliveryRefused, UnknownSubscriber
from events.event import Event
from events.settings import Settings
from events.types import EventType
from tests.waiting import wait_until


@pytest.fixture
def bus(redis_url: str, tmp_path: Path, namespace: str) -> Iterator[EventBus]:
    bus = EventBus(Settings(redis_url=redis_url, home=str(tmp_path), namespace=namespace))
    yield bus
    bus.close()


def made(n: int, kind: EventType = EventType.SHOT_PLANNED) -> Event:
    return Event(event_id=f"EV-{n}", project_id=f"P-{n % 2}", type=kind, actor="Director", payload={"n": n})


def test_events_are_delivered_again_to_one_subscriber_and_to_nobody_else(bus: EventBus) -> None:
    painted: Counter[str] = Counter()
    seen: Counter[str] = Counter()

    @bus.subscriber("Painter", [EventType.SHOT_PLANNED])
    async def paint(event: Event) -> None:
        painted[event.event_id] += 1

    @bus.subscriber("Critic", [EventType.SHOT_PLANNED])
    async def look(event: Event) -> None:
        seen[event.event_id] += 1

    async def run() -> int:
        await bus.publish_many([made(n) for n in range(20)])
        await bus.start_consuming()
        await asyncio.to_thread(wait_until, lambda: len(painted) == len(seen) == 20, 30, "the first time")
        count = await bus.redeliver("Painter", project_id="P-1", event_types=["*"], reason="a new model")
        await asyncio.to_thread(wait_until, lambda: painted.total() >= 30, 30, "the second time")
        await bus.stop_consuming()
        return count

    assert asyncio.run(run()) == 10
    assert painted == {f"EV-{n}": 1 + n % 2 for n in range(20)}
    assert set(seen.values()) == {1}
    outcomes = [record for _, record in bus.backend.history.entries_after("outcomes", "0-0", 1000)]
    asked = {getattr(one, "error", "") for one in outcomes if getattr(one, "state", "") == "redelivered"}
    assert asked <= {"a new model"}


def test_a_cancelled_call_ends_with_its_page_and_the_next_one_goes_on(bus: EventBus) -> None:
    bus.subscriber("Painter", [EventType.SHOT_PLANNED])(print)
    begun = threading.Event()

    async def run() -> int:
        await bus.publish_many([made(n) for n in range(60)])
        task = asyncio.create_task(bus.redeliver("Painter", rate=20, progress=lambda under: under.made and begun.set()))
        await asyncio.to_thread(begun.wait, 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await bus.redeliver("Painter")

    assert asyncio.run(run()) == 60
    queue = bus.backend.namespace.keys("queue", "Painter")
    assert bus.backend.client.xlen(queue) == 120, "once published, once again"


def test_what_cannot_be_delivered_again_is_an_error_and_changes_nothing(bus: EventBus) -> None:
    bus.subscriber("Painter", [EventType.SHOT_PLANNED])(print)

    async def run() -> None:
        await bus.publish(made(1))
        with pytest.raises(UnknownSubscriber, match="'Nobody'"):
            await bus.redeliver("Nobody")
        with pytest.raises(InvalidFilter, match="lone surrogate"):
            await bus.redeliver("\ud800")
        with pytest.raises(RedeliveryRefused, match="takes SHOT_PLANNED, not QA_REPORT"):
            await bus.redeliver("Painter", event_types=[EventType.QA_REPORT])
        with pytest.raises(InvalidFilter, match="must be a list of event types"):
            await bus.redeliver("Painter", event_types="QA_REPORT")
        with pytest.raises(InvalidFilter, match="more than 0, not -1"):
            await bus.redeliver("Painter", rate=-1)
        with pytest.raises(TypeError, match="colour"):
            await bus.redeliver("Painter", colour="red")

    asyncio.run(run())
    assert bus.backend.client.xlen(bus.backend.namespace.keys("queue", "Painter")) == 1
