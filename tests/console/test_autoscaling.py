"""`eventbus workers list` and `eventbus lag`: what people and autoscalers are told of a fleet that is at work."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from events.publisher import Receipt
from events.steering import steer
from tests.console.command import Place
from tests.fleet.conftest import make_world
from tests.fleet.fleet import World
from tests.fleet.test_delivery import make, publish
from tests.valkey_servers import ValkeyServer
from tests.waiting import wait_until

APP = "tests.fleet.gated:bus"
PATIENCE_S = 60
FIELDS = {
    "unsettled", "lag", "ready", "waiting", "is_lower_bound", "running", "delayed", "dead", "oldest_s",
    "oldest_is_lower_bound", "workers", "capacity", "paused",
}  # fmt: skip


@dataclass(frozen=True)
class Fleet:
    """Three worker processes: one was killed at work, one drains at work, one is at work; two deliveries wait.

    Attributes:
        lost: the event that the killed one handled. awaited: the draining one's. first: the busy one's first.
    """

    world: World
    place: Place
    killed: int
    draining: int
    busy: int
    lost: Receipt
    awaited: Receipt
    first: Receipt


@pytest.fixture
def world(redis_url: str, tmp_path: Path) -> Iterator[World]:
    """An empty namespace."""
    world = make_world(redis_url, tmp_path)
    try:
        yield world
    finally:
        world.close()


@pytest.fixture
def place(world: World) -> Place:
    """Where commands find the empty namespace."""
    return place_of(world)


def place_of(world: World) -> Place:
    kept = {name: value for name, value in world.environment.items() if name.startswith("EVENTBUS_")}
    urls = {name: world.environment[name] for name in ("REDIS_URL", "DATABASE_URL")}
    return Place(world.tmp_path, {**kept, **urls})


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A fleet whose leases are too long to lapse meanwhile."""
    with ValkeyServer() as server:
        world = make_world(server.url, tmp_path_factory.mktemp("autoscaling"), lease_s=600)
        try:
            yield at_work(world, place_of(world))
        finally:
            for name in ("Plain", "Async"):
                world.redis.set(f"open:{name}", 1)
            world.close()


def at_work(world: World, place: Place) -> Fleet:
    killed = start(world)
    [lost] = publish(world, make("PLAIN", gate=True))
    until_said_to_run(place, killed.pid, 1)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait(PATIENCE_S)

    draining = start(world)
    [awaited] = publish(world, make("ASYNC", gate=True))
    until_said_to_run(place, draining.pid, 1)
    draining.terminate()
    wait_until(lambda: shown(place)[draining.pid]["draining"], PATIENCE_S, f"it to drain; {world.log()}")

    busy = start(world)
    first, *_ = publish(world, *(make("PLAIN", n=n, gate=True) for n in range(4)))
    until_said_to_run(place, busy.pid, 2)
    wait_until(lambda: not shown(place)[killed.pid]["alive"], PATIENCE_S, "the killed one to be missed")
    return Fleet(world, place, killed.pid, draining.pid, busy.pid, lost, awaited, first)


def start(world: World) -> subprocess.Popen[bytes]:
    """Start a worker process with two threads, and wait until it reads."""
    before = len(world.consumers())
    process = world.run(
        [sys.executable, "-m", "workers.process", "--app", APP, "--threads", "2", "--grace", "300"], "worker"
    )
    wait_until(lambda: len(world.consumers()) > before, PATIENCE_S, f"a worker to read; {world.log()}")
    return process


def until_said_to_run(place: Place, pid: int, count: int) -> None:
    wait_until(lambda: shown(place)[pid]["running"] == count, PATIENCE_S, f"{pid} to say that it runs {count}")


def shown(place: Place) -> dict[int, dict[str, Any]]:
    """What `workers list --json` says of each process, by pid, in its order."""
    listed = place.run("workers", "list", "--json")
    assert listed.code == 0, listed.err
    return {worker["pid"]: worker for worker in listed.json()}


