"""This bus in states that grew: as many projects, types and subscribers as `SCALE` in the environment says.

It is no contestant of the tables of peers; `benchmarks.flat` compares it with itself.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass

from benchmarks.load import body
from benchmarks.peers import eventbus
from benchmarks.peers.eventbus import Send
from console.bench.ledger import VARIABLE, marks
from events import Event, EventBus
from events.publisher import Receipt
from events.settings import Settings

LABEL = "eventbus"
PROMISE = eventbus.PROMISE
PACKAGES = eventbus.PACKAGES
SCALE = "BENCH_SCALE"
_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True)
class Scale:
    """How wide everything is: event number n is of type n modulo `types` and of project n modulo `projects`.

    Attributes:
        subscribers: of each type.
    """

    projects: int = 10
    types: int = 1
    subscribers: int = 1

    def written(self) -> str:
        """Return it as the environment of a round holds it."""
        return json.dumps(asdict(self))


scale = Scale(**json.loads(os.environ.get(SCALE, "{}")))


def make(settings: Settings | None = None) -> EventBus:
    """Return a bus with the subscribers that the workers run; number k marks event n at n * subscribers + k."""
    made = EventBus(settings)
    handled = marks() if VARIABLE in os.environ else bytearray()
    for kind in range(scale.types):
        for number in range(scale.subscribers):

            def handle(event: Event, number: int = number) -> None:
                handled[event.payload["n"] * scale.subscribers + number] += 1

            made.subscriber(f"Bench{kind}x{number}", [_type(kind)])(handle)
    return made


def _type(kind: int) -> str:
    return f"SHOT_PLANNED_{kind}"


def event(n: int) -> Event:
    """Return event number n: some 300 bytes of JSON."""
    payload = {"n": n, "text": body(n)["text"][:108]}
    kind, project = _type(n % scale.types), f"P-{n % scale.projects}"
    return Event(project_id=project, type=kind, actor="ShotDirector", payload=payload)


@asynccontextmanager
async def publish_bulk(url: str) -> AsyncIterator[Send]:
    """As fast as it can, so many at a time that a million fit into memory."""
    async with eventbus.publishing(url) as publisher:

        async def send(numbers: range) -> None:
            for start in range(numbers.start, numbers.stop, _AT_ONCE):
                some = range(start, min(start + _AT_ONCE, numbers.stop))
                answers = await publisher.publish_many([event(n) for n in some])
                assert all(isinstance(answer, Receipt) and answer.is_new for answer in answers)

        yield send


@asynccontextmanager
async def publish_one(url: str) -> AsyncIterator[Send]:
    """One awaited after another."""
    async with eventbus.publishing(url) as publisher:

        async def send(numbers: range) -> None:
            for n in numbers:
                await publisher.publish(event(n))

        yield send


@asynccontextmanager
async def publish_unheard(url: str) -> AsyncIterator[Send]:
    """In bulk, of a type that nobody subscribes to: history alone grows."""
    async with eventbus.publishing(url) as publisher:

        async def send(numbers: range) -> None:
            for start in range(numbers.start, numbers.stop, _AT_ONCE):
                some = range(start, min(start + _AT_ONCE, numbers.stop))
                await publisher.publish_many([event(n).model_copy(update={"type": "UNHEARD"}) for n in some])

        yield send


def prepare(url: str) -> None:
    """Declare the subscribers, as a worker's start does."""
    asyncio.run(eventbus.declared(make(Settings.from_env().with_(redis_url=url))))


def workers(python: str, url: str, processes: int) -> list[list[str]]:
    command = [python, "-m", "console.main", "worker", "--app", f"{__name__}:bus"]
    return [[*command, "--processes", str(processes)]]


bus = make()
