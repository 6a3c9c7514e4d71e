"""The users of Redis that docs/operations.md describes: each list is enough, no command on it is there for nothing,
and nobody gets beyond the namespace."""

from __future__ import annotations

import asyncio
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from events.bus import EventBus
from events.errors import ScriptFailed
from events.event import Event
from events.records import LetterFilter
from events.settings import Settings
from tests.conftest import running
from tests.console.command import Place
from tests.fleet.fleet import World
from tests.security.reach import commands_of
from tests.security.roles import PLAYS, ROLES, SCRIPTS, TOGETHER, Stage, commands, denied, make_user, make_user_of_all
from tests.servers import migrate
from tests.valkey_servers import DebianRedis, ValkeyServer
from tests.waiting import wait_until
from tests.web.served import served


@pytest.fixture(scope="module", params=[ValkeyServer, DebianRedis], ids=["valkey", "debian-redis"])
def server(request: pytest.FixtureRequest) -> Iterator[ValkeyServer]:
    yield from running(request.param)


def play(server: ValkeyServer, role: str, *more: str) -> tuple[int, Exception | None, set[tuple[str, str]]]:
    """Play a role's part as its user, up to the first error; return the steps made, the error, and what was denied."""
    admin, name = server.client(), f"play-{secrets.token_hex(4)}"
    make_user(admin, role, name, *more)
    admin.script_flush()
    admin.acl_log_reset()
    mine = server.client(username=role, password=role)
    steps, error = 0, None
    try:
        for _ in PLAYS[role](Stage(admin, mine, name)):
            steps += 1
    except Exception as caught:
        error = caught
    finally:
        mine.close()
        found = denied(admin)
        for key in admin.scan_iter(f"{{{name}}}:*", 5000):
            admin.delete(key)
        admin.close()
    return steps, error, found


@pytest.mark.parametrize("role", ROLES)
def test_a_role_may_run_what_its_scripts_can_come_to(role: str) -> None:
    wanted = set().union(*map(commands_of, SCRIPTS[role]))

    assert wanted <= set(commands(role))
    assert commands(role) == sorted(commands(role))


@pytest.mark.parametrize("role", ROLES)
def test_a_role_does_all_of_its_work_with_its_list(server: ValkeyServer, role: str) -> None:
    steps, error, found = play(server, role)

    assert error is None and not found, (error, found)
    assert steps >= 9


@pytest.mark.parametrize("role", ROLES)
def test_without_any_one_command_of_its_list_a_role_is_denied_something(role: str, valkey_server: ValkeyServer) -> None:
    needless = [name for name in commands(role) if (role, name) not in play(valkey_server, role, f"-{name}")[2]]

    assert needless == []


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    "command",
    [
        ("FLUSHALL",), ("FLUSHDB",), ("KEYS", "*"), ("CONFIG", "GET", "requirepass"), ("CONFIG", "SET", "save", ""),
        ("ACL", "LIST"), ("SCRIPT", "FLUSH"), ("SHUTDOWN", "NOSAVE"), ("DEBUG", "SLEEP", "0"), ("MONITOR",),
        ("RENAME", "{eventbus}:clock", "{eventbus}:x"), ("GET", "{other}:clock"), ("XLEN", "{other}:history"),
        ("EVAL", "return redis.call('GET', KEYS[1])", 1, "{other}:clock"),
        ("EVAL", "return redis.call('GET', '{other}:clock')", 0),
        ("EVAL", "return redis.call('FLUSHALL')", 0), ("EVAL", "return redis.call('DEL', '{eventbusy}:clock')", 0),
        ("PUBLISH", "channel", "word"), ("SUBSCRIBE", "channel"),
    ],
    ids=lambda command: " ".join(map(str, command)),
)  # fmt: skip
def test_no_role_gets_beyond_its_namespace(server: ValkeyServer, role: str, command: tuple[Any, ...]) -> None:
    with server.client() as admin:
        make_user(admin, role)
        admin.set("{other}:clock", "5")
        admin.set("{eventbusy}:clock", "5")
        with server.client(username=role, password=role) as mine, pytest.raises(redis.ResponseError) as caught:
            mine.execute_command(*command)
        kept = admin.exists("{other}:clock", "{eventbusy}:clock")

    assert "permission" in str(caught.value) or "can't" in str(caught.value) or "ACL" in str(caught.value), caught.value
    assert kept == 2


# the whole path, each with its own process


ASKING = (
    "tail", "replay", "stats", "lag", "schedules list", "deliveries", "dead list", "scheduled list",
    "subscriptions list", "subscriptions show Plain", "workers list", "doctor", "chain EV-bad", "tree EV-good",
    "show EV-good",
)  # fmt: skip
CHANGING = (
    "export exported.jsonl",
    "dead retry --all", "dead list", "subscriptions pause Async", "subscriptions resume Async",
    "subscriptions set Async --concurrency 3", "subscriptions remove-types Async ASYNC_WORK",
    "replay --to Generator -t WORK --yes", "doctor --repair --yes", "prune --older-than 1d --yes",
    "redact EV-good --yes", "import exported.jsonl", "scheduled cancel EV-later",
    "subscriptions drop Big --force --yes",
)  # fmt: skip


