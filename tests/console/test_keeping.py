"""`eventbus prune`, `redact`, `export` and `import`: rehearsed, asked about, resumable; mistakes are sentences."""

from __future__ import annotations

import gzip
import json
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from console.progress import phases
from events.backend import Backend
from events.backfill import fill, look
from events.deliveries import Deliveries, Settlement
from events.event import Event
from events.namespace import Declared
from events.records import END, AttemptState
from events.redelivery import begin, give_up, hand_over
from events.routes import declare
from events.settings import Settings
from events.subscriptions import SubscriberOptions
from store.engine import reading, writing
from store.filter import EventFilter
from store.tables import dead_letters, metadata
from tests.console.command import Ended, Place
from tests.console.terminal import on_a_terminal
from tests.fault_proxy import FaultProxy
from tests.valkey_servers import free_port
from tests.waiting import wait_until

SECRET = "the fox is red"


class House:
    """A bus whose one handler is played by the test, and the commands that keep its history."""

    def __init__(self, place: Place, redis_url: str) -> None:
        self.place = Place(place.directory, {"REDIS_URL": redis_url, "EVENTBUS_HOME": str(place.directory / "home")})
        self.backend = Backend(Settings(redis_url=redis_url, home=str(place.directory / "home")))
        self.namespace = self.backend.namespace
        self.namespace.open()
        declare(self.namespace, Declared("Painter", ("SHOT_PLANNED",), SubscriberOptions().record()), 100)

    def publish(self, *event_ids: str, kind: str = "SHOT_PLANNED", project: str = "P-1") -> None:
        told = [
            Event(event_id=event_id, type=kind, project_id=project, actor="Director", payload={"text": SECRET})
            for event_id in event_ids
        ]
        self.backend.publisher.publish_many(told)

    def settle(self, count: int = 1000) -> None:
        deliveries = Deliveries(self.namespace, "host-1-a", 100)
        for lease in deliveries.read(["Painter"], count, None):
            assert deliveries.settle([Settlement(lease, action="end", state=AttemptState.DONE)]) == ["settled"]

    def give_up(self) -> None:
        """Make a dead letter of the first delivery that waits."""
        deliveries = Deliveries(self.namespace, "host-1-a", 100)
        (lease,) = deliveries.read(["Painter"], 1, None)
        dead = Settlement(lease, action="dead", state=AttemptState.DEAD)
        assert deliveries.settle([dead]) == ["settled"]

    def archive(self) -> None:
        assert self.run("archive", "--once").code == 0

    def run(self, *arguments: object) -> Ended:
        return self.place.run(*arguments)

    def ids(self) -> list[str]:
        return [event["event_id"] for event in self.run("replay", "--json").json_lines()]

    def count(self) -> int:
        return int(self.run("stats", "--json").json()["total"]["count"])

    def database(self) -> str:
        with reading(self.backend.blackboard.engine) as connection:
            rows = [list(connection.execute(select(table)).all()) for table in metadata.sorted_tables]
        return json.dumps(rows, default=str)

    def file(self, name: str) -> Path:
        return self.place.directory / name


@pytest.fixture
def house(place: Place, redis_url: str) -> Iterator[House]:
    house = House(place, redis_url)
    yield house
    house.backend.close()


@pytest.fixture
def full(house: House) -> House:
    """Of five archived events the first two are settled, the last two had nobody to go to; one more is in Redis."""
    house.publish("EV-1", "EV-2", "EV-3")
    house.publish("EV-4", "EV-5", kind="QA_REPORT", project="[red]'; --")
    house.settle(2)
    house.archive()
    house.publish("EV-6")
    return house


# prune


def test_pruning_is_rehearsed_asked_about_and_done(full: House) -> None:
    before = full.database()
    rehearsed = full.run("prune", "--older-than", "0s", "--dry-run")
    asked = full.run("prune", "--older-than", "0s")
    assert full.database() == before

    done = full.run("prune", "--older-than", "0s", "--yes")

    assert rehearsed.code == 0 and rehearsed.err == "Nothing was changed.\n"
    assert rehearsed.out.startswith("Would remove 4 events from before ")
    assert "1 event stays: a delivery waits.\n1 event stays: not archived yet.\n" in rehearsed.out
    assert asked.code == 2 and "for good? There is no terminal to ask on: say --yes, or --dry-run" in asked.sentence()
    assert done.code == 0 and done.out.startswith("Removed 4 events from before ") and "4 from event_index" in done.out
    assert full.ids() == ["EV-3", "EV-6"]


