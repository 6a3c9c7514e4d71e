"""Loads the Lua scripts and calls them: EVALSHA, and the source once where the server lacks it.

A script is its own file in `events/lua/`, with the key legend and `library.lua` before it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import redis

from events.connection import Client, exchange, mapped
from events.keys import Keys, lua_legend

NAMES = (
    "publish", "settle", "renew", "reap", "promote", "begin",
    "open", "declare", "undeclare", "steer", "fill", "drop", "resolve", "archived", "tail", "position",
    "redeliver", "mend", "names",
    "schedule", "release", "cancel", "agenda", "plan", "slot",
    "waits", "hasten",
)  # fmt: skip

Argument = str | bytes | int


def sources() -> dict[str, str]:
    """Return every script's whole text by name."""
    folder = files("events") / "lua"
    library = lua_legend() + (folder / "library.lua").read_text()
    return {name: library + (folder / f"{name}.lua").read_text() for name in NAMES}


class Scripts:
    """The scripts of one namespace on one client. Threads may share it, as they may the client.

    Args:
        client: where to call.
        keys: the namespace.
        texts: the scripts' sources; tests plant mutations here.
    """

    def __init__(self, client: Client, keys: Keys, texts: Mapping[str, str] | None = None) -> None:
        self.client = client
        self.keys = keys
        self._texts = dict(texts or sources())
        self._shas = {
            name: hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest() for name, text in self._texts.items()
        }
        self._meta = keys("meta")

    def command(self, name: str, arguments: Sequence[Argument]) -> tuple[Argument, ...]:
        """Return the command that runs a script which the server knows."""
        return ("EVALSHA", self._shas[name], 1, self._meta, *arguments)

    def call(self, name: str, arguments: Sequence[Argument]) -> Any:
        """Run a script; its reply comes as bytes, integers and lists.

        Raises:
            RedisUnavailable: the script may or may not have run.
            ScriptFailed: Redis answered with an error.
        """
        with mapped(self.client):
            try:
                return exchange(self.client, *self.command(name, arguments))
            except redis.exceptions.NoScriptError:
                return exchange(self.client, "EVAL", self._texts[name], 1, self._meta, *arguments)
