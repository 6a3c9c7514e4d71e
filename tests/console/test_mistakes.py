"""What goes wrong is one sentence on stderr and the right exit code; never a traceback."""

from __future__ import annotations

import json
import os

import pytest

from tests.console.command import Place
from tests.valkey_servers import free_port

MISTAKES = [
    (["nonsense"], "No such command 'nonsense'. See `eventbus --help`."),
    (["tale"], "No such command 'tale'. Did you mean 'tail'? See `eventbus --help`."),
    (["replay", "--limt", "3"], "No such option: --limt"),
    (["tail", "-n", "many"], "'many'"),
    (["tail", "-n", "many"], "See `eventbus tail --help`."),
    (["tail", "-n", "-1"], "-1"),
    (["publish", "X", "--cost", "much"], "'much'"),
    (["publish"], "TYPE is missing"),
    (["publish", "X", "-p", "P"], "--actor is missing"),
    (["publish", "X", "-p", "", "-a", "A"], "--project is empty"),
    (["publish", "X", "-p", "P", "-a", "A", "--payload", "{"], "--payload is not JSON"),
    (["publish", "X", "-p", "P", "-a", "A", "--payload", "[]"], "must be a JSON object"),
    (["publish", "X", "-p", "P", "-a", "A", "--payload", "@missing.json"], "--payload @missing.json cannot be read"),
    (["publish", "no type", "-p", "P", "-a", "A"], "The event is not valid: type must be"),
    (["publish", "X", "-p", "P", "-a", "A", "--cost", "-1"], "metadata.cost must be a number of at least 0"),
    (["publish", "X", "--file", "events.jsonl"], "TYPE cannot be given with it"),
    (["publish", "--file", "missing.jsonl"], "missing.jsonl cannot be read: No such file"),
    (["replay", "-p", ""], "--project is empty."),
    (["tail", "-p", ""], "--project is empty."),
    (["stats", "--project", ""], "--project is empty."),
    (["deliveries", "-p", ""], "--project is empty."),
    (["dead", "list", "-p", ""], "--project is empty."),
    (["replay", "--since", "yesterday"], "--since must be a moment like"),
    (["replay", "--since", "1h", "--until", "2h"], "is after --until"),
    (["replay", "--type", "a type"], "--type must be a letter"),
    (["stats", "--by", "week"], "--by must be one of type, actor, subscriber, project, day, hour, not 'week'"),
    (["stats", "--since", "1h"], "--since and --until go with --by day and --by hour"),
    (["stats", "--by", "day", "--since", "1h", "--until", "2h"], "is after --until"),
    (["worker"], "There is no application to run"),
    (["worker", "--app", "a:b", "--log-level", "loud"], "--log-level must be one of"),
    (["worker", "--app", "a:b", "--subscribers", ","], "--subscribers must name at least one"),
    (["worker", "--app", "nope:bus"], "The application's module 'nope' cannot be found"),
    (["worker", "--app", "json:dumps"], "fails when it is called without arguments: TypeError: dumps() missing 1"),
    (["worker", "--app", ":bus"], "does not begin with a module's full name"),
    (["dev"], "There is no application to run"),
    (["dev", "--app", "json:nothing"], "has no attribute 'nothing'"),
    (["demo", "missing.txt"], "There is no file missing.txt."),
    (["demo", "empty.txt"], "empty.txt is empty"),
    (["demo", "latin.txt"], "latin.txt is not UTF-8"),
    (["demo", "--out", "empty.txt"], "--out empty.txt cannot be a directory"),
]


@pytest.mark.parametrize(("arguments", "says"), MISTAKES, ids=[" ".join(arguments) for arguments, _ in MISTAKES])
def test_a_mistake_is_a_sentence_and_code_2(place: Place, arguments: list[str], says: str) -> None:
    (place.directory / "empty.txt").touch()
    (place.directory / "latin.txt").write_bytes("Une fée".encode("latin-1"))

    ended = place.run(*arguments)

    assert says in ended.sentence()
    assert ended.code == 2
    assert not ended.out


@pytest.mark.parametrize("words", ["stats -p", "deliveries -s", "dead list -s", "subscriptions show", "publish"])
def test_bytes_that_are_no_text_are_a_mistake(place: Place, words: str) -> None:
    ended = place.run(*words.split(), os.fsdecode(b"a\xff"))

    assert "An argument holds bytes that are no UTF-8: 'a\\udcff'." in ended.sentence()
    assert ended.code == 2 and not ended.out


@pytest.mark.parametrize(
    "words", ["replay", "tail", "dead list", "scheduled list", "deliveries", "tree EV-root", "stats --by project"]
)
def test_a_huge_limit_is_no_limit(told: Place, words: str) -> None:
    ended = told.run(*words.split(), "-n", "9" * 23)

    assert ended.code == 0 and "Traceback" not in ended.err, ended.err


def test_a_setting_that_cannot_be_used_is_a_mistake(place: Place) -> None:
    ended = place.run("stats", EVENTBUS_LEASE_S="soon")

    assert "EVENTBUS_LEASE_S must be a number, not 'soon'" in ended.sentence()
    assert ended.code == 2


@pytest.mark.parametrize("name", ["tail", "replay", "stats", "doctor"])
def test_asking_where_nothing_is_makes_nothing_and_says_where_to_look(place: Place, name: str) -> None:
    ended = place.run(name)

    assert f"There is no event bus in {place.directory / '.eventbus'}" in ended.sentence()
    assert ended.code == 1
    assert not list(place.directory.iterdir())


def test_an_unreachable_redis_is_named_without_its_password(place: Place) -> None:
    url = f"redis://someone:sesame@127.0.0.1:{free_port()}/0"

    for arguments in (["tail"], ["publish", "X", "-p", "P", "-a", "A"], ["archive", "--once"]):
        ended = place.run(*arguments, REDIS_URL=url)

        sentence = [line for line in ended.err.splitlines() if line.startswith("eventbus: ")]
        assert len(sentence) == 1 and "Redis at redis://127.0.0.1" in sentence[0], ended.err
        assert ended.code == 1
        assert "Traceback" not in ended.err and "sesame" not in ended.err + ended.out


def test_an_unreachable_database_is_named_without_its_password(place: Place) -> None:
    url = f"postgresql://someone:sesame@127.0.0.1:{free_port()}/events"

    for arguments in (["stats"], ["migrate"], ["doctor", "--json"]):
        ended = place.run(*arguments, DATABASE_URL=url, EVENTBUS_HOME=str(place.directory))

        assert "127.0.0.1" in ended.err + ended.out
        assert ended.code == 1
        assert "Traceback" not in ended.err and "sesame" not in ended.err + ended.out


def test_an_event_that_is_not_there_is_a_mistake(told: Place) -> None:
    assert "There is no event 'EV-nowhere'" in told.run("chain", "EV-nowhere").sentence()
    assert "There is no event at position 12" in told.run("chain", "12").sentence()
    assert told.run("chain", "EV-nowhere", "--tree", "--json").code == 2


def test_a_refused_line_is_named_and_the_others_are_published(place: Place) -> None:
    good = {"project_id": "P", "type": "X", "actor": "A"}
    lines = [json.dumps(good), "{", "", json.dumps({**good, "size": 3}), '"text"', '{"self": 1}', json.dumps(good)]

    ended = place.run("publish", "--file", "-", stdin="\n".join(lines))

    assert ended.code == 2
    assert ended.out == "Published 2 events; 4 lines were not published.\n"
    assert [line.split(":")[1].strip() for line in ended.err.splitlines()] == ["line 2", "line 4", "line 5", "line 6"]
    assert "size is not a field of an event" in ended.err
