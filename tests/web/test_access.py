"""Who may do what: loopback without tokens, tokens, roles, sessions, other sites' pages, and what headers say."""

from __future__ import annotations

import asyncio
import hashlib
import html
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from itsdangerous import URLSafeTimedSerializer
from starlette.requests import HTTPConnection

from console.web import guesses
from console.web.access import Access, Role, Tokens, Who
from console.web.guards import POLICY
from console.web.guesses import MOST, WINDOW_S, Guesses
from console.web.listening import listening
from tests.fleet.fleet import World
from tests.waiting import wait_until
from tests.web.site import Site, start

OPERATOR = "operator-token-of-the-tests"
READER = "reader-token-of-the-tests"
TOKENS = {"EVENTBUS_WEB_TOKEN": OPERATOR, "EVENTBUS_WEB_READ_TOKEN": READER}
EVENT = {"project_id": "film", "type": "QA_REPORT", "actor": "t"}


@pytest.fixture(scope="module")
def guarded(served_world: World) -> Iterator[Site]:
    """A web process on every address, with tokens."""
    found = start(served_world, "--host", "0.0.0.0", name="guarded", **TOKENS)
    yield found
    found.http.close()


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


@pytest.mark.parametrize(
    ("headers", "reads", "writes"),
    [
        ({}, 401, 401),
        ({"authorization": "Bearer"}, 401, 401),
        (bearer("wrong"), 401, 401),
        (bearer(OPERATOR + "x"), 401, 401),
        ({"authorization": "Basic %%%"}, 401, 401),
        ({"authorization": OPERATOR}, 401, 401),
        ({"cookie": "eventbus_session=forged"}, 401, 401),
        (bearer(READER), 200, 403),
        (bearer(OPERATOR), 200, 201),
    ],
)
def test_a_token_decides_what_may_be_done(guarded: Site, headers: dict[str, str], reads: int, writes: int) -> None:
    assert guarded.http.get("/api/v1/lag", headers=headers).status_code == reads
    assert guarded.http.get("/metrics", headers=headers).status_code == reads
    assert guarded.http.post("/api/v1/events", json=EVENT, headers=headers).status_code == writes


def test_basic_takes_the_token_as_password_and_the_name_is_logged(guarded: Site) -> None:
    answer = guarded.http.post("/api/v1/subscribers/Writer/resume", auth=("Ada\u202e <b>", OPERATOR))

    assert answer.status_code == 200
    entry = guarded.http.get("/api/v1/audit?limit=1", headers=bearer(READER)).json()["entries"][0]
    assert entry["who"] == "Ada? <b>" and OPERATOR not in str(entry)


def test_what_a_reader_tries_and_may_not_do_is_in_the_audit_log_too(guarded: Site) -> None:
    answer = guarded.http.post("/api/v1/subscribers/Writer/pause", auth=("Eve", READER))

    entry = guarded.http.get("/api/v1/audit?limit=1", headers=bearer(READER)).json()["entries"][0]
    assert answer.status_code == entry["status"] == 403
    assert (entry["who"], entry["action"], entry["target"]) == (
        "Eve", "pause_subscriber", "/api/v1/subscribers/Writer/pause",
    )  # fmt: skip
    for _ in range(5):
        guarded.http.post("/api/v1/subscribers/Writer/pause", auth=("Eve", READER))
    others = guarded.http.get("/api/v1/audit?limit=2", headers=bearer(READER)).json()["entries"]
    assert [one["who"] for one in others].count("Eve") == 1, "who goes on trying has an entry a minute"
    guarded.http.post("/api/v1/events", json=EVENT, auth=("Mallory", READER))
    wait_until(lambda: "Mallory (127.0.0.1) publish_event /api/v1/events: 403" in guarded.world.log("guarded"), 30)


def test_a_refusal_tells_no_secret_and_asks_for_a_token(guarded: Site) -> None:
    answer = guarded.http.get("/api/v1/lag", headers=bearer("something-secret"))

    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert "something-secret" not in answer.text + guarded.world.log("guarded")
    assert OPERATOR not in answer.text + guarded.world.log("guarded")


