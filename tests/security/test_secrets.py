"""Passwords of URLs and payloads of events are planted, and searched for in all that is said.

What is said: output and errors of every command, good and failing, with and without `--json`; logs; process titles;
`repr()`; the sentences of errors and their tracebacks. Commands whose task it is to show payloads may show payloads.
"""

from __future__ import annotations

import base64
import copy
import json
import signal
import subprocess
import traceback
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import quote

import pytest
import typer

from console.main import app
from events.backend import Backend
from events.bus import EventBus
from events.errors import EventBusError
from events.event import Event
from events.settings import Settings
from store.engine import open_engine, reading
from tests.console.command import COMMAND, Ended, Place
from tests.security.planted import PAYLOAD, REDIS_PASSWORD, WORD, Servers, assert_hidden, descendants, title_of
from tests.waiting import wait_until

# Every command that ends by itself, with arguments that work where something is there to work on.
COMMANDS = {
    "migrate": [],
    "publish": ["SCENE_WRITTEN", "-p", "P", "-a", "A", "--payload", json.dumps({"key": PAYLOAD})],
    "tail": [],
    "replay": [],
    "chain": ["EV-planted"],
    "show": ["EV-planted"],
    "tree": ["EV-planted"],
    "stats": [],
    "lag": [],
    "schedules list": [],
    "schedules forget": ["none"],
    "doctor": [],
    "deliveries": [],
    "export": ["exported.jsonl"],
    "import": ["exported.jsonl"],
    "prune": ["--older-than", "1d", "--dry-run"],
    "redact": ["EV-0", "--path", "payload.none", "--dry-run"],
    "archive": ["--once"],
    "bench": ["--events", "100", "--rounds", "1", "--processes", "1", "--yes"],
    "dead list": [],
    "dead show": ["EV-1"],
    "dead retry": ["--all", "--dry-run"],
    "dead discard": ["--all", "--dry-run"],
    "dead purge": ["--all", "--dry-run"],
    "scheduled list": [],
    "scheduled cancel": ["--all", "--dry-run"],
    "subscriptions list": [],
    "subscriptions show": ["Painter"],
    "subscriptions pause": ["Painter"],
    "subscriptions resume": ["Painter"],
    "subscriptions set": ["Painter", "--concurrency", "code"],
    "subscriptions remove-types": ["Painter", "OTHER", "--dry-run"],
    "subscriptions drop": ["Painter", "--dry-run"],
    "workers list": [],
    "top": ["--once"],
    "completion": ["bash"],
    "asyncapi": ["--app", "tests.security.agents:bus", "--observed"],
}
RUN_UNTIL_STOPPED = {"dev", "worker", "demo", "web"}
SHOW_PAYLOADS = {"replay", "tail", "chain", "tree", "dead show", "show"}
MAY_END_WITH = {"doctor": 1, "schedules forget": 2}  # it finds dead letters; there is none of that name
FAILURES_EACH = 3  # of the ways to fail, for each command in the suite; with --nightly all


