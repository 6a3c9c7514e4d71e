"""Publishing from an event loop: the fast way and the thread's are one to whoever publishes."""

from __future__ import annotations

import asyncio
import functools
import gc
import threading
import warnings
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import events.publisher
from events.bus import EventBus
from events.errors import EventBusError, EventIdConflict, InvalidEvent, RedisUnavailable
from events.event import Event
from events.link import Link
from events.loop_sender import LoopSender, LoopSenders
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


async def soon(waited_for: asyncio.Future[Any] | Coroutine[Any, Any, Any]) -> Any:
    """Return what comes; a publish that hangs fails its test instead of stopping the suite."""
    return await asyncio.wait_for(waited_for, 30)


async def linked_again(bus: EventBus, before: Link | None) -> Link:
    """Publish until the loop has another link; return it."""
    sender, loop = bus._here.sender(), asyncio.get_running_loop()
    until = loop.time() + 30
    while sender._link is None or sender._link is before or not sender._link.is_open:
        assert loop.time() < until, "The link never came back."
        await soon(bus.publish(event("until it is linked")))
    return sender._link


async def asked(sender: LoopSender) -> None:
    """Return when the link has been asked, before anything else happens on the loop."""
    while sender._asked is None:
        await asyncio.sleep(0)


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


def test_closing_the_bus_sends_what_other_loops_have_submitted(settings: Settings) -> None:
    bus, submitted = EventBus(settings), threading.Event()

    async def publish() -> list[object]:
        await warm(bus)
        tasks = [asyncio.ensure_future(bus.publish_many([event(f"{b} {n}") for n in range(400)])) for b in range(20)]
        await asyncio.sleep(0)
        submitted.set()
        return [answer for answers in await asyncio.gather(*tasks) for answer in answers]

    with ThreadPoolExecutor(1) as pool:
        answers = pool.submit(asyncio.run, publish())
        assert submitted.wait(30)
        bus.close()

        assert [answer for answer in answers.result(30) if not isinstance(answer, Receipt)] == []


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


@pytest.mark.parametrize("fault", [{"type": "OTHER"}, {"project_id": None}, {"causation_id": 5}])
@on_a_loop
async def test_an_event_that_cannot_be_sent_fails_alone(settings: Settings, fault: dict[str, object]) -> None:
    bus = EventBus(settings)
    await warm(bus)
    before = len(order(bus))
    bad = event("bad").model_copy(update=fault)

    answers = await soon(asyncio.gather(*map(bus.publish, [event(0), bad, event(1)]), return_exceptions=True))
    alone = await soon(asyncio.gather(bus.publish(bad), return_exceptions=True))

    assert [type(answer) for answer in answers] == [str, InvalidEvent, str] and isinstance(alone[0], InvalidEvent)
    await soon(bus.publish(event(2)))
    assert order(bus)[before:] == [0, 1, 2]
    await soon(bus.disconnect())