def test_health_needs_no_token_and_says_little(guarded: Site) -> None:
    assert guarded.http.get("/livez").text == "ok\n"
    assert guarded.http.get("/readyz").json() == {"ready": True, "redis": "ok", "database": "ok"}


@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE"])
@pytest.mark.parametrize(
    ("headers", "is_refused"),
    [
        ({"sec-fetch-site": "cross-site"}, True),
        ({"sec-fetch-site": "same-site"}, True),
        ({"origin": "https://evil.example"}, True),
        ({"origin": "null"}, True),
        ({"origin": "http://["}, True),
        ({"sec-fetch-site": "same-origin", "origin": "https://behind-a-proxy.example"}, False),
        ({"sec-fetch-site": "none"}, False),
        ({}, False),
    ],
)
def test_another_sites_page_changes_nothing(
    guarded: Site, method: str, headers: dict[str, str], is_refused: bool
) -> None:
    answer = guarded.http.request(method, "/api/v1/nothing", headers=bearer(OPERATOR) | headers)

    assert (answer.status_code == 403) == is_refused
    if is_refused:
        assert "nothing was done" in answer.json()["detail"]


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "[::2]"])
def test_without_tokens_another_name_of_this_machine_is_refused(site: Site, host: str) -> None:
    answer = site.http.get("/api/v1/lag", headers={"host": host})

    assert answer.status_code in (400, 403)
    assert site.http.get("/api/v1/lag", headers={"host": "localhost:8080"}).status_code == 200


@pytest.mark.parametrize(
    "header", [{"x-forwarded-for": "127.0.0.1"}, {"forwarded": "for=127.0.0.1"}, {"via": "1.1 proxy"}]
)
def test_without_tokens_what_a_proxy_passes_on_is_refused(site: Site, header: dict[str, str]) -> None:
    wrong = site.problem("GET", "/api/v1/lag", 403, headers=header)

    assert "not through a proxy" in wrong["detail"]


@pytest.mark.parametrize("path", ["/livez", "/api/v1/lag", "/api/v1/nothing", "/nothing", "/api/v1/events?limit=x"])
def test_every_response_carries_the_headers_that_guard_its_reader(guarded: Site, path: str) -> None:
    headers = guarded.http.get(path, headers=bearer(READER)).headers

    assert headers["content-security-policy"] == POLICY and "unsafe" not in POLICY and "*" not in POLICY
    assert headers["x-content-type-options"] == "nosniff" and headers["x-frame-options"] == "DENY"
    assert headers["cache-control"] == "no-store" and "server" not in headers


@pytest.mark.parametrize(
    ("arguments", "environment", "sentence"),
    [
        (["--host", "0.0.0.0"], {}, "set EVENTBUS_WEB_TOKEN, or bind it to 127.0.0.1"),
        (["--host", "::"], {}, "set EVENTBUS_WEB_TOKEN"),
        ([], {"EVENTBUS_WEB_TOKEN": "short"}, "EVENTBUS_WEB_TOKEN has 5 characters, and needs 16 at least"),
        ([], {"EVENTBUS_WEB_TOKEN": "x" * 16, "EVENTBUS_WEB_READ_TOKEN": "x" * 16}, "are the same"),
        ([], {"PORT": "many"}, "PORT must be a whole number, not 'many'"),
    ],
)
def test_it_does_not_start_open_to_everybody(
    served_world: World, arguments: list[str], environment: dict[str, str], sentence: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "console.main", "web", "--port", "0", *arguments], capture_output=True, text=True,
        timeout=60, env={**served_world.environment, **environment}, cwd=served_world.tmp_path,
    )  # fmt: skip

    assert done.returncode == 2 and sentence in done.stderr and "Traceback" not in done.stderr
    assert "short" not in done.stderr and "x" * 16 not in done.stderr


