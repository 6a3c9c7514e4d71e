"""Whoever ends a delivery goes on with the next: few change threads, and none waits for one that hangs."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

import dramatiq
import pytest
from dramatiq.middleware import CurrentMessage

from events.context import handling
from events.event import Event
from events.namespace import Declared, Namespace, Remembered
from events.publisher import Publisher
from events.routes import declare
from events.settings import Settings
from events.subscriptions import SubscriberOptions, Subscription
from tests.valkey_servers import ValkeyServer
from tests.waiting import wait_until
from workers.attempt import Attempt
from workers.broker import StreamsBroker
from workers.busy import long_running
from workers.engine import Engine
from workers.going_on import go_on
from workers.messages import message_of
from workers.quick import QUICK_S, SLOW_S, Quick

EVENTS = 2000


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    with ValkeyServer() as server, server.client() as client:
        yield Namespace(client, f"test-{secrets.token_hex(6)}", lambda: Remembered(0, ()), may_restore=True)


class House:
    """An engine, and threads that take deliveries from it as Dramatiq's do."""

    def __init__(self, namespace: Namespace, subscription: Subscription, threads: int) -> None:
        self.namespace = namespace
        name = subscription.name
        self.engine = Engine(namespace, Settings(), {name: subscription}, threads=threads, declare=lambda: None)
        self.engine.receiver.quick.is_on = True
        self.handed = 0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(name,)) for _ in range(threads)]
        self.engine.open()
        self.engine.receiver.attend(name)

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def _run(self, name: str) -> None:
        while not self._stop.is_set():
            attempt = self.engine.take(name, 0.2)
            if attempt is None:
                continue
            with self._lock:
                self.handed += 1
            CurrentMessage().before_process_message(None, message_of(attempt))  # type: ignore[arg-type]
            try:
                self.engine.run(attempt)
            except BaseException as error:
                attempt.error = error
            if not attempt.deferred:
                go_on(self.engine, attempt)

    def close(self) -> None:
        if not self.engine.draining:
            self.engine.drain(5)
        self._stop.set()
        for thread in self._threads:
            if thread.ident:
                thread.join(30)
        self.engine.close()

    def left(self) -> int:
        """How many deliveries are anywhere."""
        client, keys = self.namespace.client, self.namespace.keys
        lanes = sum(client.llen(key) for key in client.scan_iter(f"{keys.prefix}lane:*"))
        return int(client.xlen(keys("queue", "Painter"))) + lanes


@contextmanager
def painting(
    namespace: Namespace, handler: Callable[[Event], object], *, threads: int = 4, **options: Any
) -> Iterator[House]:
    """A house whose painter has `EVENTS` events before it, of a few projects."""
    painter = Subscription(
        "Painter", ("SHOT",), handler, asyncio.iscoroutinefunction(handler), SubscriberOptions(**options)
    )
    declare(namespace, Declared("Painter", ("SHOT",), painter.options.record()), 100)
    events = [Event(type="SHOT", project_id=f"p{n % 7}", actor="a", payload={"n": n}) for n in range(EVENTS)]
    Publisher(namespace, 1 << 20, 100).publish_many(events)
    house = House(namespace, painter, threads)
    try:
        yield house
    finally:
        house.close()


def counting(is_async: bool) -> tuple[Counter[object], Callable[[Event], object]]:
    """A quick handler, and how often it ran for each number."""
    ran: Counter[object] = Counter()

    def plain(event: Event) -> None:
        ran[event.payload["n"]] += 1

    async def awaiting(event: Event) -> None:
        plain(event)

    return ran, awaiting if is_async else plain


@pytest.mark.parametrize("is_async", [False, True])
def test_quick_handlers_are_gone_through_without_being_handed_over_one_by_one(
    namespace: Namespace, is_async: bool
) -> None:
    ran, handler = counting(is_async)

    with painting(namespace, handler) as house:
        house.start()
        wait_until(lambda: len(ran) == EVENTS and house.left() == 0, 60, "everything to be handled and settled")

    assert set(ran.values()) == {1}
    assert house.handed < EVENTS / 2


