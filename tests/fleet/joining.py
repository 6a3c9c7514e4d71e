"""An application whose editor joins what its painters make of a script; a painter may be killed on the way."""

from __future__ import annotations

import os
import signal

from events.bus import EventBus
from events.event import Event
from events.joining import Joined
from tests.fleet.app import FAST, book

bus = EventBus()


@bus.subscriber("Director", ["SCRIPT"], **FAST)
def direct(event: Event) -> list[Event]:
    return [event.caused("SHOT", payload={**event.payload, "n": n}) for n in range(int(event.payload["shots"]))]


@bus.subscriber("Painter", ["SHOT"], **FAST)
async def paint(event: Event) -> Event:
    wish = event.payload
    if wish.get("kill") == wish["n"] and book().incr(f"killed:{event.event_id}") == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if wish.get("fail") == wish["n"]:
        raise ValueError("no paint")
    return event.caused("IMAGE", payload={"n": wish["n"]})


@bus.join("Editor", after=["SCRIPT"], of=["IMAGE"], **FAST)
async def edit(script: Event, joined: Joined) -> Event:
    images = sorted(event.payload["n"] for event in joined.events)
    return script.caused("FILM", payload={"images": images, "why": joined.why, "dead": joined.dead})


@bus.join("Strict", after=["SCRIPT"], of=["IMAGE"], partial="dead", **FAST)
def insist(script: Event, joined: Joined) -> Event:
    return script.caused("STRICT_FILM", payload={"images": len(joined.events)})