def micros(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp() * 1e6


def now_us(world: World) -> int:
    seconds, rest = world.redis.time()
    return int(seconds) * 1_000_000 + int(rest)


def test_workers_are_told_apart_as_alive_draining_and_silent_with_what_they_do_and_since_when(fleet: Fleet) -> None:
    workers = shown(fleet.place)

    states = {pid: (worker["alive"], worker["draining"], worker["running"]) for pid, worker in workers.items()}
    assert states == {
        fleet.busy: (True, False, 2),
        fleet.draining: (True, True, 1),
        fleet.killed: (False, False, 1),
    }
    assert list(workers)[-1] == fleet.killed, "the longest silent is last"
    assert workers[fleet.killed]["silent_s"] > 5 > workers[fleet.busy]["silent_s"]
    assert (workers[fleet.busy]["threads"], workers[fleet.busy]["subscribers"]["Plain"]) == (2, 2)
    for pid, kind, receipt in (
        (fleet.killed, "Plain", fleet.lost),
        (fleet.draining, "Async", fleet.awaited),
        (fleet.busy, "Plain", fleet.first),
    ):
        runs = {run["event_id"]: run for run in workers[pid]["busy"]}
        run = runs[receipt.event_id]
        assert (run["subscriber"], run["type"], run["attempt"]) == (kind, kind.upper(), 1)
        assert receipt.position - 10_000 <= micros(run["since"]) <= now_us(fleet.world)


def test_the_table_of_workers_says_the_same(fleet: Fleet) -> None:
    listed = fleet.place.run("workers", "list", COLUMNS="200")

    assert listed.code == 0, listed.err
    rows = {pid: next(line for line in listed.out.splitlines() if f" {pid} " in line) for pid in shown(fleet.place)}
    assert " alive " in rows[fleet.busy] and "Plain PLAIN" in rows[fleet.busy]
    assert " draining " in rows[fleet.draining] and f"Async ASYNC {fleet.awaited.event_id}" in rows[fleet.draining]
    assert "silent for " in rows[fleet.killed] and f"Plain PLAIN {fleet.lost.event_id}" in rows[fleet.killed]


def test_lag_says_what_waits_since_when_and_who_is_there_to_do_it(fleet: Fleet) -> None:
    steer(fleet.world.backend.namespace, "Keyed", paused=True)
    wait_until(lambda: lags(fleet.place)["Plain"]["lag"] == 2, PATIENCE_S, "two to be taken by nobody")

    before = now_us(fleet.world)
    found = lags(fleet.place)
    after = now_us(fleet.world)

    assert all(set(lag) == FIELDS for lag in found.values())
    plain, on_loop = found["Plain"], found["Async"]
    assert (plain["lag"], plain["ready"], plain["waiting"], plain["running"], plain["unsettled"]) == (2, 2, 0, 3, 5)
    assert (plain["workers"], plain["capacity"]) == (1, 2), "of three processes one is alive and drains not"
    assert (found["One"]["capacity"], found["Many"]["capacity"]) == (1, 2), "a concurrency bounds it"
    assert (before - fleet.lost.position) / 1e6 - 0.001 <= plain["oldest_s"] <= (after - fleet.lost.position) / 1e6
    assert not plain["oldest_is_lower_bound"] and not plain["is_lower_bound"]
    assert (on_loop["lag"], on_loop["running"], on_loop["workers"]) == (0, 1, 1)
    assert found["Quick"]["oldest_s"] is None
    assert [name for name, lag in found.items() if lag["paused"]] == ["Keyed"]


def test_lag_of_one_subscriber_is_a_table_with_one_row_and_a_name_that_is_none_is_refused(fleet: Fleet) -> None:
    table = fleet.place.run("lag", "Plain", COLUMNS="200")
    refused = fleet.place.run("lag", "Nobody")

    heading, row = table.out.splitlines()
    assert heading.split() == ["SUBSCRIBER", "LAG", "OLDEST", "RUNNING", "DELAYED", "DEAD", "WORKERS", "CAPACITY"]
    assert row.split()[:2] == ["Plain", "2"] and row.split()[-2:] == ["1", "2"]
    assert refused.code == 2 and refused.sentence().startswith("No subscriber 'Nobody' is declared in the namespace ")
    assert refused.sentence() == fleet.place.run("subscriptions", "show", "Nobody").sentence()


def lags(place: Place) -> dict[str, dict[str, Any]]:
    asked = place.run("lag", "--json")
    assert asked.code == 0, asked.err
    return dict(asked.json())


DAMAGED = [
    b"", b"{", b"[1]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"pid": ' + b"9" * 5000 + b"}",
    b'{"host": "[red]x\\u001b[31m\\ud800", "pid": true, "threads": -1e400, "running": NaN, "started_at": -1e14}',
    b'{"subscribers": {"A": -1, "B": "2", "C": true, "D": 3}, "types": {"A": 1, "B": [2, "T"]}, "paused": {"A": 1}}',
    b'{"busy": [1, null, {}, {"for_s": 1e14, "attempt": "x", "subscriber": "A", "type": 7}], "draining": "yes"}',
    b'{"busy": {"for_s": 1}, "subscribers": ["A"], "host": 7, "future": {"field": 1}}',
]  # fmt: skip


def test_beats_that_are_damaged_or_of_another_version_break_no_list(world: World, place: Place) -> None:
    bus_names = {f"host-{n}-abcd".encode(): raw for n, raw in enumerate(DAMAGED)} | {b"\xff\xfe": b"{}"}
    world.redis.hset(world.keys("beats"), mapping=bus_names)
    world.redis.zadd(world.keys("workers"), dict.fromkeys(bus_names, now_us(world)))
    moments = {b"at-infinity": float("inf"), b"at-minus-infinity": float("-inf"), b"said-nothing": -5.0}
    world.redis.zadd(world.keys("workers"), moments)

    as_json, as_table, lag = place.run("workers", "list", "--json"), place.run("workers", "list"), place.run("lag")

    assert (as_json.code, as_table.code, lag.code) == (0, 0, 0), as_json.err + as_table.err + lag.err
    workers = {worker["consumer"]: worker for worker in as_json.json()}
    assert len(workers) == len(DAMAGED) + 1 + len(moments)
    assert [worker for worker in workers.values() if worker["threads"] or worker["running"] or worker["draining"]] == []
    assert workers["host-7-abcd"]["host"] == "[red]x?[31m?"
    assert workers["host-8-abcd"]["subscribers"] == {"D": 3}
    assert [(run["subscriber"], run["type"], run["attempt"]) for run in workers["host-9-abcd"]["busy"]] == [
        ("", "", 0), ("A", "", 0),
    ]  # fmt: skip
    assert workers["at-infinity"]["alive"] and not workers["at-minus-infinity"]["alive"]
    assert "\x1b[31m" not in as_table.out


def test_a_fleet_without_workers_and_subscribers_says_so(place: Place) -> None:
    assert "There are no workers." in place.run("workers", "list").err
    assert place.run("workers", "list", "--json").json() == []
    assert "Nobody is subscribed." in place.run("lag").err
    assert place.run("lag", "--json").json() == {}