@pytest.mark.parametrize("is_async", [False, True])
def test_the_others_go_on_while_one_of_many_quick_handlers_hangs(namespace: Namespace, is_async: bool) -> None:
    ran: Counter[object] = Counter()
    hangs, release = threading.Event(), threading.Event()

    def plain(event: Event) -> None:
        ran[event.payload["n"]] += 1
        if event.payload["n"] == EVENTS // 2:
            hangs.set()
            release.wait(90)

    async def awaiting(event: Event) -> None:
        ran[event.payload["n"]] += 1
        if event.payload["n"] == EVENTS // 2:
            hangs.set()
            while not release.is_set():
                await asyncio.sleep(0.01)

    with painting(namespace, awaiting if is_async else plain, threads=2) as house:
        house.start()
        try:
            assert hangs.wait(60)
            wait_until(lambda: len(ran) == EVENTS, 60, "the others to be handled meanwhile")
            wait_until(lambda: house.left() == 1, 30, "them to be settled")
        finally:
            release.set()
        wait_until(lambda: house.left() == 0, 30, "the last to be settled")

    assert set(ran.values()) == {1}


@pytest.mark.parametrize("is_async", [False, True])
def test_a_drain_in_the_middle_settles_what_ran_and_hands_back_the_rest(namespace: Namespace, is_async: bool) -> None:
    ran, handler = counting(is_async)

    with painting(namespace, handler) as house:
        house.start()
        wait_until(lambda: len(ran) > 100, 60, "the first hundred")
        house.engine.drain(20)
        pending = namespace.client.xpending(namespace.keys("queue", "Painter"), "fleet")["pending"]

        assert set(ran.values()) == {1}
        assert pending == 0 and house.left() == EVENTS - len(ran)


def test_a_handler_that_fails_fails_alone(namespace: Namespace) -> None:
    ran: Counter[object] = Counter()

    def plain(event: Event) -> None:
        ran[event.payload["n"]] += 1
        if event.payload["n"] % 10 == 3:
            raise ValueError("no brush")

    with painting(namespace, plain) as house:
        house.start()
        wait_until(lambda: len(ran) == EVENTS and house.left() == 0, 60, "everything to be handled")
        retried = namespace.client.zcard(namespace.keys("delayed", "Painter"))

    assert set(ran.values()) == {1} and retried == EVENTS / 10


def test_after_a_plain_handler_that_returned_an_awaitable_nobody_runs_plain_handlers_on_the_loop(
    namespace: Namespace,
) -> None:
    ran: Counter[object] = Counter()
    threads: set[int] = set()
    loops: set[int] = set()

    async def later() -> None:
        loops.add(threading.get_ident())

    def plain(event: Event) -> object:
        ran[event.payload["n"]] += 1
        threads.add(threading.get_ident())
        return later() if event.payload["n"] % 5 == 0 else None

    with painting(namespace, plain) as house:
        house.start()
        wait_until(lambda: len(ran) == EVENTS and house.left() == 0, 60, "everything to be handled and settled")

    assert set(ran.values()) == {1}
    assert len(loops) == 1 and not threads & loops


@pytest.mark.parametrize("is_async", [False, True])
def test_each_handler_sees_its_own_message_and_an_async_one_no_variable_of_another(
    namespace: Namespace, is_async: bool
) -> None:
    ran: Counter[object] = Counter()
    mistaken: list[object] = []
    seen: set[object] = set()
    variable: contextvars.ContextVar[object] = contextvars.ContextVar("variable", default=None)

    def plain(event: Event) -> None:
        ran[event.payload["n"]] += 1
        message, shown = CurrentMessage.get_current_message(), handling.get()
        if shown is None or message is None or message.message_id != shown.delivery:
            mistaken.append(message)

    async def awaiting(event: Event) -> None:
        seen.add(variable.get())
        variable.set(event.payload["n"])
        plain(event)

    with painting(namespace, awaiting if is_async else plain) as house:
        house.start()
        wait_until(lambda: len(ran) == EVENTS and house.left() == 0, 60, "everything to be handled and settled")

    assert not mistaken
    assert seen <= {None}
    assert house.handed < EVENTS / 2, "nobody went on"


