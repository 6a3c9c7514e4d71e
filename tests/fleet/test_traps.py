"""What broke in other systems and has no better place among the tests; docs/testing.md lists all of it.

Each of these fails on the naive version of what it looks at.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dramatiq
import pytest
import redis

from events.bus import EventBus
from events.errors import EventBusError, InvalidSettings
from events.event import Event
from events.keys import GROUP
from events.settings import Settings
from events.subscriptions import SubscriberOptions, Subscription
from tests.fault_proxy import FaultProxy
from tests.fleet.conftest import make_world
from tests.fleet.fleet import World, children
from tests.fleet.test_delivery import make, publish
from tests.fleet.test_leases import APP, caused, nothing_is_left, say_go, start_worker, workers_of
from tests.valkey_servers import ValkeyServer
from tests.waiting import wait_until
from workers.broker import StreamsBroker
from workers.prefetch import MAX_BLOCK_MS


@pytest.fixture
def proxy(world: World) -> Iterator[FaultProxy]:
    """What stands between the world's Redis and a worker that is started with its URL."""
    with FaultProxy("127.0.0.1", world.redis.connection_pool.connection_kwargs["port"]) as proxy:
        yield proxy


def whole_log(world: World) -> str:
    return (world.tmp_path / "worker.log").read_text()


def held_by(client: redis.Redis, key: bytes) -> bytes:
    """All that a key holds, scores left out, as one text."""
    read: dict[bytes, Callable[[], Any]] = {
        b"string": lambda: client.get(key),
        b"hash": lambda: client.hgetall(key),
        b"list": lambda: client.lrange(key, 0, -1),
        b"set": lambda: client.smembers(key),
        b"zset": lambda: client.zrange(key, 0, -1),
        b"stream": lambda: client.xrange(key),
    }
    return repr((key, read[client.type(key)]())).encode()


# the connection


def test_an_idle_worker_asks_little_of_redis_and_outwaits_its_reads(
    world: World, proxy: FaultProxy, measured: Callable[[str], None]
) -> None:
    start_worker(world, REDIS_URL=proxy.url, EVENTBUS_LEASE_S="60", EVENTBUS_TIMEOUT_S="2")
    wait_until(lambda: "Ready" in world.log(), 20, "it to be ready")
    before, since = proxy.requests, time.monotonic()

    wait_until(lambda: proxy.requests >= before + 20, 60, "twenty commands")
    rate = (proxy.requests - before) / (time.monotonic() - since)

    measured(f"an idle process with 6 subscribers: {rate:.1f} commands/s, {proxy.connections} connections")
    assert rate < 20 and proxy.connections <= 6, "not a command and a connection for each subscriber"
    assert "waits for Redis" not in whole_log(world), "no read was given up before it was answered"


def test_no_timeout_may_be_shorter_than_a_read_of_idle_queues_takes() -> None:
    with pytest.raises(InvalidSettings, match=r"EVENTBUS_TIMEOUT_S must be .* at least 2, not 1\.9"):
        Settings(timeout_s=1.9)

    assert MAX_BLOCK_MS <= 1000


@pytest.mark.parametrize("protocol", [2, 3])
def test_a_worker_reads_replies_of_either_protocol(world: World, protocol: int) -> None:
    _, name = start_worker(world, REDIS_URL=f"{world.settings.redis_url}?protocol={protocol}")
    events = [make("GATED", n=n) for n in range(3)]
    for event in events:
        say_go(world, event)

    publish(world, *events)
    world.until_settled("Gated")

    assert workers_of(world, "Gated") == [("done", name)] * 3