def test_on_a_terminal_no_is_an_answer_and_changes_nothing(full: House) -> None:
    before = full.database()

    with on_a_terminal(full.place, "prune", "--older-than", "0s") as terminal:
        wait_until(lambda: "[y/N]" in terminal.shown, 60, "the question")
        terminal.press("n\n")
        assert terminal.end() == 0, terminal.shown

    assert "Nothing was changed." in terminal.shown and full.database() == before


def test_pruning_takes_a_project_and_an_age_and_tells_json(full: House) -> None:
    young = full.run("prune", "--older-than", "1h", "--yes", "--json").json()
    done = full.run("prune", "--older-than", "0s", "--project", "[red]'; --", "--yes", "--json").json()

    assert (young["events"], young["kept"], young["months"]) == (0, {}, [])
    assert (done["events"], done["rows"]["event_index"], done["kept"], done["dry_run"]) == (2, 2, {}, False)
    assert done["held_by_delivery"] is False
    assert full.ids() == ["EV-1", "EV-2", "EV-3", "EV-6"]


def test_what_is_pruned_stays_in_the_statistics_until_somebody_says_that_it_shall_not(full: House) -> None:
    full.run("prune", "--older-than", "0s", "--yes")

    assert full.count() == 6
    assert not [one for one in full.run("doctor", "--json").json()["findings"] if one["about"] == "statistics"]
    refused = full.run("stats", "--recount")
    assert refused.code == 2 and "still count 4 events that prune removed" in refused.sentence()
    assert "--forget-pruned" in refused.sentence() and full.count() == 6
    assert full.run("stats", "--recount", "--forget-pruned").out.endswith("added up again.\n")
    assert full.count() == 2


def test_what_a_back_filling_subscriber_has_still_to_get_stays(full: House) -> None:
    options = SubscriberOptions(start="beginning")
    declare(
        full.namespace,
        Declared("Newcomer", ("QA_REPORT",), options.record(), {"state": "backfill", "cursor": "0"}),
        100,
    )

    done = full.run("prune", "--older-than", "0s", "--yes")

    assert done.code == 0 and "a back-fill, a redelivery or an archiver has not come to them yet" in done.out
    assert full.ids() == [f"EV-{n}" for n in range(1, 7)]


def test_what_a_back_fill_delivered_stays_until_it_is_settled_for_callers_in_python_too(full: House) -> None:
    begun = {"state": "backfill", "cursor": "0", "first_redelivery": "1000000"}
    declare(full.namespace, Declared("Newcomer", ("QA_REPORT",), SubscriberOptions().record(), begun), 100)
    events = list(full.backend.replay.iterate(EventFilter(types=("QA_REPORT",))))
    since = look(full.namespace, "Newcomer")
    assert fill(full.namespace, "Newcomer", since, events[-1].position, events, is_end=True).verdict == "live"

    held = full.backend.blackboard.retention.prune(END)

    assert (held.events, held.before) == (2, events[0].position)
    assert full.ids() == ["EV-3", "EV-4", "EV-5", "EV-6"]
    deliveries = Deliveries(full.namespace, "host-1-b", 100)
    for lease in deliveries.read(["Newcomer"], 10, None):
        assert deliveries.settle([Settlement(lease, action="end", state=AttemptState.DONE)]) == ["settled"]
    full.archive()
    assert full.run("prune", "--older-than", "0s", "--yes").out.startswith("Removed 2 events")


def test_an_ordinary_delivery_of_a_subscriber_that_was_once_back_filled_keeps_its_own_event_alone(full: House) -> None:
    full.namespace.client.hset(full.namespace.keys("sub", "Painter"), "first_redelivery", 1_000_000)

    done = full.run("prune", "--older-than", "0s", "--yes", "--json").json()

    assert done["held_by_delivery"] is False and done["kept"]["a delivery waits"] == 1
    assert full.ids() == ["EV-3", "EV-6"]


