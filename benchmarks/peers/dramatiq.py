"""Stock Dramatiq on its Redis broker: default middleware, eight threads."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

from benchmarks.load import body
from console.bench.ledger import VARIABLE, marks

LABEL = "Dramatiq"
PROMISE = "at least once"
PACKAGES = ("dramatiq", "redis")


@cache
def task(url: str) -> Any:
    """Return the actor, on a broker of its own."""
    import dramatiq
    from dramatiq.brokers.redis import RedisBroker

    broker = RedisBroker(url=url)
    dramatiq.set_broker(broker)
    handled = marks() if VARIABLE in os.environ else bytearray()

    @dramatiq.actor
    def handle(event: dict[str, Any]) -> None:
        handled[event["n"]] += 1

    return handle


@asynccontextmanager
async def publish_one(url: str) -> AsyncIterator[Callable[[range], Awaitable[None]]]:
    actor = task(url)

    async def send(numbers: range) -> None:
        for n in numbers:
            actor.send(body(n))

    yield send


publish_bulk = publish_one  # it has nothing for many at once


def serve() -> None:
    """Declare the actor in a worker process; Dramatiq's command calls it."""
    task(os.environ["BENCH_REDIS_URL"])


def workers(python: str, url: str, processes: int) -> list[list[str]]:
    options = ["--processes", str(processes), "--threads", "8"]
    return [[python, "-m", "dramatiq", "benchmarks.peers.dramatiq:serve", *options]]
