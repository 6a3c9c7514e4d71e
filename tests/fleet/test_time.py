"""Time on a fleet: a hundred thousand events that wait in Redis, and a schedule that outlives its schedulers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from events.event import Event
from tests.fleet.fleet import World, children
from tests.fleet.test_commands import command
from tests.waiting import wait_until

FAR, NEAR = 100_000, 1_000
WITHIN_S = 5.0


def resident_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


def timed(number: int) -> Event:
    return Event(
        event_id=f"e{number}", project_id=f"P{number % 50}", type="TIMED", actor="tester", payload={"n": number}
    )


def test_a_hundred_thousand_scheduled_events_cost_workers_no_memory_and_others_arrive_on_time(
    world: World, measured: Callable[[str], None]
) -> None:
    fleet = world.start_fleet(2, app="tests.fleet.clock:bus")
    workers = children(fleet.pid)
    world.bus.publish_many_sync([timed(-1)])
    wait_until(lambda: world.redis.llen("arrived"), 30, "a first event, by which all is loaded")
    before = [resident_kib(pid) for pid in workers]

    began = time.monotonic()
    for start in range(0, FAR, 5000):
        answers = world.bus.publish_many_sync([timed(n) for n in range(start, start + 5000)], delay=86_400)
        assert not any(isinstance(answer, Exception) for answer in answers)
    took_s = time.monotonic() - began
    first = time.time() + 2
    due = {f"e{FAR + n}": first + n * WITHIN_S / NEAR for n in range(NEAR)}
    for event_id, moment in due.items():
        world.bus.publish_sync(timed(int(event_id[1:])), at=datetime.fromtimestamp(moment, UTC))
    wait_until(lambda: world.redis.llen("arrived") > NEAR, 60, f"{NEAR} events; {world.log()}")
    after = [resident_kib(pid) for pid in workers]

    arrived = [line.decode().split() for line in world.redis.lrange("arrived", 1, -1)]
    assert sorted(event_id for event_id, _, _ in arrived) == sorted(due)
    late = sorted(float(moment) - due[event_id] for event_id, moment, _ in arrived)
    assert late[0] >= -0.01, "nothing comes before its time"
    assert late[-1] < 20
    assert world.redis.zcard(world.keys("scheduled")) == FAR
    assert max(b - a for a, b in zip(before, after, strict=True)) < 20_000, "workers hold nothing of what waits"
    measured(
        f"{FAR:,} events scheduled in {took_s:.1f} s; of {NEAR:,} due within {WITHIN_S:g} s the handlers started "
        f"{late[len(late) // 2] * 1000:.0f} ms late (p50), {late[-1] * 1000:.0f} ms at most; a worker's memory went "
        f"from {max(before) / 1024:.0f} to {max(after) / 1024:.0f} MiB"
    )


def test_three_schedulers_fire_every_second_once_while_they_are_killed(
    world: World, measured: Callable[[str], None]
) -> None:
    fleet = world.start_fleet(3, app="tests.fleet.clock:bus")

    def ticks() -> list[datetime]:
        page = world.backend.history.after(0, 100_000)
        return [datetime.fromisoformat(r.event.payload["slot"]) for r in page.events if r.event.type == "TICK"]

    killed = 0
    for _ in range(4):
        seen = len(ticks())
        wait_until(lambda seen=seen: len(ticks()) > seen + 1, 30, f"the schedule to go on; {world.log()}")
        victims = children(fleet.pid)
        os.kill(victims[killed % len(victims)], signal.SIGKILL)
        killed += 1
    for pid in children(fleet.pid):  # nobody is left for a while: what is missed is fired later
        os.kill(pid, signal.SIGKILL)
        killed += 1
    seen = len(ticks())
    wait_until(lambda: len(ticks()) > seen + 4, 60, f"the schedule to go on; {world.log()}")

    fired = ticks()
    assert fired == [fired[0] + timedelta(seconds=n) for n in range(len(fired))], "no slot twice, none lost, in order"
    calls = world.redis.llen("called")
    measured(f"{len(fired)} slots, {killed} processes killed; the factory was called {calls} times")


def test_an_archiver_alone_publishes_what_is_due(world: World) -> None:
    world.run([sys.executable, "-m", "console.main", "archive"], "archiver")
    event = timed(1)
    world.bus.publish_sync(event, delay=0.2)

    # in the store, if it is not in Redis any more
    wait_until(lambda: world.backend.replay.find(event.event_id), 30, f"the event; {world.log('archiver')}")

    assert world.redis.zcard(world.keys("scheduled")) == 0


def test_dramatiqs_own_command_keeps_time_too(world: World) -> None:
    world.run([command("dramatiq"), "workers.app", "--processes", "2"], EVENTBUS_APP="tests.fleet.clock:bus")

    wait_until(lambda: world.redis.llen("called") >= 2, 30, f"two slots; {world.log()}")
    world.bus.publish_sync(timed(1), delay=0.2)

    wait_until(lambda: world.redis.llen("arrived") == 1, 30, f"the event; {world.log()}")


def test_a_worker_of_schedules_alone_becomes_ready_is_listed_and_is_reloaded(world: World) -> None:
    fleet = world.start_fleet(1, app="tests.fleet.ticking:bus")
    wait_until(lambda: "Ready: no subscriber" in world.log(), 30, f"it to be ready; {world.log()}")
    (name,) = world.consumers()
    listed = subprocess.run([command("eventbus"), "workers", "list"], env=world.environment, capture_output=True)
    assert f" {name.split('-')[-2]}  alive " in listed.stdout.decode(), listed.stderr.decode()

    fleet.send_signal(signal.SIGHUP)
    wait_until(lambda: world.consumers() and name not in world.consumers(), 60, f"another to take over; {world.log()}")
