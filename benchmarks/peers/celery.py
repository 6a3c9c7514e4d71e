"""Celery on its Redis transport: prefork, results off, prefetch raised; acknowledged before it runs, its default."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

from benchmarks.load import body
from console.bench.ledger import VARIABLE, marks

LABEL = "Celery"
PROMISE = "at most once (acknowledged before it runs)"
PACKAGES = ("celery", "redis")


@cache
def app(url: str) -> Any:
    """Return the application with its task."""
    import celery

    made = celery.Celery("bench", broker=url)
    made.conf.update(
        task_ignore_result=True,
        worker_prefetch_multiplier=128,
        worker_send_task_events=False,
        worker_enable_remote_control=False,
        broker_connection_retry_on_startup=True,
    )
    handled = marks() if VARIABLE in os.environ else bytearray()

    @made.task(name="handle")
    def handle(event: dict[str, Any]) -> None:
        handled[event["n"]] += 1

    return made


@asynccontextmanager
async def publish_one(url: str) -> AsyncIterator[Callable[[range], Awaitable[None]]]:
    task = app(url).tasks["handle"]

    async def send(numbers: range) -> None:
        for n in numbers:
            task.delay(body(n))

    yield send


publish_bulk = publish_one  # it has nothing for many at once


def workers(python: str, url: str, processes: int) -> list[list[str]]:
    options = ["worker", "--pool=prefork", f"--concurrency={processes}", "--loglevel=WARNING", "--without-gossip",
               "--without-mingle", "--without-heartbeat"]  # fmt: skip
    return [[python, "-c", f"from benchmarks.peers.celery import app; app({url!r}).worker_main({options!r})"]]
