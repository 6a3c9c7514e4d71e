"""What others send over HTTP, and answer: bodies, CloudEvents, cursors, credentials, webhooks; as functions of bytes.

Whole requests are in `test_http.py`, with a server behind them.
"""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request

from console.deliveries import named
from console.exits import Mistake
from console.web.access import Access, Tokens, host_of
from console.web.api.live import _last_event_id
from console.web.guards import check_origin
from console.web.operations import read_json
from console.web.pages.words import LANGUAGES, negotiated
from events.cloudevents import from_binary, from_structured, is_binary, to_headers, to_structured
from events.errors import EventBusError
from events.webhooks import MOST_RETRY_AFTER_S, Webhook, _retry_after_s, sign, verify
from tests.fuzz.targets import TARGETS as OF_THE_REST
from tests.fuzz.targets import Target, text, use

SECRET = "secret-of-a-webhook-that-is-fuzzed"
EVENT = OF_THE_REST["body"].examples[0]
_CLOUD_EVENT = (
    b'{"specversion":"1.0","id":"EV-1","source":"A","type":"SCENE_WRITTEN","subject":"P","time":"2026-01-31T12:00:00Z",'
    b'"causationid":"EV-0","latencyms":3,"cost":"0.25","traceparent":"00-1-2-01","data":{"n":[1,2.5,null]}}'
)
_CLOUD_HEADERS = (
    b"content-type: application/json; charset=utf-8\nce-specversion: 1.0\nce-id: EV-1\nce-source: A%20B\n"
    b"ce-type: SCENE_WRITTEN\nce-subject: P\nce-time: 2026-01-31T12:00:00Z\nce-cost: 0.25\nce-priority: 3\n\n"
    b'{"n":[1,2.5,null]}'
)
_SIGNED = b"webhook-id: EV-1\nwebhook-timestamp: 1769860800\nwebhook-signature: v1,AAAA v1,BBBB\n\n{}"


def http_body(data: bytes) -> None:
    read_json(data)


def cloud_event(data: bytes) -> None:
    event = from_structured(read_json(data))
    use(event)
    to_structured(event), to_headers(event)


def cloud_event_in_headers(data: bytes) -> None:
    headers, sent = request(data)
    if is_binary(headers):
        event = from_binary(headers, sent)
        use(event)
        to_structured(event), to_headers(event)


def last_event_id(data: bytes) -> None:
    asked: Any = SimpleNamespace(request=connection(b"last-event-id", data))
    _last_event_id(asked)


def delivery_to_go_on_after(data: bytes) -> None:
    named("after", text(data))


@cache
def access() -> Access:
    """Made once: what it makes of a token takes long on purpose."""
    return Access(Tokens("an operator's token", None))


def credentials(data: bytes) -> None:
    """Nobody is let in by damage; and whoever is refused is refused without an error."""
    found = [access().who(connection(name, data)) for name in (b"authorization", b"cookie")]
    assert not any(found), "Somebody came in."


def origin(data: bytes) -> None:
    check_origin(connection(b"origin", data, (b"host", b"h")).headers)
    host_of(data.decode("latin-1"))


def accepted_languages(data: bytes) -> None:
    assert negotiated(None, data.decode("latin-1")) in LANGUAGES


def webhook_url(data: bytes) -> None:
    repr(Webhook("Hook", text(data), SECRET))


def webhook_secret(data: bytes) -> None:
    try:
        repr(Webhook("Hook", "https://example.org", text(data)))
    except EventBusError as error:
        assert len(data) < 8 or text(data) not in str(error), "The secret is shown."
        raise


def webhook_request(data: bytes) -> None:
    headers, sent = request(data)
    assert not verify(SECRET, headers, sent), "What nobody has signed holds."
    for name in ("webhook-id", "webhook-timestamp", "webhook-signature"):
        verify(SECRET, {**sign(SECRET.encode(), "EV-1", sent), name: text(data)}, sent)


def webhook_answer(data: bytes) -> None:
    after_s = _retry_after_s(text(data))
    assert after_s is None or 0 <= after_s <= MOST_RETRY_AFTER_S


def connection(name: bytes, value: bytes, *more: tuple[bytes, bytes]) -> Request:
    """Return a request with a header, as servers hand it on."""
    headers = [(name, value.replace(b"\r", b"").replace(b"\n", b"")), *more]
    return Request({"type": "http", "method": "GET", "headers": headers, "path": "/", "query_string": b""})


def request(data: bytes) -> tuple[dict[str, str], bytes]:
    """Split headers, a line each, from the body after an empty line."""
    head, _, sent = data.partition(b"\n\n")
    lines = (line.decode("latin-1").partition(":") for line in head.split(b"\n"))
    return {name.strip().lower(): value.strip() for name, _, value in lines}, sent


TARGETS: dict[str, Target] = {
    "http_body": Target(http_body, (Mistake,), (EVENT, b"[" + EVENT + b"," + EVENT + b"]")),
    "cloud_event": Target(cloud_event, (EventBusError, Mistake), (_CLOUD_EVENT,)),
    "cloud_event_in_headers": Target(
        cloud_event_in_headers,
        (EventBusError,),
        (_CLOUD_HEADERS, _CLOUD_HEADERS.replace(b"application/json", b"text/plain")),
    ),
    "last_event_id": Target(last_event_id, (Mistake,), (b"1769860800000000",)),
    "delivery_to_go_on_after": Target(delivery_to_go_on_after, (Mistake,), (b"1769860800000000:Painter:0",)),
    "credentials": Target(
        credentials, (), (b"Bearer token", b"Basic QWRhOnRva2Vu", b"eventbus_session=WyJBZGEiLDJd.aX4.c2ln; theme=dark")
    ),
    "origin": Target(origin, (HTTPException,), (b"https://user@example.org:443",)),
    "accepted_languages": Target(accepted_languages, (), (b"de-AT;q=0.9, zh-Hans;q=0.5, *;q=0.1",)),
    "webhook_url": Target(
        webhook_url, (EventBusError,), (b"https://me:word@example.org:8443/hook?key=x", b"http://127.0.0.1/x")
    ),
    "webhook_secret": Target(
        webhook_secret, (EventBusError,), (b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", SECRET.encode())
    ),
    "webhook_request": Target(webhook_request, (), (_SIGNED,)),
    "webhook_answer": Target(webhook_answer, (), (b"120", b"Sat, 31 Jan 2026 12:00:00 GMT")),
}
