"""Steering, dropping and changing subscribers of a running fleet."""

from __future__ import annotations

import os
import signal

import pytest

from events.errors import DropRefused
from events.standing import Standing, standings
from events.steering import until_heeded
from tests.fleet.fleet import World, children
from tests.fleet.test_crashes import states
from tests.fleet.test_delivery import make, publish
from tests.waiting import wait_until
from workers.operating import drop, remove_types, steer_durably

APP = "tests.fleet.late:bus"
THREADS = {"EVENTBUS_THREADS": "4"}


def standing(world: World, name: str) -> Standing:
    return standings(world.backend.namespace, [name])[0]


def steered(world: World, name: str, **changes: object) -> None:
    assert steer_durably(world.backend.namespace, world.backend.registry, name, **changes).trouble == ""


def paused(world: World, name: str) -> None:
    steered(world, name, paused=True)
    assert until_heeded(world.backend.namespace, name, 20) == (), world.log()


def ran(world: World, name: str, word: str = "ran") -> int:
    return int(world.redis.llen(f"{word}:{name}"))


def leased(world: World, name: str) -> int:
    return int(world.redis.xpending(world.keys("queue", name), "fleet")["pending"])


def test_after_a_pause_nothing_starts_and_what_runs_finishes(world: World) -> None:
    world.start_fleet(2, app=APP, **THREADS)
    events = [make("GATED", n=n) for n in range(60)]
    publish(world, *events)
    wait_until(lambda: ran(world, "Gated") == 8, 20, f"every thread to be busy; {world.log()}")

    paused(world, "Gated")
    world.redis.set("go", "1")

    wait_until(lambda: ran(world, "Gated", "finished") == 8, 20, "what runs to finish")
    wait_until(lambda: leased(world, "Gated") == 0, 20, f"what was held ready to be handed back; {world.log()}")
    assert ran(world, "Gated") == 8, "eight threads were free and 52 deliveries there"
    found = standing(world, "Gated").queue
    assert (found.ready, found.waiting, found.delayed) == (0, 52, 0)
    steered(world, "Gated", paused=False)
    world.until_settled("Gated")
    assert world.runs("Gated") == {event.event_id: 1 for event in events}


def test_what_a_killed_worker_held_of_a_paused_subscriber_waits_too(world: World) -> None:
    fleet = world.start_fleet(2, app=APP, **THREADS)
    events = [make("GATED", n=n) for n in range(4)]
    publish(world, *events)
    wait_until(lambda: ran(world, "Gated") == 4, 20, "all to run")
    paused(world, "Gated")

    for pid in children(fleet.pid):
        os.kill(pid, signal.SIGKILL)

    wait_until(lambda: standing(world, "Gated").queue.waiting == 4, 30, f"them to be handed back; {world.log()}")
    assert (ran(world, "Gated"), leased(world, "Gated")) == (4, 0), "who took them over started none"
    world.redis.set("go", "1")
    steered(world, "Gated", paused=False)
    world.until_settled("Gated")
    assert world.runs("Gated") == {event.event_id: 2 for event in events}


def test_a_stream_of_swift_handlers_is_paused_and_goes_on_without_repeating_anything(world: World) -> None:
    world.start_fleet(2, app=APP)
    events = [make("SWIFT", f"p{n % 5}", n=n) for n in range(4000)]
    publish(world, *events[:2000])
    publish(world, *events[2000:])
    wait_until(lambda: ran(world, "Swift") > 200, 30, f"the first 200; {world.log()}")

    paused(world, "Swift")
    wait_until(lambda: leased(world, "Swift") == 0, 20, "everything held to be settled or handed back")
    so_far = ran(world, "Swift")
    assert so_far + standing(world, "Swift").queue.waiting == 4000

    steered(world, "Swift", paused=False)
    world.until_settled("Swift", timeout=60)
    assert world.runs("Swift") == {event.event_id: 1 for event in events}
    assert {state for _, _, state, _ in world.outcomes("Swift")} == {"done"}, "and nothing was interrupted"


def test_a_paused_subscriber_stays_paused_when_redis_was_lost(world: World) -> None:
    world.start_fleet(1, app=APP)
    paused(world, "Swift")

    world.redis.flushall()
    publish(world, make("SWIFT"), make("FACT"))

    world.until_settled("Late")
    wait_until(lambda: ran(world, "Late") == 1, 20, "another subscriber to handle its own")
    assert standing(world, "Swift").queue.is_paused and standing(world, "Swift").queue.waiting == 1
    assert ran(world, "Swift") == 0
    steered(world, "Swift", paused=False)
    wait_until(lambda: ran(world, "Swift") == 1, 20, f"it to go on; {world.log()}")


