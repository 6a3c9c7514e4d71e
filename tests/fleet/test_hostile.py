"""Handlers that misbehave: a worker survives each of them, and goes on with everything else."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import pytest

from events.bus import EventBus
from events.event import Event
from tests.fleet.conftest import make_world
from tests.fleet.fleet import SUPERVISE, World, children
from tests.fleet.test_delivery import make, publish
from tests.valkey_servers import ValkeyServer
from tests.waiting import wait_until

SUPERVISED = [sys.executable, "-c", SUPERVISE]


@pytest.mark.parametrize("kind", ["ASYNC_WORK", "PLAIN_WORK", "GENERATOR_WORK"])
@pytest.mark.parametrize("how", ["surrogate", "exit"])
def test_no_exception_of_a_handler_stops_a_worker(fleet: World, kind: str, how: str) -> None:
    name = kind.split("_")[0].capitalize()
    bad, good = make(kind, **{"raise": how}), [make(kind, n=n) for n in range(5)]

    publish(fleet, bad, *good)
    letter = wait_until(lambda: fleet.dead(name, bad), 30, f"the bad one to be given up; {fleet.log()}")[0]
    fleet.until_settled(name)

    assert letter["a"] == "5"
    assert letter["r"].startswith(("ValueError: cannot read caf\\udce9.txt", "SystemExit: 3"))
    assert fleet.runs(name, of=good) == {event.event_id: 1 for event in good}


def test_a_lazily_returned_result_is_read_where_the_handler_runs(fleet: World) -> None:
    good, bad = make("PLAIN_WORK", lazy="good"), make("PLAIN_WORK", lazy="exit")

    [receipt, _] = publish(fleet, good, bad)
    letter = wait_until(lambda: fleet.dead("Plain", bad), 30, f"the bad one to be given up; {fleet.log()}")[0]

    assert letter["r"] == "SystemExit: 4"
    caused = [r for r in fleet.backend.history.after(receipt.position, 100).events if r.causation_id == good.event_id]
    assert [recorded.payload["n"] for recorded in caused] == [0, 1, 2]


def test_a_skipped_message_is_discarded_and_not_done(fleet: World) -> None:
    [receipt] = publish(fleet, make("PLAIN_WORK", **{"raise": "skip"}))
    fleet.until_settled("Plain")

    assert [state for _, _, state, _ in fleet.outcomes("Plain", receipt.position)] == ["discarded"]


def test_each_way_to_fail_leaves_one_line_that_says_what_follows(fleet: World) -> None:
    wrong, discarded = make("ASYNC_WORK", returns="a string"), make("ASYNC_WORK", discard="not wanted")

    positions = [receipt.position for receipt in publish(fleet, wrong, discarded)]
    wait_until(lambda: fleet.dead("Async", wrong), 20, "the dead letter")
    fleet.until_settled("Async")

    log = (fleet.tmp_path / "worker.log").read_text()
    lines = [line for line in log.splitlines() if f"<delivery {positions[0]}:" in line]
    assert [" failed, and is tried again in " in line for line in lines] == [True] * 4 + [False]
    assert "becomes a dead letter: NotAnEvent" in lines[-1]
    assert next(line for line in log.splitlines() if f"<delivery {positions[1]}:" in line).endswith(
        "discarded: not wanted"
    )


def test_a_handler_that_returns_too_many_events_is_dead_at_once_and_its_output_is_kept(fleet: World) -> None:
    event = make("ASYNC_WORK", emit=1001)

    publish(fleet, event)
    letter = wait_until(lambda: fleet.dead("Async", event), 20, "the dead letter")[0]

    assert "1001" in letter["r"] and letter["a"] == "1"
    assert letter["o"].count('"event_id"') == 1001


def test_a_handler_that_runs_three_leases_long_runs_once(fleet: World) -> None:
    slow = [make("ASYNC_WORK", sleep=6), make("PLAIN_WORK", sleep=6)]

    receipts = publish(fleet, *slow)
    fleet.until_settled("Async", "Plain")

    assert fleet.runs("Async", of=slow).total() == fleet.runs("Plain", of=slow).total() == 1
    for name, receipt in zip(("Async", "Plain"), receipts, strict=True):
        assert [state for _, _, state, _ in fleet.outcomes(name, receipt.position)] == ["done"]


def test_a_handler_that_hangs_where_nothing_can_interrupt_it_is_given_up_and_runs_elsewhere(world: World) -> None:
    world.start_fleet(2)
    hung = make("LIMITED_WORK", hang=60)

    publish(world, hung)
    world.until_settled("Limited")

    assert [state for _, _, state, _ in world.outcomes("Limited")] == ["lost", "done"]
    assert "hangs beyond its limit" in world.log()


def test_a_process_whose_every_thread_hangs_is_replaced(world: World) -> None:
    fleet = world.start_fleet(1, EVENTBUS_THREADS="2")
    pids = children(fleet.pid)

    publish(world, make("LIMITED_WORK", hang=300), make("LIMITED_WORK", hang=300), make("LIMITED_WORK"))
    wait_until(lambda: children(fleet.pid) and children(fleet.pid) != pids, 30, f"a new process; {world.log()}")
    world.until_settled("Limited")

    assert "Every thread is held by a handler that hangs" in world.log()


def test_many_deliveries_of_a_killed_worker_are_taken_over_at_once_and_not_one_by_one(world: World) -> None:
    fleet = world.start_fleet(1)
    events = [make("ASYNC_WORK", sleep=3) for _ in range(60)]
    publish(world, *events)
    wait_until(lambda: len(world.runs("Async")) == 60, 20, "all to start")

    os.kill(children(fleet.pid)[0], signal.SIGKILL)
    wait_until(lambda: len(world.runs("Async", "finished")) == 60, 30, f"all to finish; {world.log()}")
    world.until_settled("Async")

    assert set(world.runs("Async").values()) == {2}


def test_a_worker_boots_on_a_server_that_is_full_and_helps_to_empty_it(world: World) -> None:
    with ValkeyServer() as server:
        (world.tmp_path / "full").mkdir()
        own = make_world(server.url, world.tmp_path / "full")
        own.environment["BOOK_URL"] = world.settings.redis_url or ""
        try:
            first = own.start_fleet(1)
            first.terminate()
            first.wait(20)
            events = [make("PLAIN_WORK", n=n) for n in range(50)]
            publish(own, *events)
            own.redis.config_set("maxmemory", 1)
            fleet = own.run([*SUPERVISED, "1", "5", "--app", "tests.fleet.app:bus"])
            wait_until(lambda: not own.redis.xlen(own.keys("queue", "Plain")), 30, f"the queue to empty; {own.log()}")
            assert fleet.poll() is None
        finally:
            own.close()


def test_a_cancelled_start_leaves_nothing_running(world: World) -> None:
    handled: list[str] = []

    async def scenario() -> None:
        bus = EventBus(world.settings)

        @bus.subscriber("Cancelled", ["CANCELLED_WORK"])
        async def handle(event: Event) -> None:
            handled.append(event.event_id)

        starting = asyncio.create_task(bus.start_consuming())
        await asyncio.sleep(0)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        await bus.stop_consuming()
        await bus.publish(make("CANCELLED_WORK"))
        await bus.disconnect()

    asyncio.run(scenario())

    assert not handled
    assert world.waiting("Cancelled") == 1
    assert world.redis.xpending(world.keys("queue", "Cancelled"), "fleet")["pending"] == 0


def test_a_worker_that_was_stopped_for_long_starts_nothing_that_others_have_done_since(world: World) -> None:
    fleet = world.start_fleet(1, EVENTBUS_CONCURRENCY="2")
    events = [make("ORDERED_WORK", project=f"p{n % 8}", n=n, sleep=0.01) for n in range(800)]
    queue = world.keys("queue", "Ordered")
    publish(world, *events)
    [stalled] = children(fleet.pid)
    wait_until(lambda: len(world.runs("Ordered")) >= 50, 20, "fifty to run, so that the worker holds some ready")
    wait_until(lambda: world.redis.xpending(queue, "fleet")["pending"] >= 5, 20, "more to be leased than run")

    os.kill(stalled, signal.SIGSTOP)
    try:
        world.start_fleet(1)
        world.until_settled("Ordered")
        before = len(world.order("Ordered"))
    finally:
        os.kill(stalled, signal.SIGCONT)
    sentinel = make("ORDERED_WORK", project="after")
    publish(world, sentinel)
    world.until_settled("Ordered")

    started_since = [line.split()[0] for line in world.order("Ordered")[before:]]
    assert started_since == [sentinel.event_id]


def test_deliveries_of_an_application_whose_loop_has_ended_go_to_others(world: World) -> None:
    bus = EventBus(world.settings)
    started: list[str] = []

    @bus.subscriber("Async", ["ASYNC_WORK"], min_backoff=0.05, max_backoff=0.2)
    async def handle(event: Event) -> None:
        started.append(event.event_id)
        await asyncio.sleep(3600)

    events = [make("ASYNC_WORK", n=n) for n in range(20)]

    async def forget_to_stop() -> None:
        await bus.start_consuming(archive=False)
        await bus.publish_many(events)
        await asyncio.to_thread(wait_until, lambda: len(started) == 20, 20, "all to start")

    asyncio.run(forget_to_stop())
    world.start_fleet(1)
    wait_until(lambda: len(world.runs("Async")) == 20, 30, f"all to run elsewhere; {world.log()}")
    world.until_settled("Async")

    asyncio.run(bus.disconnect())