def test_what_a_redelivery_has_not_come_to_stays(full: House) -> None:
    begin(full.namespace, "Painter", full.backend.registry.next_number(), 0, "{}")

    done = full.run("prune", "--older-than", "0s", "--yes")

    assert done.code == 0 and "a back-fill, a redelivery or an archiver has not come to them yet" in done.out
    assert full.ids() == [f"EV-{n}" for n in range(1, 7)]


def test_what_was_redelivered_since_the_last_archiver_stays(full: House) -> None:
    events = list(full.backend.blackboard.replay.iterate(EventFilter(project_id="P-1")))
    under = begin(full.namespace, "Painter", full.backend.registry.next_number(), 0, "{}")
    hand_over(full.namespace, "Painter", under, events[-1].position, events[:2], "me", "again")
    give_up(full.namespace, "Painter", under.number)

    done = full.run("prune", "--older-than", "0s", "--yes")

    assert done.code == 0 and done.out.startswith("Removed 0 events")
    full.archive()
    kept = full.run("prune", "--older-than", "0s", "--yes", "--json").json()
    assert kept["kept"]["a delivery waits"] == 4 and full.ids() == ["EV-1", "EV-2", "EV-3", "EV-6"]


def test_what_an_archiver_has_not_told_redis_of_stays_until_one_has(full: House) -> None:
    untold = sorted(event.position for event in full.backend.blackboard.replay.iterate(EventFilter()))[3]
    full.namespace.client.set(full.namespace.keys("archived"), untold)  # it died before it told the rest

    done = full.run("prune", "--older-than", "0s", "--yes")

    assert done.code == 0 and full.ids() == ["EV-3", "EV-5", "EV-6"]
    full.archive()
    assert full.run("prune", "--older-than", "0s", "--yes").out.startswith("Removed 1 event ")
    assert full.count() == 6 and full.ids() == ["EV-3", "EV-6"]


def test_a_dead_letter_that_the_database_lacks_keeps_its_event_and_is_named(full: House) -> None:
    full.give_up()
    full.archive()
    assert "does not have" not in full.run("doctor").out
    with writing(full.backend.blackboard.engine) as connection:
        name = f"{connection.execute(select(dead_letters.c.event_position)).scalar_one()}:Painter:0"
        connection.execute(dead_letters.delete())

    found = full.run("doctor")
    done = full.run("prune", "--older-than", "0s", "--yes")

    assert f"The database does not have 1 dead letter that Redis has, or not as open: {name}." in found.out
    assert done.out.startswith("Removed 2 events") and "a dead letter that is open in Redis" in done.out
    assert full.ids() == ["EV-3", "EV-4", "EV-5", "EV-6"]
    full.run("dead", "discard", name, "--yes")
    full.archive()
    assert "does not have 1 dead" not in full.run("doctor").out
    assert full.run("prune", "--older-than", "0s", "--yes").out.startswith("Removed 3 events")


# redact


def test_redacting_is_rehearsed_asked_about_and_done(full: House) -> None:
    before = full.database()
    rehearsed = full.run("redact", "EV-1", "EV-3", "--dry-run")
    asked = full.run("redact", "EV-1", "EV-3")
    assert full.database() == before

    done = full.run("redact", "EV-1", "EV-3", "--yes")

    assert rehearsed.out == "Would redact 2 events.\n1 delivery waits with the body in Redis, until they end.\n"
    assert asked.code == 2 and "Redact 2 events for good? There is no terminal to ask on: say --yes" in asked.sentence()
    assert done.code == 0 and done.out.startswith("Redacted 2 events.\n")
    told = {event["event_id"]: event["payload"] for event in full.run("replay", "--json").json_lines()}
    assert told["EV-1"] == told["EV-3"] == {"redacted": True} and told["EV-2"] == {"text": SECRET}
    assert full.run("chain", "EV-1").code == 0
    assert full.run("redact", "EV-1", "--yes", "--json").json()["unchanged"] == 1


