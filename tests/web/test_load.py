"""Live clients beside requests: what each costs the web process, and how far behind a client falls."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from tests.web.site import Site

BEHIND_S = 2.0
EVENTS_A_SECOND = 20
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Seen:
    """What the clients saw: when each event was acknowledged, and the latest that any client got one."""

    published: dict[str, float] = field(default_factory=dict)
    worst_s: float = 0.0
    messages: int = 0
    requests: int = 0


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


async def publish(client: httpx.AsyncClient, seen: Seen, until: float) -> None:
    while time.monotonic() < until:
        started = time.monotonic()
        event = {"project_id": "load", "type": "QA_REPORT", "actor": "t", "payload": {"x": "y" * 200}}
        answer = await client.post("/api/v1/events", json=event)
        seen.published[answer.json()["event_id"]] = time.monotonic()
        await asyncio.sleep(max(0.0, 1 / EVENTS_A_SECOND - (time.monotonic() - started)))


async def ask(client: httpx.AsyncClient, seen: Seen, a_second: int, until: float) -> None:
    paths = (
        "/api/v1/overview",
        "/api/v1/events?project=load&limit=20",
        "/api/v1/lag",
        "/api/v1/statistics?project=load",
    )
    while time.monotonic() < until:
        started = time.monotonic()
        answer = await client.get(paths[seen.requests % len(paths)])
        assert answer.status_code == 200
        seen.requests += 1
        await asyncio.sleep(max(0.0, 1 / a_second - (time.monotonic() - started)))


async def load(site: Site, clients: int, requests_a_second: int, seconds: float) -> tuple[Seen, float]:
    """Run clients and requests beside each other; return what was seen and the web process's CPU seconds."""
    seen, until = Seen(), 0.0
    followers = []
    for _ in range(clients):
        ready = asyncio.Event()
        followers.append(asyncio.create_task(follow(site, seen, ready)))
        await asyncio.wait_for(ready.wait(), 30)
    before, until = cpu_s(site.process.pid), time.monotonic() + seconds
    async with httpx.AsyncClient(base_url=site.url, timeout=30) as client:
        askers = [ask(client, seen, requests_a_second // 5, until) for _ in range(5)] if requests_a_second else []
        await asyncio.gather(publish(client, seen, until), *askers)
    async with asyncio.timeout(BEHIND_S * 10):
        while seen.messages < clients * len(seen.published):
            await asyncio.sleep(0.02)
    spent = cpu_s(site.process.pid) - before
    for task in followers:
        task.cancel()
    await asyncio.gather(*followers, return_exceptions=True)
    return seen, spent


@pytest.mark.parametrize(
    ("clients", "requests_a_second", "seconds"),
    [(40, 20, 5), pytest.param(200, 50, 60, marks=pytest.mark.nightly)],
)
def test_live_clients_are_not_behind_beside_requests(
    site: Site, clients: int, requests_a_second: int, seconds: float, measured: Callable[[str], None]
) -> None:
    _, asked_s = asyncio.run(load(site, 0, requests_a_second, seconds / 2))
    seen, spent_s = asyncio.run(load(site, clients, requests_a_second, seconds))

    # Publishing goes over HTTP too: what is left without the clients is what requests cost, publishes among them.
    asked = asked_s * 2 / seconds
    events, requests, messages = len(seen.published) / seconds, seen.requests / seconds, seen.messages / seconds
    measured(
        f"{clients} live clients, {events:.0f} events/s and {requests:.0f} requests/s for {seconds:g} s: "
        f"{seen.messages} messages, the latest {seen.worst_s:.2f} s after its publish; the web process took "
        f"{spent_s / seconds:.2f} s of CPU a second, {1e3 * asked / (events + requests):.1f} ms a request and "
        f"{1e6 * max(0.0, spent_s / seconds - asked) / messages:.0f} us a message"
    )
    assert seen.messages == clients * len(seen.published), "each client got each event"
    assert seen.worst_s < BEHIND_S
