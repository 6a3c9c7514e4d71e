"""A process in which handlers hang makes room for another, and what it still can end it ends."""

from __future__ import annotations

import sys

from tests.fleet.fleet import World, children
from tests.fleet.test_delivery import make, publish
from tests.waiting import wait_until

APP = "tests.fleet.hanging:bus"
PATIENCE_S = 60


def log(world: World) -> str:
    return (world.tmp_path / "worker.log").read_text()


def until_said(world: World, text: str) -> None:
    wait_until(lambda: text in log(world), PATIENCE_S, f"{text!r}; {world.log()}")


def start_paying(world: World) -> None:
    """Publish ten events, and wait until a handler runs for each."""
    publish(world, *(make("PAY", n=n) for n in range(10)))
    wait_until(lambda: len(world.runs("Paid")) == 10, PATIENCE_S, f"ten handlers to begin; {world.log()}")


def test_async_handlers_end_in_a_process_whose_every_thread_hangs(world: World) -> None:
    fleet = world.start_fleet(1, APP, EVENTBUS_THREADS="1")
    [hung] = children(fleet.pid)
    start_paying(world)

    publish(world, make("HANG"))
    until_said(world, "Every thread is held by a handler that hangs")
    until_said(world, "Retiring: what runs may end")
    world.redis.set("paid", 1)
    world.until_settled("Paid", "Hanging", timeout=PATIENCE_S)
    wait_until(lambda: hung not in children(fleet.pid), PATIENCE_S, f"the old process to end; {world.log()}")

    assert set(world.runs("Paid").values()) == {1}
    assert [state for _, _, state, _ in world.outcomes("Paid")] == ["done"] * 10
    assert "are interrupted" not in log(world)


def test_a_process_by_itself_whose_every_thread_hangs_gives_what_runs_the_grace(world: World) -> None:
    command = [sys.executable, "-m", "workers.process", "--app", APP, "--threads", "1", "--grace", "50"]
    process = world.run(command)
    until_said(world, "Ready:")
    start_paying(world)

    publish(world, make("HANG"))
    until_said(world, "Every thread is held by a handler that hangs")
    wait_until(lambda: b'"draining": true' in b"".join(world.redis.hvals(world.keys("beats"))), 30, "it to drain")
    world.redis.set("paid", 1)

    assert process.wait(PATIENCE_S) == 1
    assert [state for _, _, state, _ in world.outcomes("Paid")] == ["done"] * 10


def test_a_process_whose_loop_is_blocked_beyond_every_limit_is_replaced(world: World) -> None:
    fleet = world.start_fleet(1, APP)
    [blocked] = children(fleet.pid)

    publish(world, make("BLOCK"))
    until_said(world, "The event loop is held by a handler that hangs")
    wait_until(lambda: blocked not in children(fleet.pid), PATIENCE_S, f"the old process to end; {world.log()}")
    world.until_settled("Blocking", timeout=PATIENCE_S)

    assert [state for _, _, state, _ in world.outcomes("Blocking")] == ["lost", "done"]
