"""What takes part: a module of `benchmarks/peers/`, each as its own users would configure it for speed.

A module has these names; those marked with a question mark may be missing, and the work is not measured then.
At its top it imports nothing that has to be installed: peers whose packages cannot stand beside others have an
interpreter of their own (`--python NAME=PATH`).

    LABEL                      its name in tables
    PROMISE                    what a worker's crash does to what it holds
    PACKAGES                   distributions that it needs; without one of them it is left out, and said so
    prepare(url)               what has to be there before the first publish: routes, groups                      ?
    publish_one(url)           an asynchronous context manager that gives `await send(numbers)`: events one after
                               another, each acknowledged before the next                                         ?
    publish_hundred(url)       likewise: a hundred at once, each awaited by itself                                ?
    publish_bulk(url)          likewise: as fast as it can; all are acknowledged when `send` returns              ?
    workers(python, url, processes)   commands, one for each process to start, that handle events into the ledger ?
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType

NAMES = (
    "raw", "eventbus", "eventbus_async", "eventbus_batch", "dramatiq", "dramatiq_prefetch", "celery", "taskiq",
    "faststream", "faststream_batch", "arq", "rq", "saq", "huey", "streaq",
)  # fmt: skip
_VERSIONS = "import sys, json, importlib.metadata as m; print(json.dumps({p: m.version(p) for p in sys.argv[1:]}))"


@dataclass(frozen=True, slots=True)
class Contestant:
    """One that takes part.

    Attributes:
        python: the interpreter that has its packages. versions: of these.
    """

    name: str
    module: ModuleType
    python: str
    versions: Mapping[str, str]

    def can(self, needs: tuple[str, ...]) -> bool:
        """Whether it has all of these names."""
        return all(hasattr(self.module, name) for name in needs)


class Absent(Exception):
    """A contestant cannot take part; the sentence says why."""


def load(name: str, python: str = sys.executable) -> Contestant:
    """Return a contestant.

    Raises:
        Absent: a package that it needs is not installed, or nobody has that name.
    """
    if name not in NAMES:
        raise Absent(f"{name!r} is no contestant; these are: {', '.join(NAMES)}.")
    module = importlib.import_module(f"benchmarks.peers.{name}")
    asked = subprocess.run([python, "-c", _VERSIONS, *module.PACKAGES], capture_output=True, text=True)
    if asked.returncode:
        lacks = asked.stderr.strip().rpartition("\n")[2]
        raise Absent(f"{name} is left out: {lacks} (see benchmarks/requirements.txt, and --python).")
    return Contestant(name, module, python, json.loads(asked.stdout))
