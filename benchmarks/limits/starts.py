"""How long it takes until something can be used: an import, a help text, a worker."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.contestant import load
from benchmarks.limits.limit import Limit, Sides
from benchmarks.works import turn


def _seconds(*command: str) -> float:
    began = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - began


@contextmanager
def _starting(events: int) -> Iterator[Sides]:
    yield {
        "import events": lambda: _seconds(sys.executable, "-c", "import events"),
        "eventbus --help": lambda: _seconds(sys.executable, "-m", "console.main", "--help"),
        "Python alone": lambda: _seconds(sys.executable, "-c", "pass"),
    }


@contextmanager
def _first_event(events: int) -> Iterator[Sides]:
    yield {"from its command to the first event handled": _worker}


def _worker() -> float:
    with turn(load("eventbus"), 1) as at:
        at.publish("bulk", 0, 1)
        began = time.monotonic()
        at.launch()
        return at.ledger.wait(1, 30) - began


LIMITS = (
    Limit("start", "Starting", "s", _starting),
    Limit("first-event", "A worker's first event", "s", _first_event),
)
