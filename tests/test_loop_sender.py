"""Publishing from an event loop: the fast way and the thread's are one to whoever publishes."""

from __future__ import annotations

import asyncio
import functools
import gc
import warnings
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from events.bus import EventBus
from events.errors import EventBusError, EventIdConflict, RedisUnavailable
from events.event import Event
from events.publisher import Receipt
from events.settings import Settings
from tests.fault_proxy import FaultProxy
from tests.valkey_servers import ValkeyServer


def on_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test on a loop of its own."""

    @functools.wraps(test)
    def run(**given: Any) -> None:
        asyncio.run(test(**given))

    return run


def event(n: object = 0, **fields: object) -> Event:
    return Event(**{"project_id": "p", "type": "SHOT_PLANNED", "actor": "tester", "payload": {"n": n}, **fields})


@pytest.fixture
def settings(redis_url: str, namespace: str, tmp_path: Path) -> Settings:
    return Settings(redis_url=redis_url, namespace=namespace, home=str(tmp_path), timeout_s=2)


async def warm(bus: EventBus) -> None:
    """Publish until the loop does it by itself."""
    for n in range(1000):
        await bus.publish(event(f"warm {n}"))
        sender = bus._here.sender()
        if sender._link is not None:
            return
    raise AssertionError("The loop never got a link.")


def order(bus: EventBus) -> list[object]:
    return [recorded.event.payload["n"] for recorded in bus.backend.blackboard.replay.iterate()]


@on_a_loop
async def test_of_a_thousand_events_published_at_once_each_is_there_once_in_order(settings: Settings) -> None:
    bus = EventBus(settings)
    await warm(bus)
    before = len(order(bus))

    await asyncio.gather(*(bus.publish(event(n)) for n in range(1000)))

    assert order(bus)[before:] == [*range(1000)]
    await bus.disconnect()


@on_a_loop
async def test_what_the_thread_has_to_publish_is_not_overtaken(settings: Settings, redis_url: str) -> None:
    bus = EventBus(settings)
    await warm(bus)
    before = len(order(bus))
    tasks = [asyncio.create_task(bus.publish(event(n))) for n in range(20)]
    await asyncio.sleep(0)
    bus.subscriber("Late", ["OTHER"])(lambda event: None)  # its routes are the thread's to write
    tasks += [asyncio.create_task(bus.publish(event(n))) for n in range(20, 40)]
    await asyncio.sleep(0)
    bus.backend.client.script_flush()
    tasks += [asyncio.create_task(bus.publish(event(n))) for n in range(40, 60)]
    await asyncio.gather(*tasks)

    assert order(bus)[before:] == [*range(60)]
    await bus.disconnect()


@on_a_loop
async def test_a_batch_that_takes_several_calls_is_not_overtaken_by_what_takes_one(settings: Settings) -> None:
    bus = EventBus(settings)
    await warm(bus)
    before = len(order(bus))

    many = asyncio.create_task(bus.publish_many([event(n) for n in range(2000)]))
    await asyncio.sleep(0)
    await asyncio.gather(many, *(bus.publish(event(n)) for n in range(2000, 2010)))

    assert order(bus)[before:] == [*range(2010)]
    await bus.disconnect()


@on_a_loop
async def test_refusals_are_each_callers_own(settings: Settings) -> None:
    bus = EventBus(settings)
    await warm(bus)
    taken = event("first", event_id="taken")
    await bus.publish(taken)

    answers = await asyncio.gather(
        bus.publish(event("a")), bus.publish(event("other", event_id="taken")), bus.publish(taken),
        bus.publish_many([event("b"), event("c")]), return_exceptions=True,
    )  # fmt: skip

    assert isinstance(answers[1], EventIdConflict) and answers[2] == "taken"
    assert isinstance(answers[3], list) and all(isinstance(answer, Receipt) for answer in answers[3])
    await bus.disconnect()


@on_a_loop
async def test_a_publish_that_is_cancelled_keeps_no_other_from_its_answer(settings: Settings) -> None:
    bus = EventBus(settings)
    await warm(bus)
    tasks = [asyncio.create_task(bus.publish(event(n))) for n in range(3)]
    await asyncio.sleep(0)
    tasks[1].cancel()

    first, second, third = await asyncio.gather(*tasks, return_exceptions=True)

    assert isinstance(second, asyncio.CancelledError) and isinstance(first, str) and isinstance(third, str)
    assert await bus.publish(event("after"))
    await bus.disconnect()


@on_a_loop
async def test_after_a_lost_connection_and_a_lost_server_publishing_goes_on(
    settings: Settings, valkey_server: ValkeyServer
) -> None:
    with FaultProxy("127.0.0.1", valkey_server.port) as proxy:
        bus = EventBus(settings.with_(redis_url=proxy.url))
        await warm(bus)
        before = len(order(bus))
        for n in range(5):
            proxy.cut()
            await bus.publish(event(n))
        assert order(bus)[before:] == [*range(5)], "each once, though replies may have been lost"
        await bus.disconnect()


@on_a_loop
async def test_what_was_submitted_is_sent_before_the_bus_disconnects(settings: Settings) -> None:
    bus = EventBus(settings)
    await warm(bus)
    tasks = [asyncio.create_task(bus.publish(event(n))) for n in range(700)]
    await asyncio.sleep(0)
    await bus.disconnect()

    assert all(isinstance(answer, str) for answer in await asyncio.gather(*tasks))
    with pytest.raises(EventBusError, match="disconnected"):
        await bus.publish(event())


def test_a_bus_outlives_its_loops_and_leaves_nothing_open(settings: Settings) -> None:
    bus = EventBus(settings)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for _ in range(3):
            asyncio.run(warm(bus))
        gc.collect()
    assert not [str(one.message) for one in said if issubclass(one.category, ResourceWarning)]
    assert len(bus._here._by_loop) == 1
    bus.close()


@on_a_loop
async def test_an_unreachable_server_is_the_answer_of_each(settings: Settings, valkey_server: ValkeyServer) -> None:
    bus = EventBus(settings)
    await warm(bus)
    valkey_server.kill()
    try:
        answers = await asyncio.gather(*(bus.publish(event(n)) for n in range(3)), return_exceptions=True)
    finally:
        valkey_server.restart()

    assert all(isinstance(answer, RedisUnavailable) for answer in answers), answers
    await bus.disconnect()
