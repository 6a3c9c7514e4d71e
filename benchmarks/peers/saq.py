"""SAQ: a hundred jobs at once in each process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from benchmarks.load import body
from console.bench.ledger import marks

LABEL = "SAQ"
PROMISE = "at least once"
PACKAGES = ("saq", "redis")


@asynccontextmanager
async def publish_one(url: str) -> AsyncIterator[Callable[[range], Awaitable[None]]]:
    from saq import Queue

    queue = Queue.from_url(url)
    await queue.connect()

    async def send(numbers: range) -> None:
        for n in numbers:
            await queue.enqueue("handle", event=body(n), ttl=-1)

    yield send
    await queue.disconnect()


@asynccontextmanager
async def publish_hundred(url: str) -> AsyncIterator[Callable[[range], Awaitable[None]]]:
    async with publish_one(url) as one:

        async def send(numbers: range) -> None:
            await asyncio.gather(*(one(numbers[start::100]) for start in range(100)))

        yield send


publish_bulk = publish_hundred


def workers(python: str, url: str, processes: int) -> list[list[str]]:
    return [[python, "-c", f"from benchmarks.peers.saq import work; work({url!r})"]] * processes


def work(url: str) -> None:
    """Run one worker process."""
    from saq import Queue, Worker

    handled = marks()

    async def handle(_: Any, *, event: dict[str, Any]) -> None:
        handled[event["n"]] += 1

    async def run() -> None:
        await Worker(Queue.from_url(url), functions=[("handle", handle)], concurrency=50).start()

    asyncio.run(run())
