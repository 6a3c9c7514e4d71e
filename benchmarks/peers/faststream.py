"""FastStream on Redis Streams, one event a call, a consumer group."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from benchmarks.load import body
from console.bench.ledger import marks

LABEL = "FastStream, streams"
PROMISE = "at least once, without a take-over"
PACKAGES = ("faststream", "redis")
STREAM, GROUP = "bench", "workers"


def prepare(url: str) -> None:
    """Create the group: what is published before its first worker is up would not be for it."""
    import redis

    with redis.Redis.from_url(url) as client:
        client.xgroup_create(STREAM, GROUP, id="0", mkstream=True)


@asynccontextmanager
async def publish_one(url: str) -> AsyncIterator[Callable[[range], Awaitable[None]]]:
    from faststream.redis import RedisBroker

    async with RedisBroker(url, logger=None) as broker:

        async def send(numbers: range) -> None:
            for n in numbers:
                await broker.publish(body(n), stream=STREAM)

        yield send


@asynccontextmanager
async def publish_hundred(url: str) -> AsyncIterator[Callable[[range], Awaitable[None]]]:
    from faststream.redis import RedisBroker

    async with RedisBroker(url, logger=None) as broker:

        async def some(numbers: range) -> None:
            for n in numbers:
                await broker.publish(body(n), stream=STREAM)

        async def send(numbers: range) -> None:
            await asyncio.gather(*(some(numbers[start::100]) for start in range(100)))

        yield send


@asynccontextmanager
async def publish_bulk(url: str) -> AsyncIterator[Callable[[range], Awaitable[None]]]:
    from faststream.redis import RedisBroker

    async with RedisBroker(url, logger=None) as broker:

        async def send(numbers: range) -> None:
            for start in range(numbers.start, numbers.stop, 1000):
                async with (await broker.connect()).pipeline(transaction=False) as pipe:
                    for n in range(start, min(start + 1000, numbers.stop)):
                        await broker.publish(body(n), stream=STREAM, pipeline=pipe)
                    await pipe.execute()

        yield send


def workers(python: str, url: str, processes: int, batch: int = 0) -> list[list[str]]:
    return [[python, "-c", f"from benchmarks.peers.faststream import work; work({url!r}, {batch})"]] * processes


def work(url: str, batch: int) -> None:
    """Run one process of subscribers."""
    from faststream import AckPolicy, FastStream
    from faststream.redis import RedisBroker, StreamSub

    broker, handled = RedisBroker(url, logger=None), marks()
    options: dict[str, Any] = {"group": GROUP, "consumer": str(os.getpid()), "polling_interval": 100}
    if batch:

        @broker.subscriber(stream=StreamSub(STREAM, batch=True, max_records=batch, **options), ack_policy=AckPolicy.ACK)
        async def handle_many(events: list[dict[str, Any]]) -> None:
            for event in events:
                handled[event["n"]] += 1

    else:

        @broker.subscriber(stream=StreamSub(STREAM, max_records=100, **options), ack_policy=AckPolicy.ACK)
        async def handle(event: dict[str, Any]) -> None:
            handled[event["n"]] += 1

    asyncio.run(FastStream(broker, logger=None).run())
