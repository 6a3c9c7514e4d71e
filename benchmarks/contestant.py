"""What takes part: a module of `benchmarks/peers/`, each as its own users would configure it for speed.

A module has these names; those marked with a question mark may be missing, and the work is not measured then:

    LABEL                     its name in tables
    PROMISE                   `at least once`, `at most once`: what a worker's crash does to what it holds
    PACKAGES                  distributions that it needs; without one of them it is left out, and said so
    publish_one(url)          an asynchronous context manager that gives `await send(numbers)`: events one after
                              another, each acknowledged before the next                                      ?
    publish_bulk(url)         likewise: as fast as it can; all are acknowledged when `send` returns            ?
    prepare(url)              what has to be there before the first publish: routes, groups                   ?
    workers(url, processes)   commands, one for each process to start, that handle events into the ledger     ?
"""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType

NAMES = (
    "raw", "eventbus", "dramatiq", "celery", "taskiq", "faststream", "arq", "rq", "saq", "huey", "streaq",
)  # fmt: skip


class Absent(Exception):
    """A contestant cannot take part; the sentence says why."""


def load(name: str) -> ModuleType:
    """Return a contestant's module.

    Raises:
        Absent: a package that it needs is not installed, or nobody has that name.
    """
    if name not in NAMES:
        raise Absent(f"{name!r} is no contestant; these are: {', '.join(NAMES)}.")
    try:
        module = importlib.import_module(f"benchmarks.peers.{name}")
        for package in module.PACKAGES:
            version(package)
    except (ImportError, PackageNotFoundError) as error:
        raise Absent(f"{name} is left out: {error} (pip install -r benchmarks/requirements.txt).") from None
    return module


def versions(module: ModuleType) -> str:
    """Return the packages that it stands on, with their versions."""
    return ", ".join(f"{package} {version(package)}" for package in module.PACKAGES)
