"""The other ways to run a fleet: Dramatiq's own command, and honcho with the Procfile."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

from tests.fleet.fleet import ROOT, World, children
from tests.fleet.test_crashes import states
from tests.fleet.test_delivery import make, publish
from tests.waiting import wait_until

BIN = Path(sys.executable).parent
APP = {"EVENTBUS_APP": "tests.fleet.app:bus"}


def command(name: str) -> str:
    """The path of a command installed beside this Python."""
    path = shutil.which(name, path=f"{BIN}{os.pathsep}{os.environ['PATH']}")
    if path is None:
        pytest.fail(f"The command {name!r} is not installed: pip install -e '.[test]'.")
    return path


def test_dramatiq_workers_app_runs_a_fleet_and_drains_on_repeated_sigterm(world: World) -> None:
    fleet = world.run([command("dramatiq"), "workers.app", "--processes", "2", "--threads", "4"], **APP)
    wait_until(lambda: len(world.consumers()) == 2, 30, f"two workers to read; {world.log()}")
    events = [make("PLAIN_WORK", n=n, sleep=0.05) for n in range(40)] + [make("ASYNC_WORK") for n in range(10)]

    publish(world, *events)
    wait_until(lambda: world.runs("Plain"), 20, "the first to start")
    workers = children(fleet.pid)
    fleet.terminate()
    for pid in workers:
        os.kill(pid, signal.SIGTERM)  # as a process group would, besides Dramatiq's own forwarding
    assert fleet.wait(30) == 0, world.log()

    assert world.redis.xpending(world.keys("queue", "Plain"), "fleet")["pending"] == 0
    world.start_fleet(1)
    world.until_settled("Plain", "Async")
    assert world.runs("Plain") + world.runs("Async") == {event.event_id: 1 for event in events}


def test_dramatiq_says_why_it_cannot_start_without_an_application(world: World) -> None:
    fleet = world.run([command("dramatiq"), "workers.app", "--processes", "1"])

    assert fleet.wait(30) != 0
    assert "set EVENTBUS_APP" in world.log()


def test_honcho_runs_worker_and_archiver_from_the_procfile(world: World) -> None:
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    honcho = world.run(
        [command("honcho"), "-f", str(ROOT / "Procfile"), "-d", str(world.tmp_path), "start", "worker", "archiver"],
        "honcho",
        PATH=path,
        **APP,
    )
    wait_until(lambda: len(world.consumers()) == 2, 30, f"two workers to read; {world.log('honcho')}")
    events = [make("WORK", n=n) for n in range(50)]

    publish(world, *events)
    wait_until(lambda: states(world, "Plain") == {"done": 50}, 30, f"the store to say so; {world.log('honcho')}")
    honcho.send_signal(signal.SIGTERM)
    honcho.wait(30)

    assert world.runs("Plain") == {event.event_id: 1 for event in events}
    assert "Traceback" not in world.log("honcho")
    assert not children(honcho.pid)


@pytest.mark.parametrize(
    ("app", "words"),
    [
        ("no.such.module:bus", "cannot be found"),
        ("tests.fleet.app:nothing", "no attribute 'nothing'"),
        ("tests.fleet.fleet:ROOT", "not an EventBus"),
        ("tests.fleet.broken:bus", "ZeroDivisionError"),
    ],
)
def test_an_application_that_cannot_be_loaded_ends_the_supervisor_with_2(world: World, app: str, words: str) -> None:
    from tests.fleet.fleet import SUPERVISE

    fleet = world.run([sys.executable, "-c", SUPERVISE, "2", "5", "--app", app])

    assert fleet.wait(30) == 2
    assert words in world.log()
