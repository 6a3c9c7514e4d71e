"""This bus with an async handler."""

from __future__ import annotations

import asyncio
import os

from benchmarks.peers import eventbus
from console.bench.ledger import VARIABLE, marks
from events import Event, EventBus
from events.settings import Settings

LABEL = "eventbus, async"
PROMISE = eventbus.PROMISE
PACKAGES = eventbus.PACKAGES


def make(settings: Settings | None = None) -> EventBus:
    """Return a bus with the subscriber that the workers run."""
    made = EventBus(settings)
    handled = marks() if VARIABLE in os.environ else bytearray()

    @made.subscriber("Bench", ["SHOT_PLANNED"])
    async def handle(event: Event) -> None:
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