@pytest.mark.parametrize("is_page_broken", [False, True])
@pytest.mark.parametrize("media", ["application/json", "text/html"])
def test_a_bug_is_answered_without_its_text_and_with_the_headers_that_guard(
    monkeypatch: pytest.MonkeyPatch, served_world: World, media: str, is_page_broken: bool
) -> None:
    from console.web.app import Web
    from console.web.live import pulse
    from console.web.pages import routes

    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("secret of the code")

    monkeypatch.setattr(pulse.Pulse, "look", broken)
    if is_page_broken:
        monkeypatch.setattr(routes, "render", broken)
    app = Web(served_world.settings).app
    transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=("127.0.0.1", 5))

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.get("/" if media == "text/html" else "/api/v1/overview", headers={"accept": media})

    answer = asyncio.run(ask())

    assert answer.status_code == 500 and "secret of the code" not in answer.text
    assert "log says what" in html.unescape(answer.text)
    assert answer.headers["content-security-policy"] == POLICY and answer.headers["x-content-type-options"] == "nosniff"
    is_page = media == "text/html" and not is_page_broken
    assert answer.headers["content-type"].startswith("text/html" if is_page else "application/problem+json")


def test_over_tls_cookies_are_secure_and_browsers_are_told_to_stay_there(guarded: Site) -> None:
    def logged_in(scheme: str) -> httpx.Response:
        answer = guarded.http.post(
            "/login", data={"name": "Ada", "token": OPERATOR}, headers={"x-forwarded-proto": scheme}
        )
        guarded.http.cookies.clear()
        assert answer.status_code == 303
        return answer

    tls, plain = logged_in("https"), logged_in("http")

    def attributes(answer: httpx.Response) -> set[str]:
        return {part.strip().lower() for part in answer.headers["set-cookie"].split(";")[1:]}

    assert {"secure", "httponly", "samesite=lax"} <= attributes(tls)
    assert tls.headers["strict-transport-security"] == "max-age=31536000"
    assert "secure" not in attributes(plain) and "strict-transport-security" not in plain.headers


@pytest.mark.parametrize(
    ("method", "path", "status", "sentence"),
    [
        ("GET", "/api/v1/nothing", 404, "There is nothing at '/api/v1/nothing': the API's paths are in"),
        ("GET", "/nothing", 404, "There is nothing at '/nothing': the API's paths are in"),
        ("DELETE", "/api/v1/lag", 405, "'/api/v1/lag' is not asked with DELETE: the API's paths are in"),
    ],
)
def test_what_is_not_there_is_told_in_a_sentence(
    site: Site, method: str, path: str, status: int, sentence: str
) -> None:
    found = site.problem(method, path, status)

    assert found["detail"].startswith(sentence) and found["detail"].endswith(".")


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/api/v1/events", "GET, HEAD, POST"),
        ("/api/v1/dead-letters/retry", "GET, HEAD, POST"),
        ("/api/v1/events/shots%2F7", "GET, HEAD"),
        ("/login", "GET, HEAD, POST"),
        ("/livez", "GET, HEAD"),
    ],
)
def test_a_method_that_a_path_does_not_have_is_answered_with_all_that_it_has(
    site: Site, path: str, methods: str
) -> None:
    answer = site.http.put(path)

    assert (answer.status_code, answer.headers.get_list("allow")) == (405, [methods])


def test_who_names_a_wrong_token_at_the_login_is_logged_by_the_address_alone(guarded: Site) -> None:
    guarded.http.post("/login", data={"name": "Eve", "token": "wrong"}, headers={"x-forwarded-for": "203.0.113.77"})

    wait_until(lambda: "203.0.113.77" in guarded.world.log("guarded"), 30, "the line")
    assert "Address(" not in guarded.world.log("guarded")


