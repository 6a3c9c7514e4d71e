"""An application whose handler has its effects in the store's database: the inbox and the outbox at work.

The payload says where its worker kills itself, at the first attempt: `asked`, `effect`, `committed`.
"""

from __future__ import annotations

import os
import signal
from functools import cache

from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from events.bus import EventBus
from events.context import handling
from events.event import Event
from store import inbox, outbox
from store.engine import open_engine

bus = EventBus()
TABLE = "CREATE TABLE bookings (event_id text, attempt integer)"


@cache
def engine() -> Engine:
    """An engine of the application's own, patient with SQLite's one writer."""
    return open_engine(bus.backend.database_url(), timeout_s=30.0)


def die_at(point: str, event: Event) -> None:
    now = handling.get()
    assert now is not None
    if event.payload.get("die") == point and now.attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)


@bus.subscriber("Booker", ["BOOK"], min_backoff=0.05, max_backoff=0.2, max_attempts=5)
def book(event: Event) -> None:
    now = handling.get()
    assert now is not None
    with Session(engine()) as session, session.begin():
        if inbox.once(session):
            die_at("asked", event)
            row = {"e": event.event_id, "a": now.attempt}
            session.execute(text("INSERT INTO bookings VALUES (:e, :a)"), row)
            outbox.add(session, event.caused("BOOKED", payload={"attempt": now.attempt}))
            die_at("effect", event)
    die_at("committed", event)
    if now.attempt <= int(str(event.payload.get("fail", 0))):
        raise ValueError("failing after the commit, on purpose")


@bus.subscriber("Accountant", ["BOOKED"])
async def account(event: Event) -> None:
    pass