def test_every_process_works_under_its_own_user(tmp_path: Path) -> None:
    with ValkeyServer() as server, server.client() as admin:
        for role in ROLES:
            make_user(admin, role)
        url = {role: server.url.replace("redis://", f"redis://{role}:{role}@") for role in ROLES}
        database = f"sqlite:///{tmp_path / 'store.db'}"
        migrate(database)
        settings = Settings(redis_url=url["worker"], database_url=database, lease_s=2, history_margin_s=0)
        world = World(settings, tmp_path)
        place = Place(tmp_path, {"DATABASE_URL": database, "EVENTBUS_LEASE_S": "2"})
        try:
            world.start_fleet(1, BOOK_URL=server.url)
            archiver = [sys.executable, "-P", "-m", "console.main", "archive"]
            world.run(archiver, "archiver", REDIS_URL=url["archiver"])
            publish_as(url["publisher"], database)
            dead = world.keys("dead", "Plain")
            wait_until(lambda: admin.xlen(dead), 60, f"the dead letter; {world.log()}")
            outcomes, archived = world.keys("outcomes"), world.keys("archived")
            wait_until(lambda: admin.get(archived) and not admin.xlen(outcomes), 60, world.log("archiver"))
            for command in ASKING:
                ended = place.run(*command.split(), REDIS_URL=url["reader"])
                assert ended.code == 0 or command == "doctor", (command, ended.err)
            for command in CHANGING:
                ended = place.run(*command.split(), REDIS_URL=url["operator"])
                assert ended.code in (0, 1) and "permission" not in ended.err + ended.out, (
                    command,
                    ended.err,
                    ended.out,
                )
            ran = admin.lrange("ran:Plain", 0, -1)
        finally:
            world.close()

        assert not denied(admin), denied(admin)
        assert any(line.startswith(b"EV-good ") for line in ran)


def test_an_application_and_a_web_process_work_under_the_rules_of_all_that_they_are(tmp_path: Path) -> None:
    with ValkeyServer() as server, server.client() as admin:
        for name in TOGETHER:
            make_user_of_all(admin, name)
        url = {name: server.url.replace("redis://", f"redis://{name}:{name}@") for name in TOGETHER}
        database = f"sqlite:///{tmp_path / 'store.db'}"
        migrate(database)
        settings = {name: Settings(redis_url=url[name], database_url=database, lease_s=2) for name in TOGETHER}

        with_letters = asyncio.run(consume(settings["application"]))
        with served(settings["web"]) as web:
            asked = ask_everything(web.http)
            changed = change_everything(web.http)

        assert with_letters == 1
        assert not denied(admin), denied(admin)
        assert len(asked) > 15 and set(asked.values()) <= {200, 404}, asked
        assert set(changed.values()) <= {200, 201, 204}, changed


async def consume(settings: Settings) -> int:
    """Publish and handle two events in this process, one of which fails; return how many dead letters there are."""
    bus = EventBus(settings)

    @bus.subscriber("Generator", ["WORK"], max_attempts=1)
    async def work(event: Event) -> Event:
        if event.event_id == "EV-bad":
            raise ValueError("no")
        return event.caused("WORK_DONE", cost=0.5)

    await bus.start_consuming()
    for name in ("good", "bad"):
        await bus.publish(Event(event_id=f"EV-{name}", project_id="P", type="WORK", actor="t"))
    await bus.publish(Event(event_id="EV-later", project_id="P", type="WORK", actor="t"), delay=3600)
    letters = bus.backend.blackboard.dead_letters
    found = await asyncio.to_thread(wait_until, lambda: list(letters.iterate(LetterFilter())), 60, "the dead letter")
    await bus.disconnect()
    return len(found)


def ask_everything(http: httpx.Client) -> dict[str, int]:
    """Ask for all that the OpenAPI document has, but for what never ends; return how each was answered."""
    known = {"{event_id}": "EV-good", "{name}": "Generator"}
    answers = {}
    for path, operations in http.get("/api/v1/openapi.json").json()["paths"].items():
        if "get" in operations and not path.endswith("/stream"):
            for word, value in known.items():
                path = path.replace(word, value)
            answer = http.get(path)
            if answer.status_code == 400:
                answer = http.get(path, params={"project": "P"})
            answers[path] = answer.status_code
    return answers


def change_everything(http: httpx.Client) -> dict[str, int]:
    """Publish, steer, and decide on what is dead; return how each was answered."""
    event = {"project_id": "P", "type": "WORK", "actor": "t"}
    return {
        path: http.request(method, f"/api/v1{path}", json=body).status_code
        for method, path, body in (
            ("POST", "/events", event),
            ("POST", "/events/batch", [event]),
            ("POST", "/subscribers/Generator/pause", {}),
            ("POST", "/subscribers/Generator/resume", {}),
            ("PATCH", "/subscribers/Generator/limits", {"concurrency": 3}),
            ("POST", "/subscribers/Generator/redeliver", {"event_id": "EV-good"}),
            ("POST", "/dead-letters/retry", {"all": True}),
            ("DELETE", "/scheduled/EV-later", None),
        )
    }


def publish_as(url: str, database: str) -> None:
    bus = EventBus(Settings(redis_url=url, database_url=database))
    try:
        events = [
            Event(event_id=f"EV-{name}", project_id="P", type="WORK", actor="t", payload=payload)
            for name, payload in (("good", {"emit": 2}), ("bad", {"fail": 9, "only": "Plain"}))
        ]
        answers = bus.publish_many_sync(events)
        later = bus.publish_many_sync([Event(event_id="EV-later", project_id="P", type="WORK", actor="t")], delay=3600)
        assert not [answer for answer in answers + later if isinstance(answer, Exception)], (answers, later)
    finally:
        bus.close()


def test_what_a_user_may_not_do_is_an_error_with_a_code_of_its_own(server: ValkeyServer) -> None:
    for role, withheld in (("reader", "-evalsha"), ("worker", "-xadd")):
        _, error, _ = play(server, role, withheld)

        assert isinstance(error, ScriptFailed) and error.code == "NOPERM" and not error.passes, error
