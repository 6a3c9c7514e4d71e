"""The application under test: agents that cause, fail, wait for each other, and write to the database.

BRIEF ──Director──> SHOT ──Painter──> IMAGE ──Biller──> a row, and CHARGED by way of the outbox
  │                   └──Keeper: one at a time per project, in order
  ├──Doomed: fails on every fifth until it is given up
  └──Editor: joins the IMAGEs of a BRIEF ──> CUT
Listener hears all of them. Victim dies of every DEADLY. Prober answers PROBE, at rest.

Release 1 has no Herald. Release 2 has one for IMAGE, no Doomed, and a Listener that has given up CUT. Release 3, to
which a run comes home, has everything, and a Herald that has taken on CUT.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from functools import cache
from typing import Any

from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from events.bus import EventBus
from events.context import Handling, handling
from events.event import Event
from events.joining import Joined
from store import inbox, outbox
from store.engine import open_engine
from tests.chaos import pulse
from tests.chaos.journal import note
from tests.chaos.levers import obey, positions
from tests.chaos.mutations import VARIABLE, plant
from tests.chaos.plan import fails_first, fails_midway, is_doomed, is_long, is_slow

plant(os.environ.get(VARIABLE, ""))
obey()
pulse.begin()
RELEASE = positions().release
bus = EventBus()
# A run kills often: what is lost with a worker counts as an attempt, and must not use them up.
PATIENT: dict[str, Any] = {"max_attempts": 50, "min_backoff": 0.05, "max_backoff": 0.5}
LONG_S = 5.0  # more than two leases of a run
SLOW_S = 0.4
PROBED_S = 0.1
EFFECTS = "CREATE TABLE IF NOT EXISTS chaos_effects (event_id text, attempt integer)"


@cache
def engine() -> Engine:
    """An engine of the application's own, patient with SQLite's one writer."""
    return open_engine(bus.backend.database_url(), timeout_s=30.0)


def now() -> Handling:
    current = handling.get()
    assert current is not None
    return current


def in_releases(*releases: int) -> Callable[[Any], Any]:
    """Return what leaves out, in other releases, a subscription."""
    return lambda subscribe: subscribe if RELEASE in releases else lambda handler: handler


def fail_first(event: Event) -> None:
    if now().attempt == 1 and fails_first(event.event_id):
        raise ValueError("fails at first, on purpose")


@bus.subscriber("Director", ["BRIEF"], **PATIENT)
async def direct(event: Event) -> list[Event]:
    number = int(event.payload["number"])
    await asyncio.sleep(LONG_S if is_long(number) else SLOW_S if is_slow(number) else 0.002)
    return [event.caused("SHOT", payload={"n": n}, cost=0.02) for n in range(int(event.payload["shots"]))]


@bus.subscriber("Painter", ["SHOT"], **PATIENT)
def paint(event: Event) -> Event:
    fail_first(event)
    return event.caused("IMAGE", payload={"n": event.payload["n"]}, cost=0.05)


@bus.subscriber("Keeper", ["SHOT"], ordering="project", **PATIENT)
def keep(event: Event) -> None:
    note("begins", subscriber="Keeper", event=event.event_id, project=event.project_id, delivery=now().delivery)
    time.sleep(0.001)
    fail_first(event)
    note("ends", subscriber="Keeper", event=event.event_id, project=event.project_id, delivery=now().delivery)


@bus.subscriber("Biller", ["IMAGE"], **PATIENT)
def bill(event: Event) -> None:
    with Session(engine()) as session, session.begin():
        if inbox.once(session):
            session.execute(
                text("INSERT INTO chaos_effects VALUES (:e, :a)"), {"e": event.event_id, "a": now().attempt}
            )
            if now().attempt == 1 and fails_midway(event.event_id):
                raise ValueError("fails in the middle of its transaction, on purpose")
            outbox.add(session, event.caused("CHARGED", payload={}))
    fail_first(event)


@in_releases(1, 3)(bus.subscriber("Doomed", ["BRIEF"], max_attempts=2, min_backoff=0.05, max_backoff=0.2))
async def doom(event: Event) -> None:
    if is_doomed(int(event.payload["number"])):
        raise ValueError("doomed, on purpose")


@bus.join("Editor", after=["BRIEF"], of=["IMAGE"], timeout=3600, **PATIENT)
async def edit(brief: Event, joined: Joined) -> Event:
    shots = sorted(event.payload["n"] for event in joined.events)
    return brief.caused("CUT", payload={"shots": shots, "why": joined.why})


@bus.subscriber("Listener", ["BRIEF", "SHOT", "IMAGE", "CHARGED", *([] if RELEASE == 2 else ["CUT"])], **PATIENT)
async def listen(event: Event) -> None:
    note("heard", event=event.event_id)


@in_releases(2, 3)(bus.subscriber("Herald", ["IMAGE", *(["CUT"] if RELEASE == 3 else [])], **PATIENT))
async def herald(event: Event) -> None:
    pass


@bus.subscriber("Prober", ["PROBE"], **PATIENT)
def answer(event: Event) -> None:
    time.sleep(PROBED_S)


@bus.subscriber("Victim", ["DEADLY"], **PATIENT)
def die(event: Event) -> None:
    note("dies", event=event.event_id)
    os.kill(os.getpid(), signal.SIGKILL)
