"""A thread that has ended a delivery stays for the next, and goes as soon as somebody needs it. On real Dramatiq."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dramatiq
import pytest
from dramatiq.middleware import Interrupt
from dramatiq.threading import raise_thread_exception

from events.backend import Backend
from events.bus import EventBus
from events.event import Event
from events.settings import Settings
from events.steering import steer, until_heeded
from tests.servers import migrate
from tests.waiting import wait_until
from workers.assembly import make_broker
from workers.broker import DeliveryProxy
from workers.consuming import Consuming
from workers.takers import Takers

LONG_S = 600.0  # longer than every test


@pytest.fixture(autouse=True)
def _long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody who waits looks of his own accord."""
    monkeypatch.setattr("workers.going_on.LINGER_S", LONG_S)
    monkeypatch.setattr("workers.broker.MAX_WAKES_PER_S", 1 / LONG_S)


@pytest.fixture
def bus(redis_url: str, namespace: str, tmp_path: Path) -> Iterator[EventBus]:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    migrate(url)
    bus = EventBus(Settings(redis_url=redis_url, database_url=url, namespace=namespace))
    yield bus
    bus.close()


@contextmanager
def consuming(bus: EventBus, threads: int, **changes: Any) -> Iterator[None]:
    settings = bus.settings.with_(**changes)
    one = Consuming(settings, Backend(settings, may_restore=True), bus.subscriptions, threads=threads)
    before = set(threading.enumerate())
    one.start()
    dramatiqs = [thread for thread in threading.enumerate() if thread not in before and "eventbus" not in thread.name]
    assert len(dramatiqs) > threads
    try:
        yield
    finally:
        one.stop(10)
        wait_until(lambda: not any(thread.is_alive() for thread in dramatiqs), 10, "Dramatiq's threads to end")


def event(kind: str = "SHOT", **payload: Any) -> Event:
    return Event(type=kind, project_id="p", actor="a", payload=payload)


def publish(bus: EventBus, until: Callable[[], bool], says: str, *events: Event) -> None:
    bus.publish_many_sync(events or [event()])
    wait_until(until, 30, says)


