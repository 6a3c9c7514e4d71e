"""Deploys: restarts, reloads and recycling under load lose nothing and repeat nothing; how processes end."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import threading
from collections.abc import Callable
from typing import TypeVar

import pytest

from events.event import Event
from tests.fleet.fleet import ROOT, SUPERVISE, World, alive, children
from tests.fleet.test_commands import BIN, command
from tests.fleet.test_delivery import make, publish
from tests.waiting import wait_until

T = TypeVar("T")
FLEET_APP = "tests.fleet.app:bus"
ALL = ("Async", "Plain", "Generator")
DEADLINE_S = 90.0
PROCESS = [sys.executable, "-m", "workers.process", "--app"]
LONG_LEASE = {"EVENTBUS_LEASE_S": "600"}
RELOADED = "Reloaded: every worker process is a new one."
SHOP = """
from events.bus import EventBus
from tests.fleet.app import record

bus = EventBus()


@bus.subscriber("Shop", ["SALE"])
def sell(event):
    record("{version}")
"""
# Its own five seconds until it kills are short on a crowded machine, and not what is tested here.
HONCHO = "import honcho.manager as m, honcho.command as c; m.KILL_WAIT = 60; c.main()"
PATIENT = """
import asyncio
import time
from events.bus import EventBus
from tests.fleet.app import book, record

bus = EventBus()


@bus.subscriber("Plain", ["WORK"])
def wait(event):
    record()
    while not book().exists("go"):
        time.sleep(0.02)


@bus.subscriber("Async", ["WORK"])
async def await_(event):
    record()
    while not book().exists("go"):
        await asyncio.sleep(0.02)
"""
STUCK = "import time\nwhile True: time.sleep(0.05)\n"


class Load:
    """Publishes small batches of WORK, from a thread, as long as the `with` block lasts."""

    def __init__(self, world: World) -> None:
        self.events: list[Event] = []
        self._world = world
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._publish)

    def __enter__(self) -> list[Event]:
        self._thread.start()
        return self.events

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        self._thread.join()

    def _publish(self) -> None:
        while not self._enough.wait(0.03):
            batch = [make("WORK", project=f"p{n}", sleep=0.02 * n) for n in range(4)]
            publish(self._world, *batch)
            self.events += batch


class Release:
    """An application behind a symbolic link, as many hosts deploy: `current` points to its newest version."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.link = world.tmp_path / "current"

    def deploy(self, version: str, text: str = SHOP) -> None:
        folder = self.world.tmp_path / version
        folder.mkdir()
        (folder / "shop.py").write_text(text.format(version=version))
        fresh = self.world.tmp_path / "fresh"
        fresh.symlink_to(folder)
        fresh.replace(self.link)

    def start(self, processes: int, grace_s: float = 10) -> subprocess.Popen[bytes]:
        line = f"cd {self.link} && exec {command('eventbus')} worker --app shop:bus --grace {grace_s}"
        fleet = self.world.run(["sh", "-c", f"{line} --processes {processes}"])
        until_said(self.world, "Ready: Shop", processes)
        return fleet

    def sell(self, version: str, count: int = 20) -> None:
        """Publish, and wait until code of that version has handled all."""
        events = [make("SALE") for _ in range(count)]
        publish(self.world, *events)
        everything = {event.event_id: 1 for event in events}
        until(
            lambda: self.world.runs("Shop", version, of=events) == everything,
            f"sales of {version}; {self.world.log()}",
        )


def lines(world: World, log: str = "worker") -> list[str]:
    return (world.tmp_path / f"{log}.log").read_text().splitlines()


def until(predicate: Callable[[], T], what: str) -> T:
    """Wait as long as a crowded machine may need to start a few processes."""
    return wait_until(predicate, DEADLINE_S, what)


def until_said(world: World, text: str, times: int = 1) -> None:
    until(lambda: sum(text in line for line in lines(world)) >= times, f"{times} of {text!r}; {world.log()}")


