"""An application whose loop starts tasks eagerly: handlers run, are interrupted and publish as on any other loop."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Awaitable
from pathlib import Path

import pytest

from events.bus import EventBus
from events.context import handling
from events.event import Event
from events.link import Link
from events.settings import Settings
from tests.test_loop_sender import linked_again, soon
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif(
    sys.version_info < (3, 12), reason="Not run: asyncio.eager_task_factory comes with Python 3.12."
)
MANY = 3 * sys.getrecursionlimit()


@pytest.fixture
def bus(redis_url: str, namespace: str, tmp_path: Path) -> EventBus:
    return EventBus(Settings(redis_url=redis_url, namespace=namespace, home=str(tmp_path)))


def start_eagerly() -> None:
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]


def event(kind: str, n: int = 0) -> Event:
    return Event(type=kind, project_id=f"p{n % 7}", actor="a", payload={"n": n})


def test_every_handler_runs_in_a_context_of_its_own_however_many_there_are(bus: EventBus) -> None:
    ran: Counter[str] = Counter()
    strange: list[str] = []

    async def main() -> None:
        start_eagerly()
        over = asyncio.Event()

        def note(event: Event) -> None:
            current = handling.get()
            if current is None or current.event.event_id != event.event_id:
                strange.append(event.event_id)
            ran[event.type.value] += 1
            if ran == {"QUICK": MANY, "SLOW": 2, "MADE": 1}:
                over.set()

        @bus.subscriber("Quick", ["QUICK"])
        async def quick(event: Event) -> None:
            note(event)

        @bus.subscriber("Slow", ["SLOW"], min_backoff=0.0)
        async def slow(event: Event) -> Event:
            await asyncio.sleep(0)
            note(event)
            if ran["SLOW"] == 1:
                raise ValueError("not yet")
            return event.caused("MADE")

        async def later(event: Event) -> None:
            note(event)

        @bus.subscriber("Plain", ["MADE"])
        def plain(event: Event) -> Awaitable[None]:
            return later(event)

        await bus.start_consuming(archive=False)
        await bus.publish_many([event("SLOW"), *(event("QUICK", n) for n in range(MANY))])
        await asyncio.wait_for(over.wait(), 120)
        await bus.stop_consuming()
        await bus.disconnect()

    asyncio.run(main())

    assert ran == {"QUICK": MANY, "SLOW": 2, "MADE": 1} and strange == []


def test_a_handler_is_interrupted_by_its_limit_and_by_the_end_of_the_worker(bus: EventBus) -> None:
    cancelled: list[str] = []

    async def main() -> None:
        start_eagerly()
        begun = asyncio.Event()

        async def forever(event: Event) -> None:
            try:
                await asyncio.sleep(600)
            except asyncio.CancelledError:
                cancelled.append(event.type.value)
                raise

        @bus.subscriber("Late", ["LATE"], time_limit=0.2, max_attempts=1)
        async def late(event: Event) -> None:
            await forever(event)

        @bus.subscriber("Long", ["LONG"])
        async def long(event: Event) -> None:
            begun.set()
            await forever(event)

        await bus.start_consuming(archive=False)
        await bus.publish_many([event("LATE"), event("LONG")])
        await asyncio.wait_for(begun.wait(), 60)
        client, keys = bus.backend.client, bus.backend.namespace.keys
        await asyncio.to_thread(
            wait_until, lambda: client.xlen(keys("dead", "Late")), 60, "the late one to be given up"
        )
        await bus.stop_consuming(grace_s=0)
        assert client.xpending(keys("queue", "Long"), "fleet")["pending"] == 0 and client.xlen(keys("queue", "Long"))
        await bus.disconnect()

    asyncio.run(main())

    assert cancelled == ["LATE", "LONG"]


def test_a_loop_whose_first_connection_fails_at_once_connects_again(bus: EventBus) -> None:
    async def main() -> None:
        await bus.publish(event("OTHER"))
        start_eagerly()
        sender, attempts = bus._here.sender(), 0
        open_link = sender._open_link

        async def fails_at_once() -> Link:
            nonlocal attempts
            attempts += 1
            if attempts == 1:
                raise OSError("no way out")
            return await open_link()

        sender._open_link = fails_at_once
        await linked_again(bus, None)
        await soon(bus.disconnect())
        assert attempts == 2

    asyncio.run(main())
