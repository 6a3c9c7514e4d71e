"""Every command explains itself, quickly, and all in one manner."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import pytest
import typer.main

from console.main import app
from tests.console.command import COMMAND, Place

COMMANDS = (
    "demo", "dev", "worker", "archive", "migrate", "publish", "tail", "replay", "chain", "stats", "doctor", "dead",
    "web", "lag", "workers", "bench", "top", "completion", "asyncapi", "show",
)  # fmt: skip
GROUPS = {
    "subscriptions": ("list", "show", "pause", "resume", "set", "drop", "remove-types"),
    "schedules": ("list", "forget"),
}


def test_the_help_names_every_command_and_every_exit_code(place: Place) -> None:
    shown = place.run("--help")

    assert shown.code == 0 and not shown.err
    assert all(f"\n  {name} " in shown.out for name in COMMANDS)
    assert "Exit codes: 0 done; 1" in shown.out
    assert "..." not in shown.out.partition("Commands:")[2]


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_a_help_with_examples(place: Place, name: str) -> None:
    shown = place.run(name, "--help")

    assert shown.code == 0 and not shown.err
    assert f"Usage: eventbus {name}" in shown.out
    assert f"\n    eventbus {name}" in shown.out or f" eventbus {name}" in shown.out.partition("Examples:")[2]


@pytest.mark.parametrize(("group", "name"), [(group, name) for group, names in GROUPS.items() for name in names])
def test_each_command_of_a_group_has_a_help_with_examples(place: Place, group: str, name: str) -> None:
    listed, shown = place.run(group, "--help"), place.run(group, name, "--help")

    assert f"\n  {name} " in listed.out and "..." not in listed.out.partition("Commands:")[2]
    assert shown.code == 0 and not shown.err
    assert f" eventbus {group} {name}" in shown.out.partition("Examples:")[2]


def test_the_help_leads_to_the_console(place: Place) -> None:
    begin = place.run("--help").out.partition("Begin with:")[2].partition("\n\n")[0]

    assert "eventbus web " in begin and "http://localhost:8080" in begin


def test_the_version_is_shown(place: Place) -> None:
    shown = place.run("--version")

    assert shown.code == 0
    assert shown.out.startswith("eventbus ")


def test_no_command_at_all_shows_the_help_as_a_mistake(place: Place) -> None:
    assert place.run().code == 2
    assert not list(place.directory.iterdir())


def test_loading_the_command_loads_no_driver(place: Place) -> None:
    heavy = ("sqlalchemy", "alembic", "redis", "dramatiq", "PIL", "rich.console", "events.bus")
    assert all(find_spec(name.partition(".")[0]) for name in heavy)
    code = f"import sys, console.main; print([name for name in {heavy!r} if name in sys.modules])"

    loaded = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=place.directory,
        env=place.environ(),
        check=True,
    )

    assert loaded.stdout.strip() == "[]"


def test_what_a_help_costs_is_told(place: Place, measured: Callable[[str], None]) -> None:
    before, began = os.times(), time.monotonic()
    subprocess.run([*COMMAND, "--help"], cwd=place.directory, env=place.environ(), check=True, capture_output=True)
    took_s, after = time.monotonic() - began, os.times()

    cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
    assert cpu_s > 0
    measured(f"`eventbus --help` from its start to its end: {cpu_s:.2f} s of CPU, {took_s:.2f} s by the clock")


# in one manner


def leaves(command: Any = None, path: str = "eventbus") -> Iterator[tuple[str, Any]]:
    """Every command that does something, with the words by which it is called."""
    command = command or typer.main.get_command(app)
    for name, one in getattr(command, "commands", {}).items():
        yield from leaves(one, f"{path} {name}")
    if not hasattr(command, "commands"):
        yield path, command


LEAVES = dict(leaves())
EACH = pytest.mark.parametrize("path", LEAVES)
# Options that have a short form have it everywhere; those that are not here have none.
SHORT = {
    "--project": "-p", "--type": "-t", "--subscriber": "-s", "--limit": "-n", "--yes": "-y", "--follow": "-f",
    "--file": "-f", "--depth": "-d",
}  # fmt: skip
WITHOUT_JSON = {
    "eventbus dev": "runs until it is stopped, and logs",
    "eventbus worker": "runs until it is stopped, and logs",
    "eventbus web": "runs until it is stopped, and logs",
    "eventbus completion": "prints a script for a shell",
}


def options(command: Any) -> list[Any]:
    return [one for one in command.params if one.param_type_name == "option" and "--help" not in one.opts]


@EACH
def test_a_help_begins_with_a_short_sentence_and_ends_with_examples_of_the_command(path: str) -> None:
    text = LEAVES[path].help
    first = text.partition("\n\n")[0]

    assert first.endswith(".") and "\n" not in first and len(first) < 68, "it is shown whole in the list of commands"
    assert path in text.partition("Examples:")[2] and "`" not in first


@EACH
def test_a_usage_repeats_no_brackets_and_dots(path: str) -> None:
    command = LEAVES[path]
    usage = command.get_usage(command.make_context(path, ["--help"], resilient_parsing=True))

    assert "[[" not in usage and "...]..." not in usage and "...}..." not in usage


@EACH
def test_an_option_is_spelt_as_elsewhere(path: str) -> None:
    for option in options(LEAVES[path]):
        long, *short = sorted(option.opts, key=len, reverse=True)
        # The actor has a short form where it is what one filters or publishes by.
        assert short == ([SHORT[long]] if long in SHORT else ["-a"] if long == "--actor" else []), option.opts
        assert option.help and option.help.endswith(".") and (option.is_flag or option.metavar), option.opts


@EACH
def test_what_prints_prints_json_too_and_says_so_last(path: str) -> None:
    names = [max(option.opts, key=len) for option in options(LEAVES[path])]

    assert ("--json" in names) == (path not in WITHOUT_JSON) and (path in WITHOUT_JSON or names[-1] == "--json")


# What each `--json` says of its shape; all others print one object.
ARRAYS = {"eventbus subscriptions list", "eventbus workers list", "eventbus schedules list"}
OBJECTS_A_LINE = {
    "eventbus dead list", "eventbus dead show", "eventbus dead retry", "eventbus dead discard", "eventbus dead purge",
    "eventbus deliveries", "eventbus publish", "eventbus replay", "eventbus scheduled list", "eventbus tail",
    "eventbus top", "eventbus tree", "eventbus subscriptions pause", "eventbus subscriptions resume",
}  # fmt: skip


@EACH
def test_a_help_says_whether_json_is_an_object_a_line_an_array_or_one_object(path: str) -> None:
    said = [option.help for option in options(LEAVES[path]) if "--json" in option.opts]
    shape = "one JSON array" if path in ARRAYS else "one JSON object a line" if path in OBJECTS_A_LINE else "JSON"

    assert [text for text in said if not text.startswith(f"Print {shape}")] == []
    assert shape != "JSON" or not any("one JSON" in text for text in said)


def test_where_there_is_nothing_an_array_is_empty_and_lines_are_none(place: Place) -> None:
    assert place.run("publish", "QA_REPORT", "-p", "P", "-a", "x").code == 0

    assert [place.run(*path.split()[1:], "--json").out for path in sorted(ARRAYS)] == ["[]\n"] * 3
    for words in ("dead list", "deliveries", "replay --type NOBODY", "scheduled list", "tail --type NOBODY"):
        assert place.run(*words.split(), "--json").out == "", words
