"""huey: eight threads in each process; a job is gone from Redis before it runs."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

from benchmarks.load import body
from console.bench.ledger import VARIABLE, marks

LABEL = "huey"
PROMISE = "at most once (taken off before it runs)"
PACKAGES = ("huey", "redis")


@cache
def made(url: str) -> tuple[Any, Any]:
    """Return huey and its task."""
    from huey import RedisHuey

    hive = RedisHuey("bench", url=url, results=False)
    handled = marks() if VARIABLE in os.environ else bytearray()

    @hive.task(name="handle")
    def handle(event: dict[str, Any]) -> None:
        handled[event["n"]] += 1

    return hive, handle


@asynccontextmanager
async def publish_one(url: str) -> AsyncIterator[Callable[[range], Awaitable[None]]]:
    _, task = made(url)

    async def send(numbers: range) -> None:
        for n in numbers:
            task(body(n))

    yield send


publish_bulk = publish_one  # it has nothing for many at once


def workers(python: str, url: str, processes: int) -> list[list[str]]:
    code = f"from benchmarks.peers.huey import made; made({url!r})[0].create_consumer(workers=8, periodic=False).run()"
    return [[python, "-c", code]] * processes
