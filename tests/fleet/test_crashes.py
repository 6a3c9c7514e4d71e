"""Killing things in the middle of work: nothing is lost, and what was repeated is printed."""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from collections.abc import Callable

from events.errors import RedisUnavailable
from events.records import AttemptState
from store.archive import Archive
from tests.fleet.fleet import World, children
from tests.fleet.test_delivery import make, publish
from tests.waiting import wait_until


def states(world: World, subscriber: str) -> dict[str, int]:
    found = {d.subscriber: d for d in world.backend.blackboard.statistics.deliveries()}.get(subscriber)
    counts = (
        {word: getattr(found, word) for word in ("waiting", "done", "dead", "discarded", "dropped")} if found else {}
    )
    return {word: count for word, count in counts.items() if count}


def archived_states(world: World) -> dict[str, int]:
    """The states, or none while Redis is away."""
    try:
        return states(world, "Plain")
    except RedisUnavailable:
        return {}


def repeats(what: str, runs: Counter[str]) -> str:
    return f"{what}: {len(runs)} done, {runs.total() - len(runs)} attempts repeated"


def test_a_killed_worker_loses_nothing_of_a_thousand_deliveries(world: World, measured: Callable[[str], None]) -> None:
    fleet = world.start_fleet(2)
    archiver = world.start_archiver()
    events = [make("PLAIN_WORK", n=n, sleep=0.004) for n in range(1000)]

    publish(world, *events)
    wait_until(lambda: len(world.runs("Plain")) > 200, 30, "the first 200")
    os.kill(random.choice(children(fleet.pid)), signal.SIGKILL)
    wait_until(lambda: states(world, "Plain") == {"done": 1000}, 90, f"the store to say so; {world.log()}")

    assert set(world.runs("Plain")) == {event.event_id for event in events}
    assert archiver.poll() is None and fleet.poll() is None
    wait_until(lambda: len(children(fleet.pid)) == 2, 20, "the killed process to be replaced")
    measured(repeats("killed worker", world.runs("Plain")))


def test_a_killed_archiver_leaves_neither_gap_nor_double(world: World, measured: Callable[[str], None]) -> None:
    world.start_fleet(1)
    events = [make("ASYNC_WORK", n=n, emit=1) for n in range(1000)]
    archive = Archive(world.backend.blackboard.engine, world.settings.namespace)

    for start in range(0, 1000, 200):
        archiver = world.start_archiver()
        before = archive.cursor("history").position
        publish(world, *events[start : start + 200])
        wait_until(lambda before=before: archive.cursor("history").position > before, 20, "a commit")
        archiver.kill()
        archiver.wait()
    world.start_archiver()
    wait_until(lambda: states(world, "Async") == {"done": 1000}, 60, "the store to have all outcomes")

    replay = world.backend.blackboard.replay
    stored = [recorded.event_id for recorded in replay.iterate() if recorded.type.value == "ASYNC_WORK"]
    assert stored == [event.event_id for event in events]
    assert replay.count() == 2000
    assert world.redis.ttl(world.keys("id", events[0].event_id)) > 0, "ids expire once archived"
    measured(repeats("killed archiver", world.runs("Async")))


def test_a_killed_embedded_valkey_comes_back_with_every_delivery(world: World, measured: Callable[[str], None]) -> None:
    home = world.tmp_path / "home"
    own = World(world.settings.with_(redis_url=None, database_url=None, home=str(home)), world.tmp_path)
    own.environment["BOOK_URL"] = world.settings.redis_url or ""
    try:
        own.start_fleet(2)
        own.start_archiver()
        events = [make("PLAIN_WORK", n=n, sleep=0.004) for n in range(1000)]
        publish(own, *events)
        wait_until(lambda: len(world.runs("Plain")) > 200, 30, "the first 200")
        os.kill(own.redis.info("server")["process_id"], signal.SIGKILL)
        wait_until(lambda: archived_states(own) == {"done": 1000}, 90, f"the store to say so; {own.log()}")

        assert set(world.runs("Plain")) == {event.event_id for event in events}
        measured(repeats("killed embedded Valkey", world.runs("Plain")))
    finally:
        own.close()


