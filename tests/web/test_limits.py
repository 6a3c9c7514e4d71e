"""Limits of a web process: who drips, who takes no answer, who is too many; and what answers while others wait."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress

import pytest
from starlette.exceptions import HTTPException

from console.web import connections, guards, reading
from console.web.live.sse import Streams
from tests.fleet.fleet import World
from tests.waiting import wait_until
from tests.web.served import WAIT_S, Served, served
from tests.web.site import Site, messages, start

EVENTS = "/api/v1/events"


@contextmanager
def connected(to: Served, *lines: str) -> Iterator[socket.socket]:
    """A connection on which these lines have been sent."""
    with socket.create_connection(to.address, WAIT_S) as found:
        found.sendall("".join(f"{line}\r\n" for line in lines).encode())
        yield found


def whole(connection: socket.socket) -> bytes:
    """What is sent until the server closes; TimeoutError when it does not."""
    got = b""
    while some := connection.recv(65_536):
        got += some
    return got


def is_closed(connection: socket.socket) -> bool:
    """Wait until the server closes without a word; TimeoutError when it does not."""
    try:
        return whole(connection) == b""
    except ConnectionError:
        return True


def drip(connection: socket.socket, gone: threading.Event) -> None:
    """Send a byte now and then."""
    with suppress(OSError):
        while not gone.wait(0.2):
            connection.sendall(b"x")


def test_a_head_that_drips_is_hung_up_on_and_live_streams_are_not(
    served_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEAD_S", 2.0)
    with (
        served(served_world.settings) as here,
        here.http.stream("GET", f"{EVENTS}/stream", params={"project": "dripping"}) as answer,
    ):
        found = messages(answer.iter_lines())
        next(each for each in found if "id" in each)
        with connected(here, "GET /livez HTTP/1.1") as dripping, connected(here) as silent:
            gone = threading.Event()
            thread = threading.Thread(target=drip, args=(dripping, gone))
            thread.start()
            try:
                assert is_closed(silent) and is_closed(dripping)
            finally:
                gone.set()
                thread.join()

        sent = here.http.post(EVENTS, json={"project_id": "dripping", "type": "QA_REPORT", "actor": "t"}).json()
        assert next(each for each in found if "data" in each)["id"] == str(sent["position"]), "the stream goes on"


def test_a_body_that_drips_is_refused(served_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guards, "BODY_S", 1.0)
    head = ("Host: localhost", "Content-Type: application/json", "Content-Length: 1000", "", "{")
    with served(served_world.settings) as here, connected(here, f"POST {EVENTS} HTTP/1.1", *head) as slow:
        got = whole(slow)

    assert got.startswith(b"HTTP/1.1 408 ") and b"The body came too slowly" in got
    assert b"connection: close" in got.lower() and b"application/problem+json" in got


def test_who_does_not_take_his_answer_is_cut(served_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "STALL_S", 1.0)
    events = [
        {"project_id": "stalled", "type": "QA_REPORT", "actor": "t", "payload": {"x": "y" * 500_000}} for _ in range(12)
    ]
    with served(served_world.settings) as here:
        assert here.http.post(f"{EVENTS}/batch", json=events).json()["published"] == 12
        with socket.socket() as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.settimeout(WAIT_S)
            slow.connect(here.address)
            slow.sendall(f"GET {EVENTS}/stream?project=stalled&after=0 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())

            def waits() -> bool:
                return any(one.flow.write_paused for one in tuple(here.server.server_state.connections))

            wait_until(waits, WAIT_S, "it to wait for him")
            wait_until(lambda: not waits(), WAIT_S, "him to be cut")


def test_a_connection_too_many_is_told_so_and_health_is_answered(
    served_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(served_world.settings) as here:
        monkeypatch.setattr(connections, "MOST_CONNECTIONS", 1)
        with connected(here):
            wait_until(lambda: len(here.server.server_state.connections) == 1, WAIT_S, "the first connection")
            refused = here.http.get("/api/v1/lag")
            alive = here.http.get("/livez")

        assert refused.status_code == 503 and "connections, its most" in refused.json()["detail"]
        assert refused.headers["retry-after"] == "10" and refused.headers["connection"] == "close"
        assert refused.headers["content-security-policy"] == guards.POLICY
        assert alive.status_code == 200


def test_a_stream_too_many_is_refused_and_has_its_place_when_another_ends() -> None:
    async def run() -> None:
        async def endless() -> AsyncIterator[bytes]:
            while True:
                yield b"x"

        streams = Streams(1)
        first = streams.open(endless()).body_iterator
        await anext(first)  # type: ignore[call-overload]
        with pytest.raises(HTTPException, match="1 live streams, its most") as refused:
            streams.open(endless())
        assert refused.value.status_code == 503 and refused.value.headers == {"Retry-After": "10"}
        await first.aclose()  # type: ignore[union-attr]
        streams.open(endless())

    asyncio.run(run())


def test_slow_questions_keep_neither_health_nor_live_streams_nor_publishers_waiting(
    served_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, held = threading.Event(), threading.Semaphore(0)

    def hold() -> None:
        held.release()
        gate.wait(2 * WAIT_S)

    with served(served_world.settings) as here:
        threads = served_world.settings.sql_pool_size
        slow = [here.run(here.server.web.house.reading.ask(hold)) for _ in range(threads)]
        try:
            assert all(held.acquire(timeout=WAIT_S) for _ in range(threads))
            monkeypatch.setattr(reading, "WAIT_S", 0.5)
            with here.http.stream("GET", f"{EVENTS}/stream", params={"project": "vital"}) as answer:
                found = messages(answer.iter_lines())
                next(each for each in found if "id" in each)
                sent = here.http.post(EVENTS, json={"project_id": "vital", "type": "QA_REPORT", "actor": "t"}).json()
                assert next(each for each in found if "data" in each)["id"] == str(sent["position"])
            busy = here.http.get("/api/v1/lag")
            assert (here.http.get("/livez").status_code, here.http.get("/readyz").status_code) == (200, 200)
            assert not any(one.done() for one in slow)
        finally:
            gate.set()
        assert (busy.status_code, busy.json()["code"], busy.headers["retry-after"]) == (503, "Busy", "1")
        wait_until(lambda: here.http.get("/api/v1/lag").status_code == 200, WAIT_S, "a free thread")


def test_a_form_is_as_short_as_forms_are(served_world: World) -> None:
    with served(served_world.settings) as here:
        answer = here.http.post("/login", content=b"name=" + b"x" * 20_000)

    assert answer.status_code == 413 and "may have 16,384" in answer.json()["detail"]


@pytest.mark.parametrize("path", ["/api/v1/events/%00", "/event?id=%00", "/api/v1/events?project=a%00"])
def test_an_address_that_holds_what_nothing_holds_is_refused(served_world: World, path: str) -> None:
    with served(served_world.settings) as here:
        answer = here.http.get(path)
        body = here.http.post("/api/v1/subscribers/Writer/redeliver", json={"event_id": "EV-\0"})

    assert answer.status_code == 400 and "U+0000" in answer.json()["detail"]
    assert body.status_code == 400 and "U+0000" in body.json()["detail"]


def test_large_events_are_followed_by_many_in_little_memory(served_world: World) -> None:
    """Twenty-four megabytes, and eight who are given them and take nothing."""
    site = start(served_world, name="large")
    before = peak_mb(site.process.pid)
    sockets = []
    try:
        for _ in range(24):
            site.published(project_id="large", payload={"x": "y" * 1_000_000})
        for _ in range(8):
            slow = socket.create_connection(site.address)
            slow.sendall(f"GET {EVENTS}/stream?project=large&after=0 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            sockets.append(slow)
        for slow in sockets:
            slow.settimeout(WAIT_S)
            got = b""
            while b"data: " not in got:
                got += slow.recv(4096)
        assert backwards(site) == 24
        assert not site.get("/timeline", project="large")["is_all"]
        assert peak_mb(site.process.pid) - before < 250
    finally:
        for slow in sockets:
            slow.close()
        site.process.terminate()
        site.http.close()


def backwards(site: Site) -> int:
    """Read the large events from the last one on; return how many there are."""
    count, before = 0, {}
    while True:
        page = site.get("/events", project="large", newest=True, limit=100, **before)
        assert len(page["events"]) < 12, "a page has about 8 MB"
        count += len(page["events"])
        if not page["earlier"]:
            return count
        before = {"before": page["events"][0]["position"]}


def peak_mb(pid: int) -> float:
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))