def start(
    world: World, processes: int, *options: object, app: str = FLEET_APP, **environment: str
) -> subprocess.Popen[bytes]:
    """Start `eventbus worker`, and wait until each of its processes is ready."""
    before = sum("Ready:" in line for line in lines(world)) if world.log() else 0
    fleet = world.run(
        [command("eventbus"), "worker", "--app", app, "--processes", str(processes), *map(str, options)],
        **environment,
    )
    until_said(world, "Ready:", before + processes)
    return fleet


def reload(world: World, fleet: subprocess.Popen[bytes], times: int = 1) -> None:
    fleet.send_signal(signal.SIGHUP)
    until_said(world, RELOADED, times)


def was_each_handled_once(world: World, events: list[Event], *subscribers: str) -> None:
    """Nothing lost, nothing repeated, and no try counted but the first."""
    everything = {event.event_id: 1 for event in events}
    for name in subscribers:
        world.until_settled(name, timeout=DEADLINE_S)
        assert world.runs(name, of=events) == everything
        ids = {line.split()[0]: line.split()[1] for line in world.order(name)}
        assert {ids[event.event_id] for event in events} == {"1"}
        outcomes = [(attempt, state) for _, attempt, state, _ in world.outcomes(name)]
        assert outcomes == [(1, "done")] * len(events), world.log()


def handlers_pids(world: World, *subscribers: str) -> set[int]:
    return {int(line.split()[2]) for name in subscribers for line in world.order(name)}


def fewest_serving(world: World, at_first: int) -> int:
    """The fewest processes that took work at a time, once all had begun; from the log, in its order."""
    serving = fewest = 0
    for line in lines(world):
        if ": Ready:" in line:
            serving += 1
            fewest = serving if serving == at_first and not fewest else fewest
        if ": Retiring:" in line:
            serving -= 1
            fewest = min(fewest, serving)
    return fewest


# a new release under load


def test_a_reload_of_four_processes_under_load_loses_nothing_and_repeats_nothing(
    world: World, measured: Callable[[str], None]
) -> None:
    fleet = start(world, 4)
    old = set(children(fleet.pid))

    with Load(world) as events:
        until(lambda: len(handlers_pids(world, *ALL)) == 4, "each process to work")
        reload(world, fleet)
        new = set(children(fleet.pid)) - old
        until(lambda: new <= handlers_pids(world, *ALL), "each new process to work")

    was_each_handled_once(world, events, *ALL)
    assert len(new) == 4 and not set(children(fleet.pid)) & old
    assert fewest_serving(world, 4) == 4
    measured(f"{len(events)} events to three subscribers during a reload of four processes, each handled once")


def test_four_workers_restarted_one_after_another_lose_nothing_and_repeat_nothing(world: World) -> None:
    workers = [world.run([*PROCESS, FLEET_APP, "--grace", "10"]) for _ in range(4)]
    until_said(world, "Ready:", 4)

    with Load(world) as events:
        for number, worker in enumerate(workers):
            until(lambda pid=worker.pid: pid in handlers_pids(world, *ALL), "it to work")
            worker.terminate()
            assert worker.wait(DEADLINE_S) == 0, world.log()
            world.run([*PROCESS, FLEET_APP])
            until_said(world, "Ready:", 5 + number)

    was_each_handled_once(world, events, *ALL)


def test_a_reload_runs_the_new_code_of_a_release_behind_a_symbolic_link(world: World) -> None:
    shop = Release(world)
    shop.deploy("first")
    fleet = shop.start(2)
    shop.sell("first")

    shop.deploy("second")
    shop.sell("first")
    reload(world, fleet)
    shop.sell("second")


def test_a_reload_with_a_broken_application_leaves_the_old_processes_and_says_so(world: World) -> None:
    shop = Release(world)
    shop.deploy("first")
    fleet = shop.start(2)
    before = sorted(children(fleet.pid))

    shop.deploy("broken", "half a deploy\n")
    fleet.send_signal(signal.SIGHUP)
    until_said(world, "The reload ends: the new worker process 1 ended with code 2 before it was ready. 0 of 2")
    shop.sell("first")
    assert sorted(children(fleet.pid)) == before and "SyntaxError" in world.log()

    shop.deploy("second")
    reload(world, fleet)
    shop.sell("second")


