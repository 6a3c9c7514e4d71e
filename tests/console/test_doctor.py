"""`eventbus doctor`: it finds what was broken on purpose, and nothing else."""

from __future__ import annotations

from typing import Any

from tests.console.command import Ended, Place
from tests.valkey_servers import ValkeyServer


def test_a_directory_in_use_has_nothing_wrong(place: Place) -> None:
    place.run("publish", "X", "-p", "P", "-a", "A")

    ended = place.run("doctor")

    assert ended.code == 0, ended.out
    assert "Nothing is wrong" in ended.out
    assert "Valkey" in ended.out and "1 event and 0 outcomes are not in the database yet" in ended.out


def test_it_finds_a_policy_that_deletes_and_a_lost_namespace(
    place: Place, valkey_server: ValkeyServer, redis_url: str
) -> None:
    where = {"REDIS_URL": redis_url, "EVENTBUS_HOME": str(place.directory)}
    assert place.run("publish", "X", "-p", "P", "-a", "A", **where).code == 0
    assert place.run("archive", "--once", **where).code == 0
    with valkey_server.client() as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.config_set("appendonly", "no")
        client.flushall()
        try:
            found = place.run("doctor", "--json", **where)
            shown = place.run("doctor", **where)
        finally:
            client.config_set("maxmemory-policy", "noeviction")
            client.config_set("appendonly", "yes")

    assert found.code == shown.code == 1
    assert found.json()["ok"] is False
    assert any("allkeys-lru" in says for says in _of(found, "wrong"))
    assert any("has lost the namespace 'eventbus'" in says for says in _of(found, "wrong"))
    assert any("appendonly is off" in says for says in _of(found, "warning"))
    assert any("DATABASE_URL is not" in says for says in _of(found, "warning"))
    assert "things are wrong" in shown.out and "        -> Set `maxmemory-policy noeviction`" in shown.out


def test_it_finds_dead_letters_rejected_rows_and_the_absence_of_workers(place: Place, redis_url: str) -> None:
    import redis

    (place.directory / "pipeline.py").write_text(_FAILING, encoding="utf-8")
    where = {"REDIS_URL": redis_url, "EVENTBUS_HOME": str(place.directory), "EVENTBUS_APP": "pipeline:bus"}
    worker = place.start("dev", **where)
    try:
        assert worker.stderr is not None
        while "Ready" not in worker.stderr.readline():
            assert worker.poll() is None
        place.run("publish", "WORK", "-p", "P", "-a", "A", **where)
        with redis.Redis.from_url(redis_url) as client:
            from tests.waiting import wait_until

            wait_until(lambda: client.xlen("{eventbus}:dead:Failing"), 20, "the dead letter")
            client.xadd("{eventbus}:history", {"by": "hand"})
            alive = place.run("doctor", "--json", **where)
    finally:
        worker.terminate()
        worker.communicate(timeout=30)
    place.run("archive", "--once", **where)
    after = place.run("doctor", "--json", **where)

    assert any("1 worker process alive" in says for says in _of(alive, "ok"))
    assert any("1 dead letter; the newest, after 1 attempt" in says for says in _of(after, "warning"))
    assert any("1 entry of history could not be stored" in says for says in _of(after, "warning"))
    assert after.json()["queues"][0]["dead"] == 1


def test_outcomes_that_wait_long_are_wrong_and_many_young_ones_are_not(place: Place, redis_url: str) -> None:
    import redis

    where = {"REDIS_URL": redis_url, "EVENTBUS_HOME": str(place.directory)}
    place.run("publish", "X", "-p", "P", "-a", "A", **where)
    assert place.run("archive", "--once", **where).code == 0

    with redis.Redis.from_url(redis_url) as client:
        _outcomes(client, 10_001, age_s=1)
        burst = place.run("doctor", "--json", **where)
        client.delete("{eventbus}:outcomes")
        _outcomes(client, 1, age_s=47 * 60)
        dead = place.run("doctor", "--json", **where)

    assert burst.code == 0, _of(burst, "wrong")
    assert any(says.startswith("0 events and 10,001 outcomes are not in the") for says in _of(burst, "ok"))
    assert dead.code == 1
    assert any("1 outcome are not in the database yet, the oldest since 47 min" in says for says in _of(dead, "wrong"))
    assert dead.json()["archive"]["outcomes_oldest_s"] > 46 * 60


def test_a_count_of_unarchived_events_says_when_there_are_more(place: Place, redis_url: str) -> None:
    import redis

    place.run("publish", "X", "-p", "P", "-a", "A", REDIS_URL=redis_url)
    with redis.Redis.from_url(redis_url) as client:
        end = int(client.xinfo_stream("{eventbus}:history")["last-generated-id"].partition(b"-")[0])
        pipe = client.pipeline(transaction=False)
        for number in range(1, 1000):
            pipe.xadd("{eventbus}:history", {"by": "hand"}, id=f"{end + number}-0")
        pipe.execute()
        counted = place.run("doctor", "--json", REDIS_URL=redis_url).json()["archive"]
        client.xadd("{eventbus}:history", {"by": "hand"}, id=f"{end + 1000}-0")
        more = place.run("doctor", "--json", REDIS_URL=redis_url).json()["archive"]

    assert (counted["unarchived"], counted["unarchived_is_lower_bound"]) == (1000, False)
    assert (more["unarchived"], more["unarchived_is_lower_bound"]) == (1000, True)


