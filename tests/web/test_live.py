"""Live streams: every event once and in order, whatever is cut; nobody waits for somebody slow; and an end."""

from __future__ import annotations

import itertools
import os
import re
import signal
import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from tests.fleet.fleet import World
from tests.waiting import wait_until
from tests.web.site import Cut, Site, messages, start

STREAM = "/api/v1/events/stream"
_ID = re.compile(rb"^id: (\d+)\n", re.MULTILINE)


@contextmanager
def stream(site: Site, path: str = STREAM, **how: Any) -> Iterator[Iterator[dict[str, Any]]]:
    """Enter a stream; its messages, whole ones."""
    with site.http.stream("GET", path, **how) as answer:
        assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/event-stream")
        yield messages(answer.iter_lines())


def with_data(found: Iterator[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    return list(itertools.islice((each for each in found if "data" in each), count))


def project() -> str:
    return f"live-{uuid.uuid4().hex[:8]}"


def test_what_is_published_arrives_with_its_position_as_id(site: Site) -> None:
    name = project()
    with stream(site, params={"project": name}) as found:
        assert "id" in next(each for each in found if "retry" not in each), "the cursor comes first"
        sent = [site.published(project_id=name, payload={"text": "line\nbreak\r é"}) for _ in range(3)]
        got = with_data(found, 3)

    assert [int(each["id"]) for each in got] == [receipt["position"] for receipt in sent]
    assert got[0]["data"] == site.get(f"/events/{sent[0]['event_id']}")


def test_a_stream_that_is_cut_anywhere_goes_on_without_loss_or_repeat(site: Site) -> None:
    name = project()
    events = [{"project_id": name, "type": "QA_REPORT", "actor": "t", "payload": {"n": n}} for n in range(300)]
    answers = site.post("/events/batch", events)["answers"]
    cut, seen, cursor, connections = Cut(site.address), [], answers[0]["position"] - 1, 0
    last = f"id: {answers[-1]['position']}\n".encode()

    while len(seen) < 300:
        connections += 1
        got = cut.request(f"{STREAM}?project={name}", {"Last-Event-ID": str(cursor)}, 3_000 + connections * 997, last)
        for part in _text(got).split(b"\n\n"):
            place = _ID.search(part)
            if place:
                cursor = int(place[1])
                if b"data: " in part:
                    seen.append(int(place[1]))

    assert seen == [event["position"] for event in site.history(project=name)] and connections > 5


def _text(response: bytes) -> bytes:
    """Return a chunked response's body, as far as it came, without what is not whole."""
    body, found = response.partition(b"\r\n\r\n")[2], b""
    while body:
        size, line, body = body.partition(b"\r\n")
        if not line or len(body) < int(size, 16) + 2:
            return (found + body).rpartition(b"\n\n")[0] + b"\n\n" if line else found
        found, body = found + body[: int(size, 16)], body[int(size, 16) + 2 :]
    return found


def test_another_web_process_goes_on_with_a_cursor(site: Site, served_world: World) -> None:
    name = project()
    sent = [site.published(project_id=name)["position"] for _ in range(4)]
    other = start(served_world, name="other")
    try:
        with stream(other, headers={"Last-Event-ID": str(sent[1])}, params={"project": name}) as found:
            assert [int(each["id"]) for each in with_data(found, 2)] == sent[2:]
    finally:
        other.process.terminate()
        other.http.close()


def test_a_stream_from_the_beginning_crosses_into_what_is_live(site: Site) -> None:
    name = project()
    before = [site.published(project_id=name)["position"] for _ in range(3)]

    with stream(site, params={"project": name, "after": 0}) as found:
        assert [int(each["id"]) for each in with_data(found, 3)] == before
        after = [site.published(project_id=name)["position"] for _ in range(3)]
        assert [int(each["id"]) for each in with_data(found, 3)] == after


def test_many_followers_beside_publishers_each_get_everything_in_order(site: Site) -> None:
    name, count = project(), 400
    streams, got = 8, {}

    def follow(number: int, ready: threading.Event) -> None:
        with (
            httpx.Client(base_url=site.url, timeout=60) as client,
            client.stream("GET", STREAM, params={"project": name}) as answer,
        ):
            found = messages(answer.iter_lines())
            next(each for each in found if "retry" not in each)
            ready.set()
            got[number] = [int(each["id"]) for each in with_data(found, count)]

    ready = [threading.Event() for _ in range(streams)]
    threads = [threading.Thread(target=follow, args=(number, ready[number])) for number in range(streams)]
    for thread in threads:
        thread.start()
    assert all(each.wait(30) for each in ready)
    events = [{"project_id": name, "type": "QA_REPORT", "actor": "t"} for _ in range(count // 4)]
    publishers = [threading.Thread(target=site.post, args=("/events/batch", events)) for _ in range(4)]
    for thread in publishers:
        thread.start()
    for thread in [*publishers, *threads]:
        thread.join(60)

    page = [event["position"] for event in site.history(project=name)]
    assert len(page) == count and all(got[number] == page for number in range(streams))


def test_a_client_that_does_not_read_keeps_nobody_waiting_and_costs_no_memory(site: Site) -> None:
    name = project()
    body = [{"project_id": name, "type": "QA_REPORT", "actor": "t", "payload": {"x": "y" * 20_000}} for _ in range(100)]
    before = _rss_mb(site.process.pid)

    with socket.create_connection(site.address) as slow:
        slow.sendall(f"GET {STREAM}?project={name}&after=0 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        for _ in range(10):
            site.post("/events/batch", body)
        with stream(site, params={"project": name}) as found:
            next(each for each in found if "retry" not in each)
            last = site.published(project_id=name)["position"]
            assert int(with_data(found, 1)[0]["id"]) == last

    assert _rss_mb(site.process.pid) - before < 120, "20 MB were published, and a ring of 16 MB is kept"


def _rss_mb(pid: int) -> float:
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS"))


def test_the_overview_streams_how_the_bus_stands(site: Site) -> None:
    with stream(site, "/api/v1/overview/stream") as found:
        first, second = with_data(found, 2)

    assert len(first["data"]["points"]) >= 1 and len(second["data"]["points"]) == 1
    assert second["data"]["points"][0][0] > first["data"]["points"][-1][0]
    assert second["data"]["workers_alive"] == 1
    assert second["data"]["busiest"]["Writer"] == {"lag": [0], "oldest_s": [None]}
    assert dict(zip(second["data"]["point"], second["data"]["points"][0], strict=True))["workers"] == 1


@pytest.mark.parametrize("value", ["x", "-1", "1.5", "9" * 30, "9" * 5000, "٣"])
def test_a_last_event_id_that_is_no_position_is_refused(site: Site, value: str) -> None:
    answer = site.http.get(STREAM, headers={"Last-Event-ID": value.encode()})

    assert answer.status_code == 400 and "Last-Event-ID must be a position" in answer.json()["detail"]


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_streams_and_the_process_at_once(served_world: World, sent: signal.Signals) -> None:
    site = start(served_world, name=f"ended-{sent.name}")
    with stream(site) as found, stream(site, "/api/v1/overview/stream") as watched:
        next(found), next(watched)
        os.kill(site.process.pid, sent)
        list(found), list(watched)

    assert wait_until(lambda: site.process.poll() is not None, 20, "the process to end")
    assert site.process.returncode == (0 if sent == signal.SIGTERM else 130), served_world.log(f"ended-{sent.name}")
    site.http.close()


def test_an_outage_of_redis_keeps_a_stream_open_and_loses_nothing(tmp_path_factory: pytest.TempPathFactory) -> None:
    from tests.fleet.conftest import make_world
    from tests.valkey_servers import ValkeyServer

    with ValkeyServer(aof=True) as server:
        world = make_world(server.url, tmp_path_factory.mktemp("outage"))
        site = start(world)
        try:
            with stream(site) as found:
                next(each for each in found if "retry" not in each)
                sent = [site.published()["position"]]
                assert [int(each["id"]) for each in with_data(found, 1)] == sent
                server.kill()
                problem = site.problem("POST", "/api/v1/events", 503, json={
                    "project_id": "p", "type": "T", "actor": "a", "event_id": "EV-lost",
                })  # fmt: skip
                assert problem["code"] == "RedisUnavailable"
                assert site.http.get("/livez").status_code == 200
                ready = site.http.get("/readyz")
                assert ready.status_code == 503 and ready.json()["redis"] == "RedisUnavailable"
                server.restart()
                wait_until(lambda: site.http.get("/readyz").status_code == 200, 30, "it to be ready again")
                sent = [site.published()["position"]]
                assert [int(each["id"]) for each in with_data(found, 1)] == sent
        finally:
            site.http.close()
            world.close()