def test_an_address_that_guesses_is_not_listened_to_for_a_while(guarded: Site) -> None:
    def ask(token: str, address: str = "203.0.113.9") -> httpx.Response:
        return guarded.http.get("/api/v1/lag", headers=bearer(token) | {"x-forwarded-for": address})

    form = {"name": "Ada", "token": OPERATOR}
    cookie = guarded.http.post("/login", data=form).cookies["eventbus_session"]
    guarded.http.cookies.clear()
    assert {ask("the same wrong one").status_code for _ in range(2 * MOST)} == {401}, "an old token is no guess"
    assert {ask(f"guess {number}").status_code for number in range(MOST - 2)} == {401}
    assert ask("one too many").status_code == 429

    deaf = ask(OPERATOR)
    page = guarded.http.post("/login", data=form, headers={"x-forwarded-for": "203.0.113.9"})

    assert deaf.status_code == page.status_code == 429 and "no token from there is looked at" in deaf.json()["detail"]
    assert 0 < int(deaf.headers["retry-after"]) <= WINDOW_S and 0 < int(page.headers["retry-after"]) <= WINDOW_S
    assert "for 10 min more" in page.text and not page.cookies
    assert ask(OPERATOR, "203.0.113.10").status_code == 200, "others are"
    session = {"cookie": f"eventbus_session={cookie}", "x-forwarded-for": "203.0.113.9"}
    assert guarded.http.get("/api/v1/lag", headers=session).status_code == 200, "who has come in stays"


def test_guesses_are_forgotten_and_of_few_addresses_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    found = Guesses(lambda: now[0])
    for number in range(MOST):
        found.wrong("2001:db8::1", b"%d" % number)
    assert found.deaf_s("2001:db8::2") == WINDOW_S, "a client has a network of them"
    assert found.deaf_s("2001:db8:0:1::1") == found.deaf_s("192.0.2.1") == 0.0

    now[0] = WINDOW_S - 1
    assert found.deaf_s("2001:db8::2") == 1
    now[0] = WINDOW_S
    assert found.deaf_s("2001:db8::2") == 0.0

    monkeypatch.setattr(guesses, "MOST_ADDRESSES", 3)
    for number in range(9):
        found.wrong(f"192.0.2.{number}", b"wrong")
    assert len(found._tries) == 3


def test_a_session_is_read_by_every_web_process_with_the_same_tokens_and_its_key_is_made_slowly() -> None:
    def who(access: Access, cookie: str) -> Who | None:
        scope = {"type": "http", "headers": [(b"cookie", f"eventbus_session={cookie}".encode())], "client": None}
        return access.who(HTTPConnection(scope))

    ada = Who("Ada", Role.OPERATOR)
    access, other = Access(Tokens(OPERATOR, READER)), Access(Tokens(OPERATOR, None))
    cookie = access.session(ada)
    quick = hashlib.sha256(f"{OPERATOR}\0{READER}".encode()).hexdigest()
    forged = URLSafeTimedSerializer(quick, salt="eventbus.session").dumps(["Ada", 2])

    assert who(Access(Tokens(OPERATOR, READER)), cookie) == ada
    assert who(other, cookie) is None and who(access, forged) is None


@pytest.mark.parametrize(
    ("host", "sentence"),
    [
        ("127.0.0.1", "Port {port} of 127.0.0.1 is taken: give another one with --port, or set PORT."),
        ("192.0.2.1", "This machine has no address '192.0.2.1': give one with --host; 0.0.0.0 is all of them."),
        (
            "nowhere.invalid",
            "This machine has no address 'nowhere.invalid': give one with --host; 0.0.0.0 is all of them.",
        ),
    ],
)
def test_where_it_cannot_listen_is_said_before_anything_begins(site: Site, host: str, sentence: str) -> None:
    port = site.address[1]

    done = subprocess.run(
        [sys.executable, "-m", "console.main", "web", "--host", host, "--port", str(port)], capture_output=True,
        text=True, timeout=60, cwd=site.world.tmp_path,
        env={**site.world.environment, "EVENTBUS_WEB_TOKEN": OPERATOR},
    )  # fmt: skip

    assert (done.returncode, done.stderr) == (1, f"eventbus: {sentence.format(port=port)}\n")


def test_it_listens_at_every_address_that_a_name_has() -> None:
    found = listening("localhost", 0)
    hosts = {one.getsockname()[0] for one in found}
    for one in found:
        one.close()

    assert "127.0.0.1" in hosts and hosts <= {"127.0.0.1", "::1"}
