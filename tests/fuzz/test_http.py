"""Whole requests that nobody expects: the web application answers each, soon, with a status that is no server's error.

The application runs in this process, on real servers. `tests/web/test_schema.py` makes requests as the OpenAPI document
describes them; these are of bytes that it does not.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from random import Random
from urllib.parse import quote

import httpx
import pytest

from console.web.app import OPERATIONS, Web
from console.web.operations import PREFIX
from console.web.pages.routes import PAGES
from events.bus import EventBus
from events.event import Event
from events.settings import Settings
from tests.fuzz.budget import SEED, share
from tests.fuzz.damage import TOKENS, each_value_replaced
from tests.fuzz.web_targets import EVENT, request
from tests.fuzz.web_targets import TARGETS as READERS
from tests.servers import migrate
from tests.valkey_servers import ValkeyServer

PATIENCE_S = 60
ENDLESS = ("/events/stream", "/overview/stream")
REQUESTS = [
    *((one.method, PREFIX + one.path) for one in OPERATIONS if one.path not in ENDLESS),
    *((method, page.path) for page in PAGES for method in page.methods),
    ("GET", "/metrics"), ("GET", "/static/{file}"), ("POST", f"{PREFIX}/events/{{event_id}}/nothing"),
]  # fmt: skip
QUERY = (
    "after", "before", "limit", "newest", "since", "until", "project", "type", "payload", "metadata", "delay", "at",
    "durable", "state", "subscriber", "depth", "error", "name", "grain", "all", "reason", "to", "id", "unheard-of",
)  # fmt: skip
HEADERS = (
    "last-event-id", "accept", "accept-language", "authorization", "content-length", "origin", "sec-fetch-site",
    "cookie",
)  # fmt: skip
MEDIA = (
    "application/json", "application/cloudevents+json", "application/cloudevents-batch+json",
    "application/x-www-form-urlencoded", "text/plain; charset=utf-7", "", "application/json; charset=\xff",
)  # fmt: skip
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # what servers take for a header's
SHORT = [token for token in TOKENS if len(token) < 5000]


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    """An application on whose servers an event was published."""
    folder: Path = tmp_path_factory.mktemp("http")
    url = f"sqlite:///{folder / 'store.db'}"
    migrate(url)
    with ValkeyServer(aof=True) as server:
        settings = Settings(redis_url=server.url, database_url=url, home=str(folder), timeout_s=30, reset_wait_s=0)
        with closing(EventBus(settings)) as bus:
            bus.publish_sync(Event(event_id="EV-1", project_id="P", type="SCENE_WRITTEN", actor="A"))
        yield Web(settings)


def made(random: Random, method: str, path: str) -> dict[str, object]:
    """A request of that method and path: its parts, parameters, headers and body damaged, some of them."""

    def some() -> bytes:
        return random.choice(SHORT)

    usual = (b"EV-1", b"P", b"Painter", b"1", b"app.js", some())
    path = re.sub(r"\{\w+\}", lambda _: quote(random.choice(usual), safe=""), path)
    asked = "&".join(f"{random.choice(QUERY)}={quote(some())}" for _ in range(random.choice((0, 0, 1, 2))))
    headers = [(random.choice(HEADERS).encode(), _line(some())) for _ in range(random.choice((0, 1, 2)))]
    body = b""
    if method in ("POST", "PATCH", "PUT"):
        kind = random.choice(("http_body", "cloud_event", "cloud_event_in_headers", "none"))
        body = some() if kind == "none" else random.choice([EVENT, *each_value_replaced(READERS[kind].examples[0])])
        if kind == "cloud_event_in_headers":
            said, body = request(body)
            headers += [
                (name.encode(), _line(value.encode("latin-1"))) for name, value in said.items() if _NAME.fullmatch(name)
            ]
        headers.append((b"content-type", random.choice(MEDIA).encode("latin-1")))
    return {"method": method, "url": f"{path}?{asked}" if asked else path, "headers": headers, "content": body}


def _line(value: bytes) -> bytes:
    """What a server takes for the value of a header."""
    return bytes(byte for byte in value if byte >= 32)[:2000]


def test_every_request_is_answered_and_none_is_an_error_of_the_server(web: Web) -> None:
    random, broken = Random(SEED), []

    async def ask() -> None:
        transport = httpx.ASGITransport(web.app, raise_app_exceptions=False, client=("127.0.0.1", 5))
        lives = web.lifespan()
        async with lives, httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            for number in range(max(len(REQUESTS), 2 * share(1))):
                one = made(random, *REQUESTS[number % len(REQUESTS)])
                answer = await asyncio.wait_for(client.request(**one), PATIENCE_S)  # type: ignore[arg-type]
                if answer.status_code >= 500:
                    broken.append(f"{answer.status_code} for {one!s:.600}: {answer.text[:300]}")
                if answer.headers.get("content-type") == "application/problem+json":
                    assert answer.json()["detail"].strip(), one

    asyncio.run(ask())

    assert not broken, "\n".join(broken)
