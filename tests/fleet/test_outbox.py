"""The relay on real servers: killed anywhere, several at once, Redis away, full, emptied; and handlers that die."""

from __future__ import annotations

import signal
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, select, text
from sqlalchemy.orm import Session

from console.checks import examine
from events.backend import Backend
from events.bus import EventBus
from events.errors import HistoryReset, RedisUnavailable, ScriptFailed, StoreUnavailable
from events.event import Event
from events.namespace import Declared
from events.routes import declare
from store import outbox
from store.engine import open_engine, reading, writing
from store.outgoing import Outgoing
from store.replay import Replay
from store.tables import outbox as table
from store.tables import rejected
from tests.fault_proxy import FaultProxy
from tests.fleet.booking import TABLE
from tests.fleet.conftest import make_world
from tests.fleet.fleet import ARCHIVE, World
from tests.fleet.test_archiving import archiver_of, catch_up
from tests.fleet.test_delivery import make, publish
from tests.servers import PostgresServer, SpareDatabase, migrate
from tests.store.conftest import TEMPLATE
from tests.valkey_servers import ValkeyServer
from tests.waiting import wait_until
from workers import relay
from workers.archiver import Archiver


@pytest.fixture(scope="module")
def spare() -> Iterator[SpareDatabase]:
    server = PostgresServer().start()
    server.execute(f"CREATE DATABASE {TEMPLATE}")
    migrate(server.url(TEMPLATE))
    yield SpareDatabase(server, TEMPLATE)
    server.stop()


@pytest.fixture(params=["sqlite", "postgres"])
def either(request: pytest.FixtureRequest, world: World, tmp_path: Path) -> Iterator[World]:
    """A world on each kind of database."""
    if request.param == "sqlite":
        yield world
        return
    spare = request.getfixturevalue("spare")
    world = World(world.settings.with_(database_url=spare.take()), tmp_path)
    try:
        yield world
    finally:
        world.close()
        spare.give_back()


def engine_of(world: World) -> Engine:
    return world.backend.blackboard.engine


def add(world: World, *events: Event) -> None:
    """Commit events to the outbox, with patience for SQLite's one writer."""
    engine = open_engine(world.settings.database_url or "", timeout_s=30.0)
    try:
        with Session(engine) as session, session.begin():
            for event in events:
                outbox.add(session, event, settings=world.settings)
    finally:
        engine.dispose()


def history(world: World) -> list[str]:
    """Ids of all events, those that are not archived included, in order."""
    return [recorded.event.event_id for recorded in world.backend.blackboard.replay.iterate()]


def stored(world: World) -> list[str]:
    return [r.event.event_id for r in Replay(engine_of(world), world.settings.namespace, None).iterate()]


def ids(events: list[Event]) -> list[str]:
    return [event.event_id for event in events]


def states(world: World) -> dict[str, str]:
    with reading(engine_of(world)) as connection:
        query = select(table.c.event_id, table.c.state).order_by(table.c.id)
        return dict(tuple(row) for row in connection.execute(query))  # type: ignore[misc]


def set_aside(world: World) -> int:
    with reading(engine_of(world)) as connection:
        return len(connection.execute(select(rejected)).all())


def relay_all(archiver: Archiver) -> None:
    while archiver.relay():
        pass


def route(world: World, subscriber: str, kind: str) -> None:
    declare(world.backend.namespace, Declared(subscriber, (kind,), {}), 1000)


# the way through --------------------------------------------------------------------------------


def test_what_was_committed_is_published_in_order_archived_and_leaves_the_outbox(either: World) -> None:
    events = [make("LOGGED", n=n) for n in range(700)]
    add(either, *events)
    archiver = archiver_of(either)

    relay_all(archiver)
    published = history(either)
    assert stored(either) == [] and set(states(either).values()) == {"published"}
    catch_up(archiver)
    archiver.relay()

    assert published == stored(either) == ids(events)
    assert states(either) == {}


def test_a_consuming_bus_relays_by_itself_and_a_stop_leaves_nothing_behind(world: World) -> None:
    import asyncio

    seen: list[str] = []

    async def consume() -> None:
        bus = EventBus(world.settings)
        bus.subscriber("Reader", ["LOGGED"])(lambda event: seen.append(event.event_id))
        await bus.start_consuming()
        await asyncio.to_thread(add, world, first)
        await asyncio.to_thread(wait_until, lambda: seen == [first.event_id], 20, "the first to be handled")
        await asyncio.to_thread(add, world, second)
        await bus.stop_consuming()
        await bus.disconnect()

    first, second = make("LOGGED", n=1), make("LOGGED", n=2)
    asyncio.run(consume())

    assert stored(world) == ids([first, second]) and states(world) == {}


