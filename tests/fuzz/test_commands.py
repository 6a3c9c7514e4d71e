"""Whatever the arguments are, a command ends with a code of its own and without a traceback."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
import typer

from console.main import app
from events.bus import EventBus
from events.event import Event
from events.settings import Settings
from tests.console.command import Place
from tests.fuzz.budget import SEED, share
from tests.fuzz.damage import TOKENS
from tests.servers import migrate
from tests.valkey_servers import ValkeyServer

RUN_UNTIL_STOPPED = {"dev", "worker", "demo", "bench", "archive", "web"}
ALWAYS = {"top": ["--once"]}
"""Without which a command runs until it is stopped."""
# Nothing that names a file elsewhere, and nothing that an argument cannot hold.
WORDS = [
    token.decode("utf-8", "surrogateescape") for token in TOKENS if not {0, ord("/")} & set(token) and len(token) < 7000
]
USUAL = [
    "EV-1",
    "P",
    "Painter",
    "SCENE_WRITTEN",
    "1",
    "0",
    "7d",
    "2026-01-31",
    "payload.a=1",
    "a.b=1",
    "none",
    "5:Painter:0",
    "-",
]
NEVER = {"--follow", "-f", "--help", "-h"}  # these wait, or are looked at elsewhere


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A directory whose variables name servers on which an event was published."""
    directory = tmp_path_factory.mktemp("fuzzed")
    database = f"sqlite:///{directory / 'store.db'}"
    migrate(database)
    event = Event(event_id="EV-1", project_id="P", type="SCENE_WRITTEN", actor="A", payload={"a": 1})
    with ValkeyServer() as server:
        bus = EventBus(Settings(redis_url=server.url, database_url=database, timeout_s=30))
        [receipt] = bus.publish_many_sync([event])
        bus.close()
        assert not isinstance(receipt, Exception), receipt
        yield Place(
            directory,
            {
                "REDIS_URL": server.url, "DATABASE_URL": database, "EVENTBUS_RESET_WAIT_S": "0",
                "EVENTBUS_TIMEOUT_S": "30",
            },
        )  # fmt: skip


def every_command() -> list[tuple[list[str], list[Any]]]:
    """Each command that ends by itself: its words, and its parameters."""

    def below(command: Any, words: list[str]) -> Iterator[tuple[list[str], list[Any]]]:
        for name, inner in getattr(command, "commands", {}).items():
            if not words and name in RUN_UNTIL_STOPPED:
                continue
            yield from below(inner, [*words, name])
        if not hasattr(command, "commands"):
            yield words, command.params

    return list(below(typer.main.get_command(app), []))


def arguments(random: Random, parameters: list[Any]) -> list[str]:
    """Some of a command's options and arguments, each with some value."""
    words: list[str] = []
    for parameter in random.sample(parameters, random.randint(0, min(4, len(parameters)))):
        value = random.choice(WORDS + USUAL * 3)
        names = [name for name in parameter.opts if name.startswith("-") and name not in NEVER]
        if names and not getattr(parameter, "is_flag", False):
            words += [random.choice(names), value]
        elif names:
            words.append(random.choice(names))
        elif not any(name in NEVER for name in parameter.opts):
            words.append(value)
    return words


def test_a_command_ends_with_a_code_of_its_own_whatever_its_arguments(place: Place) -> None:
    random, commands, broken = Random(SEED), every_command(), []
    for number in range(share(2)):
        words, parameters = commands[number % len(commands)]
        line = [*words, *ALWAYS.get(" ".join(words), []), *arguments(random, parameters)]
        ended = place.run(*line, stdin=random.choice((b"", b"{", b'{"a": 1}\n\xff', b"[" * 50_000)))
        if ended.code not in (0, 1, 2) or "Traceback" in ended.err or (ended.code and not ended.err + ended.out):
            broken.append(f"{[word[:60] for word in line]} ended with {ended.code}: {ended.err[-600:]}")

    assert not broken, "\n".join(broken)
