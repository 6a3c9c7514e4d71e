"""arq: jobs on a sorted set, a hundred at once in each process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from benchmarks.load import body
from console.bench.ledger import marks

LABEL = "arq"
PROMISE = "at least once"
PACKAGES = ("arq", "redis")


@asynccontextmanager
async def publish_one(url: str) -> AsyncIterator[Callable[[range], Awaitable[None]]]:
    from arq import create_pool
    from arq.connections import RedisSettings

    pool = await create_pool(RedisSettings.from_dsn(url))

    async def send(numbers: range) -> None:
        for n in numbers:
            await pool.enqueue_job("handle", body(n))

    yield send
    await pool.aclose()


@asynccontextmanager
async def publish_hundred(url: str) -> AsyncIterator[Callable[[range], Awaitable[None]]]:
    async with publish_one(url) as one:

        async def send(numbers: range) -> None:
            await asyncio.gather(*(one(numbers[start::100]) for start in range(100)))

        yield send


publish_bulk = publish_hundred


def workers(python: str, url: str, processes: int) -> list[list[str]]:
    return [[python, "-c", f"from benchmarks.peers.arq import work; work({url!r})"]] * processes


def work(url: str) -> None:
    """Run one worker process."""
    from arq import func, run_worker
    from arq.connections import RedisSettings

    handled = marks()

    async def handle(_: Any, event: dict[str, Any]) -> None:
        handled[event["n"]] += 1

    asyncio.set_event_loop(asyncio.new_event_loop())
    settings = {"functions": [func(handle, name="handle")], "redis_settings": RedisSettings.from_dsn(url)}
    run_worker(settings, max_jobs=100, keep_result=0, poll_delay=0.01)  # type: ignore[arg-type]
