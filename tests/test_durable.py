"""Durable publishing: acknowledged when it is on the server's disk, loudly refused where that cannot be promised."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from events.bus import EventBus
from events.connection import connect
from events.durable import Barrier
from events.errors import NotDurable, RedisUnavailable
from events.event import Event
from events.settings import Settings
from tests.fault_proxy import FaultProxy
from tests.servers import migrate
from tests.valkey_servers import DebianRedis, ValkeyServer
from tests.waiting import wait_until


def make(**fields: object) -> Event:
    return Event(type="QA_REPORT", project_id="film", actor="t", **fields)  # type: ignore[arg-type]


def bus_on(url: str, folder: Path, timeout_s: float = 5) -> EventBus:
    database = f"sqlite:///{folder / 'store.db'}"
    migrate(database)
    return EventBus(Settings(redis_url=url, database_url=database, namespace="durable", timeout_s=timeout_s))


def published(bus: EventBus) -> list[str]:
    return [recorded.event.event_id for recorded in bus.backend.replay.iterate()]


@pytest.fixture(scope="module")
def server() -> Iterator[ValkeyServer]:
    with ValkeyServer(aof=True, options={"appendfsync": "everysec"}) as found:
        yield found


@pytest.fixture
def bus(server: ValkeyServer, tmp_path: Path) -> Iterator[EventBus]:
    with server.client() as client:
        client.flushall()
        client.config_set("appendfsync", "everysec")
    found = bus_on(server.url, tmp_path, timeout_s=3)
    yield found
    found.close()


def fsynced(server: ValkeyServer) -> bool:
    """Whether all that was written is on disk."""
    with server.client() as client:
        found = client.info("persistence")
        return bool(found["aof_pending_bio_fsync"] == 0 and found["aof_buffer_length"] == 0)


def test_a_durable_publish_is_on_disk_when_it_returns(bus: EventBus, server: ValkeyServer) -> None:
    event = make()

    assert bus.publish_sync(event, durable=True) == event.event_id
    assert fsynced(server)
    assert bus.publish_many_sync([event, make()], durable=True)[0].is_new is False  # type: ignore[union-attr]
    assert len(published(bus)) == 2


def test_from_a_loop_too_and_scheduled_ones(bus: EventBus) -> None:
    async def run() -> None:
        await bus.publish(make(event_id="EV-now"), durable=True)
        await bus.publish(make(event_id="EV-later"), delay=3600, durable=True)
        await bus.publish_large(make(event_id="EV-large"), durable=True)
        await bus.disconnect()

    asyncio.run(run())

    assert published(bus) == ["EV-now", "EV-large"] and bus.cancel("EV-later")


def test_publishers_that_wait_at_the_same_time_share_the_wait(bus: EventBus, server: ValkeyServer) -> None:
    bus.publish_sync(make(), durable=True)
    with server.client() as client:
        client.config_resetstat()

    async def run() -> None:
        await asyncio.gather(*(bus.publish(make(), durable=True) for _ in range(200)))
        await bus.disconnect()

    asyncio.run(run())

    with server.client() as client:
        calls = client.info("commandstats")["cmdstat_waitaof"]["calls"]
    assert 1 <= calls < 150 and len(published(bus)) == 201


def test_a_server_that_never_writes_to_disk_in_time_is_named_and_the_event_is_published(
    bus: EventBus, server: ValkeyServer
) -> None:
    bus.publish_sync(make(), durable=True)
    with server.client() as client:
        client.config_set("appendfsync", "no")
    event = make()

    with pytest.raises(
        NotDurable, match=r"not brought it to disk within 2.5 s.*It is published; publishing again is safe"
    ):
        bus.publish_sync(event, durable=True)

    assert event.event_id in published(bus)
    with server.client() as client:
        client.config_set("appendfsync", "everysec")
    assert bus.publish_sync(event, durable=True) == event.event_id


def test_a_server_without_an_append_only_file_is_refused_before_anything_is_published(tmp_path: Path) -> None:
    with ValkeyServer() as server:
        bus = bus_on(server.url, tmp_path)
        try:
            with pytest.raises(NotDurable, match=r"appendonly yes.*Nothing was published"):
                bus.publish_sync(make(), durable=True)
            assert published(bus) == []
            bus.publish_sync(make())
        finally:
            bus.close()


def test_redis_7_0_has_no_way_to_wait_and_says_so(tmp_path: Path) -> None:
    if not DebianRedis.available():
        pytest.skip("Not run: Debian's Redis (/usr/bin/redis-server) is not installed.")
    with DebianRedis(aof=True) as server:
        bus = bus_on(server.url, tmp_path)
        try:
            with pytest.raises(NotDurable, match=r"Redis 7\.2 or Valkey\. Nothing was published"):
                bus.publish_sync(make(), durable=True)
        finally:
            bus.close()


def test_a_wait_whose_reply_is_lost_is_not_taken_for_a_promise(server: ValkeyServer, tmp_path: Path) -> None:
    with FaultProxy("127.0.0.1", server.port) as proxy:
        bus = bus_on(proxy.url, tmp_path)
        try:
            bus.publish_sync(make(), durable=True)
            event = make()
            proxy.drop_replies(1, matching=b"WAITAOF")
            with pytest.raises(NotDurable, match="It is published; publishing again is safe"):
                bus.publish_sync(event, durable=True)
            assert bus.publish_sync(event, durable=True) == event.event_id
            assert published(bus).count(event.event_id) == 1
        finally:
            bus.close()


def test_a_server_that_lost_everything_between_promises_nothing(bus: EventBus, server: ValkeyServer) -> None:
    bus.publish_sync(make(), durable=True)
    barrier = bus.backend.barrier
    with server.client() as client:
        client.flushall()

    with pytest.raises(NotDurable, match="did not take the write that marks the place"):
        barrier.wait(barrier.check())


def test_a_wait_that_is_interrupted_promises_nothing_to_those_who_share_it() -> None:
    joined, answers = threading.Event(), []

    def interrupted() -> Any:
        assert joined.wait(30)
        raise KeyboardInterrupt

    barrier = Barrier(interrupted, lambda: connect("redis://127.0.0.1:1", 1), 1)
    barrier._client = connect("redis://127.0.0.1:1", 1)

    def wait() -> None:
        try:
            barrier.wait("")
        except BaseException as error:
            answers.append(type(error))
        else:
            answers.append(None)

    leader = threading.Thread(target=wait)
    leader.start()
    wait_until(lambda: barrier._under_way is not None, 30, "the leader to begin")
    shared = barrier._under_way  # as one who came before the barrier began, and waits for it
    joined.set()
    leader.join(30)

    assert answers == [KeyboardInterrupt]
    assert shared is not None and shared.ended and isinstance(shared.error, NotDurable)


def test_a_server_that_was_restarted_between_promises_nothing(tmp_path: Path) -> None:
    with ValkeyServer(aof=True, options={"appendfsync": "everysec"}) as server:
        bus = bus_on(server.url, tmp_path)
        try:
            bus.publish_sync(make(), durable=True)
            run_id = bus.backend.barrier.check()
            server.kill()
            server.restart()
            with pytest.raises(NotDurable, match=r"(restarted|cannot be reached).*ublishing again"):
                bus.backend.barrier.wait(run_id)
            assert bus.publish_sync(make(), durable=True)
        finally:
            bus.close()


def test_what_a_run_of_the_server_lost_is_promised_by_no_barrier_on_the_next(tmp_path: Path) -> None:
    with ValkeyServer(aof=True, options={"appendfsync": "everysec"}) as server:
        bus = bus_on(server.url, tmp_path, timeout_s=3)
        files, kept = server.directory / "appendonlydir", tmp_path / "kept"
        try:
            bus.publish_sync(make(), durable=True)
            shutil.copytree(files, kept)
            barrier = bus.backend.barrier
            run_id = barrier.check()  # here `publish(..., durable=True)` begins, step by step
            bus.publish_sync(make(event_id="EV-lost"))
            server.kill()  # a power cut: what was not brought to disk is gone
            shutil.rmtree(files)
            shutil.copytree(kept, files)
            server.restart()

            _durable_in_the_end(bus, make(event_id="EV-another"))
            with pytest.raises(NotDurable, match=r"restarted, or another.*it may be lost\. Publishing again"):
                barrier.wait(run_id)  # its thread goes on only now

            assert "EV-lost" not in published(bus) and "EV-another" in published(bus)
            _durable_in_the_end(bus, make(event_id="EV-lost"))
            assert "EV-lost" in published(bus)
        finally:
            bus.close()


def _durable_in_the_end(bus: EventBus, event: Event) -> None:
    """Publish it again and again, as a caller does who is told that this is safe."""

    def is_promised() -> bool:
        try:
            return bus.publish_sync(event, durable=True) == event.event_id
        except (NotDurable, RedisUnavailable):
            return False

    wait_until(is_promised, 30, "the next run of the server to promise something")


def test_threads_that_come_while_one_waits_wait_for_the_next(bus: EventBus, server: ValkeyServer) -> None:
    bus.publish_sync(make(), durable=True)
    threads = [threading.Thread(target=bus.publish_sync, args=(make(),), kwargs={"durable": True}) for _ in range(20)]
    [thread.start() for thread in threads]
    [thread.join(30) for thread in threads]

    assert not any(thread.is_alive() for thread in threads) and len(published(bus)) == 21 and fsynced(server)