def test_an_archiver_that_ends_at_once_relays_what_is_there(world: World) -> None:
    event = make("LOGGED")
    add(world, event)

    ended = world.run([sys.executable, "-m", "console.main", "archive", "--once"], "once")

    assert ended.wait(60) == 0, world.log("once")
    assert "Archived 1 event" in world.log("once")
    assert stored(world) == [event.event_id] and states(world) == {}


# killed -----------------------------------------------------------------------------------------

KILL = "import os; from store.outgoing import Outgoing; from events.publisher import Publisher;"
POINTS = {
    "before it publishes": "Publisher.publish_many = lambda *a, **k: os.kill(os.getpid(), 9);",
    "between publishing and marking": "Outgoing._write = lambda *a: os.kill(os.getpid(), 9);",
    "between marking and the commit": (
        "w = Outgoing._write; Outgoing._write = lambda *a: (w(*a), os.kill(os.getpid(), 9));"
    ),
    "before what is stored leaves the outbox": (
        "w = Outgoing._write; Outgoing._write = lambda s, c, b: os.kill(os.getpid(), 9) if b.gone else w(s, c, b);"
    ),
}


@pytest.mark.parametrize("at", POINTS)
def test_a_relay_that_is_killed_anywhere_repeats_nothing_and_loses_nothing(either: World, at: str) -> None:
    events = [make("LOGGED", n=n) for n in range(20)]
    route(either, "Reader", "LOGGED")
    add(either, *events)

    dying = either.run([sys.executable, "-c", KILL + POINTS[at] + ARCHIVE], "archiver")
    assert dying.wait(60) == -signal.SIGKILL, either.log("archiver")
    archiver = archiver_of(either)
    relay_all(archiver)
    catch_up(archiver)
    archiver.relay()

    assert history(either) == stored(either) == ids(events)
    assert either.redis.xlen(either.keys("queue", "Reader")) == 20
    assert states(either) == {} and set_aside(either) == 0


def test_archivers_that_are_killed_again_and_again_under_load_publish_each_event_once_in_order(either: World) -> None:
    events = [make("LOGGED", n=n) for n in range(600)]

    def commit_all() -> None:
        for start in range(0, len(events), 5):
            add(either, *events[start : start + 5])

    callers = threading.Thread(target=commit_all)
    callers.start()
    for _ in range(4):
        archivers = [either.start_archiver() for _ in range(2)]
        known = len(history(either))
        wait_until(
            lambda k=known, a=archivers: len(history(either)) > k or not callers.is_alive() or a[0].poll() is not None,
            30, "something to be relayed",
        )  # fmt: skip
        for archiver in archivers:
            archiver.kill()
            archiver.wait(20)
    callers.join(60)
    assert not callers.is_alive()
    archiver = either.start_archiver()
    wait_until(lambda: len(stored(either)) >= 600 and not states(either), 60, "the rest; " + either.log("archiver"))
    archiver.terminate()
    archiver.wait(20)

    assert stored(either) == ids(events)
    assert set_aside(either) == 0


