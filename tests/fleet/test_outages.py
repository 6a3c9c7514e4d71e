"""Servers that go away, lose everything, or hold what nobody wrote: workers go on by themselves."""

from __future__ import annotations

import sys

import pytest

from events.bus import EventBus
from events.errors import RedisUnavailable, StoreUnavailable
from tests.fleet.fleet import SUPERVISE, World
from tests.fleet.test_crashes import states
from tests.fleet.test_delivery import make, publish
from tests.servers import PostgresServer, migrate
from tests.valkey_servers import ValkeyServer, free_port
from tests.waiting import wait_until


def test_malformed_entries_become_dead_letters_and_stop_nobody(world: World) -> None:
    world.start_fleet(2)
    world.start_archiver()
    queue, history = world.keys("queue", "Plain"), world.keys("history")
    bad = [{"f": "no frame at all"}, {"x": "y"}, {"f": b"\xff\xfe\x00"},
           {"f": "1\t0\t0\t0\tPLAIN_WORK\tr\tlane\t0\t\n{]"},
           {"f": "7\t0\t0\t0\tPLAIN_WORK\tr\tlane\t0\t\n[]"}, {"f": "x" * 100_000}]  # fmt: skip

    publish(world, make("PLAIN_WORK", n=0))
    for fields in bad:
        world.redis.xadd(queue, fields)
    for fields in ({"e": "not json"}, {"nothing": "here"}, {"e": b"\xff", "r": "", "d": "x", "s": "", "o": ""}):
        world.redis.xadd(history, fields)
    world.redis.xadd(world.keys("outcomes"), {"o": "half\tan outcome"})
    publish(world, make("PLAIN_WORK", n=1))
    world.until_settled("Plain")
    wait_until(lambda: states(world, "Plain").get("done") == 2, 20, f"both to be stored; {world.log('archiver')}")

    assert world.runs("Plain").total() == 2
    letters = world.dead("Plain")
    assert len(letters) == len(bad)
    assert all(letter["r"].startswith(("The queue entry is not a delivery", "The body is")) for letter in letters)
    rejected = (
        world.backend.blackboard.engine.connect().exec_driver_sql("select stream, reason from rejected").fetchall()
    )
    assert sorted(stream for stream, _ in rejected) == ["history", "history", "history", "outcomes"]


def test_unreachable_servers_are_named_without_their_passwords(world: World) -> None:
    port = free_port()
    no_redis = EventBus(world.settings.with_(redis_url=f"redis://user:s3cret@127.0.0.1:{port}/0"))
    no_store = EventBus(world.settings.with_(database_url=f"postgresql://user:s3cret@127.0.0.1:{port}/db"))

    with pytest.raises(RedisUnavailable) as redis_error:
        no_redis.publish_sync(make("WORK"))
    with pytest.raises(StoreUnavailable) as store_error:
        no_store.get_causation_chain("EV-1")

    for error in (redis_error, store_error):
        assert f"127.0.0.1:{port}" in str(error.value) and "s3cret" not in str(error.value)
    no_redis.close()
    no_store.close()


def test_workers_and_archiver_resume_when_valkey_returns(world: World) -> None:
    with ValkeyServer(aof=True) as server:
        own = World(world.settings.with_(redis_url=server.url), world.tmp_path)
        own.environment["BOOK_URL"] = world.settings.redis_url or ""
        try:
            fleet = own.start_fleet(2)
            archiver = own.start_archiver()
            publish(own, make("ASYNC_WORK"))
            own.until_settled("Async")
            server.kill()
            wait_until(
                lambda: "waits for Redis" in own.log() and "Archiving waits" in own.log("archiver"),
                20,
                "them to notice",
            )
            server.restart()
            publish(own, make("ASYNC_WORK"), make("PLAIN_WORK"))
            own.until_settled("Async", "Plain")
            wait_until(lambda: states(own, "Async") == {"done": 2}, 20, "the archive to go on")

            assert fleet.poll() is None and archiver.poll() is None
            assert "Traceback" not in own.log() + own.log("archiver")
        finally:
            own.close()


def test_a_worker_that_starts_before_its_servers_waits_for_them(world: World) -> None:
    with ValkeyServer(aof=True) as server:
        own = World(world.settings.with_(redis_url=server.url), world.tmp_path)
        own.environment["BOOK_URL"] = world.settings.redis_url or ""
        server.kill()
        try:
            own.run([sys.executable, "-c", SUPERVISE, "1", "5", "--app", "tests.fleet.app:bus"])
            wait_until(lambda: "The worker waits: Redis at" in own.log(), 20, "it to say that it waits")
            server.restart()
            wait_until(own.consumers, 20, "it to read")
        finally:
            own.close()


def test_after_flushall_workers_declare_again_and_publishing_goes_on(world: World) -> None:
    world.start_fleet(2)
    publish(world, make("ASYNC_WORK"))
    world.until_settled("Async")

    world.redis.flushall()
    second, third = make("ASYNC_WORK"), make("PLAIN_WORK")
    publish(world, second, third)

    wait_until(lambda: world.runs("Async")[second.event_id] and world.runs("Plain")[third.event_id], 20, world.log())


def test_an_outage_of_postgresql_pauses_archiving_and_loses_nothing(world: World) -> None:
    postgres = PostgresServer()
    postgres.start()
    own = None
    try:
        url = postgres.create_database()
        migrate(url)
        own = World(world.settings.with_(database_url=url), world.tmp_path)
        own.start_fleet(1)
        own.start_archiver()
        publish(own, make("ASYNC_WORK"))
        wait_until(lambda: states(own, "Async") == {"done": 1}, 20, f"the first to be archived; {own.log('archiver')}")
        postgres.pause()
        wait_until(lambda: "Archiving waits" in own.log("archiver"), 20, "the archiver to notice")
        publish(own, *[make("ASYNC_WORK") for _ in range(50)])
        own.until_settled("Async")
        postgres.resume()
        wait_until(lambda: states(own, "Async") == {"done": 51}, 30, f"the archive to catch up; {own.log('archiver')}")
    finally:
        if own:
            own.close()
        postgres.stop()