def test_limits_change_while_the_fleet_runs(world: World) -> None:
    world.start_fleet(2, app=APP, **THREADS)
    steered(world, "Gated", concurrency=3)
    publish(world, *(make("GATED", n=n) for n in range(30)))
    queue = world.keys("queue", "Gated")

    wait_until(lambda: ran(world, "Gated") == 3, 20, f"three to run; {world.log()}")
    assert world.redis.xlen(queue) == 3
    steered(world, "Gated", concurrency=6)
    wait_until(lambda: ran(world, "Gated") == 6, 20, f"six to run; {world.log()}")
    steered(world, "Gated", concurrency=2)
    world.redis.set("go", "1")
    wait_until(lambda: ran(world, "Gated", "finished") == 30, 30, f"all to run; {world.log()}")
    assert world.redis.xlen(queue) <= 2

    world.redis.delete("go")
    steered(world, "Gated", concurrency="code", rate_limit=0.001)
    publish(world, *(make("GATED", n=n) for n in range(6)))
    wait_until(lambda: ran(world, "Gated") == 31, 20, "the one that the rate lets in")
    assert (standing(world, "Gated").queue.running, standing(world, "Gated").queue.waiting) == (1, 5)
    steered(world, "Gated", rate_limit=None)
    wait_until(lambda: ran(world, "Gated") == 36, 20, f"the others, without a restart; {world.log()}")
    world.redis.set("go", "1")


def test_a_deploy_whose_code_has_fewer_types_loses_no_event_until_somebody_says_so(world: World) -> None:
    old = world.start_fleet(1, app=APP, SHIFTING_TYPES="KEPT GONE")
    first = make("GONE", n=1)
    publish(world, first)
    world.until_settled("Shifting")
    new = world.start_fleet(1, app=APP, SHIFTING_TYPES="KEPT")
    during = [make("GONE", n=n) for n in range(2, 8)]
    publish(world, *during)
    wait_until(lambda: len(world.runs("Shifting")) == 7, 30, f"the old worker to take them all; {world.log()}")
    assert standing(world, "Shifting").undeclared == ()

    old.terminate()
    assert old.wait(30) == 0
    after = make("GONE", n=8)
    publish(world, after, make("KEPT", n=9))

    wait_until(lambda: len(world.runs("Shifting")) == 8, 30, f"what the new code takes; {world.log()}")
    assert standing(world, "Shifting").undeclared == ("GONE",)
    wait_until(lambda: standing(world, "Shifting").queue.unsettled == 1, 20, "only what waits for code to take it")
    backend = world.backend
    assert remove_types(backend.namespace, backend.registry, "Shifting", ["GONE"]) == ["GONE"]
    publish(world, make("GONE", n=10))
    assert standing(world, "Shifting").queue.unsettled == 1
    world.start_fleet(1, app=APP, SHIFTING_TYPES="KEPT GONE")
    new.terminate()  # else chance decides, every five seconds, which of the two reads it
    assert new.wait(30) == 0
    wait_until(lambda: after.event_id in world.runs("Shifting"), 30, f"code that takes it; {world.log()}")


def test_a_subscriber_that_code_has_given_up_is_dropped_with_what_waits_for_it(world: World) -> None:
    old = world.start_fleet(1, app=APP, SHIFTING_TYPES="KEPT")
    paused(world, "Shifting")
    publish(world, *(make("KEPT", n=n) for n in range(700)))
    backend = world.backend
    with pytest.raises(DropRefused, match="1 live workers take 'Shifting'"):
        drop(backend.namespace, backend.registry, "Shifting")
    old.terminate()
    assert old.wait(30) == 0
    world.start_fleet(1, app=APP)

    gone = drop(backend.namespace, backend.registry, "Shifting")

    assert (gone.deliveries, gone.is_back) == (700, False)
    world.start_archiver()
    wait_until(lambda: states(world, "Shifting") == {"dropped": 700}, 30, "the store to say so")
    assert "Shifting" not in [found.queue.subscriber for found in standings(backend.namespace)]
    publish(world, make("KEPT"), make("SWIFT"))
    wait_until(lambda: ran(world, "Swift") == 1, 20, "the others to go on")
    assert not list(world.redis.scan_iter(match="*Shifting*"))


def test_what_is_dropped_by_force_under_a_running_fleet_comes_back_as_new(world: World) -> None:
    world.start_fleet(2, app=APP, **THREADS)
    publish(world, *(make("GATED", n=n) for n in range(20)))
    wait_until(lambda: ran(world, "Gated") == 8, 20, f"every thread to be busy; {world.log()}")

    gone = drop(world.backend.namespace, world.backend.registry, "Gated", force=True)
    world.redis.set("go", "1")

    assert gone.deliveries == 20
    log = world.tmp_path / "worker.log"
    wait_until(
        lambda: ran(world, "Gated", "finished") + log.read_text().count("what it does here is void") >= 8,
        20,
        f"what runs to finish in vain, or to be interrupted by a worker that has heard of it; {world.log()}",
    )
    event = make("GATED", n=20)
    wait_until(
        lambda: b"Gated" in world.redis.smembers(world.keys("routes", "GATED")), 20, f"it to be back; {world.log()}"
    )
    publish(world, event)
    wait_until(lambda: world.runs("Gated")[event.event_id] == 1, 30, f"the new one to be handled; {world.log()}")
    world.until_settled("Gated")
    said = {state: 0 for _, _, state, _ in world.outcomes("Gated")}
    assert set(said) == {"dropped", "done"}
    wait_until(lambda: "Gated" in [row.subscriber for row in world.backend.registry.all()], 20, "the store to know it")
