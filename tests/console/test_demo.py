"""`eventbus demo`: one command takes a story through the fleet, and what it prints is true."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis

from console.demo import pipeline
from console.demo.run import _leave
from events import Event
from events.inspection import Inspection
from events.settings import Settings
from examples.storyboard.text import MAX_SCENES, MAX_SHOTS
from tests.console.command import ROOT, Place
from tests.valkey_servers import free_port

STORY = """The Fox and the Crow

One morning a Fox met a Crow in the forest. The proud Crow sat on a branch with a piece of cheese.

"What a lovely voice you have!" said the Fox. The Crow was happy, and opened her beak to sing at dusk.
"""

OTHERS = """
from events import Event, EventBus

bus = EventBus()
bus.subscriber("Mine", ["PROJECT_CREATED"])(print)
bus.publish_sync(Event(project_id="P", type="X", actor="A"))
bus.close()
"""


FLEET = """
from console.demo.pipeline import bus as make_bus
from events import Event

bus = make_bus()
bus.publish_sync(Event(project_id="P", type="X", actor="A"))
bus.close()
"""


@pytest.fixture
def installed(place: Place) -> Place:
    """A place where a shell finds the command as it does after `pip install`."""
    program = place.directory / "bin" / "eventbus"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\nfrom console.main import main\nmain()\n", encoding="utf-8")
    program.chmod(0o755)
    return Place(
        place.directory, {"PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    )


def _shell(place: Place, command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, cwd=place.directory, env=place.environ(), timeout=120
    )


def test_a_story_becomes_a_storyboard_and_every_printed_command_works(installed: Place) -> None:
    (installed.directory / "crow.txt").write_text(STORY, encoding="utf-8")
    (installed.directory / "examples").mkdir()
    (installed.directory / "examples" / "__init__.py").write_text("raise ImportError('not ours')", encoding="utf-8")

    ended = _shell(installed, "eventbus demo crow.txt --out made")

    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    made = {path.name for path in (installed.directory / "made").iterdir()}
    assert made >= {"storyboard.gif", "contact_sheet.png", "soundtrack.wav", "storyboard.json"}
    report, _, commands = ended.stdout.partition("\nLook further\n")
    assert "PROJECT_CREATED  Author" in report and "└─ PROJECT_FINALIZED  Editor  $0.05" in report
    assert "\ntotal " in report and "\nSHOT_PLANNED " in report
    assert "made/storyboard.gif" in report

    for command in filter(None, map(str.strip, commands.splitlines())):
        assert command.startswith("eventbus "), command
        # The console runs until it is stopped.
        shown = _shell(installed, f"{command} --help" if command.endswith(" web") else command)
        assert shown.returncode == 0, (command, shown.stderr, shown.stdout)
        assert shown.stdout or "CONSISTENCY_FAILED" in command
    assert "eventbus web" in commands and "eventbus top" in commands
    chain = next(line for line in commands.splitlines() if "chain" in line)
    assert _shell(installed, chain).stdout.splitlines()[1].split()[3] == "PROJECT_CREATED"
    numbers = installed.run("stats", "--json").json()
    assert all(one["waiting"] == one["dead"] == 0 for one in numbers["deliveries"])
    assert len(numbers["deliveries"]) == 8


def test_the_demo_does_not_disturb_a_namespace_that_others_use(installed: Place) -> None:
    (installed.directory / "pipeline.py").write_text(OTHERS, encoding="utf-8")
    assert _shell(installed, f"{shlex.quote(sys.executable)} pipeline.py").returncode == 0

    ended = installed.run("demo")

    assert "has subscribers of its own (Mine)" in ended.err and "Traceback" not in ended.err
    assert ended.code == 2


def test_routes_that_somebody_had_before_stay_and_what_was_lost_on_the_way_is_said(
    place: Place, redis_url: str
) -> None:
    (place.directory / "app.py").write_text(FLEET, encoding="utf-8")
    (place.directory / "long.txt").write_text("The fox \U00013000 ran on. " * 500, encoding="utf-8")
    (place.directory / ".eventbus").mkdir()
    (place.directory / ".eventbus" / "demo.log").write_text("an earlier run\n", encoding="utf-8")
    where = {"REDIS_URL": redis_url, "EVENTBUS_HOME": str(place.directory / ".eventbus")}
    subscribed = subprocess.run(
        [sys.executable, "app.py"], cwd=place.directory, env=place.environ(where), capture_output=True, text=True
    )
    assert subscribed.returncode == 0, subscribed.stderr

    ended = place.run("demo", "long.txt", **where)

    assert ended.code == 0, ended.err
    with redis.Redis.from_url(redis_url) as client:
        assert client.hget("{eventbus}:sub:Editor", "types") == b"MUSIC_COMPOSED\tPREVIEW_VIDEO_READY"
    assert "nobody says" not in ended.err
    assert "Note: The story was condensed to 8 scenes and" in ended.err
    assert "Note: No font was found for" in ended.err
    assert (place.directory / ".eventbus" / "demo.log").read_text("utf-8").startswith("an earlier run\n")


def test_workers_of_others_keep_the_routes(redis_url: str, tmp_path: Path) -> None:
    settings = Settings(redis_url=redis_url, home=str(tmp_path))
    bus = pipeline.bus(settings)
    inspection = Inspection(bus.backend.namespace)
    bus.publish_sync(Event(project_id="P", type="X", actor="A"))

    with redis.Redis.from_url(redis_url) as client:
        client.zadd("{eventbus}:workers", {"other-1-ab": time.time() * 1e6})
        _leave(bus, inspection)
        kept = inspection.queues()
        client.delete("{eventbus}:workers")
    _leave(bus, inspection)
    left = inspection.queues()
    bus.close()

    assert len(kept) == 8 and all(queue.types for queue in kept)
    assert not any(queue.types for queue in left)


def test_servers_that_cannot_be_used_end_the_demo_before_it_begins(place: Place, redis_url: str) -> None:
    unreachable = place.run("demo", REDIS_URL=f"redis://127.0.0.1:{free_port()}/0")
    bare = place.run("demo", REDIS_URL=redis_url, DATABASE_URL=f"sqlite:///{place.directory / 'events.db'}")

    assert "cannot be reached" in unreachable.sentence() and unreachable.code == 1
    assert "has no event bus schema" in bare.sentence() and bare.code == 1
    assert not (place.directory / ".eventbus" / "demo.log").exists()


def test_the_help_says_what_the_demo_needs_and_how_much_it_draws(place: Place) -> None:
    shown = " ".join(place.run("demo", "--help").out.split())

    assert "a database that `eventbus migrate` must have prepared" in shown
    assert f"condensed to {MAX_SCENES} scenes and {MAX_SHOTS} shots" in shown


def test_ctrl_c_ends_the_demo_with_130_and_leaves_no_process(installed: Place) -> None:
    demo = installed.start("demo")
    assert demo.stderr is not None
    first = demo.stderr.readline()
    second = demo.stderr.readline()
    demo.send_signal(signal.SIGINT)
    _, rest = demo.communicate(timeout=60)

    assert demo.returncode == 130, first + second + rest
    assert "interrupted" in rest and "Traceback" not in rest
    assert not _processes_in(installed.directory / ".eventbus")


def _processes_in(directory: Path) -> list[str]:
    """Return the command lines of processes that work in a directory."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                if (entry / "cwd").resolve() == directory and "workers" in (entry / "cmdline").read_text():
                    found.append((entry / "cmdline").read_text())
            except OSError:
                continue
    return found
