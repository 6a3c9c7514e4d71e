"""RQ with its worker that does not fork for every job."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

from benchmarks.load import body
from console.bench.ledger import marks

LABEL = "RQ, SimpleWorker"
PROMISE = "at most once"
PACKAGES = ("rq", "redis")


@cache
def ledger() -> Any:
    return marks()


def handle(event: dict[str, Any]) -> None:
    """Handle an event: RQ finds it by its name."""
    ledger()[event["n"]] += 1


@asynccontextmanager
async def publish_one(url: str) -> AsyncIterator[Callable[[range], Awaitable[None]]]:
    import redis
    import rq

    queue = rq.Queue(connection=redis.Redis.from_url(url))

    async def send(numbers: range) -> None:
        for n in numbers:
            queue.enqueue("benchmarks.peers.rq.handle", body(n), result_ttl=0)

    yield send


@asynccontextmanager
async def publish_bulk(url: str) -> AsyncIterator[Callable[[range], Awaitable[None]]]:
    import redis
    import rq

    queue = rq.Queue(connection=redis.Redis.from_url(url))

    async def send(numbers: range) -> None:
        for start in range(numbers.start, numbers.stop, 500):
            some = range(start, min(start + 500, numbers.stop))
            queue.enqueue_many(
                [rq.Queue.prepare_data("benchmarks.peers.rq.handle", (body(n),), result_ttl=0) for n in some]
            )

    yield send


def workers(python: str, url: str, processes: int) -> list[list[str]]:
    code = (
        "import redis, rq, logging; logging.disable(logging.INFO); "
        f"c = redis.Redis.from_url({url!r}); rq.SimpleWorker(['default'], connection=c).work()"
    )
    return [[python, "-c", code]] * processes