def test_a_retry_is_not_lost_when_redis_is_away_while_it_is_written(world: World, proxy: FaultProxy) -> None:
    start_worker(world, REDIS_URL=proxy.url)
    event = make("GATED", fails=True)
    publish(world, event)
    wait_until(lambda: world.runs("Gated"), 20, "it to start")

    proxy.refuse(True)
    proxy.cut()
    say_go(world, event)
    wait_until(lambda: "Settling waits for Redis" in whole_log(world), 20, f"the failure to wait; {world.log()}")
    proxy.refuse(False)
    wait_until(lambda: caused(world, event), 30, f"the second attempt; {world.log()}")
    world.until_settled("Gated")

    assert [state for state, _ in workers_of(world, "Gated")] == ["retried", "done"]
    assert world.runs("Gated")[event.event_id] == 2


def test_a_group_that_vanished_alone_is_made_again_and_its_queue_read(world: World) -> None:
    start_worker(world)
    first, second = make("GATED", n=1), make("GATED", n=2)
    for event in (first, second):
        say_go(world, event)
    publish(world, first)
    world.until_settled("Gated")

    world.redis.xgroup_destroy(world.keys("queue", "Gated"), GROUP)
    publish(world, second)
    wait_until(lambda: caused(world, second), 20, f"the second to be handled; {world.log()}")

    world.until_settled("Gated")
    assert nothing_is_left(world, "Gated")


def test_a_worker_says_when_its_server_would_delete_what_it_keeps(tmp_path: Path) -> None:
    for policy, is_named in (("allkeys-lru", True), ("noeviction", False)):
        with ValkeyServer(options={"maxmemory-policy": policy}) as server:
            (tmp_path / policy).mkdir()
            own = make_world(server.url, tmp_path / policy)
            try:
                own.start_fleet(1, app=APP)
                wait_until(lambda own=own: "Ready" in own.log(), 20, "it to be ready")
            finally:
                own.close()
            assert (f"maxmemory-policy is {policy}: when it is full it deletes" in whole_log(own)) is is_named


def test_a_fleet_works_on_the_oldest_server_that_is_promised(tmp_path: Path, debian_redis: ValkeyServer) -> None:
    own = make_world(debian_redis.url, tmp_path)
    try:
        fleet = own.start_fleet(2)
        failing = [make("WORK", n=n, fail=1, only="Plain") for n in range(20)]
        ordered = [make("ORDERED_WORK", n=n, sleep=0.01) for n in range(20)]
        slow = [make("ASYNC_WORK", n=n, sleep=1.5, emit=1) for n in range(20)]
        publish(own, *failing, *ordered, *slow)
        wait_until(lambda: len(own.runs("Async", of=slow)) == 20, 20, f"all to start; {own.log()}")
        os.kill(children(fleet.pid)[0], signal.SIGKILL)
        own.until_settled("Async", "Plain", "Generator", "Ordered")

        assert debian_redis.client().info("server")["redis_version"].startswith("7.0.")
        assert own.runs("Plain", "finished", of=failing).keys() == {event.event_id for event in failing}
        assert [len(caused(own, event)) for event in slow] == [1] * 20
        finished = list(dict.fromkeys(line.split()[0] for line in own.order("Ordered", "finished")))
        assert finished == [event.event_id for event in ordered]
        assert not own.dead("Async") + own.dead("Plain") + own.dead("Ordered")
    finally:
        own.close()


# scripts


def test_a_handler_may_return_a_thousand_events_which_is_more_arguments_than_lua_unpacks(world: World) -> None:
    world.start_fleet(1)
    event = make("ASYNC_WORK", emit=1000)

    publish(world, event)
    world.until_settled("Async", timeout=60)

    assert [recorded.payload["n"] for recorded in caused(world, event)] == list(range(1000))
    assert not world.dead("Async")


