"""This bus with a handler that takes a hundred events in a call."""

from __future__ import annotations

import asyncio
import os

from benchmarks.peers import eventbus
from console.bench.ledger import VARIABLE, marks
from events import Event, EventBus
from events.settings import Settings

LABEL = "eventbus, batches"
PROMISE = eventbus.PROMISE
PACKAGES = eventbus.PACKAGES


def make(settings: Settings | None = None) -> EventBus:
    """Return a bus with the subscriber that the workers run."""
    made = EventBus(settings)
    handled = marks() if VARIABLE in os.environ else bytearray()

    @made.subscriber("Bench", ["SHOT_PLANNED"], batch=100)
    def handle(events: list[Event]) -> None:
        for event in events:
            handled[event.payload["n"]] += 1

    return made


bus = make()
publish_bulk = eventbus.publish_bulk


def prepare(url: str) -> None:
    """Declare the subscriber, as a worker's start does."""
    asyncio.run(eventbus.declared(make(Settings.from_env().with_(redis_url=url))))


def workers(python: str, url: str, processes: int) -> list[list[str]]:
    command = [python, "-m", "console.main", "worker", "--app", f"{__name__}:bus"]
    return [[*command, "--processes", str(processes)]]
