"""The roles of PostgreSQL that docs/operations.md grants to workers, archivers and readers are enough, and not all."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from events.event import Event
from events.settings import Settings
from tests.console.command import Place
from tests.fleet.fleet import World
from tests.security.roles import OPERATIONS
from tests.servers import PostgresServer, migrate
from tests.valkey_servers import ValkeyServer
from tests.waiting import wait_until

ROLES = ("archiver", "reader", "worker")
ASKING = (
    "doctor",
    "stats",
    "replay",
    "tail",
    "deliveries",
    "dead list",
    "subscriptions list",
    "chain EV-1",
    "tree EV-1",
)


def grants() -> list[str]:
    """Return the statements that the document has."""
    text = OPERATIONS.read_text(encoding="utf-8")
    return re.findall(r"^(GRANT .*;)$", text, re.MULTILINE)


@pytest.fixture(scope="module")
def urls() -> Iterator[dict[str, str]]:
    """A migrated database's URL for each role."""
    server = PostgresServer().start()
    try:
        url = server.create_database()
        migrate(url)
        for role in ROLES:
            run(url, f"CREATE ROLE {role} LOGIN")
        for statement in grants():
            run(url, statement.replace("DATABASE eventbus", f"DATABASE {url.rpartition('/')[2]}"))
        yield {role: url.replace("postgres@", f"{role}@") for role in ROLES}
    finally:
        server.stop()


def run(url: str, statement: str) -> None:
    connection: Any = psycopg2.connect(url)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(statement)
    finally:
        connection.close()


def test_workers_archivers_and_readers_work_with_their_privileges(urls: dict[str, str], tmp_path: Path) -> None:
    with ValkeyServer() as server:
        common = {"redis_url": server.url, "lease_s": 2, "history_margin_s": 0}
        world = World(Settings(database_url=urls["worker"], **common), tmp_path)  # type: ignore[arg-type]
        place = Place(tmp_path, {"REDIS_URL": server.url, "DATABASE_URL": urls["reader"], "EVENTBUS_LEASE_S": "2"})
        try:
            world.start_fleet(1, timeout_s=120)
            archiver = [sys.executable, "-P", "-m", "console.main", "archive"]
            world.run(archiver, "archiver", DATABASE_URL=urls["archiver"])
            event = Event(event_id="EV-1", project_id="P", type="WORK", actor="t", payload={"fail": 9, "only": "Plain"})
            [receipt] = world.bus.publish_many_sync([event])
            assert not isinstance(receipt, Exception), receipt
            wait_until(lambda: world.dead("Plain"), 60, f"the dead letter; {world.log()}")
            archived = world.keys("outcomes")
            wait_until(lambda: not world.redis.xlen(archived), 60, f"the archive; {world.log('archiver')}")
            for command in ASKING:
                ended = place.run(*command.split())
                assert ended.code == 0 or command == "doctor", (command, ended.err)
                assert "permission denied" not in ended.err + ended.out, (command, ended.err, ended.out)
        finally:
            world.close()

        assert "permission denied" not in world.log() + world.log("archiver")


@pytest.mark.parametrize(
    ("role", "statement"),
    [
        ("reader", "DELETE FROM events"),
        ("reader", "UPDATE subscriptions SET types = types"),
        ("reader", "INSERT INTO outbox (event_id) VALUES ('x')"),
        ("worker", "DELETE FROM events"),
        ("worker", "UPDATE events SET actor = 'x'"),
        ("worker", "DELETE FROM outcomes"),
        ("worker", "SELECT * FROM blackboard"),
        ("worker", "CREATE TABLE mine (x int)"),
        ("archiver", "DROP TABLE events"),
    ],
)
def test_a_role_may_not(urls: dict[str, str], role: str, statement: str) -> None:
    with pytest.raises((psycopg2.errors.InsufficientPrivilege, psycopg2.errors.UndefinedTable)) as caught:
        run(urls[role], statement)

    assert "permission denied" in str(caught.value) or "must be owner" in str(caught.value)


def test_every_statement_grants_what_somebody_needs() -> None:
    assert {statement.rpartition(" TO ")[2].rstrip(";") for statement in grants()} == set(ROLES)
