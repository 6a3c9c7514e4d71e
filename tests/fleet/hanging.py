"""Subscribers that hang, in a system call or on the loop, beside one whose handlers wait for a key."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time

import redis

from events.bus import EventBus
from events.context import handling
from events.event import Event

bus = EventBus()
_book: redis.Redis | None = None


def book() -> redis.Redis:
    global _book
    if _book is None:
        _book = redis.Redis.from_url(bus.backend.redis_url())
    return _book


def record() -> int:
    """Write down that the handler runs; return which attempt it is."""
    now = handling.get()
    assert now is not None
    book().rpush(f"ran:{now.subscriber}", f"{now.event.event_id} {now.attempt} {os.getpid()}")
    return now.attempt


@bus.subscriber("Hanging", ["HANG"], time_limit=0.5, min_backoff=0.05, max_backoff=0.2)
def hang(event: Event) -> None:
    if record() == 1:
        here, _there = socket.socketpair()
        here.settimeout(300)
        with contextlib.suppress(TimeoutError):
            here.recv(1)


@bus.subscriber("Blocking", ["BLOCK"], time_limit=0.5, min_backoff=0.05, max_backoff=0.2)
async def block(event: Event) -> None:
    if record() == 1:
        while True:
            time.sleep(0.1)


@bus.subscriber("Paid", ["PAY"])
async def pay(event: Event) -> None:
    record()
    while not book().exists("paid"):
        await asyncio.sleep(0.05)
