"""`eventbus replay --to`, `deliveries`, `doctor --repair`: they say what they will do, and do it once."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator

import pytest

from events.redelivery import begin, under_way
from events.stream import HistoryStream
from events.subscriptions import SubscriberOptions
from tests.console.command import Ended, Place
from tests.console.test_dead import SECRET, Morgue
from tests.waiting import wait_until


class Desk(Morgue):
    """A bus whose handlers are played by the test."""

    def run(self, *arguments: object) -> Ended:
        return self.place.run(*arguments)

    def handled(self, name: str) -> list[str]:
        found = []
        while leases := self.read(name, 1):
            found.append(leases[0].event_id)
            self.settle(leases[0])
        return found

    def remember(self, name: str, *types: str) -> None:
        self.declare(name, *types)
        self.backend.registry.save(name, types, SubscriberOptions().record())


@pytest.fixture
def desk(place: Place, redis_url: str) -> Iterator[Desk]:
    desk = Desk(place, redis_url)
    yield desk
    desk.backend.close()


@pytest.fixture
def told(desk: Desk) -> Desk:
    """Three events of which a painter and a critic have handled what they take; the rest is the critic's."""
    desk.declare("Painter", "SHOT_PLANNED")
    desk.declare("Critic", "SHOT_PLANNED", "QA_REPORT")
    desk.publish("EV-1", "EV-2")
    desk.publish("EV-3", kind="QA_REPORT", project="P-2")
    assert sorted(desk.handled("Painter")) == ["EV-1", "EV-2"]
    return desk


def test_a_dry_run_counts_and_shows_the_first_and_writes_nothing(told: Desk) -> None:
    before = told.everything()

    shown = told.run("replay", "--to", "Painter", "--type", "SHOT_PLANNED", "--type", "QA_REPORT", "--dry-run")
    as_json = told.run("replay", "--to", "Critic", "-p", "P-2", "--dry-run", "--json").json()

    assert shown.code == 0 and "2 events would be delivered to Painter again" in shown.out
    assert "EV-1" in shown.out and "Nothing was changed." in shown.out
    assert "Left out, because the subscriber does not take them: QA_REPORT." in shown.err
    assert (as_json["count"], [one["event_id"] for one in as_json["first"]]) == (1, ["EV-3"])
    assert told.everything() == before


def test_it_asks_before_it_delivers_and_delivers_once(told: Desk) -> None:
    refused = told.run("replay", "--to", "Painter")
    assert refused.code == 2 and "There is no terminal to ask on: say --yes" in refused.err

    ended = told.run("replay", "--to", "Painter", "--reason", "mended", "--yes")

    assert ended.code == 0 and "Delivered 2 events to Painter again, as redelivery 10000." in ended.out
    assert sorted(told.handled("Painter")) == ["EV-1", "EV-2"] and told.handled("Painter") == []
    said = told.run("replay", "--to", "Painter", "--yes", "--json", "--rate", "1000").json()
    assert (said["made"], said["number"], said["verdict"]) == (2, 20000, "ended")


def test_events_are_chosen_by_what_is_at_a_path_too(told: Desk) -> None:
    chosen = told.run("replay", "--to", "Painter", "--payload", f'text="{SECRET}"', "--yes")
    none = told.run("replay", "--to", "Painter", "--payload", "text=1", "--yes")

    assert "Delivered 2 events to Painter again" in chosen.out, chosen.err
    assert "Delivered 0 events to Painter again" in none.out, none.err


