"""A hundred thousand events, a million nightly: all of them agree to the event, and memory stays bounded."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from events.publisher import Receipt
from store.filter import EventFilter
from tests.fleet.fleet import World, children
from tests.fleet.test_crashes import states
from tests.fleet.test_delivery import make
from tests.waiting import wait_until

BATCH = 5_000
MAX_GROWTH_BYTES = 60_000_000
MAX_AHEAD = 20_000


def resident(pid: int) -> int:
    """Bytes of a process's resident memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("total", [100_000, pytest.param(1_000_000, marks=pytest.mark.nightly)])
def test_every_event_arrives_everywhere_once(world: World, measured: Callable[[str], None], total: int) -> None:
    fleet = world.start_fleet(2, app="tests.fleet.counting:bus")
    archiver = world.start_archiver()
    processes = {"worker 0": children(fleet.pid)[0], "worker 1": children(fleet.pid)[1], "archiver": archiver.pid}
    baseline: dict[str, int] = {}
    queue, lanes = world.keys("queue", "Counter"), world.keys("lane", "Counter", "p0")

    start = time.monotonic()
    published = 0
    publishing_s = 0.0
    while published < total:
        batch = [make("COUNTED", project="p0", n=n, text="x" * 150) for n in range(published, published + BATCH)]
        before = time.monotonic()
        answers = world.bus.publish_many_sync(batch)
        publishing_s += time.monotonic() - before
        assert all(isinstance(answer, Receipt) and answer.is_new for answer in answers)
        published += BATCH
        if published == BATCH * 4:
            baseline = {name: resident(pid) for name, pid in processes.items()}
        wait_until(lambda: world.redis.llen(lanes) + world.redis.xlen(queue) < MAX_AHEAD, 120, "workers to keep up")
    world.until_settled("Counter", timeout=300)
    handled_s = time.monotonic() - start
    wait_until(lambda: states(world, "Counter") == {"done": total}, 900, f"the store; {world.log('archiver')}")
    archived_s = time.monotonic() - start

    assert world.backend.blackboard.replay.count(EventFilter(types=("COUNTED",))) == total
    handled = sum(path.stat().st_size for path in world.tmp_path.glob("handled-*"))
    assert handled == total, "each handled once"
    wait_until(lambda: world.redis.xlen(world.keys("history")) == 0, 20, "history to be trimmed")
    assert world.redis.xlen(world.keys("outcomes")) == 0
    grown = {name: resident(pid) - baseline[name] for name, pid in processes.items()}
    measured(
        f"{total} events: published {total / publishing_s:,.0f}/s, handled {total / handled_s:,.0f}/s while "
        f"publishing, archived after {archived_s:.1f} s ({total / archived_s:,.0f}/s);"
        f" growth since event {BATCH * 4}: " + ", ".join(f"{n} {g / 1e6:+.1f} MB" for n, g in grown.items())
    )
    assert max(grown.values()) < MAX_GROWTH_BYTES, grown


def test_what_a_worker_loaded_at_its_start_is_not_searched_for_garbage_again(world: World) -> None:
    world.start_fleet(1, app="tests.fleet.lean:bus")

    world.bus.publish_many_sync([make("LEAN", project="p0")])
    wait_until(lambda: world.redis.exists("lean"), 30, "the handler to look")

    frozen, searched = map(int, world.redis.hmget("lean", "frozen", "searched"))
    assert frozen > 10_000, "as many as its modules alone have"
    assert searched < frozen
