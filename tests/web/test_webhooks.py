"""Webhooks: signed, tried again, given up, as deliveries are; to a real receiver, from real workers."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

from events.errors import InvalidSubscription
from events.event import Event
from events.webhooks import Webhook, WebhookGone, sign, verify
from tests.fleet.conftest import make_world
from tests.fleet.fleet import World
from tests.valkey_servers import ValkeyServer
from tests.waiting import wait_until

SECRET = "whsec_" + "c2VjcmV0LW9mLXRoZS10ZXN0cy1vZi13ZWJob29rcw=="


class Receiver:
    """An HTTP server that keeps what it is sent; `answer` decides what it says to the n-th request of an event."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes, float]] = []
        self.answer: Callable[[dict[str, Any], int], tuple[int, dict[str, str]]] = lambda event, n: (204, {})
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.got.append(({k.lower(): v for k, v in self.headers.items()}, body, time.monotonic()))
                event = json.loads(body)
                status, headers = receiver.answer(event, len(receiver.of(event["id"])))
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hook"

    def of(self, event_id: str) -> list[tuple[dict[str, str], bytes, float]]:
        return [each for each in self.got if json.loads(each[1])["id"] == event_id]

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    found = Receiver()
    yield found
    found.close()


@pytest.fixture(scope="module")
def world(receiver: Receiver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with ValkeyServer() as server:
        found = make_world(server.url, tmp_path_factory.mktemp("hooks"))
        try:
            found.start_fleet(1, "tests.web.hooked:bus", TEST_HOOK_URL=receiver.url, TEST_HOOK_SECRET=SECRET)
            yield found
        finally:
            found.close()


def published(world: World, **fields: Any) -> Event:
    event = Event(type="QA_REPORT", project_id="film", actor="t", **fields)
    world.bus.publish_sync(event)
    return event


def test_an_event_arrives_signed_as_a_cloudevent(world: World, receiver: Receiver) -> None:
    event = published(world, payload={"text": "größer"}, metadata={"cost": 0.5})

    ((headers, body, _),) = wait_until(lambda: receiver.of(event.event_id), 30, "the webhook")

    assert verify(SECRET, headers, body) and headers["webhook-id"] == event.event_id
    assert headers["content-type"] == "application/cloudevents+json"
    found = json.loads(body)
    assert (found["id"], found["type"], found["subject"]) == (event.event_id, "QA_REPORT", "film")
    assert found["data"] == {"text": "größer"} and found["cost"] == 0.5
    world.until_settled("Billing")
    assert [state for _, _, state, _ in world.outcomes("Billing")][-1] == "done"


def test_a_receiver_that_fails_is_tried_again_with_the_same_id(world: World, receiver: Receiver) -> None:
    receiver.answer = lambda event, n: (500 if n == 1 else 302 if n == 2 else 200, {"location": "/elsewhere"})
    event = published(world)

    got = wait_until(
        lambda: len(receiver.of(event.event_id)) == 3 and receiver.of(event.event_id), 30, "three attempts"
    )

    assert {headers["webhook-id"] for headers, _, _ in got} == {event.event_id}
    assert len({body for _, body, _ in got}) == 1
    world.until_settled("Billing")
    assert not world.dead("Billing", event)


def test_one_that_asks_for_time_gets_it(world: World, receiver: Receiver) -> None:
    receiver.answer = lambda event, n: (429, {"retry-after": "2"}) if n == 1 else (200, {})
    event = published(world)

    wait_until(lambda: len(receiver.of(event.event_id)) == 2, 30, "two attempts")
    first, second = receiver.of(event.event_id)

    assert second[2] - first[2] >= 1.9


@pytest.mark.parametrize(("status", "attempts", "says"), [(500, 3, "answered 500"), (410, 1, "nobody listens there")])
def test_one_that_never_takes_it_makes_a_dead_letter(
    world: World, receiver: Receiver, status: int, attempts: int, says: str
) -> None:
    receiver.answer = lambda event, n: (status, {})
    event = published(world)

    (letter,) = wait_until(lambda: world.dead("Billing", event), 30, "the dead letter")

    assert len(receiver.of(event.event_id)) == attempts and says in str(letter)
    assert SECRET not in world.log() and "c2VjcmV0" not in str(letter)


@pytest.mark.parametrize(
    ("change", "holds"),
    [
        ({}, True),
        ({"webhook-signature": "v1,AAAA"}, False),
        ({"webhook-signature": ""}, False),
        ({"webhook-timestamp": "1"}, False),
        ({"webhook-timestamp": "x"}, False),
        ({"webhook-id": "another"}, False),
    ],
)
def test_only_what_is_signed_holds(change: dict[str, str], holds: bool) -> None:
    key = b"secret-of-the-tests-of-webhooks"
    headers = sign(key, "EV-1", b"body")

    assert verify(SECRET, headers | change, b"body") is holds
    assert not verify(SECRET, headers, b"other")
    assert verify(SECRET, headers | {"webhook-signature": f"v2,x {headers['webhook-signature']}"}, b"body")
    assert not verify(SECRET, sign(key, "EV-1", b"body", timestamp=int(time.time()) - 3600), b"body")


def test_the_signature_is_that_of_the_specifications_example() -> None:
    key = Webhook("Example", "https://example.org", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")._key
    body = b'{"test": 2432232314}'

    headers = sign(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", body, timestamp=1614265330)

    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize(
    ("url", "secret", "sentence"),
    [
        ("http://example.org", SECRET, "must begin with https://"),
        ("ftp://example.org", SECRET, "must begin with https://"),
        ("https://", SECRET, "must begin with https://"),
        ("https://example.org", "short", "at least 24 bytes, and this has 5"),
        ("https://example.org", "whsec_%%%", "must go on in base64"),
    ],
)
def test_a_webhook_that_cannot_be_is_refused_without_its_secret(url: str, secret: str, sentence: str) -> None:
    with pytest.raises(InvalidSubscription, match=sentence.replace("(", "\\(")) as caught:
        Webhook("Hook", url, secret)

    assert SECRET not in str(caught.value)
    assert "pass" not in repr(Webhook("Hook", "https://me:pass@example.org/x", SECRET))


def test_an_id_that_no_header_holds_is_signed_as_it_is_sent() -> None:
    headers = sign(b"k" * 24, "事件-1", b"{}")

    assert headers["webhook-id"].isascii() and verify("k" * 24, headers, b"{}")


BEGINNINGS = {
    "late": b"content-length: 5\r\n\r\n",
    "without_end": b"transfer-encoding: chunked\r\n\r\n",
    "cut": b"content-length: 5\r\n\r\n.",
    "not_to_be_read": b"content-encoding: gzip\r\ncontent-length: 5\r\n\r\n.....",
}


@pytest.mark.parametrize("how", BEGINNINGS)
@pytest.mark.parametrize(("status", "raised"), [(200, None), (410, WebhookGone)])
def test_a_status_decides_whatever_comes_of_the_body(how: str, status: int, raised: type[Exception] | None) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked(reader)
        writer.write(f"HTTP/1.1 {status} So\r\n".encode() + BEGINNINGS[how])
        while how == "without_end" and not writer.is_closing():
            writer.write(b"1\r\n.\r\n")
            await asyncio.sleep(0.05)  # what it sends, not what is waited for
        if how in ("late", "without_end"):
            await reader.read()
        writer.close()

    async def run(url: str) -> None:
        hook = Webhook("Slow", url, SECRET, timeout_s=1.5)
        with pytest.raises(raised) if raised else nullcontext():
            await asyncio.wait_for(hook.handle_event(event()), 30)

    asyncio.run(at_a_receiver(answer, run))


def test_more_attempts_than_a_pool_has_connections_run_at_once() -> None:
    count, here, all_are_here = 150, 0, asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal here
        await asked(reader)
        here += 1
        if here == count:
            all_are_here.set()
        await all_are_here.wait()
        writer.write(b"HTTP/1.1 204 So\r\n\r\n")
        writer.close()

    async def run(url: str) -> None:
        hook = Webhook("Many", url, SECRET, timeout_s=20)
        await asyncio.gather(*(hook.handle_event(event()) for _ in range(count)))

    asyncio.run(at_a_receiver(answer, run))
    assert here == count


@pytest.mark.parametrize("after", ["0", "1", "Sun, 06 Nov 1994 08:49:37 GMT"])
def test_one_that_asks_for_no_time_burns_no_attempts(world: World, receiver: Receiver, after: str) -> None:
    receiver.answer = lambda event, n: (503, {"retry-after": after}) if n == 1 else (200, {})
    event = Event(type="USER_APPROVED", project_id="film", actor="t")
    world.bus.publish_sync(event)

    wait_until(lambda: len(receiver.of(event.event_id)) == 2, 30, "two attempts")
    first, second = receiver.of(event.event_id)

    assert second[2] - first[2] >= 1.9, "the subscriber's own backoff is two seconds"


MADE_BY = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    ("metadata", "sent"),
    [
        ({}, {}),
        ({"traceparent": MADE_BY, "tracestate": "a=1"}, {"traceparent": MADE_BY, "tracestate": "a=1"}),
        ({"traceparent": MADE_BY, "tracestate": "a=1\r\nx-evil: 1"}, {"traceparent": MADE_BY}),
        ({"traceparent": f"{MADE_BY}\r\nx-evil: 1"}, {}),
        ({"traceparent": 7}, {}),
    ],
)
def test_the_context_of_an_event_goes_out_with_it(
    receiver: Receiver, metadata: dict[str, Any], sent: dict[str, str]
) -> None:
    receiver.answer = lambda event, n: (204, {})
    traced = event(metadata=metadata)

    asyncio.run(Webhook("Plain", receiver.url, SECRET).handle_event(traced))

    ((headers, _, _),) = receiver.of(traced.event_id)
    assert {name: headers[name] for name in ("traceparent", "tracestate", "x-evil") if name in headers} == sent


def test_the_context_of_the_attempt_goes_before_that_of_the_event(receiver: Receiver) -> None:
    receiver.answer = lambda event, n: (204, {})
    traced = event(metadata={"traceparent": MADE_BY})

    async def run() -> str:
        with TracerProvider().get_tracer("t").start_as_current_span("process") as span:
            await Webhook("Traced", receiver.url, SECRET).handle_event(traced)
            context = span.get_span_context()
            return f"00-{context.trace_id:032x}-{context.span_id:016x}-"

    made_by = asyncio.run(run())

    ((headers, _, _),) = receiver.of(traced.event_id)
    assert headers["traceparent"].startswith(made_by)


def event(**fields: Any) -> Event:
    return Event(type="QA_REPORT", project_id="p", actor="t", **fields)


async def asked(reader: asyncio.StreamReader) -> None:
    """Read a whole request."""
    head = await reader.readuntil(b"\r\n\r\n")
    [size] = [int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    await reader.readexactly(size)


async def at_a_receiver(
    answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    run: Callable[[str], Awaitable[None]],
) -> None:
    """Run something with the URL of a server whose every connection is answered so."""
    server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=256)
    try:
        await run(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
    finally:
        server.close()