def test_what_was_interrupted_is_named_gone_on_with_and_given_up(told: Desk) -> None:
    begin(told.namespace, "Painter", 70_000, 0, "{}")

    told.archive()
    looked = told.run("replay", "--to", "Painter", "--dry-run")
    assert "A redelivery to it is under way or was interrupted: 0 events" in told.run("doctor").out
    other = told.run("replay", "--to", "Painter", "-p", "P-9", "--yes")
    resumed = told.run("replay", "--to", "Painter", "--resume")

    assert "under way or was interrupted" in looked.out and "made 0 deliveries" in looked.out
    assert other.code == 1 and "Another redelivery to 'Painter' is under way" in other.sentence()
    assert "Delivered 2 events to Painter again, as redelivery 70000." in resumed.out
    begin(told.namespace, "Painter", 80_000, 0, "{}")
    assert "Given up at position 0" in told.run("replay", "--to", "Painter", "--abandon").out
    assert told.run("replay", "--to", "Painter", "--abandon", "--json").json() == {"to": "Painter", "under_way": None}
    begin(told.namespace, "Painter", 90_000, 0, "{}")
    given_up = told.run("replay", "--to", "Painter", "--abandon", "--json").json()
    assert given_up == {"to": "Painter", "made": 0, "position": 0, "verdict": "given"}
    assert "No redelivery to Painter is under way." in told.run("replay", "--to", "Painter", "--resume").err


def test_ctrl_c_ends_it_with_a_page_and_says_how_to_go_on(told: Desk) -> None:
    told.publish(*(f"EV-{n}" for n in range(10, 60)))
    process = told.place.start("replay", "--to", "Painter", "--yes", "--rate", "1")
    wait_until(lambda: any(made for _, made in under_way(told.namespace, ["Painter"]).values()), 30, "a first page")

    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)

    assert process.returncode == 130 and "Traceback" not in err, out + err
    assert "--resume` goes on with it" in err
    assert "Delivered 52 events" in told.run("replay", "--to", "Painter", "--resume").out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--dry-run"], "go with --to SUBSCRIBER"),
        (["--to", "Painter", "--limit", 3], "--limit does not go with --to"),
        (["--to", "Painter", "--resume", "-p", "P"], "stand alone"),
        (["--to", "Painter", "--resume", "--abandon"], "stand alone"),
        (["--to", "Nobody", "--yes"], "No subscriber 'Nobody' is declared"),
        (["--to", "Painter", "--rate", 0, "--yes"], "events a second, more than 0, not 0.0"),
    ],
)
def test_what_cannot_be_asked_is_a_sentence(told: Desk, arguments: list[object], sentence: str) -> None:
    ended = told.run("replay", *arguments)

    assert ended.code == 2 and sentence in ended.sentence()


def test_a_subscriber_that_takes_none_of_the_types_is_told(told: Desk) -> None:
    ended = told.run("replay", "--to", "Painter", "--type", "QA_REPORT", "--yes")

    assert ended.code == 1 and "'Painter' takes SHOT_PLANNED, not QA_REPORT" in ended.err


# deliveries


def test_an_events_deliveries_are_shown_with_every_attempt_archived_or_not(told: Desk) -> None:
    told.give_up("Critic", "ValueError: too dark")

    fresh = told.run("deliveries", "EV-1")
    told.archive()
    archived = told.run("deliveries", "EV-1")
    as_json = told.run("deliveries", "EV-1", "--json").json_lines()

    assert fresh.code == 0 and fresh.out == archived.out
    assert "Painter:0" in fresh.out and "done" in fresh.out and "ValueError: too dark" in fresh.out
    assert [(one["subscriber"], one["state"], one["attempts"]) for one in as_json] == [
        ("Critic", "dead", 1), ("Painter", "done", 1),
    ]  # fmt: skip
    assert [outcome["worker"] for outcome in as_json[1]["outcomes"]] == ["host-7-abc"]
    position = as_json[0]["event_position"]
    assert told.run("deliveries", position, "--json").json_lines() == as_json


def test_deliveries_are_listed_by_filter_and_in_pages(told: Desk) -> None:
    told.archive()

    waiting = told.run("deliveries", "--state", "waiting", "--json").json_lines()
    first = told.run("deliveries", "-n", 2)
    name = first.err.strip().rpartition(" ")[2]
    rest = told.run("deliveries", "--after", name, "--json").json_lines()

    assert [one["event_id"] for one in waiting] == ["EV-1", "EV-2", "EV-3"]
    assert len(rest) == 3 and "There are more" in first.err
    assert len(told.run("deliveries", "-s", "Painter", "-p", "P-1", "--json").json_lines()) == 2
    assert "No delivery matches." in told.run("deliveries", "-s", "Nobody").err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--state", "lost"], "A delivery is waiting, done, dead, discarded or dropped, not 'lost'"),
        (["EV-9"], "There is no event 'EV-9'"),
        (["EV-1", "-s", "Painter"], "Name an event, or give filters"),
        (["--after", "x"], "--after must be a delivery, POSITION:SUBSCRIBER:REDELIVERY, not 'x'"),
    ],
)
def test_a_question_about_deliveries_that_cannot_be_asked(told: Desk, arguments: list[str], sentence: str) -> None:
    ended = told.run("deliveries", *arguments)

    assert ended.code == 2 and sentence in ended.sentence()


