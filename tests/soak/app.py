"""The application of a soak: light handlers of every kind, each with something that could leak.

TICK ──Counter (async)──> a TOCK of every tenth
  └──Keeper: one at a time per project, in order; fails at first on every 199th
TOCK ──Biller: a row, once, and BILLED by way of the outbox
  └──Listener (async), which hears BILLED too
"""

from __future__ import annotations

from functools import cache
from typing import Any

from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from events.bus import EventBus
from events.context import handling
from events.event import Event
from events.settings import Settings
from store import inbox, outbox
from store.engine import open_engine

AGENTS = ("Counter", "Keeper", "Biller", "Listener")
EFFECTS = "CREATE TABLE IF NOT EXISTS soak_effects (event_id text)"
PROJECTS = 20
TOCK_EVERY = 10
FAILS_EVERY = 199
"""No multiple of the projects: else all failures were one project's, whose next events wait for each retry."""
# A soak kills workers: what is lost with one counts as an attempt, and must not use them up.
PATIENT: dict[str, Any] = {"max_attempts": 50, "min_backoff": 0.05, "max_backoff": 0.5}


def tick(seed: int, number: int) -> Event:
    """Return the root event of a number; the same whenever it is asked for."""
    return Event(
        event_id=f"EV-soak-{seed}-{number:08d}", project_id=f"P{number % PROJECTS}", type="TICK", actor="soak",
        payload={"n": number}, metadata={"cost": 0.01, "latency_ms": number % 100},
    )  # fmt: skip


def application(settings: Settings | None = None) -> EventBus:
    """Return a bus with the agents; the environment's unless settings are given."""
    bus = EventBus(settings)

    @cache
    def engine() -> Engine:
        return open_engine(bus.backend.database_url(), timeout_s=30.0)

    @bus.subscriber("Counter", ["TICK"], **PATIENT)
    async def count(event: Event) -> Event | None:
        number = int(event.payload["n"])
        return None if number % TOCK_EVERY else event.caused("TOCK", payload={"n": number}, cost=0.02)

    @bus.subscriber("Keeper", ["TICK"], ordering="project", **PATIENT)
    def keep(event: Event) -> None:
        current = handling.get()
        if current is not None and current.attempt == 1 and int(event.payload["n"]) % FAILS_EVERY == 0:
            raise ValueError("fails at first, on purpose")

    @bus.subscriber("Biller", ["TOCK"], **PATIENT)
    def bill(event: Event) -> None:
        with Session(engine()) as session, session.begin():
            if inbox.once(session):
                session.execute(text("INSERT INTO soak_effects VALUES (:e)"), {"e": event.event_id})
                outbox.add(session, event.caused("BILLED", payload={}))

    @bus.subscriber("Listener", ["TOCK", "BILLED"], **PATIENT)
    async def listen(event: Event) -> None:
        pass

    return bus


bus = application()
