"""The application of test_backfill.py and test_subscriptions.py: subscribers that the environment shapes.

LATE_START is where `Late` and `LateOrdered` begin; SHIFTING_TYPES are the types that this version of the code
gives `Shifting`.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

from events.bus import EventBus
from events.event import Event
from tests.fleet.app import FAST, book, nap, record

bus = EventBus()
ALL: dict[str, Any] = {**FAST, "max_attempts": 20, "start": os.environ.get("LATE_START", "beginning")}


@bus.subscriber("Late", ["FACT"], **ALL)
async def take(event: Event) -> None:
    record()


@bus.subscriber("LateOrdered", ["FACT"], ordering="project", **ALL)
async def take_in_order(event: Event) -> None:
    record()
    await asyncio.sleep(0)


if os.environ.get("SHIFTING_TYPES"):

    @bus.subscriber("Shifting", os.environ["SHIFTING_TYPES"].split(), **FAST)
    async def shift(event: Event) -> None:
        record()


@bus.subscriber("Gated", ["GATED"], **FAST)
def wait_for_the_word(event: Event) -> None:
    record()
    while not book().exists("go"):
        nap(0.01)
    record("finished")


@bus.subscriber("Swift", ["SWIFT"], **FAST)
async def run_swiftly(event: Event) -> None:
    record()
