"""Bytes of others in a live Redis: workers and archivers go on, and what is good arrives and is archived."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from redis import ResponseError

from events.event import Event
from tests.console.command import Place
from tests.fleet.conftest import make_world
from tests.fleet.fleet import World, children
from tests.fuzz.budget import SEED, share
from tests.fuzz.damage import TOKENS, each_value_replaced
from tests.fuzz.targets import SEPARATOR, TARGETS
from tests.valkey_servers import ValkeyServer
from tests.waiting import wait_until

BODY = (
    b'{"event_id":"EV-by-hand","project_id":"P","type":"PLAIN_WORK","actor":"A",'
    b'"timestamp":"2026-01-31T12:00:00+00:00","payload":{"n":1},"metadata":{"cost":0.25}}'
)
FRAME = b"5\t0\t0\t0\tPLAIN_WORK\t\tP\t0\t\n" + BODY
ASKING = (
    "doctor",
    "dead list",
    "subscriptions list",
    "scheduled list",
    "workers list",
    "lag",
    "stats",
    "replay",
    "tail",
)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A fleet of one worker process, and an archiver."""
    with ValkeyServer() as server:
        world = make_world(server.url, tmp_path_factory.mktemp("live"), lease_s=5, timeout_s=10)
        try:
            world.start_fleet(1, timeout_s=240)
            world.run([sys.executable, "-P", "-m", "console.main", "archive"], "archiver")
            yield world
        finally:
            world.close()


def good(world: World) -> list[Event]:
    events = [Event(project_id=f"P{n}", type="WORK", actor="t") for n in range(6)]
    events.append(Event(project_id="P", type="ORDERED_WORK", actor="t"))
    for answer in world.bus.publish_many_sync(events):
        assert not isinstance(answer, Exception), answer
    return events


def until_good_ones_arrive(world: World, events: list[Event]) -> None:
    """Wait until each was handled by everybody who takes it, and the database has all of them."""
    work, ordered = events[:-1], events[-1:]
    for name, wanted in (("Plain", work), ("Async", work), ("Ordered", ordered)):
        wait_until(lambda n=name, w=wanted: len(world.runs(n, of=w)) == len(w), 240, f"{name} to handle; {world.log()}")
    store = world.backend.replay
    for event in events:
        wait_until(lambda e=event: store.find(e.event_id), 240, f"the archive; {world.log('archiver')}")


def envelope_of(world: World) -> bytes:
    """What waits in Redis of an event that was scheduled."""
    event = Event(event_id="EV-scheduled", project_id="P", type="PLAIN_WORK", actor="t")
    world.bus.publish_many_sync([event], delay=3600)
    return bytes(world.redis.hget(world.keys("envelopes"), event.event_id))


def fields_of(data: bytes) -> dict[bytes, bytes]:
    _, *rest = data.split(SEPARATOR)
    return dict(zip(rest[::2], rest[1::2], strict=False)) or {b"e": b""}


def damages(example: bytes, random: Random, count: int) -> list[bytes]:
    """So many ways to damage an example: single values replaced, cut, and bytes as they come."""
    replaced = list(each_value_replaced(example))
    cut = [example[: random.randrange(len(example))] for _ in range(count)]
    noise = [random.randbytes(random.randrange(200)) for _ in range(count)]
    return random.sample(replaced, min(len(replaced), 2 * count)) + cut + noise


def test_what_is_written_by_hand_stops_neither_workers_nor_archivers(live: World) -> None:
    random, count = Random(SEED), share(10)
    redis, keys, pids = live.redis, live.keys, children(live.processes[0].pid)

    for number, frame in enumerate(damages(FRAME, random, count)):
        for name in ("Plain", "Async", "Ordered"):
            redis.xadd(keys("queue", name), {"f": frame, "s": random.choice(TOKENS)} if number % 3 else {"f": frame})
        redis.zadd(keys("delayed", "Plain"), {frame: random.choice((1, 5e15, 1e300))})
        redis.rpush(keys("lane", "Plain", "by hand"), frame)
        redis.xadd(keys("dead", "Plain"), {"f": frame, "a": random.choice(TOKENS), "r": frame})
        redis.xadd(keys("queue", "Plain"), {random.choice(TOKENS): frame})
    redis.zadd(keys("lanes", "Plain"), {"by hand": 0, "nothing": 1})
    for number, envelope in enumerate(damages(envelope_of(live), random, count)):
        redis.hset(keys("envelopes"), f"EV-{number}", envelope)
        redis.zadd(keys("scheduled"), {f"EV-{number}": 1})
    events = good(live)
    for stream, target in (("history", "history_entry"), ("outcomes", "outcome")):
        for data in damages(TARGETS[target].examples[0], random, count):
            append(live, stream, fields_of(data))
    for token in TOKENS:
        redis.hset(keys("beats"), f"w-{token[:9].hex()}", token)
        redis.zadd(keys("workers"), {f"w-{token[:9].hex()}": random.choice((0, 1e300, 1e15))})
    events += good(live)

    until_good_ones_arrive(live, events[:7])
    until_good_ones_arrive(live, events[7:])
    assert children(live.processes[0].pid) == pids, live.log()
    said = (live.tmp_path / "worker.log").read_text() + (live.tmp_path / "archiver.log").read_text()
    assert "unexpected error" not in said and "failed, and goes on" not in said, said[-3000:]


def test_commands_show_what_is_there_or_say_what_is_wrong_with_it(live: World) -> None:
    place = Place(live.tmp_path, {name: value for name, value in live.environment.items() if _is_ours(name)})

    for command in ASKING:
        for more in ((), ("--json",)):
            ended = place.run(*command.split(), *more)
            assert "Traceback" not in ended.err and ended.code in (0, 1), (command, ended.err[-2000:])


def append(world: World, stream: str, fields: dict[bytes, bytes]) -> None:
    """Add an entry at a position after the last one of a stream, to which workers add too."""

    def is_added() -> bool:
        seconds, micros = world.redis.time()
        last = [int(entry_id.partition(b"-")[0]) for entry_id, _ in world.redis.xrevrange(world.keys(stream), count=1)]
        position = max(int(seconds) * 1_000_000 + int(micros), *last, 0) + 1
        try:
            return bool(world.redis.xadd(world.keys(stream), fields, id=f"{position}-0"))
        except ResponseError as error:
            if "equal or smaller" not in str(error):
                raise
            return False  # somebody has added another one meanwhile

    wait_until(is_added, 60, f"an entry to be added to {stream}")


def _is_ours(name: str) -> bool:
    return name.startswith("EVENTBUS_") or name in ("REDIS_URL", "DATABASE_URL")


def test_the_damage_is_not_all_of_one_kind(tmp_path: Path) -> None:
    assert len(set(damages(FRAME, Random(1), 20))) > 60
