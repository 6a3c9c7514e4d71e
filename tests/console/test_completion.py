"""Shells complete commands and options, quickly; every command that answers can answer in JSON."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from tests.console.command import COMMAND, Place

HEAVY = ("rich", "sqlalchemy", "redis", "dramatiq", "uvicorn", "events.bus")
PRINTS = {"completion", "asyncapi"}  # a script, a document: in one form each
RUNS_ON = {"dev", "worker", "web"}  # they run until they are stopped, and log
ANSWERS = (
    "archive", "bench", "chain", "dead list", "dead show", "dead retry", "dead discard",
    "dead purge", "deliveries", "demo", "doctor", "export", "import", "lag", "migrate", "prune", "publish",
    "redact", "replay", "scheduled list", "scheduled cancel", "schedules list",
    "schedules forget", "show", "stats", "subscriptions list",
    "subscriptions show", "subscriptions pause", "subscriptions resume", "subscriptions set",
    "subscriptions drop", "subscriptions remove-types", "tail", "top", "tree", "workers list",
)  # fmt: skip


def test_bash_completes_commands_and_options(place: Place) -> None:
    bin_ = place.directory / "bin"
    bin_.mkdir()
    shim = bin_ / "eventbus"
    shim.write_text(f'#!/bin/sh\nexec {" ".join(COMMAND)} "$@"\n')
    shim.chmod(0o755)

    def completed(*words: str) -> set[str]:
        quoted = " ".join(f'"{word}"' for word in words)
        script = (
            'eval "$(eventbus completion bash)"; '
            f"COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; "
            '_eventbus_completion eventbus; printf "%s\\n" "${COMPREPLY[@]}"'
        )
        environment = place.environ({"PATH": f"{bin_}:/usr/bin:/bin"})
        done = subprocess.run(
            ["bash", "-c", script], capture_output=True, text=True, env=environment, cwd=place.directory, timeout=60
        )
        assert done.returncode == 0 and not done.stderr, done.stderr
        return set(done.stdout.split())

    assert completed("eventbus", "t") == {"tail", "top", "tree"}
    assert "--correlation" in completed("eventbus", "tail", "--c")
    assert completed("eventbus", "completion", "") == {"bash", "zsh", "fish"}
    assert completed("eventbus", "stats", "--by", "") == {"type", "actor", "subscriber", "project", "day", "hour"}
    assert completed("eventbus", "deliveries", "--state", "d") == {"done", "dead", "discarded", "dropped"}
    assert completed("eventbus", "worker", "--log-level", "w") == {"warning"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_a_script_that_it_can_read(place: Place, shell: str) -> None:
    printed = place.run("completion", shell)

    assert printed.code == 0 and "_EVENTBUS_COMPLETE" in printed.out
    if (path := shutil.which(shell)) and shell != "fish":
        assert subprocess.run([path, "-n"], input=printed.out, text=True).returncode == 0


def test_a_shell_that_is_not_known_is_a_mistake(place: Place) -> None:
    ended = place.run("completion", "tcsh")

    assert ended.code == 2
    assert ended.sentence() == "The shell must be one of bash, zsh, fish, not 'tcsh'."


def test_completing_loads_nothing_heavy(place: Place) -> None:
    code = (
        "import sys\nfrom console.main import main\n"
        "try:\n    main()\n"
        f"except SystemExit:\n    print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    asked = {"_EVENTBUS_COMPLETE": "complete_bash", "COMP_WORDS": "eventbus t", "COMP_CWORD": "1"}

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=place.directory, env=place.environ(asked)
    )

    assert done.stdout.split() == ["tail", "top", "tree"] and done.stderr.strip() == "[]"


@pytest.mark.parametrize("command", ANSWERS)
def test_a_command_that_answers_can_answer_in_json(place: Place, command: str) -> None:
    assert "--json" in place.run(*command.split(), "--help").out


def test_no_command_is_forgotten_here(place: Place) -> None:
    listed = place.run("--help").out.partition("Commands:")[2]
    names = {line.split()[0] for line in listed.splitlines() if line.startswith("  ") and line[2] != " "}

    assert names == {command.split()[0] for command in ANSWERS} | RUNS_ON | PRINTS
