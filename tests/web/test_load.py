"""Live clients beside requests: what each costs the web process, and how far behind a client falls."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from tests.web.site import Site

BEHIND_S, DEADLINE_S = 2.0, 60.0
EVENTS_A_SECOND = 20
MADE = 0.9  # of the load that is asked for, where it is measured
PATHS = (
    "/api/v1/overview",
    "/api/v1/events?project=load&limit=20",
    "/api/v1/lag",
    "/api/v1/statistics?project=load",
)
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Seen:
    """What the clients saw, and what it cost.

    Attributes:
        published: when each event was acknowledged. worst_s: the latest that any client got one.
        in_time: events and requests that were answered while the load went on. cpu_s: of the web process.
    """

    published: dict[str, float] = field(default_factory=dict)
    in_time: Counter[str] = field(default_factory=Counter)
    worst_s: float = 0.0
    messages: int = 0
    requests: int = 0
    cpu_s: float = 0.0


def cpu_s(pid: int) -> float:
    parts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(parts[11]) + int(parts[12])) / _TICKS


async def follow(site: Site, seen: Seen, ready: asyncio.Event) -> None:
    """Read a live stream over a socket of its own, with as little work as possible."""
    reader, writer = await asyncio.open_connection(*site.address)
    writer.write(b"GET /api/v1/events/stream?project=load HTTP/1.1\r\nHost: localhost\r\n\r\n")
    try:
        while line := await reader.readline():
            if line.startswith(b"id: "):
                ready.set()
            if line.startswith(b"data: "):
                event_id = json.loads(line[6:])["event_id"]
                seen.messages += 1
                # What arrives before its acknowledgement is not late.
                late_s = time.monotonic() - seen.published.get(event_id, time.monotonic())
                seen.worst_s = max(seen.worst_s, late_s)
    finally:
        writer.close()


async def paced(a_second: int, until: float, one: Callable[[], Awaitable[None]]) -> None:
    """Begin one so many times a second, however long each takes, as clients that know nothing of each other do."""
    started = time.monotonic()
    async with asyncio.TaskGroup() as under_way:
        for n in range(round(a_second * (until - started))):
            await asyncio.sleep(started + n / a_second - time.monotonic())
            under_way.create_task(one())


async def publish(client: httpx.AsyncClient, seen: Seen, until: float) -> None:
    event = {"project_id": "load", "type": "QA_REPORT", "actor": "t", "payload": {"x": "y" * 200}}
    answer = await client.post("/api/v1/events", json=event)
    assert answer.status_code == 201, answer.text
    seen.published[answer.json()["event_id"]] = time.monotonic()
    seen.in_time["events"] += time.monotonic() < until


async def ask(client: httpx.AsyncClient, seen: Seen, until: float) -> None:
    seen.requests += 1
    answer = await client.get(PATHS[seen.requests % len(PATHS)])
    assert answer.status_code == 200, answer.text
    seen.in_time["requests"] += time.monotonic() < until


async def load(site: Site, clients: int, events: int, requests: int, seconds: float) -> Seen:
    """Run clients beside so many publishes and requests a second."""
    seen, followers = Seen(), []
    for _ in range(clients):
        ready = asyncio.Event()
        followers.append(asyncio.create_task(follow(site, seen, ready)))
        await asyncio.wait_for(ready.wait(), 30)
    before, until = cpu_s(site.process.pid), time.monotonic() + seconds
    async with httpx.AsyncClient(base_url=site.url, timeout=30) as client:
        await asyncio.gather(
            paced(events, until, lambda: publish(client, seen, until)),
            paced(requests, until, lambda: ask(client, seen, until)),
        )
    async with asyncio.timeout(DEADLINE_S):
        while seen.messages < clients * len(seen.published):
            await asyncio.sleep(0.02)
    seen.cpu_s = cpu_s(site.process.pid) - before
    for task in followers:
        task.cancel()
    await asyncio.gather(*followers, return_exceptions=True)
    return seen


@pytest.mark.parametrize(
    ("clients", "requests_a_second", "seconds", "is_alone"),
    [(40, 20, 5, False), pytest.param(200, 50, 60, True, marks=pytest.mark.nightly)],
)
def test_live_clients_are_not_behind_beside_requests(
    site: Site, clients: int, requests_a_second: int, seconds: float, is_alone: bool, measured: Callable[[str], None]
) -> None:
    """Each gets each event; how fast is asked where nothing else runs, and told elsewhere."""
    asking = asyncio.run(load(site, 0, 0, requests_a_second, seconds / 2))
    publishing = asyncio.run(load(site, 0, EVENTS_A_SECOND, 0, seconds / 2))
    seen = asyncio.run(load(site, clients, EVENTS_A_SECOND, requests_a_second, seconds))

    a_request, an_event = asking.cpu_s / asking.requests, publishing.cpu_s / len(publishing.published)
    # What is left of the whole is what the clients cost.
    left = seen.cpu_s - a_request * seen.requests - an_event * len(seen.published)
    events, requests = seen.in_time["events"] / seconds, seen.in_time["requests"] / seconds
    measured(
        f"{clients} live clients, {events:.1f} events/s and {requests:.1f} requests/s for {seconds:g} s: "
        f"{seen.messages} messages, the latest {seen.worst_s:.2f} s after its publish; the web process took "
        f"{seen.cpu_s / seconds:.2f} s of CPU a second: {1e3 * a_request:.1f} ms a request, {1e3 * an_event:.1f} ms an "
        f"event and {1e6 * max(0.0, left) / seen.messages:.0f} us a message"
    )
    assert seen.messages == clients * len(seen.published), "each client got each event"
    if is_alone:
        assert events >= MADE * EVENTS_A_SECOND, f"the machine had no time for {EVENTS_A_SECOND} events a second"
        assert requests >= MADE * requests_a_second, f"the machine had no time for {requests_a_second} requests"
        assert seen.worst_s < BEHIND_S
