"""Runs the real command as a process of its own, in a directory of its own.

Commands that end by themselves are forked, see `prefork`; those that start processes, and those that are
signalled, are started as users start them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tests.console.prefork import Prefork

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-P", "-m", "console.main"]
STARTS_OTHERS = ("bench", "demo", "dev", "worker")
TIMEOUT_S = 60


@cache
def prefork() -> Prefork:
    """Return this process's: every test of it shares one."""
    return Prefork()


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """Return stdout, one JSON value."""
        return json.loads(self.out)

    def json_lines(self) -> list[Any]:
        """Return stdout, one JSON value a line."""
        return [json.loads(line) for line in self.out.splitlines()]

    def sentence(self) -> str:
        """Return the one sentence that stderr holds."""
        assert "Traceback" not in self.err, self.err
        lines = self.err.strip().splitlines()
        assert len(lines) == 1 and lines[0].startswith("eventbus: "), self.err
        return lines[0].removeprefix("eventbus: ")


@dataclass(frozen=True)
class Place:
    """A directory in which commands run, and the variables that they see besides the bare ones."""

    directory: Path
    variables: dict[str, str]

    def run(self, *arguments: object, stdin: str | bytes | None = None, **variables: str) -> Ended:
        """Run a command to its end."""
        given = stdin.encode() if isinstance(stdin, str) else stdin or b""
        words, environment = [str(argument) for argument in arguments], self.environ(variables)
        if words and words[0] in STARTS_OTHERS:
            done = subprocess.run(
                [*COMMAND, *words], input=given, capture_output=True, cwd=self.directory, env=environment,
                timeout=TIMEOUT_S,
            )  # fmt: skip
            return Ended(done.returncode, done.stdout.decode(), done.stderr.decode())
        code, out, err = prefork().run(words, cwd=self.directory, env=environment, stdin=given, timeout_s=TIMEOUT_S)
        return Ended(code, out.decode(), err.decode())

    def start(self, *arguments: object, **variables: str) -> subprocess.Popen[str]:
        """Start a command; its output comes through pipes."""
        return subprocess.Popen(
            [*COMMAND, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.directory,
            env=self.environ(variables),
        )

    def environ(self, variables: dict[str, str] | None = None) -> dict[str, str]:
        """Return the environment of a command: nothing of the tester's own settings."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("EVENTBUS_") and name not in ("REDIS_URL", "DATABASE_URL", "COLUMNS", "NO_COLOR")
        }
        return {**kept, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **self.variables, **(variables or {})}