def test_a_process_that_dies_while_the_application_is_broken_takes_no_other_with_it(world: World) -> None:
    shop = Release(world)
    shop.deploy("first")
    fleet = shop.start(2)

    shop.deploy("broken", "half a deploy\n")
    os.kill(children(fleet.pid)[0], signal.SIGKILL)
    until_said(world, "ended with code 2; a new one starts in")
    shop.sell("first")

    shop.deploy("second")
    until_said(world, "Ready: Shop", 3)
    assert len(children(fleet.pid)) == 2


def test_another_sighup_during_a_reload_starts_again_with_what_is_there_by_then(world: World) -> None:
    shop = Release(world)
    shop.deploy("first")
    fleet = shop.start(2, grace_s=1)
    before = children(fleet.pid)

    shop.deploy("stuck", STUCK)
    fleet.send_signal(signal.SIGHUP)
    until(lambda: len(children(fleet.pid)) == 3, "a successor to start")
    shop.sell("first")
    shop.deploy("second")
    reload(world, fleet)

    shop.sell("second")
    until(lambda: len(children(fleet.pid)) == 2, f"the stuck one to be killed; {world.log()}")
    assert not set(before) & set(children(fleet.pid))


def test_sigterm_during_a_reload_stops_old_and_new(world: World) -> None:
    shop = Release(world)
    shop.deploy("first")
    fleet = shop.start(2, grace_s=1)
    shop.deploy("stuck", STUCK)
    fleet.send_signal(signal.SIGHUP)
    processes = until(lambda: len(found := children(fleet.pid)) == 3 and found, "a successor to start")

    fleet.terminate()

    assert fleet.wait(DEADLINE_S) == 0, "the successor held nothing"
    assert not any(map(alive, processes))


def test_a_new_process_that_does_not_become_ready_in_time_ends_the_reload(world: World) -> None:
    shop = world.tmp_path / "shop.py"
    shop.write_text(SHOP.format(version="first"))
    code = SUPERVISE.replace("float(sys.argv[2])", "1.0, ready_within_s=float(sys.argv[2])")
    fleet = world.run([sys.executable, "-c", code, "1", "2", "--app", "shop:bus"])
    until_said(world, "Ready: Shop")
    before = children(fleet.pid)

    shop.write_text(STUCK)
    fleet.send_signal(signal.SIGHUP)

    until_said(world, "The reload ends: the new worker process 1 was not ready after 2 s. 0 of 1 processes are new")
    until(lambda: children(fleet.pid) == before, "the stuck one to be killed")


def test_a_process_that_is_stuck_while_it_loads_does_not_outlive_its_supervisor(world: World) -> None:
    shop = Release(world)
    shop.deploy("first")
    fleet = shop.start(1, grace_s=1)
    shop.deploy("stuck", STUCK)
    fleet.send_signal(signal.SIGHUP)
    processes = until(lambda: len(found := children(fleet.pid)) == 2 and found, "a successor to start")

    fleet.kill()
    fleet.wait()

    until(lambda: not any(map(alive, processes)), "both to end")


def test_a_reload_lets_handlers_run_on_and_goes_on_itself_after_the_grace(world: World) -> None:
    (world.tmp_path / "patient.py").write_text(PATIENT)
    fleet = start(world, 2, "--grace", "1", app="patient:bus")
    events = [make("WORK") for _ in range(4)]
    publish(world, *events)
    until(lambda: len(world.runs("Plain")) == len(world.runs("Async")) == 4, "all to start")

    reload(world, fleet)
    assert set(children(fleet.pid)) > handlers_pids(world, "Plain", "Async"), "the reload is over, they are not"
    world.redis.set("go", 1)

    was_each_handled_once(world, events, "Plain", "Async")
    until(lambda: len(children(fleet.pid)) == 2, "the retired ones to end")


def test_sigterm_cuts_the_patience_of_a_retiring_process_to_the_grace(world: World) -> None:
    fleet = start(world, 1, "--grace", "1")
    publish(world, make("PLAIN_WORK", sleep=120), make("ASYNC_WORK", sleep=120))
    until(lambda: world.runs("Plain") and world.runs("Async"), "both to start")
    reload(world, fleet)

    fleet.terminate()

    assert fleet.wait(DEADLINE_S) == 0, world.log()
    for name in ("Plain", "Async"):
        assert [(attempt, state) for _, attempt, state, _ in world.outcomes(name)] == [(1, "interrupted")]
        assert world.redis.xpending(world.keys("queue", name), "fleet")["pending"] == 0