@pytest.mark.parametrize("step", ["prepare", "command", "read"])
@on_a_loop
async def test_whatever_goes_wrong_with_a_batch_is_its_callers_to_hear_and_publishing_goes_on(
    settings: Settings, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus = EventBus(settings)
    await warm(bus)

    def broken(*_: object) -> None:
        monkeypatch.undo()
        raise LookupError(step)

    monkeypatch.setattr(bus._sender.publisher, step, broken)
    tasks = [asyncio.create_task(bus.publish(event(n))) for n in range(3)]
    answers = await soon(asyncio.gather(*tasks, return_exceptions=True))

    assert [str(answer) for answer in answers] == [step] * 3
    assert await soon(bus.publish(event("after")))
    await soon(bus.disconnect())


@on_a_loop
async def test_a_loop_links_again_as_often_as_its_connection_is_lost(
    settings: Settings, valkey_server: ValkeyServer
) -> None:
    with FaultProxy("127.0.0.1", valkey_server.port) as proxy:
        bus = EventBus(settings.with_(redis_url=proxy.url))
        await warm(bus)
        link = bus._here.sender()._link
        for _ in range(3):
            proxy.cut()
            link = await linked_again(bus, link)
        await bus.disconnect()
        assert not link.is_open


@pytest.mark.parametrize("unexpected", [False, True])
@on_a_loop
async def test_a_loop_that_could_not_connect_tries_again_now_and_then(
    settings: Settings, valkey_server: ValkeyServer, unexpected: bool
) -> None:
    with FaultProxy("127.0.0.1", valkey_server.port) as proxy:
        bus = EventBus(settings.with_(redis_url=proxy.url))
        await bus.publish(event("the thread connects"))
        sender, attempts = bus._here.sender(), []
        open_link = sender._open_link

        async def counted() -> Link:
            attempts.append(None)
            if unexpected and proxy._listener is None:
                raise LookupError("unexpected")
            return await open_link()

        sender._open_link = counted
        proxy.refuse(True)
        for n in range(500):
            await soon(bus.publish(event(n)))
        tried = len(attempts)
        proxy.refuse(False)
        await linked_again(bus, None)

        assert 0 < tried < 50, "not one for every batch"
        await bus.disconnect()


class Disturbed:
    """A link's transport whose next command arrives only when the loop goes on, or never."""

    def __init__(self, link: Link, fate: str) -> None:
        self._link, self._fate, self._transport = link, fate, link._transport
        link._transport = self  # type: ignore[assignment]

    def write(self, data: bytes) -> None:
        if self._fate == "arrives":
            self._transport.write(data)
        elif self._fate == "is late":
            asyncio.get_running_loop().call_soon(self._transport.write, data)
        else:
            asyncio.get_running_loop().call_soon(self._transport.abort)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


@pytest.mark.parametrize("fate", ["arrives", "is late", "is lost"])
@on_a_loop
async def test_a_synchronous_publish_on_the_thread_of_the_loop_comes_after_what_is_under_way(
    settings: Settings, fate: str
) -> None:
    bus = EventBus(settings)
    await warm(bus)
    before, sender = len(order(bus)), bus._here.sender()
    assert sender._link is not None
    Disturbed(sender._link, fate)

    first = asyncio.create_task(bus.publish_many([event(0), event(1)]))
    await asked(sender)
    waiting = bus._submit_here([event(2)], None, None)
    bus.publish_sync(event(3))
    bus.publish_sync(event(4))
    answers = [*await soon(first), *await soon(waiting)]

    assert order(bus)[before:] == [*range(5)]
    assert [answer.is_new for answer in answers] == [True] * 3
    (after,) = await soon(bus.publish_many([late := event("after")]))
    assert after.event_id == late.event_id and after.is_new
    await soon(bus.disconnect())


@pytest.mark.parametrize("is_lost", [False, True])
@on_a_loop
async def test_of_events_that_take_several_steps_each_is_published_once_and_new(
    settings: Settings, is_lost: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus = EventBus(settings)
    for n in range(20):
        bus.subscriber(f"S{n}", ["MANY"])(lambda event: None)
    await warm(bus)
    before, publisher, sender = len(order(bus)), bus._sender.publisher, bus._here.sender()
    assert publisher is not None and sender._link is not None
    link, read, slowly = sender._link, publisher.read, sender._slowly
    left, handed = [], []

    def noted(*what: Any) -> Any:
        left.append(len(later := read(*what)))
        if is_lost:
            link.close()
        return later

    def counted(events: Any, *how: Any) -> Any:
        handed.append(len(events))
        return slowly(events, *how)

    monkeypatch.setattr(publisher, "read", noted)
    monkeypatch.setattr(sender, "_slowly", counted)
    receipts = await soon(bus.publish_many([event(n, type="MANY") for n in range(500)]))

    assert left[0] and all(receipt.is_new for receipt in receipts)
    assert handed == ([left[0]] if is_lost else []), "what is answered is not published again"
    assert order(bus)[before:] == [*range(500)]
    await soon(bus.disconnect())


@on_a_loop
async def test_what_takes_several_calls_is_not_encoded_on_the_loop(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus = EventBus(settings)
    await warm(bus)
    arguments, on_the_loop = events.publisher.event_arguments, []

    def noted(event: Event, max_event_bytes: int) -> Any:
        if threading.current_thread() is threading.main_thread():
            on_the_loop.append(event)
        return arguments(event, max_event_bytes)

    monkeypatch.setattr(events.publisher, "event_arguments", noted)
    many = await soon(bus.publish_many([event(n) for n in range(2000)]))
    assert len(many) == 2000 and not on_the_loop

    large = await soon(bus.publish_many([event("x" * 50_000) for _ in range(200)]))
    assert len(large) == 200 and len(on_the_loop) < 100, "no more than the first call's"
    await soon(bus.disconnect())


def test_buses_on_many_loops_may_begin_at_once(settings: Settings) -> None:
    bus = EventBus(settings)
    senders: LoopSenders = bus._here

    class Beginning:
        def is_closed(self) -> bool:
            senders._by_loop[Beginning()] = None  # type: ignore[index, assignment]
            return len(senders._by_loop) < 5

    senders._by_loop[Beginning()] = None  # type: ignore[index, assignment]

    async def begin() -> LoopSender:
        return senders.sender()

    assert isinstance(asyncio.run(begin()), LoopSender)
    senders._by_loop.clear()
    bus.close()