def test_async_handlers_that_never_wait_share_tasks_and_whoever_waits_keeps_its_own(namespace: Namespace) -> None:
    tasks: list[asyncio.Task[object] | None] = []
    owned: set[asyncio.Task[object] | None] = set()
    mistaken: list[object] = []

    async def awaiting(event: Event) -> None:
        task = asyncio.current_task()
        tasks.append(task)
        if task in owned:
            mistaken.append(event.payload["n"])
        if event.payload["n"] % 50 == 25:
            await asyncio.sleep(0)
            owned.add(task)
        if event.payload["n"] % 50 == 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.01):
                    await asyncio.sleep(60)
                mistaken.append("nobody interrupted it")
            if asyncio.current_task() is not task:
                mistaken.append("it goes on in another task")
            owned.add(task)

    with painting(namespace, awaiting) as house:
        house.start()
        wait_until(lambda: len(tasks) == EVENTS and house.left() == 0, 60, "everything to be handled and settled")

    assert mistaken == []
    assert len(owned) == EVENTS / 25
    assert len(set(tasks)) < EVENTS, "nobody shared a task"  # how many do is how fast the machine is: `SHARED_S`


def cancelled(task: asyncio.Task[object]) -> None:
    task.cancel()


def cancelled_and_not(task: asyncio.Task[object]) -> None:
    task.cancel()
    task.uncancel()


def renamed(task: asyncio.Task[object]) -> None:
    task.set_name("Painter's")


def called_back(task: asyncio.Task[object]) -> None:
    task.add_done_callback(lambda task: None)


@pytest.mark.parametrize("mark", [cancelled, cancelled_and_not, renamed, called_back])
def test_what_an_async_handler_leaves_on_its_task_is_no_concern_of_the_next(
    namespace: Namespace, mark: Callable[[asyncio.Task[object]], None]
) -> None:
    ran: Counter[object] = Counter()
    tasks: list[asyncio.Task[object]] = []
    mistaken: list[object] = []

    async def awaiting(event: Event) -> None:
        task = asyncio.current_task()
        assert task is not None
        ran[event.payload["n"]] += 1
        if task in tasks:
            mistaken.append(event.payload["n"])
        if event.payload["n"] % 10 == 3:
            tasks.append(task)
            mark(task)
        elif event.payload["n"] % 10 == 4:
            await asyncio.sleep(0)

    with painting(namespace, awaiting) as house:
        house.start()
        wait_until(lambda: len(ran) == EVENTS and house.left() == 0, 60, "everything to be handled and settled")

    assert mistaken == [] and set(ran.values()) == {1}, "one that was cancelled for another would be tried again"
    assert namespace.client.zcard(namespace.keys("delayed", "Painter")) == 0


def test_one_that_shares_a_task_is_ended_by_its_own_limit(namespace: Namespace) -> None:
    ran: Counter[object] = Counter()
    first: dict[object, object] = {}
    ended: list[str] = []

    async def awaiting(event: Event) -> None:
        task, n = asyncio.current_task(), event.payload["n"]
        shares = first.setdefault(task, n) != n
        ran[n] += 1
        if shares and not ended:
            ended.append("waits")
            try:
                await asyncio.sleep(600)
            except asyncio.CancelledError:
                ended.append("interrupted")
                raise

    with painting(namespace, awaiting, time_limit=1.0) as house:
        house.start()
        wait_until(lambda: ended.count("interrupted") == 1, 60, "the first that waits to be ended by its limit")
        wait_until(lambda: namespace.client.zcard(namespace.keys("delayed", "Painter")) == 1, 30, "it to be retried")
        wait_until(lambda: len(ran) == EVENTS, 60, "the others to be handled")

    assert ended[0] == "waits" and set(ran.values()) == {1}