# stopping


def test_sigterm_twice_to_the_whole_group_drains_and_hands_back_what_has_not_started(world: World) -> None:
    fleet = world.run(["setsid", command("eventbus"), "worker", "--app", FLEET_APP, "--processes", "2"], **LONG_LEASE)
    until_said(world, "Ready:", 2)
    start(world, 1, **LONG_LEASE)
    events = [make("PLAIN_WORK", sleep=0.01) for _ in range(3000)]  # fast ones: each process holds dozens ready
    publish(world, *events)
    pids = set(children(fleet.pid))
    until(lambda: pids <= handlers_pids(world, "Plain"), "both processes to work")

    os.killpg(fleet.pid, signal.SIGTERM)
    os.killpg(fleet.pid, signal.SIGTERM)
    assert fleet.wait(DEADLINE_S) == 0, world.log()

    was_each_handled_once(world, events, "Plain")


def test_under_honcho_a_worker_drains_and_hands_back_what_has_not_started(world: World) -> None:
    honcho = world.run(
        [sys.executable, "-c", HONCHO, "-f", str(ROOT / "Procfile"), "-d", str(world.tmp_path), "start", "worker"],
        EVENTBUS_APP=FLEET_APP,
        EVENTBUS_GRACE_S="3",
        PATH=f"{BIN}{os.pathsep}{os.environ['PATH']}",
        **LONG_LEASE,
    )
    until_said(world, "Ready:", 2)
    events = [make("PLAIN_WORK", sleep=0.3) for _ in range(200)]
    publish(world, *events)
    until(lambda: len(handlers_pids(world, "Plain")) == 2, "both processes to work")

    honcho.terminate()
    honcho.wait(DEADLINE_S)

    assert world.redis.xpending(world.keys("queue", "Plain"), "fleet")["pending"] == 0, world.log()
    assert world.runs("Plain") == world.runs("Plain", "finished") and len(world.runs("Plain")) < len(events)
    start(world, 1, **LONG_LEASE)
    was_each_handled_once(world, events, "Plain")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_worker_process_by_itself_drains_and_ends_with_0(world: World, number: signal.Signals) -> None:
    worker = world.run([*PROCESS, FLEET_APP])
    until_said(world, "Ready:")
    event = make("PLAIN_WORK", sleep=1)
    publish(world, event)
    until(lambda: world.runs("Plain"), "it to start")

    worker.send_signal(number)

    assert worker.wait(DEADLINE_S) == 0, world.log()
    assert world.runs("Plain", "finished") == {event.event_id: 1}


def test_a_signal_that_comes_while_a_process_starts_waits_until_it_can_drain(world: World) -> None:
    fleet = world.run([command("eventbus"), "worker", "--app", FLEET_APP, "--processes", "2"])
    until(lambda: len(children(fleet.pid)) == 2, f"two processes to start; {world.log()}")

    for pid in children(fleet.pid):
        os.kill(pid, signal.SIGHUP)
        os.kill(pid, signal.SIGINT)
    until_said(world, "Ready:", 2)
    assert "Worker process" not in world.log()
    fleet.terminate()

    assert fleet.wait(DEADLINE_S) == 0, world.log()


