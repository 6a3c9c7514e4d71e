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