def test_a_crash_between_publishing_and_marking_long_before_the_next_relay_publishes_nothing_twice(
    either: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = make("LOGGED")
    add(either, event)

    def die(*_: object) -> None:
        raise RedisUnavailable("killed here")

    archiver = archiver_of(either)
    with monkeypatch.context() as patched:
        patched.setattr(Outgoing, "_write", die)
        with pytest.raises(RedisUnavailable):
            archiver.relay()
    catch_up(archiver)
    either.redis.delete(either.keys("id", event.event_id))  # as a day later

    assert states(either) == {event.event_id: "pending"}
    relay_all(archiver)
    catch_up(archiver)

    assert history(either) == [event.event_id] and states(either) == {} and set_aside(either) == 0


def test_two_relays_at_once_publish_each_event_once_in_order(either: World) -> None:
    events = [make("LOGGED", n=n) for n in range(1500)]
    add(either, *events)
    start = threading.Barrier(3)

    def run() -> None:
        archiver = archiver_of(either)
        start.wait()
        while "pending" in states(either).values():
            with suppress(StoreUnavailable):  # another one wrote to the file for too long: as an archiver, try again
                archiver.relay()

    relays = [threading.Thread(target=run) for _ in range(3)]
    [thread.start() for thread in relays]
    [thread.join(60) for thread in relays]

    assert history(either) == ids(events)


# Redis fails ------------------------------------------------------------------------------------


def test_what_is_committed_while_redis_is_away_is_published_in_order_when_it_is_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with ValkeyServer(aof=True) as server:
        world = make_world(server.url, tmp_path)
        before, during, after = ([make("LOGGED", n=n) for n in range(30)] for _ in range(3))
        archiver = archiver_of(world)
        thread = threading.Thread(target=archiver.run, daemon=True)
        try:
            add(world, *before)
            thread.start()
            wait_until(lambda: len(stored(world)) == 30, 30, "the first to be archived")
            server.kill()
            add(world, *during)
            wait_until(lambda: any("Archiving waits" in line for line in caplog.messages), 30, "the log to say so")
            assert {states(world)[event.event_id] for event in during} == {"pending"}
            server.restart()
            add(world, *after)
            wait_until(lambda: len(stored(world)) == 90 and not states(world), 30, "the rest to be archived")
        finally:
            archiver.stop()
            thread.join(20)
            world.close()

    assert not thread.is_alive()
    assert len([line for line in caplog.messages if "Archiving waits" in line]) <= 2, "it is said once"


def test_a_publish_whose_reply_is_lost_is_not_marked_and_repeated_without_harm(world: World, tmp_path: Path) -> None:
    events = [make("LOGGED", n=n) for n in range(20)]
    add(world, *events)
    host, _, port = world.settings.redis_url.removeprefix("redis://").partition("/")[0].partition(":")  # type: ignore[union-attr]
    with FaultProxy(host, int(port)) as proxy:
        behind = World(world.settings.with_(redis_url=proxy.url), tmp_path)
        archiver = archiver_of(behind)
        publish(behind, make("FIRST"))  # the server has the script now
        archiver.step("history")
        proxy.drop_replies(1, b"LOGGED")
        with pytest.raises(RedisUnavailable):
            archiver.relay()
        lost = states(world), history(world)
        relay_all(archiver)
        behind.close()

    assert proxy.dropped == 1
    assert lost[0] == dict.fromkeys(ids(events), "pending") and lost[1][1:] == ids(events)
    assert history(world)[1:] == ids(events) and set(states(world).values()) == {"published"}


def test_what_redis_lost_before_it_was_archived_is_published_again(either: World) -> None:
    route(either, "Reader", "LOGGED")
    either.backend.registry.save("Reader", ["LOGGED"], {})
    archived, published, pending = ([make("LOGGED", n=n) for n in range(3)] for _ in range(3))
    archiver = archiver_of(either)
    add(either, *archived)
    relay_all(archiver)
    catch_up(archiver)
    add(either, *published)
    relay_all(archiver)
    add(either, *pending)

    either.redis.flushall()
    catch_up(archiver)
    relay_all(archiver)
    catch_up(archiver)
    archiver.relay()

    assert sorted(stored(either)) == sorted(ids(archived + published + pending))
    assert stored(either)[:3] == ids(archived)
    assert either.redis.xlen(either.keys("queue", "Reader")) == 6
    assert states(either) == {} and set_aside(either) == 0


def test_what_a_rewound_redis_lost_is_published_again_after_a_while(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = make("LOGGED")
    archiver = archiver_of(world)
    add(world, event)
    relay_all(archiver)
    archiver.relay()  # it has noticed the epoch
    world.redis.delete(world.keys("history"), world.keys("id", event.event_id))

    relay_all(archiver)
    assert history(world) == []
    monkeypatch.setattr(relay, "AGAIN", timedelta(0))
    archiver.relay()

    assert history(world) == [event.event_id]


def test_a_full_server_is_waited_for(world: World) -> None:
    events = [make("LOGGED", n=n) for n in range(5)]
    archiver = archiver_of(world)
    catch_up(archiver)
    add(world, *events)

    world.redis.config_set("maxmemory", 1)
    with pytest.raises(ScriptFailed, match="maxmemory"):
        archiver.relay()
    assert set(states(world).values()) == {"pending"}
    world.redis.config_set("maxmemory", 0)
    relay_all(archiver)

    assert history(world) == ids(events)


def test_a_relay_that_may_not_restore_a_lost_namespace_waits_for_one_that_may(world: World) -> None:
    events = [make("LOGGED", n=n) for n in range(5)]
    publish(world, make("FIRST"))
    catch_up(archiver_of(world))
    add(world, *events)
    world.redis.flushall()
    guest = Backend(world.settings.with_(reset_wait_s=0))

    with pytest.raises(HistoryReset):
        Archiver(guest.history, guest.archive, guest.settings).relay()
    guest.close()

    assert set(states(world).values()) == {"pending"}
    relay_all(archiver_of(world))
    assert history(world)[1:] == ids(events)


# refused ----------------------------------------------------------------------------------------


def test_what_is_refused_is_named_and_passed_over_and_goes_when_it_is_mended(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    taken, large, crowded, damaged, *good = [make(k) for k in ("A", "LARGE", "CROWDED", "DAMAGED", "B", "C", "D")]
    publish(world, taken.model_copy(update={"payload": {"another": "content"}}))
    for n in range(3):
        route(world, f"S{n}", "CROWDED")
    route(world, "Broken", "DAMAGED")
    world.redis.set(world.keys("queue", "Broken"), "no stream")
    large.payload["text"] = "x" * 3000
    add(world, good[0], taken, large, good[1], crowded, damaged, good[2])
    small = World(world.settings.with_(max_event_bytes=2048, max_routes=2), world.tmp_path)
    archiver = archiver_of(small)

    relay_all(archiver)
    refused = [event_id for event_id, state in states(world).items() if state == "refused"]
    says = [finding for finding in examine(world.backend).findings if finding.about == "outbox"]

    assert history(world)[1:] == ids(good)
    assert refused == ids([taken, large, crowded, damaged])
    assert [(finding.level, finding.says.partition(";")[0]) for finding in says] == [
        ("ok", "3 events published, and not in the database yet"), ("wrong", "4 events refused"),
    ]  # fmt: skip
    for words in ("taken by an event with another content", "over the limit of 2048", "2 (EVENTBUS_MAX_R", "WRONGT"):
        assert sum(words in line for line in caplog.messages if "is refused" in line) == 1, words
    assert not any("xxx" in line for line in caplog.messages)

    monkeypatch.setattr(relay, "AGAIN", timedelta(0))
    world.redis.delete(world.keys("queue", "Broken"))
    archiver_of(world).relay()

    assert set(history(world)[4:]) == set(ids([large, crowded, damaged]))
    assert [event_id for event_id, state in states(world).items() if state == "refused"] == [taken.event_id]
    small.close()


def test_the_doctor_names_what_nobody_publishes(world: World) -> None:
    add(world, make("LOGGED"), make("LOGGED", n=1))
    with writing(engine_of(world)) as connection:
        long_ago = text("UPDATE outbox SET added_at = added_at - 7200000000")
        connection.execute(long_ago)

    [finding] = [finding for finding in examine(world.backend).findings if finding.about == "outbox"]

    assert finding.level == "wrong" and finding.says.startswith("2 events pending; the oldest was added 2 h")
    assert "eventbus archive" in finding.todo


# handlers ---------------------------------------------------------------------------------------


def test_effects_and_what_follows_from_them_are_there_once_wherever_a_worker_dies(either: World) -> None:
    with writing(engine_of(either)) as connection:
        connection.execute(text(TABLE))
    points = ["asked", "effect", "committed"]
    dying = [make("BOOK", project=f"p{n}", die=point) for n, point in enumerate(points)]
    failing = [make("BOOK", fail=1), make("BOOK", fail=99)]
    fine = [make("BOOK", n=n) for n in range(20)]
    either.start_archiver()
    either.start_fleet(2, "tests.fleet.booking:bus")

    publish(either, *fine, *failing)
    for event in dying:
        publish(either, event)
        either.until_settled("Booker", timeout=60)
    letter = wait_until(lambda: either.dead("Booker", failing[1]), 30, "the dead letter")[0]
    retried = either.run([sys.executable, "-m", "console.main", "dead", "retry", failing[1].event_id, "--yes"], "retry")
    retried.wait(60)
    either.until_settled("Booker", "Accountant", timeout=60)

    expected = ids([*fine, *failing, *dying])
    wait_until(lambda: len(bookings(either)) == len(expected), 30, "every booking")
    assert Counter(bookings(either)) == Counter(expected)
    followed = wait_until(
        lambda: len(found := booked(either)) >= len(expected) and found, 30, "what follows to be archived"
    )
    assert Counter(followed) == Counter(expected)
    assert letter["a"] == "5"


def bookings(world: World) -> list[str]:
    with reading(engine_of(world)) as connection:
        return list(connection.execute(text("SELECT event_id FROM bookings")).scalars())


def booked(world: World) -> list[str | None]:
    """Causes of the events that the handlers put into the outbox."""
    every = Replay(engine_of(world), world.settings.namespace, None).iterate()
    return [recorded.event.causation_id for recorded in every if recorded.event.type.value == "BOOKED"]
