"""Every command explains itself, quickly."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

import pytest

from tests.console.command import Place

COMMANDS = (
    "demo", "dev", "worker", "archive", "migrate", "publish", "tail", "replay", "chain", "stats", "doctor", "dead",
    "web", "lag", "workers", "bench", "top", "completion", "asyncapi",
)  # fmt: skip
GROUPS = {"subscriptions": ("list", "show", "pause", "resume", "set", "drop", "remove-types")}


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
