"""The other ways to run a fleet: Dramatiq's own command, and honcho with the Procfile."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import sys
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from tests.fleet.fleet import ROOT, World, children
from tests.fleet.test_crashes import states
from tests.fleet.test_delivery import make, publish
from tests.waiting import wait_until

BIN = Path(sys.executable).parent
TOKEN = "a-token-for-the-tests-of-honcho"
APP = {"EVENTBUS_APP": "tests.fleet.app:bus"}


def command(name: str) -> str:
    """The path of a command installed beside this Python."""
    path = shutil.which(name, path=f"{BIN}{os.pathsep}{os.environ['PATH']}")
    if path is None:
        pytest.fail(f"The command {name!r} is not installed: pip install -e '.[test]'.")
    return path


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def asked(port: str, path: str, token: str = "") -> Any:
    """Return the JSON that a web process answers with."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with urlopen(Request(f"http://127.0.0.1:{port}{path}", headers=headers), timeout=30) as answer:
        return json.load(answer)


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


def test_honcho_runs_web_worker_and_archiver_from_the_procfile(world: World) -> None:
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    where = ["-f", str(ROOT / "Procfile"), "-d", str(world.tmp_path)]
    honcho = world.run(
        [command("honcho"), *where, "start", "-p", str(free_port()), "web", "worker", "archiver"],
        "honcho",
        PATH=path,
        EVENTBUS_WEB_TOKEN=TOKEN,
        **APP,
    )
    listens = wait_until(
        lambda: re.search(r"running on http://0\.0\.0\.0:(\d+)", world.log("honcho")), 60, "the web process to listen"
    )
    wait_until(lambda: len(world.consumers()) == 2, 30, f"two workers to read; {world.log('honcho')}")
    events = [make("WORK", n=n) for n in range(50)]

    publish(world, *events)
    wait_until(lambda: states(world, "Plain") == {"done": 50}, 30, f"the store to say so; {world.log('honcho')}")
    assert asked(listens[1], "/readyz") == {"ready": True, "redis": "ok", "database": "ok"}
    assert asked(listens[1], "/api/v1/lag", TOKEN)["Plain"]["workers"] == 2
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
