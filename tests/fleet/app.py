"""The application under test: subscribers that do what the event's payload says, and write it down.

Every run of a handler is recorded in Redis, under `ran:<subscriber>`, as `<event id> <attempt> <pid>`, by a
client of its own: the bus has no part in the bookkeeping.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time

import redis
from dramatiq.middleware import SkipMessage

from events.bus import EventBus
from events.context import handling
from events.errors import Discard, Retry
from events.event import Event
from events.types import EventType

bus = EventBus()
FAST = {"min_backoff": 0.05, "max_backoff": 0.2}
_book: redis.Redis | None = None


def book() -> redis.Redis:
    global _book
    if _book is None:
        _book = redis.Redis.from_url(os.environ.get("BOOK_URL") or bus.backend.redis_url())
    return _book


def record(word: str = "ran") -> None:
    now = handling.get()
    assert now is not None
    book().rpush(f"{word}:{now.subscriber}", f"{now.event.event_id} {now.attempt} {os.getpid()}")


def misbehave(event: Event) -> None:
    now = handling.get()
    assert now is not None
    wish = event.payload
    if wish.get("kill"):
        os.kill(os.getpid(), signal.SIGKILL)
    if now.attempt <= int(wish.get("fail", 0)) and wish.get("only", now.subscriber) == now.subscriber:
        raise ValueError(f"failing on purpose, attempt {now.attempt}")
    if "retry_after" in wish and now.attempt == 1:
        raise Retry(after=float(wish["retry_after"]))
    if wish.get("raise") == "surrogate":
        raise ValueError("cannot read " + os.fsdecode(b"caf\xe9.txt"))
    if wish.get("raise") == "exit":
        sys.exit(3)
    if wish.get("raise") == "skip":
        raise SkipMessage("as a middleware would")
    if "hang" in wish and now.attempt == 1:
        hang(float(wish["hang"]))
    if "discard" in wish:
        raise Discard(str(wish["discard"]))


def returned(event: Event) -> object:
    if "returns" in event.payload:
        return event.payload["returns"]
    if "lazy" in event.payload:
        return (lazily(event, n) for n in range(3))
    return [event.caused("OUT", payload={"n": n}, cost=0.25) for n in range(int(event.payload.get("emit", 0)))]


def lazily(event: Event, n: int) -> Event:
    if event.payload["lazy"] == "exit" and n == 1:
        sys.exit(4)
    return event.caused("OUT", payload={"n": n})


def hang(seconds: float) -> None:
    """Wait inside one system call, where no interrupt arrives."""
    here, _there = socket.socketpair()
    here.settimeout(seconds)
    with contextlib.suppress(TimeoutError):
        here.recv(1)


@bus.subscriber("Async", ["WORK", "ASYNC_WORK"], **FAST)
async def run_async(event: Event) -> object:
    record()
    misbehave(event)
    await asyncio.sleep(float(event.payload.get("sleep", 0)))
    record("finished")
    return returned(event)


@bus.subscriber("Plain", ["WORK", "PLAIN_WORK"], **FAST)
def run_plain(event: Event) -> object:
    record()
    misbehave(event)
    nap(float(event.payload.get("sleep", 0)))
    record("finished")
    return returned(event)


@bus.subscriber("Generator", ["WORK", "GENERATOR_WORK"], **FAST)
async def run_generator(event: Event):
    record()
    misbehave(event)
    for n in range(int(event.payload.get("emit", 0))):
        yield event.caused("OUT", payload={"n": n})


@bus.subscriber("Ordered", ["ORDERED_WORK"], ordering="project", **FAST)
async def run_ordered(event: Event) -> object:
    record()
    misbehave(event)
    await asyncio.sleep(float(event.payload.get("sleep", 0)))
    record("finished")
    return None


@bus.subscriber("Limited", ["LIMITED_WORK"], time_limit=0.4, max_attempts=2, **FAST)
def run_limited(event: Event) -> None:
    record()
    misbehave(event)
    nap(float(event.payload.get("sleep", 0)))
    record("finished")


@bus.subscriber("LimitedAsync", ["LIMITED_WORK"], time_limit=0.4, max_attempts=2, **FAST)
async def run_limited_async(event: Event) -> None:
    record()
    await asyncio.sleep(float(event.payload.get("sleep", 0)))
    record("finished")


@bus.subscriber("Big", ["BIG_WORK"], **FAST)
def return_too_much(event: Event) -> Event:
    record()
    return event.caused("OUT", payload={"text": "x" * 2_000_000})


@bus.subscriber("Taken", ["TAKEN_WORK"], **FAST)
def return_a_taken_id(event: Event) -> Event:
    record()
    return Event(event_id=event.payload["taken"], type="OUT", payload={"differs": True})


def nap(seconds: float) -> None:
    """Sleep in steps, so that an interrupt can arrive."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.01)


assert EventType.PROJECT_CREATED
