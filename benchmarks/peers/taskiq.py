"""Taskiq on its Redis Streams broker, no result backend; acknowledged when executed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from benchmarks.load import body
from console.bench.ledger import VARIABLE, marks

LABEL = "Taskiq, streams"
PROMISE = "at least once"
PACKAGES = ("taskiq", "taskiq-redis", "redis")


def __getattr__(name: str) -> Any:
    """Make the broker when its command asks for it."""
    if name != "broker":
        raise AttributeError(name)
    return made(os.environ["BENCH_REDIS_URL"])[0]


def made(url: str) -> tuple[Any, Any]:
    """Return a broker and its task."""
    from taskiq_redis import RedisStreamBroker

    broker = RedisStreamBroker(url, queue_name="bench", xread_count=100)
    handled = marks() if VARIABLE in os.environ else bytearray()

    @broker.task(task_name="handle")
    async def handle(event: dict[str, Any]) -> None:
        handled[event["n"]] += 1

    return broker, handle


@asynccontextmanager
async def publish_one(url: str) -> AsyncIterator[Callable[[range], Awaitable[None]]]:
    broker, task = made(url)
    await broker.startup()

    async def send(numbers: range) -> None:
        for n in numbers:
            await task.kiq(body(n))

    yield send
    await broker.shutdown()


@asynccontextmanager
async def publish_hundred(url: str) -> AsyncIterator[Callable[[range], Awaitable[None]]]:
    broker, task = made(url)
    await broker.startup()

    async def some(numbers: range) -> None:
        for n in numbers:
            await task.kiq(body(n))

    async def send(numbers: range) -> None:
        await asyncio.gather(*(some(numbers[start::100]) for start in range(100)))

    yield send
    await broker.shutdown()


publish_bulk = publish_hundred


def workers(python: str, url: str, processes: int) -> list[list[str]]:
    return [
        [python, "-m", "taskiq", "worker", "benchmarks.peers.taskiq:broker", "--workers", str(processes),
         "--max-async-tasks", "200", "--max-prefetch", "200", "--log-level", "WARNING"]
    ]  # fmt: skip