def test_no_position_is_written_as_a_rounded_number(world: World) -> None:
    fleet = world.start_fleet(1)
    publish(world, make("PLAIN_WORK", fail=99), make("PLAIN_WORK", retry_after=3600), make("PLAIN_WORK", emit=3))
    wait_until(lambda: world.dead("Plain") and world.waiting("Plain") == 1, 30, f"one dead, one delayed; {world.log()}")
    publish(world, make("ASYNC_WORK", sleep=1.5))
    wait_until(lambda: world.runs("Async"), 20, "it to start")
    os.kill(children(fleet.pid)[0], signal.SIGKILL)
    world.until_settled("Async")

    keys = list(world.redis.scan_iter(match=f"{world.keys.prefix}*", count=1000))
    everything = {key: held_by(world.redis, key) for key in keys}

    assert {world.keys(name).encode() for name in ("clock", "history", "outcomes")} <= everything.keys()
    assert {world.keys(name, "Plain").encode() for name in ("delayed", "dead", "sub")} <= everything.keys()
    assert [text for text in everything.values() if re.search(rb"\d\.\d+e\+\d\d", text)] == []
    assert {state for state, _ in workers_of(world, "Async")} == {"lost", "done"}


# Dramatiq


def subscription(handler: Any) -> Subscription:
    return Subscription("Agent", ("WORK",), handler, False, SubscriberOptions())


def no_engine(threads: int) -> Any:
    raise AssertionError("nothing boots here")


def test_none_of_dramatiqs_own_retries_limits_and_results_are_installed() -> None:
    broker = StreamsBroker([subscription(print)], no_engine, grace_s=1)

    assert [type(middleware).__name__ for middleware in broker.middleware] == ["Lifecycle", "CurrentMessage"]
    assert broker.actors["Agent.WORK"].options == {}


def test_a_message_that_is_no_delivery_is_refused_where_it_is_sent() -> None:
    broker = StreamsBroker([subscription(print)], no_engine, grace_s=1)
    message: dramatiq.Message[Any] = dramatiq.Message("Nobody", "unknown.actor", (), {}, {})

    with pytest.raises(EventBusError, match=r"'unknown.actor' cannot be sent messages: publish an event"):
        broker.enqueue(message)


def test_dramatiq_never_complains_about_a_value_that_a_handler_returned(world: World) -> None:
    world.start_fleet(1)
    events = [make("WORK", n=n, emit=2) for n in range(5)]

    publish(world, *events)
    world.until_settled("Async", "Plain", "Generator")

    assert len([event for event in events if len(caused(world, event)) == 6]) == 5
    assert "returned a value" not in whole_log(world) and "Results" not in whole_log(world)


def test_a_thousand_async_handlers_wait_at_once_on_two_threads(world: World, measured: Callable[[str], None]) -> None:
    process, _ = start_worker(world, EVENTBUS_THREADS="2", EVENTBUS_CONCURRENCY="1000")
    events = [make("CROWD", n=n, of=1000) for n in range(1000)]

    publish(world, *events)
    world.until_settled("Crowd", timeout=60)

    states = [state for state, _ in workers_of(world, "Crowd")]
    assert states == ["done"] * 1000
    status = Path(f"/proc/{process.pid}/status").read_text()
    threads = int(re.search(r"Threads:\s+(\d+)", status)[1])  # type: ignore[index]
    measured(f"1,000 handlers waited at once in a process of {threads} threads")
    assert threads < 30


def test_a_bus_that_starts_again_gives_its_stopped_worker_nothing(world: World) -> None:
    handled: list[str] = []
    bus = EventBus(world.settings)

    @bus.subscriber("Agent", ["WORK_AGAIN"])
    def handle(event: Event) -> None:
        handled.append(event.event_id)

    async def scenario() -> None:
        for count in (40, 80, 120):
            await bus.start_consuming(archive=False)
            await bus.publish_many([make("WORK_AGAIN", n=n) for n in range(40)])
            await asyncio.to_thread(wait_until, lambda n=count: len(handled) == n, 20, "all forty")
            await bus.stop_consuming()
        await bus.disconnect()

    asyncio.run(scenario())

    assert len(set(handled)) == 120
    assert [state for state, _ in workers_of(world, "Agent")] == ["done"] * 120