# doctor --repair


def test_after_flushall_the_doctor_names_what_is_lost_and_puts_it_back_once(desk: Desk) -> None:
    desk.remember("Painter", "SHOT_PLANNED")
    desk.publish(*(f"EV-{n}" for n in range(7)))
    desk.settle(desk.read("Painter", 1)[0])
    desk.archive()
    client = desk.backend.client
    client.flushall()

    found = desk.run("doctor", "--json")
    rehearsed = desk.run("doctor", "--repair", "--dry-run")
    assert client.dbsize() == 0, "nothing is written"
    refused = desk.run("doctor", "--repair")
    assert client.dbsize() == 0 and refused.code == 2 and "say --yes" in refused.sentence()
    repaired = desk.run("doctor", "--repair", "--yes")
    again = desk.run("doctor", "--repair", "--yes", "--json")

    says = [finding["says"] for finding in found.json()["findings"] if finding["level"] == "wrong"]
    assert found.code == 1 and any("has lost the namespace" in one for one in says)
    assert any(one.startswith("6 deliveries wait according to the database") for one in says)
    assert "put back 6 deliveries of Painter. Nothing was changed." in rehearsed.out
    assert repaired.code == 0 and "Painter: put back 6 deliveries." in repaired.out, repaired.out
    assert again.code == 0 and again.json()["repaired"] == [] and "nothing to repair" in again.err
    desk.namespace.forget()
    assert sorted(desk.handled("Painter")) == [f"EV-{n}" for n in range(1, 7)]
    desk.archive()
    assert json.loads(desk.run("doctor", "--json").out)["gaps"] == []


def test_a_clock_behind_the_database_is_found_and_lifted(desk: Desk) -> None:
    desk.remember("Painter", "SHOT_PLANNED")
    desk.publish("EV-1")
    desk.archive()
    highest = desk.backend.archive.highest_position()
    desk.backend.client.set(desk.namespace.keys("clock"), highest - 5)

    found, repaired = desk.run("doctor"), desk.run("doctor", "--repair", "--yes")

    assert found.code == 1 and "behind the database, which knows positions" in found.out
    assert repaired.code == 0 and HistoryStream(desk.namespace).clock() > highest


def test_what_nobody_declares_any_more_is_named_and_left(desk: Desk) -> None:
    desk.declare("Gone", "SHOT_PLANNED")
    desk.publish("EV-1")
    desk.archive()
    desk.backend.client.flushall()
    desk.namespace.forget()

    ended = desk.run("doctor", "--repair", "--yes")

    assert ended.code == 1 and "Nobody declares Gone any more: start a worker that does" in ended.out


def test_lost_dead_letters_are_named(desk: Desk) -> None:
    desk.remember("Painter", "SHOT_PLANNED")
    desk.publish("EV-1")
    desk.give_up("Painter")
    desk.archive()
    desk.backend.client.flushall()

    ended = desk.run("doctor", "--repair", "--yes")

    assert "Redis has lost 1 dead letter about which nobody had decided" in ended.out
    assert "eventbus replay --to SUBSCRIBER" in ended.out


def test_repair_wants_a_database_and_its_options_want_repair(place: Place, redis_url: str) -> None:
    nothing = place.run("doctor", "--repair", "--yes", REDIS_URL=redis_url)
    alone = place.run("doctor", "--dry-run", REDIS_URL=redis_url)

    assert nothing.code == 2 and "without a database nobody knows what Redis has lost" in nothing.sentence()
    assert alone.code == 2 and "go with --repair" in alone.sentence()
    assert not list(place.directory.iterdir())