def test_closing_the_terminal_stops_a_supervisor_that_sighup_reloads(world: World) -> None:
    ours, theirs = pty.openpty()
    log = (world.tmp_path / "worker.log").open("ab")
    fleet = subprocess.Popen(
        [command("eventbus"), "worker", "--app", FLEET_APP, "--processes", "1"],
        env=world.environment, cwd=world.tmp_path, stdin=theirs, stdout=log, stderr=log, start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    world.processes.append(fleet)
    os.close(theirs)
    until_said(world, "Ready:")
    reload(world, fleet)

    os.close(ours)

    assert fleet.wait(DEADLINE_S) == 0, world.log()


# recycling


def test_processes_that_have_handled_their_number_of_events_are_replaced(world: World) -> None:
    fleet = start(world, 2, "--max-events-per-process", 50)

    with Load(world) as events:
        until(lambda: len(handlers_pids(world, *ALL)) >= 6, f"four to be replaced; {world.log()}")
        until(lambda: len(events) >= 500, "500 events")

    was_each_handled_once(world, events, *ALL)
    assert fewest_serving(world, 2) == 2
    assert "a new one starts in" not in world.log(), "no backoff"
    fleet.terminate()
    assert fleet.wait(DEADLINE_S) == 0


def test_a_process_by_itself_ends_with_0_after_its_number_of_events(world: World) -> None:
    worker = world.run([*PROCESS, FLEET_APP], EVENTBUS_MAX_EVENTS_PER_PROCESS="20")
    events = [make("PLAIN_WORK", sleep=0.1) for _ in range(300)]
    until_said(world, "Ready:")
    publish(world, *events)

    assert worker.wait(DEADLINE_S) == 0, world.log()
    done = world.runs("Plain", "finished")
    assert 20 <= len(done) < 300 and done == world.runs("Plain")
    world.run([*PROCESS, FLEET_APP])
    was_each_handled_once(world, events, "Plain")


# exit codes


def test_a_process_that_had_to_be_killed_makes_the_exit_code_1(world: World) -> None:
    fleet = start(world, 2, "--grace", "0.5")
    frozen = children(fleet.pid)[0]

    os.kill(frozen, signal.SIGSTOP)
    fleet.terminate()

    assert fleet.wait(DEADLINE_S) == 1, world.log()
    assert "did not stop in time and is killed" in world.log()


def test_a_process_that_is_killed_while_it_drains_makes_the_exit_code_1(world: World) -> None:
    fleet = start(world, 2, "--grace", "60")
    publish(world, make("PLAIN_WORK", sleep=60))
    [pid] = until(lambda: handlers_pids(world, "Plain"), "it to start")
    other = next(child for child in children(fleet.pid) if child != pid)

    fleet.terminate()
    until(lambda: other not in children(fleet.pid), "the fleet to drain")
    os.kill(pid, signal.SIGKILL)

    assert fleet.wait(DEADLINE_S) == 1, world.log()


@pytest.mark.parametrize("text", ["import nothing_of_that_name\n", "import sys; sys.exit(0)\n", "bus = 1\n"])
def test_an_application_that_cannot_be_loaded_ends_a_process_with_2(world: World, text: str) -> None:
    (world.tmp_path / "shop.py").write_text(text)

    assert world.run([*PROCESS, "shop:bus"]).wait(DEADLINE_S) == 2, world.log()


@pytest.mark.parametrize("runner", ["eventbus", "process", "dramatiq"])
def test_a_server_that_refuses_the_workers_ends_them_with_3(world: World, runner: str) -> None:
    world.redis.set(world.keys("meta"), "somebody else's")
    arguments = {
        "eventbus": [command("eventbus"), "worker", "--app", FLEET_APP],
        "process": [*PROCESS, FLEET_APP],
        "dramatiq": [command("dramatiq"), "workers.app", "--processes", "1"],
    }[runner]

    assert world.run(arguments, EVENTBUS_APP=FLEET_APP).wait(DEADLINE_S) == 3, world.log()
    assert re.search("WRONGTYPE", "\n".join(lines(world)))


def test_dramatiqs_command_ends_with_2_when_the_application_cannot_be_loaded(world: World) -> None:
    fleet = world.run([command("dramatiq"), "workers.app", "--processes", "1"], EVENTBUS_APP="nowhere:bus")

    assert fleet.wait(DEADLINE_S) == 2
    assert "'nowhere' cannot be found" in world.log()


def test_the_exit_codes_are_dramatiqs() -> None:
    from dramatiq import cli

    from workers import exits

    names = [name for name in vars(exits) if name.startswith("RET_")]
    assert names == ["RET_OK", "RET_KILLED", "RET_IMPORT", "RET_CONNECT"]
    assert [getattr(exits, name) for name in names] == [getattr(cli, name) for name in names] == [0, 1, 2, 3]