def test_what_comes_one_at_a_time_is_run_by_a_thread_that_lingers_and_is_not_handed_over(
    bus: EventBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[int] = []
    handed: list[object] = []

    @bus.subscriber("Painter", ["SHOT"])
    def paint(event: Event) -> None:
        ran.append(threading.get_ident())

    def counted(proxy: DeliveryProxy, attempt: Any) -> None:
        handed.append(attempt)
        made(proxy, attempt)

    made = DeliveryProxy.__init__
    monkeypatch.setattr(DeliveryProxy, "__init__", counted)
    with consuming(bus, 4):
        for n in range(1, 101):
            publish(bus, lambda n=n: len(ran) == n, f"number {n} to be handled")  # type: ignore[misc]

    # But for the first, which nobody lingered for, and those that came before somebody lingered again.
    assert len(handed) < 50, "they went by way of Dramatiq"


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_whoever_has_a_credit_has_a_thread_though_one_lingers(bus: EventBus, threads: int) -> None:
    """As many handlers run at once as there are threads, whosever they are: the one that lingers is among them."""
    seen: Counter[str] = Counter()
    release = threading.Event()

    @bus.subscriber("Lingers", ["SHOT"])
    def linger(event: Event) -> None:
        seen["SHOT"] += 1

    @bus.subscriber("Fills", ["IMAGE"])
    def fill(event: Event) -> None:
        seen["IMAGE"] += 1
        release.wait(60)

    with consuming(bus, threads):
        try:
            publish(bus, lambda: seen["SHOT"] == 1, "one to be handled, whose thread lingers")
            for n in range(1, threads + 1):
                publish(bus, lambda n=n: seen["IMAGE"] == n, f"{n} of {threads} to run at once", event("IMAGE"))  # type: ignore[misc]
            bus.publish_sync(event())
            assert seen["SHOT"] == 1
        finally:
            release.set()
        wait_until(lambda: seen["SHOT"] == 2, 30, "the one that waited for a thread")


def test_beside_a_lingering_thread_that_got_a_slow_one_others_begin_what_comes_next(
    bus: EventBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.receiver.MAX_BLOCK_MS", LONG_S * 1000)  # no tick wakes anybody
    ran: list[str] = []
    release = threading.Event()

    @bus.subscriber("Painter", ["SHOT"])
    def paint(event: Event) -> None:
        ran.append(event.payload["how"])
        if event.payload["how"] == "slowly":
            release.wait(60)

    with consuming(bus, 4, lease_s=LONG_S):
        try:
            for n in range(1, 21):  # it is known to be quick
                publish(bus, lambda n=n: len(ran) == n, f"number {n}", event(how="quickly"))  # type: ignore[misc]
            hows = ("slowly", "quickly", "quickly", "slowly", "quickly")
            publish(
                bus, lambda: len(ran) == 25, "all to begin, though two do not end", *(event(how=how) for how in hows)
            )
        finally:
            release.set()


def test_a_pause_holds_for_a_thread_that_lingers(bus: EventBus) -> None:
    ran: list[str] = []

    @bus.subscriber("Painter", ["SHOT"])
    def paint(event: Event) -> None:
        ran.append(event.event_id)

    with consuming(bus, 2):
        publish(bus, lambda: len(ran) == 1, "one to be handled")
        space = bus.backend.namespace
        steer(space, "Painter", paused=True)
        assert until_heeded(space, "Painter") == ()
        bus.publish_sync(event())
        assert len(ran) == 1
        steer(space, "Painter", paused=False)
        wait_until(lambda: len(ran) == 2, 30, "it to be handled after the pause")


def test_for_batches_a_thread_lingers_too(bus: EventBus) -> None:
    ran: list[int] = []

    @bus.subscriber("Painter", ["SHOT"], batch=10)
    def paint(events: list[Event]) -> None:
        ran.extend(event.payload["n"] for event in events)

    with consuming(bus, 2):
        for start in range(0, 60, 3):
            some = [event(n=n) for n in range(start, start + 3)]
            publish(bus, lambda start=start: len(ran) == start + 3, "them to be handled", *some)  # type: ignore[misc]

    assert sorted(ran) == list(range(60))


def test_a_thread_lingers_for_one_subscriber_and_others_are_handled_meanwhile(bus: EventBus) -> None:
    ran: Counter[str] = Counter()
    for name in ("One", "Two", "Three"):
        bus.subscriber(name, [name.upper()])(lambda event: ran.update([event.type.value]))

    with consuming(bus, 1):
        for n in range(1, 31):
            for kind in ("ONE", "TWO", "THREE"):
                publish(bus, lambda kind=kind, n=n: ran[kind] == n, f"{kind} number {n}", event(kind))  # type: ignore[misc]


def test_the_only_thread_of_a_worker_is_given_to_an_async_handler_at_once(bus: EventBus) -> None:
    """`dramatiq workers.app --threads 1`: no thread more for async handlers, as `eventbus worker` has one."""
    ran: list[str] = []
    bus.subscriber("Plain", ["SHOT"])(lambda event: ran.append("plain"))

    @bus.subscriber("Async", ["IMAGE"])
    async def paint(event: Event) -> None:
        ran.append("async")

    with only_thread(bus):
        for n in range(5):
            publish(bus, lambda n=n: len(ran) == 2 * n + 1, "a plain one, whose thread lingers")  # type: ignore[misc]
            publish(bus, lambda n=n: len(ran) == 2 * n + 2, "an async one", event("IMAGE"))  # type: ignore[misc]

    assert ran == ["plain", "async"] * 5


def test_a_thread_does_not_linger_while_an_async_delivery_waits_for_one(bus: EventBus) -> None:
    """`dramatiq workers.app --threads 1`: the async one is taken while the only thread runs a plain one."""
    ran, release = list[str](), threading.Event()

    @bus.subscriber("Plain", ["SHOT"])
    def plain(event: Event) -> None:
        ran.append("plain")
        assert release.wait(60)

    @bus.subscriber("Async", ["IMAGE"])
    async def paint(event: Event) -> None:
        ran.append("async")

    with only_thread(bus) as taken:
        publish(bus, lambda: ran == ["plain"], "the plain one to run")
        publish(bus, lambda: "Async" in taken, "the async one to be taken", event("IMAGE"))
        release.set()
        wait_until(lambda: ran == ["plain", "async"], 30, "the async one to run")


@contextmanager
def only_thread(bus: EventBus) -> Iterator[list[str]]:
    """Run stock Dramatiq with one thread, as `dramatiq workers.app --threads 1`; give whose deliveries were taken."""
    backend, taken = Backend(bus.settings, may_restore=True), list[str]()
    broker = make_broker(bus.settings, lambda: backend, bus.subscriptions)
    worker = dramatiq.Worker(broker, worker_threads=1, worker_timeout=250)
    take = Takers.take

    def noted(takers: Takers, subscription: Any, *args: Any) -> Any:
        if (lease := take(takers, subscription, *args)) is not None:
            taken.append(subscription.name)
        return lease

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Takers, "take", noted)
        broker.emit_after("process_boot")
        worker.start()
        try:
            yield taken
        finally:
            worker.stop(timeout=5000)
            broker.close()
            backend.close()


def test_what_somebody_raises_in_a_lingering_thread_ends_its_lingering_and_no_more(
    bus: EventBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[int] = []
    lingering: list[Takers] = []

    @bus.subscriber("Painter", ["SHOT"])
    def paint(event: Event) -> None:
        ran.append(threading.get_ident())

    def noted(takers: Takers, *args: Any) -> Any:
        lingering.append(takers)
        return linger(takers, *args)

    linger = Takers.linger
    monkeypatch.setattr(Takers, "linger", noted)
    with consuming(bus, 4):
        publish(bus, lambda: bool(lingering) and bool(lingering[0]._lingers), "a thread to linger")
        raise_thread_exception(ran[0], Interrupt)
        publish(bus, lambda: len(ran) == 2, "the next, which wakes that thread")
        wait_until(lambda: len(lingering) > 1 and bool(lingering[0]._lingers), 30, "another one to linger")


def test_slow_handlers_of_many_subscribers_are_all_served_though_reads_bring_the_same_ones_first(bus: EventBus) -> None:
    """Of each as much waits as ever: what cannot start soon is handed back, and comes again in the old order."""
    names = ("One", "Two", "Three", "Four", "Five")
    began: list[str] = []
    for name in names:

        @bus.subscriber(name, ["SHOT"])
        def paint(event: Event, name: str = name) -> None:
            began.append(name)
            time.sleep(0.08)

    bus.publish_many_sync([event() for _ in range(8)])
    with consuming(bus, 2):
        wait_until(lambda: len(began) == 8 * len(names), 60, "all to begin")

    assert {*began[:10]} == {*names}, began