def test_redacting_a_project_tells_what_is_not_archived_and_ends_with_1(full: House) -> None:
    done = full.run("redact", "--project", "P-1", "--path", "payload.text", "--yes")
    full.archive()
    again = full.run("redact", "--project", "P-1", "--path", "payload.text", "--yes", "--json")

    assert done.code == 1 and "1 event is not archived yet" in done.err
    assert again.code == 0 and (again.json()["events"], again.json()["unchanged"]) == (1, 3)
    payloads = [event["payload"] for event in full.run("replay", "--json", "-p", "P-1").json_lines()]
    assert payloads == [{"text": "[redacted]"}] * 4


# export, import


@pytest.mark.parametrize("name", ["all.jsonl", "all.jsonl.gz"])
def test_an_export_goes_on_and_an_import_brings_it_elsewhere_once(full: House, name: str) -> None:
    first = full.run("export", name)
    full.publish("EV-7")
    there = full.run("export", name)
    resumed = full.run("export", name, "--resume", "--json").json()

    assert first.out.startswith(f"Wrote 6 events to {name}; it reaches to position ")
    assert there.code == 2 and "is there already: give --resume" in there.sentence()
    assert (resumed["events"], resumed["left_out"]) == (1, 0)
    opened = gzip.open if name.endswith(".gz") else open
    with opened(full.file(name), "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    assert [row["event_id"] for row in rows] == full.ids() == [f"EV-{n}" for n in range(1, 8)]

    elsewhere = Place(full.file("elsewhere"), full.place.variables | {"EVENTBUS_NAMESPACE": "copy"})
    elsewhere.directory.mkdir()
    imported = elsewhere.run("import", full.file(name))
    again = elsewhere.run("import", full.file(name), "--json").json()

    assert (imported.code, imported.out, imported.err) == (0, "Stored 7 events.\n", "")
    assert again == {"stored": 0, "known": 7, "rejected": 0, "rejected_file": None}
    told = elsewhere.run("replay", "--json").json_lines()
    assert [(e["event_id"], e["payload"], e["origin"]) for e in told] == [
        (f"EV-{n}", {"text": SECRET}, "import") for n in range(1, 8)
    ]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["export", "all.jsonl"], "nothing was exported"),
        (["replay", "--to", "Painter", "--dry-run"], "nothing was delivered to Painter again"),
        (["prune", "--older-than", "0s", "--dry-run"], "what it needs of the database cannot be told"),
    ],
)
def test_what_cannot_be_done_without_a_lost_namespace_is_said(full: House, arguments: list[str], says: str) -> None:
    full.namespace.client.flushall()

    ended = Place(full.place.directory, full.place.variables | {"EVENTBUS_RESET_WAIT_S": "0.2"}).run(*arguments)

    assert "Redis has lost the namespace 'eventbus'" in ended.sentence() and says in ended.sentence()
    assert "publish" not in ended.sentence() and ended.code == 1
    assert not full.file("all.jsonl").exists()


def test_an_export_takes_filters_and_a_position(full: House) -> None:
    assert (
        full.run("export", "some.jsonl", "--project", "P-1", "--type", "SHOT_PLANNED", "--json").json()["events"] == 4
    )
    position = json.loads(full.file("some.jsonl").read_text().splitlines()[1])["position"]

    assert full.run("export", "rest.jsonl", "--after", position, "-p", "P-1", "--json").json()["events"] == 2
    with full.file("some.jsonl").open("a") as file:
        file.write('{"position": 1, "half')
    assert full.run("export", "some.jsonl", "--project", "P-1", "--resume", "--json").json()["events"] == 0
    assert full.file("some.jsonl").read_text().count("\n") == 4


@pytest.mark.parametrize("variable", ["REDIS_URL", "DATABASE_URL"])
def test_an_export_without_a_server_is_no_fault_of_the_file_and_makes_none(full: House, variable: str) -> None:
    url = {"REDIS_URL": f"redis://127.0.0.1:{free_port()}", "DATABASE_URL": f"postgresql://127.0.0.1:{free_port()}/x"}

    ended = full.place.run("export", "all.jsonl", **{variable: url[variable]})

    assert ended.code == 1 and "written" not in ended.sentence() and variable in ended.sentence()
    assert not full.file("all.jsonl").exists()


