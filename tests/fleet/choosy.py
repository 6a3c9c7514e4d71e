"""The application of test_retries.py: subscribers that differ in when they give up and how long they may run.

What a handler does is in the event's payload, what it did in Redis, as in `tests.fleet.app`.
"""

from __future__ import annotations

import asyncio
import builtins
import os
import signal
from collections.abc import AsyncIterator

from events.bus import EventBus
from events.context import handling
from events.errors import Discard, Retry, TimeLimitExceeded
from events.event import Event
from tests.fleet.app import FAST, nap, record

bus = EventBus()
LIMIT_S = 1.0


def attempt() -> int:
    now = handling.get()
    assert now is not None
    return now.attempt


def fail(event: Event) -> None:
    """Raise what the payload names, on the attempts that it says."""
    wish = event.payload
    if attempt() > int(wish.get("fail", 99)):
        return
    if "error" in wish:
        raise getattr(builtins, wish["error"])("on purpose")
    if "group" in wish:
        inner = [getattr(builtins, name)("on purpose") for name in wish["group"]]
        raise ExceptionGroup("several", [ExceptionGroup("inner", inner)])
    if "retry" in wish:
        raise Retry(**wish["retry"])
    if "discard" in wish:
        raise Discard(wish["discard"])
    if "kill" in wish and attempt() >= int(wish["kill"]):
        os.kill(os.getpid(), signal.SIGKILL)


@bus.subscriber("Choosy", ["CHOICE"], retry_on=(ConnectionError,), give_up_on=ConnectionRefusedError, **FAST)
def choose(event: Event) -> None:
    record()
    fail(event)


@bus.subscriber("ChoosyAsync", ["CHOICE"], retry_on=(ConnectionError,), give_up_on=ConnectionRefusedError, **FAST)
async def choose_async(event: Event) -> None:
    record()
    fail(event)


@bus.subscriber("Thrice", ["THRICE"], max_attempts=3, retry_on=(KeyError,), **FAST)
def try_thrice(event: Event) -> None:
    record()
    fail(event)


@bus.subscriber("Lowered", ["LOWERED"], max_attempts=int(os.environ.get("LOWERED_TO", "5")), **FAST)
def try_as_often_as_allowed(event: Event) -> None:
    record()
    fail(event)


@bus.subscriber("Once", ["ONCE"], max_attempts=1, **FAST)
def try_once(event: Event) -> None:
    record()
    fail(event)


@bus.subscriber("Twice", ["TWICE"], max_attempts=2, **FAST)
def try_twice(event: Event) -> None:
    record()
    if attempt() == 1:
        raise ValueError("the first attempt fails")
    fail(event)


# time limits: the first attempt is slow


@bus.subscriber("Clean", ["SLOW"], time_limit=LIMIT_S, **FAST)
def clean_up(event: Event) -> None:
    try:
        nap(30 if attempt() == 1 else 0)
    finally:
        record("cleaned")


@bus.subscriber("CleanAsync", ["SLOW"], time_limit=LIMIT_S, **FAST)
async def clean_up_async(event: Event) -> None:
    try:
        await asyncio.sleep(30 if attempt() == 1 else 0)
    finally:
        await asyncio.sleep(0.01)
        record("cleaned")


@bus.subscriber("CleanGenerator", ["SLOW"], time_limit=LIMIT_S, **FAST)
async def clean_up_generator(event: Event) -> AsyncIterator[Event]:
    try:
        yield event.caused("OUT", payload={"attempt": attempt()})
        await asyncio.sleep(30 if attempt() == 1 else 0)
    finally:
        record("cleaned")


@bus.subscriber("Unhurried", ["SLOW"], time_limit=60, **FAST)
async def take_longer(event: Event) -> None:
    await asyncio.sleep(2 * LIMIT_S)
    record("finished")


@bus.subscriber("Stubborn", ["STUBBORN"], time_limit=LIMIT_S, **FAST)
async def swallow_the_first_cancellation(event: Event) -> None:
    record()
    if attempt() == 1:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            record("swallowed")
        await asyncio.sleep(30)
    record("finished")


@bus.subscriber("Graceful", ["GRACEFUL"], time_limit=LIMIT_S, **FAST)
async def return_what_there_is(event: Event) -> Event:
    try:
        await asyncio.sleep(30)
    except asyncio.CancelledError:
        record("swallowed")
    return event.caused("OUT", payload={"partial": True})


@bus.subscriber("GracefulPlain", ["GRACEFUL"], time_limit=LIMIT_S, **FAST)
def return_what_there_is_in_a_thread(event: Event) -> Event:
    try:
        nap(30)
    except TimeLimitExceeded:
        record("swallowed")
    return event.caused("OUT", payload={"partial": True})


@bus.subscriber("LateForgiven", ["LATE"], time_limit=LIMIT_S, retry_on=(TimeLimitExceeded,), **FAST)
def be_late(event: Event) -> None:
    record()
    nap(30 if attempt() == 1 else 0)


@bus.subscriber("LateUnforgiven", ["LATE"], time_limit=LIMIT_S, retry_on=(ConnectionError,), **FAST)
async def be_late_async(event: Event) -> None:
    record()
    await asyncio.sleep(30)
