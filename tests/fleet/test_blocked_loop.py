"""A worker whose event loop is blocked by a handler holds nothing that another worker could run."""

from __future__ import annotations

from tests.fleet.fleet import World
from tests.fleet.test_delivery import make, publish
from tests.fleet.test_prefetch import leased
from tests.waiting import wait_until

APP = "tests.fleet.blocking:bus"
PATIENCE_S = 60


def pids(world: World, name: str) -> list[bytes]:
    return [line.split()[1] for line in world.redis.lrange(f"ran:{name}", 0, -1)]


def test_what_a_worker_with_a_blocked_loop_has_not_begun_is_run_by_another_and_not_started_later(world: World) -> None:
    world.start_fleet(2, APP, EVENTBUS_THREADS="2")
    publish(world, make("PAGE", blocks=True))
    blocked = wait_until(lambda: world.redis.get("blocked"), PATIENCE_S, "a handler to block its loop")

    events = [make("PAGE", project=f"p{n % 3}", n=n) for n in range(400)]
    for start in range(0, 400, 20):
        publish(world, *events[start : start + 20])
    wait_until(
        lambda: len(pids(world, "Reader")) == 401, PATIENCE_S, f"the other worker to run what is left; {world.log()}"
    )
    wait_until(lambda: sum(leased(world, "Reader").values()) == 1, PATIENCE_S, "the blocked one to hold what it runs")
    assert pids(world, "Reader").count(blocked) == 1

    world.redis.set("release", 1)
    world.until_settled("Reader", timeout=PATIENCE_S)
    publish(world, *(make("PAGE", n=n) for n in range(100)))
    world.until_settled("Reader", timeout=PATIENCE_S)
    assert set(world.runs("Reader").values()) == {1} and len(world.runs("Reader")) == 501


def test_a_worker_whose_loop_is_blocked_goes_on_with_plain_handlers_and_reads_again_when_it_moves(world: World) -> None:
    world.start_fleet(1, APP, EVENTBUS_THREADS="2")
    publish(world, make("PAGE", blocks=True))
    wait_until(lambda: world.redis.get("blocked"), PATIENCE_S, "a handler to block the loop")
    publish(world, *(make("PAGE", n=n) for n in range(100)))
    wait_until(lambda: sum(leased(world, "Reader").values()) == 1, PATIENCE_S, "what waits to be handed back")

    publish(world, *(make("PRINT", n=n) for n in range(100)))
    world.until_settled("Printer", timeout=PATIENCE_S)

    world.redis.set("release", 1)
    world.until_settled("Reader", timeout=PATIENCE_S)
    assert set(world.runs("Reader").values()) == {1} and len(world.runs("Reader")) == 101
