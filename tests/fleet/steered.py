"""The application of test_leases.py and test_traps.py: handlers that wait for a word, or hold what others need.

What a handler does is in the event's payload, what it did in Redis, as in `tests.fleet.app`. Most misbehave in
their first attempt only.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import time

from events.bus import EventBus
from events.context import handling
from events.event import Event
from tests.fleet.app import FAST, book, nap, record

bus = EventBus()
everybody_waits = asyncio.Event()
waiting: set[str] = set()


def attempt() -> int:
    now = handling.get()
    assert now is not None
    return now.attempt


@bus.subscriber("Gated", ["GATED"], max_attempts=10, **FAST)
def wait_for_the_word(event: Event) -> Event:
    """Wait until the test says go; fail then, if the payload says so."""
    record()
    while attempt() == 1 and not book().exists(f"go:{event.event_id}"):
        nap(0.01)
    record("finished")
    if attempt() == 1 and event.payload.get("fails"):
        raise ValueError("failing on purpose")
    return event.caused("OUT", payload={"pid": os.getpid()})


@bus.subscriber("Sleeper", ["SLEEP"], max_attempts=10, **FAST)
async def sleep_long_once(event: Event) -> Event:
    record()
    await asyncio.sleep(300 if attempt() == 1 else 0)
    record("finished")
    return event.caused("OUT", payload={"pid": os.getpid()})


@bus.subscriber("Holder", ["HOLD"], max_attempts=10, **FAST)
def hold_the_interpreter(event: Event) -> Event:
    """Call into C without giving up the interpreter's lock, as some extensions do: no other thread moves."""
    record()
    if attempt() == 1:
        ctypes.PyDLL(None).sleep(int(event.payload["seconds"]))
    record("finished")
    return event.caused("OUT", payload={"pid": os.getpid()})


@bus.subscriber("Busy", ["BUSY"], **FAST)
def compute(event: Event) -> None:
    record()
    end = time.monotonic() + event.payload["seconds"]
    while time.monotonic() < end:
        sum(range(10_000))
    record("finished")


@bus.subscriber("Blocking", ["BUSY"], **FAST)
async def block_the_loop(event: Event) -> None:
    record()
    time.sleep(event.payload["seconds"])  # what handlers ought not to do
    record("finished")


@bus.subscriber("Crowd", ["CROWD"], concurrency=5000, **FAST)
async def wait_for_everybody(event: Event) -> None:
    """Go on when as many handlers as the payload says wait here at once."""
    waiting.add(event.event_id)
    if len(waiting) >= event.payload["of"]:
        everybody_waits.set()
    await everybody_waits.wait()
