"""Subscribers that write down when they begin and end, by the server's clock, and wait where they are told to.

Under `began:<S>` each begun handler leaves `<event id> <server time, us> <of S now running> <pid>`, under
`ended:<S>` each ended one `<event id> <server time, us>`. One whose payload says so waits until the key
`open:<S>` is there. By a client of its own: the bus has no part in the bookkeeping.
"""

from __future__ import annotations

import asyncio
import os
import time

import redis

from events.bus import EventBus
from events.context import handling
from events.event import Event

BEGIN = """
local t = redis.call('TIME')
local now = redis.call('INCR', 'now:' .. ARGV[1])
local at = t[1] .. string.format('%06d', t[2])
redis.call('RPUSH', 'began:' .. ARGV[1], table.concat({ ARGV[2], at, now, ARGV[3] }, ' '))
"""
END = """
local t = redis.call('TIME')
redis.call('DECR', 'now:' .. ARGV[1])
redis.call('RPUSH', 'ended:' .. ARGV[1], ARGV[2] .. ' ' .. t[1] .. string.format('%06d', t[2]))
"""
LOOK_S = 0.01

bus = EventBus()
_book: redis.Redis | None = None


def book() -> redis.Redis:
    global _book
    if _book is None:
        _book = redis.Redis.from_url(bus.backend.redis_url())
    return _book


def begin(event: Event) -> str:
    now = handling.get()
    assert now is not None
    book().eval(BEGIN, 0, now.subscriber, event.event_id, os.getpid())
    return now.subscriber


def end(name: str, event: Event) -> None:
    book().eval(END, 0, name, event.event_id)


def is_open(name: str) -> bool:
    return bool(book().exists(f"open:{name}"))


def work(event: Event) -> None:
    name = begin(event)
    time.sleep(float(event.payload.get("sleep", 0)))
    while event.payload.get("gate") and not is_open(name):
        time.sleep(LOOK_S)
    end(name, event)


async def work_on_the_loop(event: Event) -> None:
    name = begin(event)
    await asyncio.sleep(float(event.payload.get("sleep", 0)))
    while event.payload.get("gate") and not is_open(name):
        await asyncio.sleep(LOOK_S)
    end(name, event)


def do_nothing(event: Event) -> None:
    """Take microseconds."""


bus.subscriber("Quick", ["QUICK"])(do_nothing)
bus.subscriber("Plain", ["PLAIN"])(work)
bus.subscriber("Async", ["ASYNC"])(work_on_the_loop)
bus.subscriber("Many", ["MANY"], concurrency=1000)(work)
bus.subscriber("Three", ["THREE"], concurrency=3)(work)
bus.subscriber("One", ["ONE"], concurrency=1)(work)
bus.subscriber("Paced", ["PACED"], rate_limit=20)(work)
bus.subscriber("Keyed", ["KEYED"], ordering="project")(work)
