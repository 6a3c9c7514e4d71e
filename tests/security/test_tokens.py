"""Tokens of the web process, secrets of webhooks and keys of a collector of traces: used, and said nowhere."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from events.bus import EventBus
from events.event import Event
from events.settings import Settings
from events.webhooks import Webhook, WebhookFailed
from tests.console.command import COMMAND, Place
from tests.security.agents import HOOK_URL
from tests.security.planted import (
    COLLECTOR_KEY,
    HOOK_KEY,
    HOOK_PASSWORD,
    HOOK_SECRET,
    READ_TOKEN,
    REDIS_PASSWORD,
    WEB_TOKEN,
    WORD,
    Servers,
    assert_hidden,
    descendants,
    title_of,
)
from tests.waiting import wait_until

PATIENCE_S = 60
LISTENS = re.compile(r"running on (http://[\d.]+:\d+)")


class Sink:
    """An HTTP server that keeps the headers of what it is sent, by path, and takes nothing."""

    def __init__(self) -> None:
        self.got: dict[str, list[dict[str, str]]] = {}
        sink = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                sink.got.setdefault(self.path, []).append(headers)
                self.send_response(403)
                self.send_header("content-length", "2")
                self.end_headers()
                self.wfile.write(b"no")

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.address = f"127.0.0.1:{self.server.server_address[1]}"

    @property
    def hook(self) -> str:
        """The URL of a webhook here, with a password and a key in it."""
        return f"http://me:{HOOK_PASSWORD}@{self.address}/hook?key={HOOK_KEY}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(scope="module")
def sink() -> Iterator[Sink]:
    found = Sink()
    yield found
    found.close()


@pytest.fixture(scope="module")
def place(planted: Servers, tmp_path_factory: pytest.TempPathFactory) -> Place:
    found = Place(tmp_path_factory.mktemp("tokens"), planted.ways_in()["in the user's place"])
    migrated = found.run("migrate")
    assert migrated.code == 0, migrated.err
    return found


@pytest.fixture(scope="module")
def worked(place: Place, planted: Servers, sink: Sink) -> Place:
    """Where a worker has called a webhook that refuses, and told a collector that refuses; what it said is kept."""
    log = place.directory / "worker.log"
    given = {
        HOOK_URL: sink.hook,
        "EVENTBUS_TRACING": "opentelemetry",
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{sink.address}",
        "OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer%20{COLLECTOR_KEY}",
        "OTEL_BSP_SCHEDULE_DELAY": "200",
    }
    with log.open("w") as output:
        worker = subprocess.Popen(
            [*COMMAND, "worker", "--app", "tests.security.agents:bus", "--processes", "1", "--log-level", "debug"],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=place.directory, env=place.environ(given),
        )  # fmt: skip
    client, bus = planted.valkey.client(password=REDIS_PASSWORD), EventBus(Settings.from_env(place.variables))
    try:
        wait_until(lambda: "Ready" in log.read_text(), PATIENCE_S, "the worker")
        bus.publish_sync(Event(event_id="EV-hooked", type="QA_REPORT", project_id="P", actor="A"))
        wait_until(lambda: client.xlen("{eventbus}:dead:Hook"), PATIENCE_S, "the webhook's dead letter")
        wait_until(lambda: "/v1/traces" in sink.got, PATIENCE_S, "the collector to be told")
        wait_until(lambda: "code: 403" in log.read_text(), PATIENCE_S, "a word about the collector's refusal")
        (place.directory / "letter").write_text(str(client.xrange("{eventbus}:dead:Hook")))
        titles = "\n".join(title_of(pid) for pid in [worker.pid, *descendants(worker.pid)])
        (place.directory / "titles").write_text(titles)
    finally:
        bus.close()
        client.close()
        worker.send_signal(signal.SIGTERM)
        worker.wait(timeout=120)
    return place


def test_what_a_webhook_and_a_collector_are_told_is_what_was_planted(worked: Place, sink: Sink) -> None:
    ((sent, *_), traces) = (sink.got[f"/hook?key={HOOK_KEY}"], sink.got["/v1/traces"])

    assert sent["x-api-key"] == HOOK_KEY and sent["webhook-signature"].startswith("v1,")
    assert sent["authorization"] == f"Basic {base64.b64encode(f'me:{HOOK_PASSWORD}'.encode()).decode()}"
    assert traces[0]["authorization"] == f"Bearer {COLLECTOR_KEY}"


def test_logs_letters_and_titles_hide_the_secrets_of_webhooks_and_collectors(worked: Place) -> None:
    log, letter, titles = (
        (worked.directory / name).read_text(errors="replace") for name in ("worker.log", "letter", "titles")
    )

    assert "becomes a dead letter" in log and "answered 403" in letter and "worker" in titles
    for said in (log, letter, titles):
        assert_hidden(said)


@pytest.mark.parametrize("command", [["dead", "list"], ["dead", "show", "EV-hooked"], ["deliveries"], ["doctor"]])
def test_commands_hide_the_secret_of_a_webhook_that_was_given_up(worked: Place, command: list[str]) -> None:
    archived = worked.run("archive", "--once")
    assert archived.code == 0, archived.err

    for more in ([], ["--json"]):
        ended = worked.run(*command, *more)

        assert "Hook" in ended.out + ended.err or command == ["doctor"]
        assert_hidden(ended.out + ended.err)


def test_an_applications_own_logs_of_a_webhooks_requests_hide_its_url(
    sink: Sink, caplog: pytest.LogCaptureFixture
) -> None:
    hook = Webhook("Hook", sink.hook, HOOK_SECRET)
    event = Event(type="QA_REPORT", project_id="P", actor="A")

    async def send() -> None:
        with caplog.at_level(logging.DEBUG), pytest.raises(WebhookFailed) as caught:
            await hook.handle_event(event)
        assert_hidden(str(caught.value) + repr(hook))
        await hook._client().aclose()

    asyncio.run(send())

    assert f"http://me:***@{sink.address}/hook" in caplog.text
    assert_hidden(caplog.text)


# the web process


@pytest.fixture(scope="module")
def web(place: Place) -> Iterator[tuple[str, Path]]:
    """A web process with tokens: its URL, and its log."""
    log = place.directory / "web.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [*COMMAND, "web", "--port", "0", "--log-level", "debug"],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=place.directory, env=place.environ(),
        )  # fmt: skip
    try:
        found = wait_until(lambda: LISTENS.search(log.read_text()), PATIENCE_S, "the web process to listen")
        assert_hidden(title_of(process.pid))
        yield found[1], log
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=PATIENCE_S)
    assert_hidden(log.read_text())


WRONG = f"{WORD}-that-is-wrong-{WORD}"
PATHS = (
    "/livez", "/readyz", "/metrics", "/api/v1/openapi.json", "/api/v1/lag", "/api/v1/overview", "/api/v1/audit",
    "/api/v1/workers", "/api/v1/subscribers", "/api/v1/events?limit=x", "/api/v1/nothing", "/", "/audit", "/login",
)  # fmt: skip


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"authorization": f"Bearer {WEB_TOKEN}"}, 200),
        ({"authorization": f"Bearer {READ_TOKEN}"}, 200),
        ({"authorization": "Basic " + base64.b64encode(f"Ada:{WEB_TOKEN}".encode()).decode()}, 200),
        ({"authorization": "Basic " + base64.b64encode(f"Ada:{WRONG}".encode()).decode()}, 401),
        ({"authorization": f"Bearer {WRONG}"}, 401),
        ({"authorization": WEB_TOKEN}, 401),
        ({"cookie": f"eventbus_session={WEB_TOKEN}"}, 401),
    ],
)
def test_answers_hide_the_token_that_was_named(web: tuple[str, Path], headers: dict[str, str], status: int) -> None:
    url, log = web
    with httpx.Client(base_url=url, timeout=PATIENCE_S, headers=headers) as client:
        assert client.get("/api/v1/lag").status_code == status
        said = [client.get(path, headers={"accept": kind}) for path in PATHS for kind in ("text/html", "*/*")]
        said.append(client.post("/api/v1/subscribers/Nobody/resume"))

    for answer in said:
        assert answer.status_code < 500, answer.text
        assert_hidden(answer.text + json.dumps(dict(answer.headers)))
    assert_hidden(log.read_text())


@pytest.mark.parametrize(("token", "status"), [(WEB_TOKEN, 303), (WRONG, 401)])
def test_a_login_hides_its_token(web: tuple[str, Path], token: str, status: int) -> None:
    url, log = web
    with httpx.Client(base_url=url, timeout=PATIENCE_S) as client:
        answer = client.post("/login", data={"name": "Ada", "token": token, "to": "/events"})
        after = client.get("/audit")

    assert answer.status_code == status
    assert_hidden(answer.text + json.dumps(dict(answer.headers)) + after.text + log.read_text())


def test_settings_hide_tokens_when_they_are_shown(planted: Servers) -> None:
    for variables in planted.ways_in().values():
        settings = Settings.from_env(variables)

        assert (settings.web_token, settings.web_read_token) == (WEB_TOKEN, READ_TOKEN)
        assert_hidden(repr(settings) + str(settings))
