"""`eventbus demo`: one command takes a story through the fleet, and what it prints is true."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.console.command import ROOT, Place

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
        shown = _shell(installed, command)
        assert shown.returncode == 0, (command, shown.stderr, shown.stdout)
        assert shown.stdout or "CONSISTENCY_FAILED" in command
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