@pytest.fixture(scope="module")
def used(planted: Servers, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A directory whose variables name the servers, where a fleet has run; its logs are in `worker.log`."""
    place = Place(
        tmp_path_factory.mktemp("used"), {**planted.ways_in()["in the user's place"], "EVENTBUS_LEASE_S": "5"}
    )
    migrated = place.run("migrate")
    assert migrated.code == 0, migrated.err
    log = place.directory / "worker.log"
    with log.open("w") as output:
        fleet = subprocess.Popen(
            [*COMMAND, "dev", "--app", "tests.security.agents:bus", "--processes", "1", "--log-level", "debug"],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=place.directory, env=place.environ(),
        )  # fmt: skip
    client = planted.valkey.client(password=REDIS_PASSWORD)
    try:
        wait_until(lambda: "Ready: " in log.read_text(), 60, "the fleet")
        lines = [
            {"event_id": f"EV-{n}", "type": "SCENE_WRITTEN", "project_id": "P", "actor": "A", "payload": payload}
            for n, payload in enumerate([{"key": PAYLOAD}, {"key": PAYLOAD, "fails": True}])
        ]
        lines.append({**lines[0], "event_id": "EV-planted", "type": "ROOT"})
        published = place.run("publish", "--file", "-", stdin="\n".join(map(json.dumps, lines)))
        assert published.code == 0, published.err
        for body in (f'{{"key": "{PAYLOAD}"', f'{{"event_id": "{PAYLOAD}", "key": "{WORD}"}}'):
            client.xadd("{eventbus}:queue:Painter", {"f": f"5\t0\t0\t0\tSCENE_WRITTEN\t\tP\t0\t\n{body}"})
        wait_until(lambda: client.xlen("{eventbus}:dead:Painter") >= 3, 60, "the dead letters")
        wait_until(lambda: client.xlen("{eventbus}:dead:Critic") >= 1, 60, "the critic's dead letter")
        titles = "\n".join(title_of(pid) for pid in [fleet.pid, *descendants(fleet.pid)])
        (place.directory / "titles").write_text(titles)
    finally:
        client.close()
        fleet.send_signal(signal.SIGINT)
        fleet.wait(timeout=60)
    return place


def every_command() -> set[str]:
    def below(command: object, path: tuple[str, ...] = ()) -> Iterator[str]:
        for name, inner in getattr(command, "commands", {}).items():
            yield from below(inner, (*path, name))
        if not hasattr(command, "commands"):
            yield " ".join(path)

    return set(below(typer.main.get_command(app)))


def run(place: Place, name: str, as_json: bool, variables: dict[str, str]) -> Ended:
    ended = place.run(*name.split(), *COMMANDS[name], *(["--json"] if as_json else []), **variables)
    assert_hidden(ended.out + ended.err, payloads_too=name not in SHOW_PAYLOADS)
    assert "Traceback" not in ended.err, ended.err
    return ended


def test_every_command_is_looked_at() -> None:
    assert every_command() == COMMANDS.keys() | RUN_UNTIL_STOPPED


def test_the_search_finds_what_was_planted(used: Place) -> None:
    shown = used.run("replay", "--json")

    with pytest.raises(AssertionError, match="TREASURE-in-a-payload is said"):
        assert_hidden(shown.out, payloads_too=True)
    basic = [base64.b64encode(f"{name}:{WORD}-x".encode()).decode() for name in ("a", "ab", "abc")]
    for form in (quote(WORD), WORD.encode().hex(), f"a{WORD}b", *basic):
        with pytest.raises(AssertionError, match="is said"):
            assert_hidden(form)


def test_logs_and_process_titles_hide_passwords_and_payloads_whatever_the_handlers_met(used: Place) -> None:
    log, titles = (used.directory / "worker.log").read_text(), (used.directory / "titles").read_text()

    assert "becomes a dead letter" in log and "Ready" in log and "workers.process" in titles
    assert_hidden(titles, payloads_too=True)
    assert_hidden(log, payloads_too=True)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_that_works_hides_passwords(used: Place, planted: Servers, name: str) -> None:
    for number, variables in enumerate(planted.ways_in().values()):
        (used.directory / "exported.jsonl").unlink(missing_ok=True)
        if name == "import":
            used.run("export", "exported.jsonl")

        ended = run(used, name, number == 0 and takes_json(name), variables)

        assert ended.code in (0, MAY_END_WITH.get(name, 0)), ended.err


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_that_fails_hides_passwords(
    used: Place, planted: Servers, name: str, request: pytest.FixtureRequest
) -> None:
    ways = list(planted.ways_to_fail().items())
    if not request.config.getoption("--nightly"):
        first = list(COMMANDS).index(name) * FAILURES_EACH
        ways = [ways[(first + n) % len(ways)] for n in range(FAILURES_EACH)]

    for number, (_, variables) in enumerate(ways):
        run(used, name, bool(number % 2) and takes_json(name), variables)


def takes_json(name: str) -> bool:
    command = typer.main.get_command(app)
    for word in name.split():
        command = command.commands[word]  # type: ignore[attr-defined]
    return any("--json" in parameter.opts for parameter in command.params)


def test_import_hides_the_password_of_another_database(used: Place, planted: Servers) -> None:
    for variables in planted.ways_to_fail().values():
        ended = used.run("import", "--table", "old", "--database", variables["DATABASE_URL"])

        assert ended.code in (1, 2)
        assert_hidden(ended.out + ended.err)


@pytest.mark.parametrize("why", ["redis refuses the password", "redis is away", "the database refuses the password"])
@pytest.mark.parametrize("command", ["worker", "archive"])
def test_processes_that_wait_for_a_server_hide_its_password(
    used: Place, planted: Servers, command: str, why: str
) -> None:
    application = ["--app", "tests.security.agents:bus"] if command == "worker" else []
    process = used.start(command, *application, "--log-level", "debug", **planted.ways_to_fail()[why])
    titles: list[str] = []

    def spoken() -> bool:
        with suppress(FileNotFoundError):
            titles.extend(title_of(pid) for pid in [process.pid, *descendants(process.pid)])
        assert process.stderr is not None
        said.append(process.stderr.readline())
        return "127.0.0.1" in said[-1] or not said[-1]

    said: list[str] = []
    wait_until(spoken, 60, "a word about the server")
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)

    assert "127.0.0.1" in "".join(said) + err
    assert_hidden("".join(said) + out + err + "".join(titles))


def test_settings_buses_and_stores_hide_passwords_when_they_are_shown(planted: Servers) -> None:
    for variables in (*planted.ways_in().values(), planted.ways_to_fail()["redis is away"]):
        settings = Settings.from_env(variables)
        backend, bus = Backend(settings), EventBus(settings)
        parts = (settings, backend, bus, backend.client, backend.namespace, backend.blackboard, bus.backend.publisher)
        engine = backend.blackboard.engine
        try:
            for shown in (*parts, engine, engine.url, engine.pool, backend.archive, backend.registry):
                assert_hidden(repr(shown) + str(shown))
            assert_hidden(repr(copy.copy(settings)) + repr(settings.with_(threads=3)))
        finally:
            backend.close()
            bus.close()


def test_errors_and_their_tracebacks_hide_passwords(planted: Servers) -> None:
    seen = 0
    for why, variables in planted.ways_to_fail().items():
        try:
            settings = Settings.from_env(variables)
            backend = Backend(settings)
            try:
                if "redis" in why:
                    backend.history.clock()
                with reading(open_engine(backend.database_url(), timeout_s=2)) as connection:
                    connection.exec_driver_sql("SELECT 1")
            finally:
                backend.close()
        except EventBusError as error:
            seen += 1
            chained = "".join(traceback.format_exception(error, chain=True))
            assert_hidden(chained + repr(error) + str(error.args) + str(vars(error)))
    assert seen == len(planted.ways_to_fail())


def test_an_event_that_is_refused_is_named_without_its_payload(planted: Servers) -> None:
    bus = EventBus(Settings(redis_url=planted.redis(), database_url=planted.sql(), namespace="refused"))
    too_large = Event(project_id="P", type="BIG", actor="A", payload={"key": PAYLOAD, "text": "x" * 2_000_000})
    try:
        [answer] = bus.publish_many_sync([too_large])
    finally:
        bus.close()

    assert isinstance(answer, EventBusError)
    assert_hidden(str(answer) + repr(answer), payloads_too=True)
