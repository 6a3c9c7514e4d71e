"""Back-filling new subscribers on a fleet: nothing is missing, nothing is doubled, whoever is killed meanwhile."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from events.bus import EventBus
from events.event import Event
from events.standing import standings
from tests.fleet.fleet import World, children
from tests.fleet.test_commands import command
from tests.fleet.test_crashes import repeats, states
from tests.fleet.test_delivery import make, publish
from tests.waiting import wait_until

APP = "tests.fleet.late:bus"
NAMES = ("Late", "LateOrdered")
PROJECTS = 20


def facts(count: int, first: int = 0) -> list[Event]:
    return [make("FACT", f"p{n % PROJECTS}", n=n) for n in range(first, first + count)]


def publish_all(world: World, events: list[Event]) -> None:
    for start in range(0, len(events), 1000):
        publish(world, *events[start : start + 1000])


def is_live(world: World, *names: str) -> bool:
    return all(found.queue.state == "live" for found in standings(world.backend.namespace, names))


def archive(world: World) -> None:
    archiver = world.start_archiver()
    wait_until(lambda: not world.redis.xlen(world.keys("history")), 60, "the archive to have everything")
    archiver.terminate()
    archiver.wait(20)


@contextmanager
def publishing(world: World, events: list[Event]) -> Iterator[None]:
    """Publish more while something happens, never far ahead of what the slowest subscriber has handled."""
    stop = threading.Event()
    before = len(events)

    def run() -> None:
        while not stop.wait(0.002):
            handled = min(int(world.redis.llen(f"ran:{name}")) for name in NAMES)
            if len(events) - before < 500 or len(events) - handled < 1000:
                more = facts(5, len(events))
                publish(world, *more)
                events.extend(more)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)


def order_of_first_runs(world: World, name: str, events: list[Event]) -> dict[str, list[int]]:
    number = {event.event_id: int(event.payload["n"]) for event in events}
    firsts = dict.fromkeys(line.split()[0] for line in world.order(name))
    lanes: dict[str, list[int]] = {}
    for event_id in firsts:
        lanes.setdefault(f"p{number[event_id] % PROJECTS}", []).append(number[event_id])
    return lanes


def test_four_thousand_events_are_filled_while_publishing_goes_on_and_the_fillers_are_killed(
    world: World, measured: Callable[[str], None]
) -> None:
    events = facts(2500)
    publish_all(world, events)
    archive(world)
    unarchived = facts(1500, len(events))
    publish_all(world, unarchived)
    events += unarchived

    fleet = world.start_fleet(2, app=APP)
    with publishing(world, events):
        wait_until(lambda: world.redis.llen("ran:Late") > 800, 60, f"the first 800; {world.log()}")
        assert not is_live(world, "Late"), "it is in the middle"
        for pid in children(fleet.pid):
            os.kill(pid, signal.SIGKILL)
        world.start_archiver()
        wait_until(lambda: is_live(world, *NAMES), 180, f"both to be live; {world.log()}")
    late = facts(50, len(events))
    publish(world, *late)
    events += late
    wait_until(
        lambda: states(world, "LateOrdered") == {"done": len(events)}, 120, f"the store to say so; {world.log()}"
    )
    wait_until(lambda: states(world, "Late") == {"done": len(events)}, 60, f"the store to say so; {world.log()}")

    for name in NAMES:
        ran = world.runs(name)
        assert set(ran) == {event.event_id for event in events}
        measured(repeats(f"{name}, fillers killed", ran))
    for lane in order_of_first_runs(world, "LateOrdered", events).values():
        assert lane == sorted(lane)
    wait_until(
        lambda: all("cursor" not in row.steering for row in world.backend.registry.all()),
        60,
        "the store to forget where they began; who filled last tells it, and tries again where the file is held",
    )


def test_a_fleet_that_nobody_kills_fills_each_event_exactly_once(world: World) -> None:
    events = facts(1500)
    publish_all(world, events)
    archive(world)

    world.start_fleet(2, app=APP)
    with publishing(world, events):
        wait_until(lambda: is_live(world, *NAMES), 60, f"both to be live; {world.log()}")
    world.until_settled(*NAMES)

    for name in NAMES:
        assert world.runs(name) == {event.event_id: 1 for event in events}


def test_after_flushall_in_the_middle_a_back_fill_begins_again(world: World) -> None:
    events = facts(4000)
    publish_all(world, events)
    archive(world)
    book = dict(world.environment)
    world.start_fleet(1, app=APP, **book)
    wait_until(lambda: world.redis.llen("ran:Late") > 500, 60, f"some of it; {world.log()}")

    world.redis.flushall()  # the book is in the same server: what ran before is forgotten with it

    wait_until(lambda: world.redis.llen("ran:Late") >= len(events), 90, f"all of it again; {world.log()}")
    wait_until(lambda: is_live(world, *NAMES), 60, f"both to be live; {world.log()}")
    world.until_settled(*NAMES)
    assert set(world.runs("Late")) == {event.event_id for event in events}


def test_a_worker_that_starts_later_at_a_position_gets_only_what_follows_it(world: World) -> None:
    receipts = publish(world, *facts(10))

    world.start_fleet(1, app=APP, LATE_START="now")
    world.bus.subscriber("FromThere", ["FACT"], start=receipts[6].position)(print)
    publish(world, *facts(1, 10))

    world.until_settled("Late")
    assert sum(world.runs("Late").values()) == 1
    found = next(found for found in standings(world.backend.namespace) if found.queue.subscriber == "FromThere")
    assert (found.queue.state, found.filled_to, found.is_orphaned) == ("backfill", receipts[6].position, True)


def test_an_application_that_consumes_itself_back_fills_too(world: World) -> None:
    events = facts(300)
    publish_all(world, events)
    handled: list[str] = []
    bus = EventBus(world.settings)

    @bus.subscriber("Inside", ["FACT"], start="beginning")
    async def take(event: Event) -> None:
        handled.append(event.event_id)

    async def run() -> None:
        await bus.start_consuming()
        await asyncio.to_thread(wait_until, lambda: len(handled) >= 300, 30, "all of it")
        events.append(make("FACT", n=300))
        await bus.publish(events[-1])
        await asyncio.to_thread(wait_until, lambda: len(handled) >= 301, 30, "what comes after")
        await bus.disconnect()

    asyncio.run(run())

    assert sorted(handled) == sorted(event.event_id for event in events)


def test_dramatiqs_own_command_back_fills_too(world: World) -> None:
    events = facts(300)
    publish_all(world, events)

    world.run([command("dramatiq"), "workers.app", "--processes", "2", "--threads", "2"], EVENTBUS_APP=APP)

    wait_until(lambda: world.redis.llen("ran:Late") >= 300, 60, f"all of it; {world.log()}")
    wait_until(lambda: is_live(world, *NAMES), 30, f"both to be live; {world.log()}")
    assert world.runs("Late") == {event.event_id: 1 for event in events}
