"""The archiver when SQL and Redis disagree: either went back, an entry cannot be, an event is large."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from console.checks import examine
from events.backend import Backend
from events.errors import NotMigrated, RedisUnavailable
from events.stream import MAX_POSITION, HistoryStream
from store import inserts
from store.engine import open_engine, reading, writing
from store.migrate import VERSION_TABLE
from store.replay import Replay
from store.tables import rejected
from tests.fleet import app
from tests.fleet.conftest import make_world
from tests.fleet.fleet import World
from tests.fleet.test_delivery import make, publish
from tests.valkey_servers import ValkeyServer
from tests.waiting import wait_until
from workers.archiver import Archiver
from workers.consuming import Consuming

HOUR = 3600 * 10**6


def archiver_of(world: World, history: HistoryStream | None = None) -> Archiver:
    backend = Backend(world.settings, may_restore=True)
    return Archiver(history or backend.history, backend.archive, world.settings)


def catch_up(archiver: Archiver) -> None:
    while any(archiver.step(stream).entries for stream in ("history", "outcomes")):
        pass


def set_aside(world: World) -> list[tuple[str, str, str]]:
    columns = rejected.c
    query = select(columns.stream, columns.entry_id, columns.reason).order_by(columns.stream, columns.entry_id)
    with reading(world.backend.blackboard.engine) as connection:
        return [tuple(row) for row in connection.execute(query)]  # type: ignore[misc]


def stored_ids(world: World) -> list[str]:
    found = Replay(world.backend.blackboard.engine, world.settings.namespace, None).iterate()
    return [recorded.event.event_id for recorded in found]


def clock(world: World) -> int:
    return int(world.redis.get(world.keys("clock")) or 0)  # type: ignore[arg-type]


@pytest.fixture
def archiving(world: World) -> Iterator[Archiver]:
    """An archiver that runs in a thread."""
    archiver = archiver_of(world)
    thread = threading.Thread(target=archiver.run, daemon=True)
    thread.start()
    yield archiver
    archiver.stop()
    thread.join(15)
    assert not thread.is_alive()


# Redis went back --------------------------------------------------------------------------------


@pytest.fixture
def rewound(tmp_path: Path) -> Iterator[tuple[World, Archiver, list[str]]]:
    """Redis with its clock an hour ahead (the server's time was set back once), restarted from before the
    last 20 events, which are archived, at every 11th position.

    Yields the archiver that lived through it, and the ids of the lost.
    """
    with ValkeyServer(options={"dbfilename": "dump.rdb"}) as server:
        world = make_world(server.url, tmp_path)
        publish(world, make("LOGGED", n=0))
        world.redis.incrby(world.keys("clock"), HOUR)
        publish(world, make("LOGGED", n=1))
        archiver = archiver_of(world)
        catch_up(archiver)
        world.redis.execute_command("SAVE")
        lost = [make("LOGGED", lost=n) for n in range(20)]
        for event in lost:
            world.redis.incrby(world.keys("clock"), 10)
            publish(world, event)
        catch_up(archiver)
        server.kill()
        server.restart()
        try:
            yield world, archiver, [event.event_id for event in lost]
        finally:
            world.close()


def test_a_redis_that_lost_its_last_second_is_lifted_before_it_gives_a_position_twice(
    rewound: tuple[World, Archiver, list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    world, archiver, lost = rewound
    cursor = world.backend.archive.cursor("history").position
    assert clock(world) < cursor

    catch_up(archiver)
    new = [make("LOGGED", n=n) for n in range(30)]
    receipts = publish(world, *new)
    catch_up(archiver)

    assert receipts[0].position > cursor
    assert stored_ids(world)[2:] == lost + [event.event_id for event in new]
    assert sum("Redis has gone back" in message for message in caplog.messages) == 1
    assert set_aside(world) == []


def test_what_was_published_before_the_lift_is_stored_at_its_position_or_set_aside_by_name(
    rewound: tuple[World, Archiver, list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    world, _, lost = rewound
    cursor = world.backend.archive.cursor("history").position
    new = [make("LOGGED", n=n) for n in range(60)]
    receipts = [publish(world, event)[0] for event in new]
    assert receipts[-1].position < cursor

    catch_up(archiver_of(world))
    [after] = publish(world, make("LOGGED", n=60))
    catch_up(archiver_of(world))

    taken = [receipt for receipt in receipts if receipt.position in _positions(world, lost)]
    kept = {event.event_id for event in new} - {receipt.event_id for receipt in taken}
    assert len(taken) == 5 and kept < set(stored_ids(world)) > set(lost)
    assert stored_ids(world)[-1] == after.event_id and after.position > cursor
    aside = set_aside(world)
    assert [entry for _, entry, _ in aside] == [f"{receipt.position}-0" for receipt in taken]
    assert all("Redis had gone back, and gave it twice" in reason for _, _, reason in aside)
    assert sum("is set aside in the table" in message for message in caplog.messages) == 5
    assert any("55 events came below the archive's cursor" in message for message in caplog.messages)
    assert all(world.redis.ttl(world.keys("id", event.event_id)) > 0 for event in new), "Redis was told of each"


def _positions(world: World, ids: list[str]) -> set[int]:
    with reading(world.backend.blackboard.engine) as connection:
        found = inserts.known_positions(connection, world.settings.namespace, ids)
    return {position for position in found.values() if position is not None}


def test_a_redis_that_went_back_and_is_full_is_archived_and_trimmed_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with ValkeyServer() as server:
        world = make_world(server.url, tmp_path)
        try:
            publish(world, *[make("LOGGED", n=n) for n in range(3)])
            archiver = archiver_of(world)
            catch_up(archiver)
            before = world.backend.archive.cursor("history").position - 1
            world.redis.set(world.keys("archived"), before)
            waiting = [make("LOGGED", n=n) for n in range(3, 6)]
            publish(world, *waiting)
            world.redis.set(world.keys("clock"), before)
            world.redis.config_set("maxmemory", 1)

            catch_up(archiver)
            full = stored_ids(world), world.redis.xlen(world.keys("history")), clock(world)
            catch_up(archiver)
            world.redis.config_set("maxmemory", 0)
            catch_up(archiver)
        finally:
            world.close()

    assert full == ([*full[0][:3], *[event.event_id for event in waiting]], 0, before)
    assert sum("Redis has gone back" in message for message in caplog.messages) == 1


def test_outcomes_below_the_cursor_are_archived_before_they_are_trimmed(world: World) -> None:
    key = world.keys("outcomes")
    archiver = archiver_of(world)
    world.redis.set(world.keys("clock"), 10**15)
    world.redis.xadd(key, {"o": "900\tPlain\t0\t1\tdone\tw\t5\t"}, id="1000-0")
    catch_up(archiver)
    world.redis.delete(key)  # its last id goes too, as in a Redis that went back
    world.redis.xadd(key, {"o": "800\tPlain\t0\t1\tdone\tw\t5\t"}, id="950-0")
    world.redis.xadd(key, {"o": "700\tPlain\t0\t1\tdone\tw\t5\t"}, id="1000-0")

    catch_up(archiver)

    [plain] = world.backend.blackboard.statistics.deliveries()
    assert plain.done == 3 and world.redis.xlen(key) == 0
    assert [entry for _, entry, _ in set_aside(world)] == ["1000-0"]
    assert world.backend.archive.cursor("outcomes").position == 1000


def test_what_a_dead_archiver_left_unsaid_is_told_by_the_next(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    events = [make("LOGGED", n=n) for n in range(25)]
    publish(world, *events)

    def die(*_: object, **__: object) -> None:
        raise RedisUnavailable("killed here")

    dying = archiver_of(world)
    with monkeypatch.context() as patched:
        patched.setattr(HistoryStream, "note_archived", die)
        with pytest.raises(RedisUnavailable):
            dying.step("history")
    assert world.redis.get(world.keys("archived")) is None

    catch_up(archiver_of(world))

    assert stored_ids(world) == [event.event_id for event in events]
    assert all(world.redis.ttl(world.keys("id", event.event_id)) > 0 for event in events)
    assert world.redis.xlen(world.keys("history")) == 0


# SQL went back ----------------------------------------------------------------------------------


def test_an_older_sql_is_named_once_and_archiving_goes_on(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    publish(world, *[make("LOGGED", n=n) for n in range(3)])
    catch_up(archiver_of(world))
    backup = tmp_path / "backup.db"
    with sqlite3.connect(tmp_path / "store.db") as source, sqlite3.connect(backup) as target:
        source.backup(target)
    publish(world, *[make("LOGGED", n=n) for n in range(3, 6)])
    catch_up(archiver_of(world))
    told = world.backend.archive.cursor("history").position
    older = World(world.settings.with_(database_url=f"sqlite:///{backup}"), tmp_path)
    held = older.backend.archive.cursor("history").position

    says = [(finding.level, finding.says) for finding in examine(older.backend).findings if finding.about == "archive"]
    archiver = archiver_of(older)
    for _ in range(3):
        archiver.step("history")
    [after] = publish(older, make("LOGGED", n=6))
    catch_up(archiver)

    assert [level for level, text in says if f"up to position {held}" in text and f"told {told}" in text] == ["wrong"]
    [error] = [message for message in caplog.messages if "SQL is behind what Redis was told" in message]
    assert str(held) in error and str(told) in error
    assert stored_ids(older)[-1] == after.event_id
    older.close()


def test_a_healthy_archive_is_not_called_behind(world: World) -> None:
    publish(world, make("LOGGED"))
    catch_up(archiver_of(world))

    assert not any("SQL is behind" in finding.says for finding in examine(world.backend).findings)


# entries and errors that nobody expects ---------------------------------------------------------


@pytest.mark.parametrize("stream", ["history", "outcomes"])
@pytest.mark.parametrize("entry_id", [f"{MAX_POSITION + 5}-0", f"{2**63 - 1}-0", f"{2**64 - 1}-1"])
def test_an_id_beyond_every_position_parks_neither_archiver_nor_cursor(
    world: World, archiving: Archiver, stream: str, entry_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    receipts = publish(world, *[make("LOGGED", n=n) for n in range(3)])
    world.redis.xadd(world.keys(stream), {"e": "by hand"}, id=entry_id)

    wait_until(lambda: len(stored_ids(world)) == 3 and set_aside(world), 20, "the good ones, and the bad one set aside")
    if stream == "outcomes":
        publish(world, make("LOGGED", n=3))
        wait_until(lambda: len(stored_ids(world)) == 4, 20, "the other stream to go on")

    [(where, entry, reason)] = set_aside(world)
    assert (where, entry) == (stream, entry_id) and "beyond the year 2255" in reason
    assert world.backend.archive.cursor("history").position >= receipts[-1].position
    assert world.backend.archive.cursor(stream).position < MAX_POSITION  # type: ignore[arg-type]
    assert world.redis.xlen(world.keys(stream)) >= 1, "what SQL does not have is not trimmed"
    world.redis.rename(world.keys(stream), "set-aside")
    publish(world, make("LOGGED", n=4))
    wait_until(lambda: len(stored_ids(world)) == (4 if stream == "history" else 5), 20, "the stream to go on")
    assert sum("is set aside in the table" in message for message in caplog.messages) == 1


def test_readers_end_at_an_id_beyond_every_position(world: World) -> None:
    publish(world, *[make("LOGGED", n=n) for n in range(3)])
    world.redis.xadd(world.keys("history"), {"e": "by hand"}, id=f"{2**63 - 1}-0")

    assert len(list(world.backend.blackboard.replay.iterate())) == 3


def test_an_unexpected_error_is_logged_and_the_other_stream_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broken = threading.Event()
    broken.set()
    honest = HistoryStream.entries_after

    def read(self: HistoryStream, stream: Any, *arguments: Any) -> Any:
        if stream == "history" and broken.is_set():
            raise ZeroDivisionError("a bug")
        return honest(self, stream, *arguments)

    monkeypatch.setattr(HistoryStream, "entries_after", read)
    publish(world, make("LOGGED"))
    world.redis.xadd(world.keys("outcomes"), {"o": "900\tPlain\t0\t1\tdone\tw\t5\t"}, id="1000-0")
    archiver = archiver_of(world)
    thread = threading.Thread(target=archiver.run, daemon=True)

    with caplog.at_level(logging.INFO, "eventbus.archiver"):
        thread.start()
        wait_until(lambda: world.redis.xlen(world.keys("outcomes")) == 0, 20, "outcomes to be archived")
        broken.clear()
        wait_until(lambda: len(stored_ids(world)) == 1, 20, "history to go on")
        wait_until(lambda: "Archiving goes on." in caplog.messages, 10, "the log to say so")
        archiver.stop()
        thread.join(10)

    [failed] = [record for record in caplog.records if record.exc_info]
    assert "Archiving history waits" in failed.message


# large events, and the schema -------------------------------------------------------------------


def test_a_read_ends_by_bytes_and_the_pages_join(world: World) -> None:
    events = [make("LOGGED", n=n, text="x" * (5000 if n % 3 else 5)) for n in range(100)]
    publish(world, *events)
    small = HistoryStream(world.backend.namespace, batch_bytes=20_000)

    first = small.entries_after("history", "0-0", 1000)
    page = small.after(0, 1000)
    position, complete, seen, pages = 0, False, [], 0
    while not complete:
        found = small.after(position, 1000)
        seen += [recorded.event.event_id for recorded in found.events]
        position, complete, pages = found.last_position, found.complete, pages + 1

    assert 3 <= len(first) <= 12 and 3 <= len(page.events) <= 12 and not page.complete
    assert page.last_position == page.events[-1].position
    assert seen == [event.event_id for event in events] and pages > 10
    assert len(small.after(0, 3).events) == len(small.entries_after("history", "0-0", 3)) == 3
    archiver = archiver_of(world, small)
    assert archiver.step("history").entries == len(first)
    catch_up(archiver)
    assert stored_ids(world) == seen


def test_a_page_ends_before_what_was_archived_while_it_was_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    receipts = publish(world, *[make("LOGGED", n=n) for n in range(150)])
    history, archiver = world.backend.history, archiver_of(world)
    scripts = world.backend.namespace.scripts
    call = scripts.call

    def archived_after_the_first(name: str, arguments: Any) -> Any:
        reply = call(name, arguments)
        catch_up(archiver)  # it trims all of history
        return reply

    with monkeypatch.context() as patched:
        patched.setattr(scripts, "call", archived_after_the_first)
        page = history.after(0, 1000)

    assert page.archived == 0 and not page.complete
    assert [recorded.position for recorded in page.events] == [r.position for r in receipts[: len(page.events)]]
    assert page.last_position == receipts[len(page.events) - 1].position
    assert history.after(page.last_position, 1000).archived == receipts[-1].position


def test_nobody_consumes_with_a_schema_of_another_version(world: World) -> None:
    engine = open_engine(world.settings.database_url or "")
    with writing(engine) as connection:
        connection.exec_driver_sql(f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
    engine.dispose()

    consuming = Consuming(world.settings, Backend(world.settings), app.bus.subscriptions, threads=1)
    with pytest.raises(NotMigrated, match="has schema 9999, newer than"):
        consuming.start()
