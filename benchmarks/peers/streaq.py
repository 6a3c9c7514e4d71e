"""streaQ: a hundred tasks at once in each process."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from benchmarks.load import body
from console.bench.ledger import VARIABLE, marks

LABEL = "streaQ"
PROMISE = "at least once"
PACKAGES = ("streaq",)


def made(url: str) -> tuple[Any, Any]:
    """Return a worker and its task."""
    from streaq import Worker

    worker = Worker(redis_url=url, concurrency=100)
    handled = marks() if VARIABLE in os.environ else bytearray()

    @worker.task(name="handle", ttl=0)
    async def handle(event: dict[str, Any]) -> None:
        handled[event["n"]] += 1

    return worker, handle


@asynccontextmanager
async def publish_one(url: str) -> AsyncIterator[Callable[[range], Awaitable[None]]]:
    worker, task = made(url)
    async with worker:

        async def send(numbers: range) -> None:
            for n in numbers:
                await task.enqueue(body(n))

        yield send


@asynccontextmanager
async def publish_bulk(url: str) -> AsyncIterator[Callable[[range], Awaitable[None]]]:
    worker, task = made(url)
    async with worker:

        async def send(numbers: range) -> None:
            for start in range(numbers.start, numbers.stop, 500):
                await worker.enqueue_many([task.enqueue(body(n)) for n in range(start, min(start + 500, numbers.stop))])

        yield send


@asynccontextmanager
async def publish_hundred(url: str) -> AsyncIterator[Callable[[range], Awaitable[None]]]:
    async with publish_one(url) as one:

        async def send(numbers: range) -> None:
            await asyncio.gather(*(one(numbers[start::100]) for start in range(100)))

        yield send


def workers(python: str, url: str, processes: int) -> list[list[str]]:
    code = f"import asyncio; from benchmarks.peers.streaq import made; made({url!r})[0].run_sync()"
    return [[python, "-c", code]] * processes
