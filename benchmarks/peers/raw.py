"""redis-py on streams with nothing around it: the limit that a bus in Python could come close to."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from benchmarks.load import body
from console.bench.ledger import marks

LABEL = "raw redis-py, streams"
PROMISE = "at least once, without a take-over"
PACKAGES = ("redis", "hiredis")
STREAM, GROUP = "raw", "workers"
PIPELINED, READ = 1000, 1000


@asynccontextmanager
async def publish_one(url: str) -> AsyncIterator[Callable[[range], Awaitable[None]]]:
    import redis.asyncio

    async with redis.asyncio.Redis.from_url(url) as client:
        await client.ping()

        async def send(numbers: range) -> None:
            for n in numbers:
                await client.xadd(STREAM, {"e": json.dumps(body(n))})

        yield send


@asynccontextmanager
async def publish_bulk(url: str) -> AsyncIterator[Callable[[range], Awaitable[None]]]:
    import redis.asyncio

    async with redis.asyncio.Redis.from_url(url) as client:
        await client.ping()

        async def send(numbers: range) -> None:
            for start in range(numbers.start, numbers.stop, PIPELINED):
                async with client.pipeline(transaction=False) as pipe:
                    for n in range(start, min(start + PIPELINED, numbers.stop)):
                        pipe.xadd(STREAM, {"e": json.dumps(body(n))})
                    await pipe.execute()

        yield send


def prepare(url: str) -> None:
    import redis

    with redis.Redis.from_url(url) as client:
        client.xgroup_create(STREAM, GROUP, "0", mkstream=True)


def workers(python: str, url: str, processes: int) -> list[list[str]]:
    return [[python, "-m", __name__, url]] * processes


def work(url: str) -> None:
    """Read, handle and acknowledge, a thousand at a time."""
    import redis

    handled = marks()
    client = redis.Redis.from_url(url)
    while True:
        reply = client.xreadgroup(GROUP, str(os.getpid()), {STREAM: ">"}, count=READ, block=1000)
        for _, entries in reply.items() if isinstance(reply, dict) else reply:
            entries = entries[0] if entries and isinstance(entries[0], list) else entries
            for _, fields in entries:
                handled[json.loads(fields[b"e"])["n"]] += 1
            client.xack(STREAM, GROUP, *(entry for entry, _ in entries))


if __name__ == "__main__":
    work(sys.argv[1])