def test_what_kills_its_worker_becomes_a_dead_letter_and_its_neighbours_do_not(world: World) -> None:
    world.start_fleet(2)
    neighbours = [make("PLAIN_WORK", n=n, sleep=0.05) for n in range(20)]
    poison = make("PLAIN_WORK", kill=True)

    publish(world, *neighbours[:10], poison, *neighbours[10:])
    letter = wait_until(lambda: world.dead("Plain"), 60, f"the poison to be given up; {world.log()}")[0]
    world.until_settled("Plain", timeout=60)

    assert poison.event_id in letter["f"] and "killed its worker three times" in letter["r"]
    assert len(world.dead("Plain")) == 1
    assert world.runs("Plain")[poison.event_id] == 3
    assert set(world.runs("Plain", "finished")) == {event.event_id for event in neighbours}


def test_the_zombie_of_a_stalled_worker_is_refused(world: World) -> None:
    fleet = world.start_fleet(1)
    event = make("PLAIN_WORK", sleep=1.0, emit=1)
    publish(world, event)
    wait_until(lambda: world.runs("Plain"), 10, "it to start")
    stalled = children(fleet.pid)[0]

    os.kill(stalled, signal.SIGSTOP)
    try:
        world.start_fleet(1)
        wait_until(lambda: world.runs("Plain", "finished"), 30, "another worker to finish")
        world.until_settled("Plain")
    finally:
        os.kill(stalled, signal.SIGCONT)
    wait_until(
        lambda: "taken over" in world.log() or world.runs("Plain", "finished").total() == 2, 20, "the zombie to wake"
    )

    assert [state for _, _, state, _ in world.outcomes("Plain")] == ["lost", "done"]
    caused = [r for r in world.backend.history.after(0, 100).events if r.event.type.value == "OUT"]
    assert len(caused) == 1


def test_a_stopping_worker_hands_back_what_it_has_not_started(world: World) -> None:
    fleet = world.start_fleet(1, grace_s=10)
    events = [make("PLAIN_WORK", n=n, sleep=0.3) for n in range(40)]
    publish(world, *events)
    wait_until(lambda: world.runs("Plain"), 10, "the first to start")

    fleet.terminate()
    assert fleet.wait(20) == 0
    started = world.runs("Plain")
    assert world.waiting("Plain") == 40 - len(started), "what started was settled; the rest waits, unleased"
    assert world.redis.xpending(world.keys("queue", "Plain"), "fleet")["pending"] == 0
    world.start_fleet(1)
    world.until_settled("Plain")

    assert world.runs("Plain") == {event.event_id: 1 for event in events}
    assert {attempt for _, attempt, _, _ in world.outcomes("Plain")} == {1}


def test_a_handler_that_outlives_the_grace_is_interrupted_and_runs_again_elsewhere(world: World) -> None:
    fleet = world.start_fleet(1, grace_s=0.5)
    plain, slow = make("PLAIN_WORK", sleep=60), make("ASYNC_WORK", sleep=60)
    publish(world, plain, slow)
    wait_until(lambda: world.runs("Plain") and world.runs("Async"), 10, "both to start")

    fleet.terminate()
    assert fleet.wait(20) == 0

    for name in ("Plain", "Async"):
        assert [(attempt, state) for _, attempt, state, _ in world.outcomes(name)] == [(1, AttemptState.INTERRUPTED)]
        assert world.waiting(name) == 1
        assert world.redis.xpending(world.keys("queue", name), "fleet")["pending"] == 0


def test_workers_end_when_their_supervisor_is_killed(world: World) -> None:
    fleet = world.start_fleet(2)
    pids = children(fleet.pid)

    fleet.kill()
    fleet.wait()

    wait_until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids), 20, "the orphans to drain and end")