def test_it_makes_no_database_where_there_is_none(place: Place, redis_url: str) -> None:
    own = place.run("doctor", "--json", REDIS_URL=redis_url)
    named = place.run("doctor", "--json", REDIS_URL=redis_url, DATABASE_URL="sqlite:///events.db")

    assert own.code == 0 and any("eventbus.db: nothing is stored" in says for says in _of(own, "ok"))
    assert named.code == 1 and any("events.db: nothing is stored" in says for says in _of(named, "wrong"))
    assert not list(place.directory.iterdir())


def test_a_database_that_is_gone_or_has_no_schema_does_not_have_all_of_history(place: Place, redis_url: str) -> None:
    file = place.directory / "events.db"
    where = {"REDIS_URL": redis_url, "DATABASE_URL": f"sqlite:///{file}"}
    own = {"REDIS_URL": redis_url, "EVENTBUS_HOME": str(place.directory / "elsewhere")}
    place.run("migrate", **where)
    place.run("publish", "X", "-p", "P", "-a", "A", **where)
    assert place.run("archive", "--once", **where).code == 0
    assert "The database has all of history" in place.run("doctor", **where).out
    file.unlink()

    absent, moved = place.run("doctor", **where), place.run("doctor", **own)
    file.touch()
    bare = place.run("doctor", **where)

    for ended in (absent, moved, bare):
        assert ended.code == 1, ended.out
        assert "Redis was told that the database has history up to position" in ended.out
        assert "The database has all of history" not in ended.out and "Nothing is wrong" not in ended.out
    assert not (place.directory / "elsewhere").exists()


def test_it_advises_nothing_that_does_not_exist(place: Place, redis_url: str) -> None:
    import redis

    with redis.Redis.from_url(redis_url) as client:
        client.sadd("{eventbus}:subscribers", "Painter")
        client.hset("{eventbus}:sub:Painter", mapping={"types": "WORK", "state": "paused"})
        client.xadd("{eventbus}:queue:Painter", {"f": "1\t0\t0\t0\tWORK\tr\tlane\t0\t\n{}"})
        client.xgroup_create("{eventbus}:queue:Painter", "bus", "0")
        client.xadd("{eventbus}:dead:Painter", {"f": "1\t0\t0\t0\tWORK\tr\tlane\t0\t\n{}", "a": "1", "r": "no brush"})
        client.rpush("{eventbus}:lane:Painter:lane", "1\t0\t0\t0\tWORK\tr\tlane\t0\t\n{}")
    found = place.run("doctor", "--json", REDIS_URL=redis_url).json()["findings"]

    advice = " ".join(finding["todo"] for finding in found if finding["about"] == "subscriber Painter")
    assert "`eventbus dead retry -s Painter` delivers them again" in advice
    assert "Resume it" not in advice and "publish the work again" not in advice


def test_an_archiver_does_not_start_on_a_schema_of_another_version(place: Place, redis_url: str) -> None:
    import sqlite3

    where = {"REDIS_URL": redis_url, "DATABASE_URL": "sqlite:///events.db"}
    assert place.run("migrate", **where).code == 0
    with sqlite3.connect(place.directory / "events.db") as database:
        database.execute("UPDATE eventbus_version SET version_num = '9999'")

    for arguments in (["archive"], ["archive", "--once"]):
        ended = place.run(*arguments, **where)

        assert "has schema 9999, newer than" in ended.sentence()
        assert ended.code == 1


def test_it_says_which_server_cannot_be_reached(place: Place) -> None:
    ended = place.run(
        "doctor", "--json", REDIS_URL="redis://me:sesame@127.0.0.1:1/0", EVENTBUS_HOME=str(place.directory)
    )

    assert ended.code == 1
    assert any("Redis at redis://127.0.0.1:1/0 cannot be reached" in says for says in _of(ended, "wrong"))
    assert "sesame" not in ended.out + ended.err


def _of(ended: Ended, level: str) -> list[str]:
    findings: list[dict[str, Any]] = ended.json()["findings"]
    return [finding["says"] for finding in findings if finding["level"] == level]


_FAILING = """
from events import EventBus

bus = EventBus()


@bus.subscriber("Failing", ["WORK"], max_attempts=1)
def work(event):
    raise RuntimeError("no brush")
"""


def _outcomes(client: Any, count: int, age_s: int) -> None:
    """Write outcomes that ended so long ago."""
    seconds, _ = client.time()
    pipe = client.pipeline(transaction=False)
    for number in range(count):
        pipe.xadd("{eventbus}:outcomes", {"o": "?"}, id=f"{(seconds - age_s) * 1_000_000}-{number}")
    pipe.execute()
