"""Prefetching adapts: many at once for handlers of microseconds, nothing beyond the threads for slow ones."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from events.steering import steer
from tests.fleet.fleet import World
from tests.fleet.test_delivery import make, publish
from tests.fleet.test_limits import begun, open_gate, until_begun
from tests.waiting import wait_until

APP = "tests.fleet.gated:bus"
THREADS = 4
PATIENCE_S = 60


def leased(world: World, name: str) -> Counter[str]:
    """How many deliveries of a subscriber each worker holds, started or not."""
    answer = world.redis.xpending(world.keys("queue", name), "fleet")
    return Counter({one["name"].decode(): int(one["pending"]) for one in answer["consumers"] or ()})


def start_worker(world: World) -> str:
    """Start one worker process of a few threads; return its name."""
    before = set(world.consumers())
    world.start_fleet(1, APP, EVENTBUS_THREADS=str(THREADS))
    return (set(world.consumers()) - before).pop()


def drain(world: World, name: str, count: int) -> None:
    """Let that many deliveries wait, and then be handled all together."""
    steer(world.backend.namespace, name, paused=True)
    for start in range(0, count, 1000):
        publish(world, *(make(name.upper(), project=f"p{n % 5}", n=n) for n in range(start, start + 1000)))
    steer(world.backend.namespace, name, paused=False)
    world.until_settled(name, timeout=PATIENCE_S)


def test_a_slow_agent_holds_no_more_than_it_runs_and_an_idle_worker_finds_the_rest(world: World) -> None:
    first = start_worker(world)
    publish(world, *(make("PLAIN", n=n, gate=True) for n in range(60)))
    until_begun(world, "Plain", THREADS)
    wait_until(lambda: leased(world, "Plain") == {first: THREADS}, PATIENCE_S, "the worker to hold what it runs alone")

    second = start_worker(world)
    eight = until_begun(world, "Plain", 2 * THREADS)
    both = {first: THREADS, second: THREADS}
    wait_until(lambda: leased(world, "Plain") == both, PATIENCE_S, "each to hold what it runs alone")
    assert Counter(one.pid for one in eight).most_common()[0][1] == THREADS

    open_gate(world, "Plain")
    world.until_settled("Plain", timeout=PATIENCE_S)
    assert len({one.event_id for one in begun(world, "Plain")}) == len(begun(world, "Plain")) == 60


def test_a_handler_that_turns_slow_hands_back_what_was_read_while_it_was_fast(
    world: World, measured: Callable[[str], None]
) -> None:
    name = start_worker(world)
    drain(world, "Plain", 2000)
    held = 0

    publish(world, *(make("PLAIN", n=n, gate=True) for n in range(100)))

    def is_spared() -> bool:
        nonlocal held
        held = max(held, leased(world, "Plain")[name])
        return len(begun(world, "Plain")) == 2000 + THREADS and leased(world, "Plain") == {name: THREADS}

    began = time.monotonic()
    wait_until(is_spared, PATIENCE_S, "the worker to hand back what it cannot start")
    measured(
        f"of 100 it held up to {held}, and {THREADS} after {time.monotonic() - began:.2f} s, which is what it runs"
    )
    open_gate(world, "Plain")
    world.until_settled("Plain", timeout=PATIENCE_S)
    assert len(begun(world, "Plain")) == 2100


def test_a_fast_handlers_deliveries_are_read_many_at_once(world: World, measured: Callable[[str], None]) -> None:
    start_worker(world)
    drain(world, "Quick", 2000)
    world.redis.config_resetstat()
    drain(world, "Quick", 5000)
    reads = world.redis.info("commandstats")["cmdstat_xreadgroup"]["calls"]
    measured(f"5,000 deliveries in {reads} reads")
    assert 5000 / reads >= 10


def test_subscribers_with_a_backlog_take_turns_on_one_thread(world: World) -> None:
    names = ("Plain", "Many", "Keyed", "Three")
    world.start_fleet(1, APP, EVENTBUS_THREADS="1")
    for name in names:
        steer(world.backend.namespace, name, paused=True)
        publish(world, *(make(name.upper(), project=f"p{n % 5}", n=n) for n in range(300)))
    for name in names:
        steer(world.backend.namespace, name, paused=False)
    for name in names:
        world.until_settled(name, timeout=PATIENCE_S)

    starts = sorted((one.at_us, name) for name in names for one in begun(world, name))
    first_half = Counter(name for _, name in starts[: len(starts) // 2])
    assert len(starts) == 4 * 300 and min(first_half[name] for name in names) > 100