INTERRUPTED = [
    (["export", "all.jsonl"], "--resume goes on with it"),
    (["import", "all.jsonl"], "the same command goes on with it"),
    (["prune", "--older-than", "0s", "--yes"], "the same command does the rest"),
    (["redact", "-p", "P-1", "--yes"], "the same command does the rest"),
]


@pytest.mark.parametrize(("arguments", "says"), INTERRUPTED, ids=[words[0] for words, _ in INTERRUPTED])
def test_who_presses_ctrl_c_is_told_how_to_go_on(full: House, arguments: list[str], says: str) -> None:
    if arguments[0] == "import":
        assert full.run("replay", "--json").code == 0
        full.file("all.jsonl").write_text(full.run("replay", "--json").out)
    address = full.backend.settings.redis_url.removeprefix("redis://").partition("/")[0].rpartition(":")
    with FaultProxy(address[0], int(address[2])) as proxy:
        proxy.stall(True)
        process = full.place.start(*arguments, REDIS_URL=proxy.url, EVENTBUS_TIMEOUT_S="60")
        wait_until(lambda: proxy.connections, 30, "the command to ask Redis")

        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
        proxy.stall(False)

    assert process.returncode == 130 and says in err and "Traceback" not in err, out + err


def test_bad_rows_go_to_a_file_and_the_code_is_1(full: House) -> None:
    full.run("export", "all.jsonl")
    with full.file("all.jsonl").open("a") as file:
        file.write('nonsense\n{"event_id": "EV-9"}\n')

    done = full.run("import", "all.jsonl")

    assert done.code == 1 and done.out == "Stored 0 events; 6 events were there already.\n"
    assert done.err == "2 rows could not be imported: see all.jsonl.rejected.jsonl.\n"
    rows = [json.loads(line) for line in full.file("all.jsonl.rejected.jsonl").read_text().splitlines()]
    assert [(row["row"], row["raw"]) for row in rows] == [(7, "nonsense"), (8, '{"event_id": "EV-9"}')]
    assert "is not JSON" in rows[0]["reason"] and "has no timestamp" in rows[1]["reason"]


def test_an_older_table_is_imported_from_where_it_is(house: House) -> None:
    with sqlite3.connect(house.file("old.db")) as old:
        old.execute(
            "CREATE TABLE events (event_id TEXT, project_id TEXT, event_type TEXT, actor TEXT, causation_id TEXT, "
            "timestamp DATETIME, payload JSON, blackboard_pointer TEXT, metadata JSON)"
        )
        rows = [
            (
                "EV-old-2",
                "P",
                "SCENE_WRITTEN",
                "Writer",
                "EV-old-1",
                "2024-01-02 00:00:00.5",
                "{}",
                None,
                '{"cost": 1}',
            ),
            ("EV-old-1", "P", "PROJECT_CREATED", "User", None, "2024-01-01 00:00:00", '{"a": [1]}', "db://x", None),
            ("EV-old-3", "P", "no type", "User", None, "2024-01-01 00:00:00", "{}", None, None),
        ]
        old.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
    old.close()
    where = ["--table", "events", "--database", f"sqlite:///{house.file('old.db')}", "--rejected", "bad.jsonl"]

    done = house.run("import", *where)

    assert done.code == 1 and done.out == "Stored 2 events.\n" and "see bad.jsonl" in done.err
    raw = json.loads(json.loads(house.file("bad.jsonl").read_text())["raw"])
    assert (raw["event_id"], raw["type"], raw["causation_id"]) == ("EV-old-3", "no type", None)
    told = house.run("replay", "--json").json_lines()
    assert [(e["event_id"], e["depth"], e["correlation_id"]) for e in told] == [
        ("EV-old-1", 0, "EV-old-1"), ("EV-old-2", 1, "EV-old-1"),
    ]  # fmt: skip
    assert told[0]["payload"] == {"a": [1]} and told[0]["blackboard_pointer"] == "db://x"
    assert house.run("import", *where).out == "Stored 0 events; 2 events were there already.\n"


