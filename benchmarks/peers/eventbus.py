"""This bus, as its users run it: `eventbus worker`, a subscriber of one type, SQLite beside it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from benchmarks.load import body, project
from console.bench.ledger import VARIABLE, marks
from events import Event, EventBus
from events.publisher import Receipt
from events.settings import Settings

LABEL = "eventbus"
PROMISE = "at least once, each outcome recorded"
PACKAGES = ("multi-agent-event-bus",)

Send = Callable[[range], Awaitable[None]]


def make(settings: Settings | None = None) -> EventBus:
    """Return a bus with the subscriber that the workers run."""
    made = EventBus(settings)
    handled = marks() if VARIABLE in os.environ else bytearray()

    @made.subscriber("Bench", ["SHOT_PLANNED"])
    def handle(event: Event) -> None:
        handled[event.payload["n"]] += 1

    return made


bus = make()


def event(n: int) -> Event:
    """Return event number n: some 300 bytes of JSON, as those of peers."""
    payload = {"n": n, "text": body(n)["text"][:108]}
    return Event(project_id=project(n), type="SHOT_PLANNED", actor="ShotDirector", payload=payload)


@asynccontextmanager
async def publishing(url: str) -> AsyncIterator[EventBus]:
    publisher = EventBus(Settings.from_env().with_(redis_url=url))
    await publisher.publish(Event(project_id="warm", type="WARM_UP", actor="bench"))
    yield publisher
    await publisher.disconnect()


@asynccontextmanager
async def publish_one(url: str) -> AsyncIterator[Send]:
    async with publishing(url) as publisher:

        async def send(numbers: range) -> None:
            for n in numbers:
                await publisher.publish(event(n))

        yield send


@asynccontextmanager
async def publish_hundred(url: str) -> AsyncIterator[Send]:
    """A hundred at once, each awaited by itself."""
    async with publishing(url) as publisher:

        async def some(numbers: range) -> None:
            for n in numbers:
                await publisher.publish(event(n))

        async def send(numbers: range) -> None:
            await asyncio.gather(*(some(numbers[start::100]) for start in range(100)))

        yield send


@asynccontextmanager
async def publish_bulk(url: str) -> AsyncIterator[Send]:
    async with publishing(url) as publisher:

        async def send(numbers: range) -> None:
            answers = await publisher.publish_many([event(n) for n in numbers])
            assert all(isinstance(answer, Receipt) and answer.is_new for answer in answers)

        yield send


def prepare(url: str) -> None:
    """Declare the subscriber, as a worker's start does."""
    asyncio.run(declared(make(Settings.from_env().with_(redis_url=url))))


async def declared(declaring: EventBus) -> None:
    """Write the subscribers of a bus, and end it."""
    await declaring.publish(Event(project_id="warm", type="WARM_UP", actor="bench"))
    await declaring.disconnect()


def workers(python: str, url: str, processes: int) -> list[list[str]]:
    command = [python, "-m", "console.main", "worker", "--app", "benchmarks.peers.eventbus:bus"]
    return [[*command, "--processes", str(processes)]]
