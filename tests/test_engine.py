"""The engine without Dramatiq: when it starts a handler, and for what it waits when it drains."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest

from events.deliveries import Deliveries
from events.event import Event
from events.frame import Lease
from events.joining import Join, Joined
from events.namespace import Declared, Namespace, Remembered
from events.publisher import Publisher
from events.routes import declare
from events.settings import Settings
from events.subscriptions import SubscriberOptions, Subscription
from tests.valkey_servers import ValkeyServer
from tests.waiting import wait_until
from workers import prefetch
from workers.attempt import Attempt
from workers.engine import Engine
from workers.held import Held
from workers.keeper import LeaseKeeper

Handler = Callable[..., object]


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    with ValkeyServer() as server, server.client() as client:
        yield Namespace(client, f"test-{secrets.token_hex(6)}", lambda: Remembered(0, ()), may_restore=True)


def test_a_join_whose_lease_grew_old_while_it_was_fetched_is_not_started(
    namespace: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    options, ran = SubscriberOptions(join=Join(("IMAGE",))), []
    editor = Subscription("Editor", ("SCRIPT",), lambda event, joined: ran.append(event), False, options)
    declare(namespace, Declared("Editor", ("SCRIPT",), options.record()), 100)
    Publisher(namespace, 1 << 20, 100).publish_many([Event(type="SCRIPT", project_id="p", actor="a")])
    loop = asyncio.new_event_loop()
    engine = Engine(namespace, Settings(lease_s=60), {"Editor": editor}, threads=1, declare=lambda: None, loop=loop)
    (lease,) = Deliveries(namespace, engine.consumer, 100).read(["Editor"], 1, None)
    attempt = Attempt(lease, editor)
    fetch = Deliveries.joined

    def slowly(deliveries: Deliveries, lease: Lease) -> Joined:
        lease.renewed_at -= 60  # the process was stopped for a minute
        return fetch(deliveries, lease)

    monkeypatch.setattr(Deliveries, "joined", slowly)
    engine.run(attempt)
    loop.close()

    assert not ran and attempt.cancelled


@contextmanager
def painting(
    namespace: Namespace, handler: Handler, *, is_async: bool, events: int, lease_s: float
) -> Iterator[Engine]:
    """An engine with one thread that runs a subscriber `Painter`, for which some events wait."""
    options = SubscriberOptions()
    painter = Subscription("Painter", ("SHOT",), handler, is_async, options)
    declare(namespace, Declared("Painter", ("SHOT",), options.record()), 100)
    Publisher(namespace, 1 << 20, 100).publish_many(
        [Event(type="SHOT", project_id="p", actor="a", payload={"n": n}) for n in range(events)]
    )
    settings = Settings(lease_s=lease_s)
    engine = Engine(namespace, settings, {"Painter": painter}, threads=1, declare=lambda: None)
    engine.open()
    engine.receiver.attend("Painter")
    try:
        yield engine
    finally:
        if not engine.draining:
            engine.drain(0)
        engine.close()


def pending(namespace: Namespace) -> int:
    return int(namespace.client.xpending(namespace.keys("queue", "Painter"), "fleet")["pending"])


def test_a_drain_hands_back_at_once_what_waits_for_a_busy_loop_and_starts_none_of_it(namespace: Namespace) -> None:
    ran: list[int] = []
    release = threading.Event()

    async def block(event: Event) -> None:
        ran.append(event.payload["n"])
        release.wait(60)

    with painting(namespace, block, is_async=True, events=10, lease_s=60) as engine:
        attempts = [wait_until(lambda: engine.take("Painter", 1), 20, "a delivery") for _ in range(10)]
        for attempt in attempts:
            engine.run(attempt)
        wait_until(lambda: ran, 20, "the first to start")
        draining = threading.Thread(target=engine.drain, args=(60,))
        draining.start()
        try:
            wait_until(lambda: pending(namespace) == 1, 20, "nine to be handed back while the loop is busy")
        finally:
            release.set()
        draining.join(30)

        assert not draining.is_alive()
        assert ran == [attempts[0].lease.event.payload["n"]]
        assert namespace.client.xlen(namespace.keys("queue", "Painter")) == 9 and pending(namespace) == 0


def test_a_drain_does_not_wait_for_a_handler_whose_delivery_is_another_workers(namespace: Namespace) -> None:
    release = threading.Event()

    def wait(event: Event) -> None:
        release.wait(120)

    def run() -> None:
        with contextlib.suppress(BaseException):
            engine.run(attempt)
        engine.finish(attempt)

    with painting(namespace, wait, is_async=False, events=1, lease_s=3) as engine:
        attempt = wait_until(lambda: engine.take("Painter", 1), 20, "a delivery")
        running = threading.Thread(target=run)
        running.start()
        try:
            wait_until(lambda: attempt.started_at, 20, "the handler to start")
            namespace.client.xclaim(namespace.keys("queue", "Painter"), "fleet", "other", 0, [attempt.lease.entry_id])
            wait_until(lambda: attempt.abandoned, 20, "it to be seen that another worker has it")
            was_hanging = engine.hangs
            draining = threading.Thread(target=engine.drain, args=(600,))
            draining.start()
            draining.join(30)

            assert not draining.is_alive()
            assert was_hanging == "", "it was only just interrupted"
            wait_until(lambda: engine.hangs == "Every thread", 20, "it to have ignored that for long")
        finally:
            release.set()
            running.join(30)


def test_leases_are_renewed_though_letting_go_of_what_hangs_fails(namespace: Namespace) -> None:
    renewed = threading.Event()

    class Renewing(Deliveries):
        def renew(self, leases: Sequence[Lease]) -> list[Lease]:
            renewed.set()
            return super().renew(leases)

    def fail() -> None:
        raise ValueError("what nobody thought of")

    declare(namespace, Declared("Painter", ("SHOT",), SubscriberOptions().record()), 100)
    Publisher(namespace, 1 << 20, 100).publish_many([Event(type="SHOT", project_id="p", actor="a")])
    deliveries, held = Renewing(namespace, "w", 100), Held()
    held.add(deliveries.read(["Painter"], 1, None)[0])
    keeper = LeaseKeeper(deliveries, held, 0.3, lambda lease: None, fail)

    keeper.start()
    try:
        assert renewed.wait(20)
    finally:
        keeper.stop()


def test_a_drain_hands_back_what_was_read_though_another_read_is_under_way(
    namespace: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    under_way, release = threading.Event(), threading.Event()
    read = Deliveries.read

    def slowly(deliveries: Deliveries, subscribers: Sequence[str], count: int, block_ms: int | None) -> list[Lease]:
        if pending(namespace) == 3:
            under_way.set()
            release.wait(60)
            return []
        return read(deliveries, subscribers, count, block_ms)

    async def ignore(event: Event) -> None:
        pass

    monkeypatch.setattr(Deliveries, "read", slowly)
    monkeypatch.setattr(prefetch, "MAX_BLOCK_MS", 60_000)  # a drain waits that long for it
    with painting(namespace, ignore, is_async=True, events=3, lease_s=60) as engine:
        assert under_way.wait(20)
        draining = threading.Thread(target=engine.drain, args=(60,))
        draining.start()
        try:
            wait_until(lambda: pending(namespace) == 0, 30, "all to be handed back")
        finally:
            release.set()
            draining.join(30)