def test_a_database_to_import_from_that_is_not_there_is_named(house: House) -> None:
    ended = house.run("import", "--table", "t", "--database", "sqlite:////nope/a.db")

    assert "sqlite:////nope/a.db cannot be used" in ended.sentence() and "Check --database" in ended.sentence()
    assert ended.code == 1


def test_an_import_tells_what_is_read_and_then_what_is_stored(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr("console.progress.LINE_EVERY", 2)
    monkeypatch.setattr("builtins.print", lambda text, **_: said.append(text))

    with phases(("rows read", "rows stored"), 4) as (read, stored):
        for step in (read, read, stored, stored):
            step(2)

    assert said == ["2 rows read ...", "4 rows read ...", "2 rows stored ...", "4 rows stored ..."]


MISTAKES = [
    (["prune"], "Say how old"),
    (["prune", "--older-than", "old"], "--older-than must be a span"),
    (["prune", "--older-than", "1d", "-p", ""], "--project is empty"),
    (["redact"], "Say what to redact"),
    (["redact", "EV-1", "-p", "P"], "Name events, or a --project: one or the other."),
    (["redact", "-p", ""], "--project is empty"),
    (["redact", "-p", "nope", "--yes"], "There are no events of project 'nope'; nothing was redacted."),
    (["redact", "-p", "nope", "--dry-run"], "There are no events of project 'nope'"),
    (["export", "all.jsonl", "-p", ""], "--project is empty"),
    (["stats", "--forget-pruned"], "--forget-pruned goes with --recount"),
    (["stats", "--recount", "-p", "P-1"], "neither --project nor --by goes with it"),
    (["stats", "--recount", "--by", "type"], "neither --project nor --by goes with it"),
    (["redact", "EV-9", "--yes"], "There is no event 'EV-9'; nothing was redacted."),
    (["redact", "EV-1", "--path", "actor", "--yes"], "'actor' cannot be redacted"),
    (["redact", "-p", "P", "--path", "metadata.cost", "--yes"], "cost, currency, latency_ms, priority stay"),
    (["export", "missing/all.jsonl"], "missing/all.jsonl cannot be written: No such file or directory"),
    (["export", "poem.jsonl", "--resume"], "poem.jsonl is no export"),
    (["export", "-"], "'-' must end in .jsonl, or .jsonl.gz for gzip"),
    (["export", "history.parquet"], "'history.parquet' must end in .jsonl"),
    (["import", ""], "The name of the file is empty."),
    (["export", "empty.jsonl.gz", "--resume", "--after", "3"], "--after cannot be given with it"),
    (["import"], "Say what to import"),
    (["import", "x", "--table", "y"], "Say what to import"),
    (["import", "missing.jsonl"], "There is no file missing.jsonl."),
    (["import", "poem.txt", "--database", "sqlite:///x.db"], "--database says where --table is"),
    (["import", "--table", "nothing"], "There is no table 'nothing'"),
    (["import", "--table", "archive"], "The table 'archive' has no column"),
    (["import", "--table", "events", "--database", "mysql://x"], "--database must start with postgresql://"),
    (["import", "--table", "t", "--database", "nope"], "--database cannot be read: 'nope'."),
    (["import", "--table", "events"], "The table 'events' is the event bus's own"),
    (["import", ".."], ".. is a directory: name a file"),
    (["import", "/dev/null"], "/dev/null is a device or a pipe: an import reads a file."),
]


@pytest.mark.parametrize(("arguments", "says"), MISTAKES, ids=[" ".join(arguments) for arguments, _ in MISTAKES])
def test_a_mistake_is_a_sentence_and_code_2(full: House, arguments: list[str], says: str) -> None:
    for name in ("poem.txt", "poem.jsonl"):
        full.file(name).write_text("Tyger Tyger,\nburning bright\n")
    before = full.database()

    ended = full.run(*arguments)

    assert says in ended.sentence()
    assert ended.code == 2 and not ended.out and full.database() == before


@pytest.mark.parametrize("name", ["prune", "redact", "export", "import"])
def test_each_command_has_a_help_with_examples(place: Place, name: str) -> None:
    shown = place.run(name, "--help")

    assert shown.code == 0 and not shown.err
    assert f"\n    eventbus {name}" in shown.out or f" eventbus {name}" in shown.out.partition("Examples:")[2]
