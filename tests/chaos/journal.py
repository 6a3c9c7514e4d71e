"""Journals: what processes did, a line each, in files that survive whoever wrote them.

A line is one write of an append-only file, so a kill leaves it whole or not at all.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

VARIABLE = "CHAOS_JOURNAL"


@cache
def _file(pid: int) -> int:
    name = f"{pid}-{os.urandom(4).hex()}.jsonl"
    return os.open(Path(os.environ[VARIABLE]) / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)


def note(word: str, **what: object) -> None:
    """Write a line of this process: the word, the time in seconds (monotonic, of the machine), and more."""
    line = json.dumps({"word": word, "at": time.monotonic(), "pid": os.getpid(), **what})
    os.write(_file(os.getpid()), line.encode() + b"\n")


def read(directory: Path) -> Iterator[dict[str, Any]]:
    """Iterate over the lines of all processes, in the order of their times."""
    lines = [json.loads(line) for path in directory.glob("*.jsonl") for line in path.read_text().splitlines()]
    yield from sorted(lines, key=lambda line: float(line["at"]))