def test_the_loop_goes_round_while_thousands_of_quick_handlers_run(namespace: Namespace) -> None:
    ran: Counter[object] = Counter()
    turns: list[int] = []

    async def ticking() -> None:
        while len(ran) < EVENTS:
            turns.append(len(ran))
            await asyncio.sleep(0)

    async def awaiting(event: Event) -> None:
        ran[event.payload["n"]] += 1
        until = time.monotonic() + 0.0002
        while time.monotonic() < until:
            pass

    with painting(namespace, awaiting) as house:
        ticks = asyncio.run_coroutine_threadsafe(ticking(), house.engine.loop)
        house.start()
        wait_until(lambda: len(ran) == EVENTS and house.left() == 0, 60, "everything to be handled and settled")
        ticks.result(30)

    assert max(after - before for before, after in pairwise([*turns, EVENTS])) < 50, (
        "of 32 tasks at most one each, and 2 ms of handlers of 0.2 ms"
    )


@pytest.mark.parametrize(("is_async", "threads", "is_alone"), [(False, 2, True), (False, 1, False), (True, 2, False)])
def test_whoever_settles_alone_is_no_loop_and_not_the_only_thread(
    namespace: Namespace, monkeypatch: pytest.MonkeyPatch, is_async: bool, threads: int, is_alone: bool
) -> None:
    monkeypatch.setattr("tests.test_going_on.EVENTS", 1)
    _, handler = counting(is_async)

    with painting(namespace, handler, threads=threads) as house:
        attempt = house.engine.take("Painter", 20)
        assert attempt is not None

        assert house.engine._is_alone(attempt) == is_alone
        house.engine.finish(attempt)


def test_of_usually_slow_handlers_all_that_run_are_told_and_of_quick_ones_those_that_hang() -> None:
    def attempt(name: str, ran_s: float | None) -> Attempt:
        started_at = 0.0 if ran_s is None else time.monotonic() - ran_s
        return cast("Attempt", SimpleNamespace(lease=SimpleNamespace(subscriber=name), started_at=started_at))

    attempts = [attempt(name, ran_s) for name in ("Slow", "Quick", "New") for ran_s in (0.0, 1.0, None)]
    quick = Quick()
    quick.ended("Slow", 0.05)
    quick.ended("Quick", 0.0001)

    assert long_running(attempts, quick.usual_s) == {"Slow": 2, "Quick": 1, "New": 1}


def test_what_a_task_factory_wraps_around_a_handler_is_seen_by_it(namespace: Namespace) -> None:
    ran: Counter[object] = Counter()
    seen: set[object] = set()
    scope: contextvars.ContextVar[object] = contextvars.ContextVar("scope", default=None)

    async def awaiting(event: Event) -> None:
        ran[event.payload["n"]] += 1
        seen.add(scope.get())

    def wrapping(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        async def wrapped() -> Any:
            scope.set("the factory's")
            return await coroutine

        return asyncio.Task(wrapped(), loop=loop, **options)

    with painting(namespace, awaiting) as house:
        house.engine.loop.call_soon_threadsafe(house.engine.loop.set_task_factory, wrapping)
        house.start()
        wait_until(lambda: len(ran) == EVENTS and house.left() == 0, 60, "everything to be handled and settled")

    assert seen == {"the factory's"} and set(ran.values()) == {1}


def test_a_single_slow_one_does_not_make_a_handler_slow_and_several_do() -> None:
    quick = Quick()
    quick.ended("S", 0.00005)

    assert not quick.is_enough("S", 0.0), "nobody goes on"
    quick.is_on = True
    assert quick.is_enough("S", 0.0) and not quick.is_enough("S", None) and not quick.is_enough("S", SLOW_S)
    assert not quick.is_enough("Unknown", 0.0)
    quick.ended("S", 5.0)
    quick.ended("S", 0.0)
    assert quick.is_enough("S", 0.0)
    for _ in range(20):
        quick.ended("S", 10 * QUICK_S)
    assert not quick.is_enough("S", 0.0)


def test_where_an_application_has_middleware_of_its_own_each_delivery_is_a_message() -> None:
    broker = StreamsBroker([], lambda threads: None, grace_s=1)  # type: ignore[arg-type,return-value]
    assert broker.may_go_on

    broker.add_middleware(dramatiq.middleware.Middleware())

    assert not broker.may_go_on
    with contextlib.suppress(Exception):
        broker.close()
