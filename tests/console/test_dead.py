"""`eventbus dead`: found by any filter, shown whole, decided once, and nothing is touched by a rehearsal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from events.backend import Backend
from events.deliveries import Deliveries, Settlement
from events.event import Event
from events.frame import Lease
from events.namespace import Declared
from events.records import AttemptState
from events.routes import declare
from events.settings import Settings
from events.subscriptions import SubscriberOptions
from tests.console.command import Ended, Place
from tests.console.terminal import on_a_terminal
from tests.waiting import wait_until

SECRET = "the fox is red"


class Morgue:
    """A bus whose handlers are played by the test, and the command that looks at what they gave up."""

    def __init__(self, place: Place, redis_url: str) -> None:
        self.place = Place(place.directory, {"REDIS_URL": redis_url, "EVENTBUS_HOME": str(place.directory / "home")})
        self.backend = Backend(Settings(redis_url=redis_url, home=str(place.directory / "home")))
        self.namespace = self.backend.namespace
        self.namespace.open()

    def declare(self, name: str, *types: str, **options: Any) -> None:
        declare(self.namespace, Declared(name, types, SubscriberOptions(**options).record()), 100)

    def publish(
        self, *event_ids: str, kind: str = "SHOT_PLANNED", project: str = "P-1", cause: str | None = None
    ) -> None:
        events = [
            Event(
                event_id=event_id, type=kind, project_id=project, actor="Director", causation_id=cause,
                payload={"text": SECRET},
            )
            for event_id in event_ids
        ]  # fmt: skip
        self.backend.publisher.publish_many(events)

    def read(self, name: str, count: int = 1000) -> list[Lease]:
        return Deliveries(self.namespace, "host-7-abc", 100).read([name], count, None)

    def settle(self, lease: Lease, **how: Any) -> None:
        given = {"action": "end", "state": AttemptState.DONE, **how}
        said = Deliveries(self.namespace, "host-7-abc", 100).settle([Settlement(lease, **given)])
        assert said == ["settled"]

    def give_up(self, name: str, reason: str = "ValueError: no brush", **how: Any) -> None:
        """Everything that is ready for the subscriber becomes a dead letter."""
        while leases := self.read(name):
            for lease in leases:
                given = {"reason": reason, "traceback": "Traceback\n  here\x1b[31m\n", "elapsed_us": 1_500_000, **how}
                self.settle(lease, action="dead", state=AttemptState.DEAD, **given)

    def run(self, *arguments: object) -> Ended:
        return self.place.run("dead", *arguments)

    def names(self, *arguments: object) -> list[str]:
        return [letter["name"] for letter in self.run("list", "--json", *arguments).json_lines()]

    def archive(self) -> None:
        assert self.place.run("archive", "--once").code == 0

    def everything(self) -> dict[bytes, bytes]:
        client = self.backend.client
        return {key: client.dump(key) for key in client.scan_iter(f"{self.namespace.keys.prefix}*", 5000)}


@pytest.fixture
def morgue(place: Place, redis_url: str) -> Iterator[Morgue]:
    morgue = Morgue(place, redis_url)
    yield morgue
    morgue.backend.close()


@pytest.fixture
def full(morgue: Morgue) -> Morgue:
    """Four letters: two of a subscriber whose order blocks, two of another; work waits behind the first."""
    morgue.declare("Painter", "SHOT_PLANNED", ordering="project", on_dead="block")
    morgue.declare("Critic", "QA_REPORT")
    morgue.publish("EV-1")
    morgue.publish("EV-2", project="P-2")
    morgue.give_up("Painter")
    morgue.publish("EV-3", "EV-4", kind="QA_REPORT", project="P-2", cause="EV-1")
    morgue.give_up("Critic", "TimeLimitExceeded: too slow", output=b'[{"n":1}]')
    morgue.publish("EV-5")
    return morgue


def test_letters_are_listed_by_every_filter(full: Morgue) -> None:
    everything = full.run("list", "--json").json_lines()
    critic, painter = everything[:2], everything[2:]

    assert [letter["event_id"] for letter in everything] == ["EV-3", "EV-4", "EV-1", "EV-2"]
    assert (painter[0]["blocks"], critic[0]["blocks"]) == ("P-1", None)
    assert painter[0]["name"] == f"{painter[0]['event_position']}:Painter:0"
    assert (painter[0]["attempts"], painter[0]["worker"], painter[0]["resolution"]) == (1, "host-7-abc", "open")
    assert full.names("-s", "Painter") == [letter["name"] for letter in painter]
    assert full.names("--type", "QA_REPORT", "-p", "P-2", "--limit", 1) == [critic[0]["name"]]
    assert full.names("--project", "P-1") == [painter[0]["name"]]
    assert full.names("--error", "TOO SLOW") == [letter["name"] for letter in critic]
    assert full.names("--until", "1h") == [] and len(full.names("--since", "1h")) == 4
    assert full.names("EV-2", critic[1]["name"], painter[0]["position"]) == [
        critic[1]["name"], painter[0]["name"], painter[1]["name"],
    ]  # fmt: skip


def test_the_list_as_text_is_aligned_and_shows_no_payload(full: Morgue) -> None:
    shown = full.run("list")
    nothing = full.run("list", "-s", "Nobody")

    heading, *lines = shown.out.splitlines()
    assert [line[heading.index("BLOCKS") :].split("  ")[0] for line in lines] == ["", "", "P-1", "P-2"]
    assert [line[heading.index("REASON") :] for line in lines][1:3] == [
        "TimeLimitExceeded: too slow", "ValueError: no brush",
    ]  # fmt: skip
    assert SECRET not in shown.out + full.run("list", "--json").out
    assert (nothing.code, nothing.out, nothing.err) == (0, "", "No dead letter matches.\n")


@pytest.mark.parametrize("archived", [False, True])
def test_a_letter_is_shown_with_its_attempts_its_causes_and_what_to_do(full: Morgue, archived: bool) -> None:
    if archived:
        full.archive()
    (name,) = full.names("EV-3")

    shown = full.run("show", name)
    told = full.run("show", "EV-3", "--json").json()

    assert shown.code == 0 and not shown.err
    for text in (
        f"Dead letter {name}", "EV-3, QA_REPORT of P-2, by Director", "after 1 attempt, by host-7-abc",
        "TimeLimitExceeded: too slow", SECRET, "  here\\x1b[31m", '[{"n":1}]', "1.5 s  dead", "EV-1",
        f"  eventbus dead retry {name}", f"  eventbus dead discard {name}",
    ):  # fmt: skip
        assert text in shown.out, text
    assert "\x1b" not in shown.out
    assert [(one["attempt"], one["state"], one["worker"]) for one in told["outcomes"]] == [(1, "dead", "host-7-abc")]
    assert [one["event_id"] for one in told["chain"]] == ["EV-1", "EV-3"]
    assert told["payload"] == {"text": SECRET} and told["decision"] is None and told["output"] == '[{"n":1}]'


def test_a_letter_is_retried_and_its_history_stays(full: Morgue) -> None:
    (name,) = full.names("EV-1")
    again = f"{name.rpartition(':')[0]}:1"

    done = full.run("retry", name, "--reason", "a new brush")
    twice = full.run("retry", name)

    assert (done.code, done.out, done.err) == (0, "Retried 1 dead letter.\n", "")
    assert twice.code == 1 and f"No open dead letter is named {name}" in twice.sentence()
    (lease,) = full.read("Painter")
    assert (lease.delivery, lease.attempt) == (again, 1)
    full.settle(lease)
    for archive in (lambda: None, full.archive):
        archive()
        shown = full.run("show", name)
        assert "Nothing is left to do." in shown.out
        assert f"retried as {again} at " in shown.out and ": a new brush" in shown.out
        told = full.run("show", name, "--json").json()
        outcomes, decision = told["outcomes"], told["decision"]
        assert "@" in decision["worker"] and decision["error"] == "a new brush"
        assert [(one["redelivery"], one["attempt"], one["state"]) for one in outcomes] == [
            (0, 1, "dead"), (1, 0, "redelivered"), (1, 1, "done"),
        ]  # fmt: skip
    assert [lease.event.event_id for lease in full.read("Painter")] == ["EV-5"], "what waited behind it goes on"


def test_a_blocked_key_goes_on_when_its_letter_is_discarded(full: Morgue) -> None:
    rehearsed = full.run("discard", "EV-1", "--dry-run")
    done = full.run("discard", "EV-1", "--reason", "nobody wants it", "--yes", "--json")

    assert "(SHOT_PLANNED of P-1); P-1, which it blocks, goes on\n" in rehearsed.out
    assert rehearsed.out.endswith("Would discard 1 dead letter; nothing was changed.\n")
    assert done.json()["verdict"] == "settled" and done.err == "Discarded 1 dead letter.\n"
    assert [lease.event.event_id for lease in full.read("Painter")] == ["EV-5"]
    full.archive()
    assert [letter["resolution"] for letter in full.run("list", "--resolved", "--json").json_lines()] == ["discarded"]


@pytest.mark.parametrize("command", ["retry", "discard", "purge"])
def test_a_rehearsal_names_what_would_happen_and_writes_nothing(full: Morgue, command: str) -> None:
    full.backend.client.xadd(full.namespace.keys("queue", "Critic"), {"f": "garbage"})
    full.give_up("Critic", "it is no delivery")
    full.archive()
    before, database = full.everything(), _database(full)

    everything = full.run(command, "--all", "--dry-run")
    told = full.run(command, "--all", "--dry-run", "--json").json_lines()

    assert full.everything() == before and _database(full) == database
    assert everything.code == (1 if command == "retry" else 0)
    assert [letter["verdict"] for letter in told].count("settled") == (4 if command == "retry" else 5)
    assert f"would {command} " in everything.out
    if command == "retry":
        assert " (it cannot be read): it never was a delivery; discard or purge it\n" in everything.out
        assert "Would retry 4 dead letters; 1 dead letter not: it never was a delivery" in everything.out
        assert ":Painter:1; it goes on holding P-1\n" in everything.out
        assert told[0]["becomes"].endswith(":Critic:1")


def test_retrying_by_filter_takes_those_alone_and_none_that_die_meanwhile(full: Morgue) -> None:
    done = full.run("retry", "-s", "Critic", "--limit", 1)
    assert done.out == "Retried 1 dead letter.\n"
    full.give_up("Critic", "again")

    assert full.names("-s", "Critic", "--error", "again")[0].endswith(":Critic:1")
    assert len(full.names()) == 4
    assert full.run("retry", "--error", "slow").out == "Retried 1 dead letter.\n"
    assert len(full.names()) == 3


def test_many_letters_are_decided_a_page_at_a_time_with_a_count(morgue: Morgue) -> None:
    morgue.declare("Painter", "SHOT_PLANNED")
    morgue.publish(*(f"EV-{n}" for n in range(350)))
    morgue.give_up("Painter")

    done = morgue.run("retry", "--all", "--json")

    assert len(done.json_lines()) == 350
    assert done.err.splitlines() == [
        "200 retried ...",
        "300 retried ...",
        "350 retried ...",
        "Retried 350 dead letters.",
    ]
    assert morgue.names() == []


def test_purging_empties_the_copies_of_the_database_too(full: Morgue) -> None:
    full.run("discard", "EV-3", "--yes")
    full.archive()
    full.backend.client.delete(full.namespace.keys("dead", "Painter"))  # Redis loses them
    assert [letter["resolution"] for letter in full.run("list", "--resolved", "--json").json_lines()] == [
        "lost", "lost", "discarded",
    ]  # fmt: skip
    assert "Purge it with `eventbus dead purge" in full.run("show", "EV-1").out

    assert full.run("purge", "--until", "1h").out == "Purged 0 dead letters.\n"
    rehearsed = full.run("purge", "--until", "0s", "--dry-run")
    done = full.run("purge", "--until", "0s", "--yes")
    full.archive()

    assert "Would purge 1 dead letter; would empty 3 copies in the database" in rehearsed.out
    assert done.out == "Purged 1 dead letter; emptied 3 copies in the database.\n"
    stored = list(full.backend.blackboard.dead_letters.find(_positions(full)).values())
    assert [letter.resolution for letter in stored] == ["purged", "purged", "discarded", "purged"]
    assert {letter.traceback + letter.output for letter in stored} == {""}
    assert all(letter.reason for letter in stored), "why stays"
    assert full.run("purge", "--all").out == "Purged 0 dead letters.\n"


def test_what_is_given_up_for_good_is_asked_about_first(full: Morgue) -> None:
    full.archive()
    before = full.everything()

    asked = [full.run("discard", "EV-1"), full.run("purge", "--all"), full.run("discard", "EV-1", "--json")]
    with on_a_terminal(full.place, "dead", "discard", "-s", "Painter") as terminal:
        wait_until(lambda: "[y/N]" in terminal.shown, 60, "the question")
        terminal.press("n\n")
        assert terminal.end() == 0, terminal.shown

    assert full.everything() == before
    assert [one.code for one in asked] == [2, 2, 2] and {one.out for one in asked} == {""}
    assert asked[0].sentence().startswith("Discard 1 dead letter for good? There is no terminal to ask on: say --yes")
    assert asked[1].sentence().startswith("Purge 4 dead letters for good?")
    assert "Discard 2 dead letters for good? [y/N]" in terminal.shown and "Nothing was changed." in terminal.shown

    with on_a_terminal(full.place, "dead", "discard", "-s", "Painter") as terminal:
        wait_until(lambda: "[y/N]" in terminal.shown, 60, "the question")
        terminal.press("y\n")
        assert terminal.end() == 0 and "Discarded 2 dead letters." in terminal.shown
    assert full.run("discard", "-s", "Painter").out == "Discarded 0 dead letters.\n", "there is nothing to ask"


def test_what_was_decided_and_is_not_archived_is_not_taken_for_lost(full: Morgue) -> None:
    full.run("retry", "EV-2")
    assert [letter["event_id"] for letter in full.run("list", "--resolved", "--json").json_lines()] == ["EV-2"]
    full.archive()
    full.run("retry", "EV-1", "EV-3")

    resolved = full.run("list", "--resolved", "--json").json_lines()
    shown = full.run("list", "--resolved")

    assert [(letter["event_id"], letter["resolution"]) for letter in resolved] == [
        ("EV-1", "retried"), ("EV-2", "retried"), ("EV-3", "retried"),
    ]  # fmt: skip
    assert shown.out.splitlines()[0].split()[-2:] == ["NOW", "REASON"]
    assert full.run("purge", "EV-3").out == "Purged 0 dead letters.\n"
    full.archive()
    assert len(full.run("list", "--resolved", "--json").json_lines()) == 3
    assert full.run("purge", "EV-3", "--yes").out == "Purged 0 dead letters; emptied 1 copy in the database.\n"


def test_an_unreadable_letter_is_shown_and_can_only_be_given_up(morgue: Morgue) -> None:
    morgue.declare("Painter", "SHOT_PLANNED")
    morgue.backend.client.xadd(morgue.namespace.keys("queue", "Painter"), {"f": b"gar\xffbage"})
    morgue.give_up("Painter", "The queue entry is not a delivery.")
    (name,) = morgue.names()

    shown, refused, done = morgue.run("show", name), morgue.run("retry", name), morgue.run("discard", name, "--yes")

    assert name.isdecimal()
    assert "gar\\xffbage" in shown.out and "it cannot be delivered again" in shown.out
    assert refused.code == 1 and "1 dead letter not: it never was a delivery" in refused.out
    assert done.out == "Discarded 1 dead letter.\n"
    morgue.archive()
    assert "discarded at" in morgue.run("show", name).out


def test_what_nobody_declares_any_more_is_not_delivered(full: Morgue) -> None:
    full.backend.client.delete(full.namespace.keys("sub", "Critic"))

    done = full.run("retry", "--type", "QA_REPORT")

    assert done.code == 1
    assert "Retried 0 dead letters; 2 dead letters not: nobody declares its subscriber any more" in done.out
    assert len(full.names("-s", "Critic")) == 2


def test_stats_and_doctor_tell_of_open_letters_and_name_the_command(full: Morgue) -> None:
    full.archive()
    full.run("discard", "EV-3", "--yes")
    full.archive()

    stats, counted = full.place.run("stats"), full.place.run("stats", "--json").json()
    doctor = full.place.run("doctor")

    assert stats.out.endswith("\n3 dead letters wait for a decision: see `eventbus dead list`.\n")
    assert counted["open_dead_letters"] == {"Critic": 1, "Painter": 2}
    assert "subscriber Painter: 2 dead letters; the newest, after 1 attempt: ValueError: no brush" in doctor.out
    assert "`eventbus dead retry -s Painter` delivers them again" in doctor.out


MISTAKES = [
    (["retry"], "Name letters or give a filter; to act on all of them give --all"),
    (["discard", "--limit", "3"], "Name letters or give a filter"),
    (["retry", "--all", "-s", "Painter"], "give --all, and nothing else"),
    (["purge"], "Say what to purge: --until WHEN"),
    (["purge", "-s", "Painter"], "Say what to purge"),
    (["list", "--until", "long"], "--until must be a moment like"),
    (["list", "--until", "2h", "--since", "1h"], "is after --until"),
    (["list", "--type", "a type"], "--type must be a letter"),
    (["show"], "Name the letters to show"),
    (["show", "EV-nowhere"], "There is no dead letter EV-nowhere"),
    (["bury"], "No such command 'bury'"),
]


@pytest.mark.parametrize(("arguments", "says"), MISTAKES, ids=[" ".join(arguments) for arguments, _ in MISTAKES])
def test_a_mistake_is_a_sentence_and_code_2(morgue: Morgue, arguments: list[str], says: str) -> None:
    ended = morgue.run(*arguments)

    assert says in ended.sentence()
    assert ended.code == 2 and not ended.out


@pytest.mark.parametrize("command", ["list", "show", "retry", "discard", "purge"])
def test_each_command_has_a_help_with_examples(place: Place, command: str) -> None:
    shown = place.run("dead", command, "--help")

    assert shown.code == 0 and not shown.err
    assert f"\n    eventbus dead {command}" in shown.out


def test_where_nothing_is_it_says_so_and_makes_nothing(place: Place) -> None:
    ended = place.run("dead", "list")

    assert "There is no event bus in" in ended.sentence() and ended.code == 1
    assert not list(place.directory.iterdir())


def _positions(morgue: Morgue) -> list[int]:
    return [letter["position"] for letter in morgue.run("list", "--resolved", "--json").json_lines()]


def _database(morgue: Morgue) -> str:
    from sqlalchemy import select

    from store.engine import reading
    from store.tables import dead_letters, outcomes

    with reading(morgue.backend.blackboard.engine) as connection:
        rows = [list(connection.execute(select(table)).all()) for table in (dead_letters, outcomes)]
    return json.dumps(rows, default=str)


def test_statistics_tell_failures_by_type_actor_and_project_of_the_events(full: Morgue) -> None:
    full.archive()

    for way in ("type", "actor", "project"):
        lines = full.place.run("stats", "--by", way, COLUMNS="200").out.splitlines()
        head = next(n for n, line in enumerate(lines) if line.startswith(way.upper()))
        total = next(line for line in lines[head:] if line.startswith("total"))
        names = lines[head].replace("AVG ", "AVG_").replace(" (UTC)", "").split()
        ends = [lines[head].replace("AVG ", "AVG_").index(name) + len(name) for name in names]
        cells = {name: total[:end].split()[-1] for name, end in zip(names, ends, strict=True)}
        assert (cells["ATTEMPTS"], cells["FAILURES"], cells["DEAD"]) == ("4", "4", "4"), way
    narrow = full.place.run("stats", COLUMNS="80").out
    assert "DEAD" in narrow and max(map(len, narrow.splitlines())) <= 80


def test_statistics_tell_failures_by_the_day_and_times_on_a_narrow_terminal(full: Morgue) -> None:
    full.archive()
    subscribers = full.place.run("stats", "--by", "subscriber", COLUMNS="80").out.splitlines()
    days = full.place.run("stats", "--by", "day", COLUMNS="80").out.splitlines()

    told = [dict(zip(subscribers[1].split(), line.split(), strict=False)) for line in subscribers[2:4]]
    assert [(one["SUBSCRIBER"], one["DEAD"]) for one in told] == [("Critic", "2"), ("Painter", "2")]
    assert subscribers[1].endswith("P50    P95    P99") and "DROPPED" not in subscribers[1]
    heading = days.index("Deliveries, as far as archived, by the day in which their events were published")
    assert days[heading + 1].split()[2:] == [
        "WAITING", "DONE", "DEAD", "DISCARDED", "DROPPED", "ATTEMPTS", "FAILURES"
    ]  # fmt: skip
    assert days[heading + 2].split()[1:] == ["1", "0", "4", "0", "0", "4", "4"]
