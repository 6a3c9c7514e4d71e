"""`eventbus scheduled` and `eventbus schedules`, on what somebody has scheduled."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from events.backend import Backend
from events.due import microseconds
from events.embedded import ensure
from events.settings import Settings
from events.slots import Slots
from tests.console.command import Place


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Place]:
    """An empty directory whose embedded server lives as long as the test."""
    server = ensure(tmp_path / ".eventbus")
    yield Place(tmp_path, {})
    server.release()


@pytest.fixture
def slots(kept: Place) -> Iterator[Slots]:
    backend = Backend(Settings(home=str(kept.directory / ".eventbus")), may_restore=True)
    yield Slots(backend.namespace, 100)
    backend.close()


def publish(place: Place, event_id: str, kind: str, project: str, *how: str) -> None:
    done = place.run("publish", kind, "-p", project, "-a", "me", "--id", event_id, *how)
    assert (done.code, done.out) == (0, f"{event_id}\n"), done.err


def listed(place: Place, *options: str) -> list[str]:
    return [line["event_id"] for line in place.run("scheduled", "list", "--json", *options).json_lines()]


def test_what_is_scheduled_is_listed_by_its_moment_and_cancelled_by_name_or_filter(kept: Place) -> None:
    assert "Nothing is scheduled." in kept.run("scheduled", "list").err
    publish(kept, "EV-b", "QA_REPORT", "P-1", "--delay", "2h")
    publish(kept, "EV-a", "SCENE_WRITTEN", "P-1", "--delay", "90m")
    publish(kept, "EV-c", "SCENE_WRITTEN", "P-2", "--at", f"{datetime.now(UTC) + timedelta(days=2):%Y-%m-%dT%H:%M:%S}")
    publish(kept, "EV-now", "SCENE_WRITTEN", "P-2", "--at", "2020-01-01")

    text = kept.run("scheduled", "list").out.splitlines()
    assert text[0].split() == ["DUE", "(UTC)", "TYPE", "PROJECT", "EVENT", "ORIGIN"]
    assert [line.split()[2:] for line in text[1:]] == [
        ["SCENE_WRITTEN", "P-1", "EV-a", "publish"],
        ["QA_REPORT", "P-1", "EV-b", "publish"],
        ["SCENE_WRITTEN", "P-2", "EV-c", "publish"],
    ]
    assert listed(kept, "--project", "P-1") == ["EV-a", "EV-b"]
    assert listed(kept, "--type", "SCENE_WRITTEN", "-n", "1") == ["EV-a"]
    assert [line["event_id"] for line in kept.run("replay", "--json").json_lines()] == ["EV-now"]

    dry = kept.run("scheduled", "cancel", "--project", "P-1", "--dry-run", "--json")
    assert dry.json() == {"cancelled": 2, "not_scheduled": [], "dry_run": True}
    assert kept.run("scheduled", "cancel", "EV-c", "EV-zz", "--dry-run").code == 1
    assert listed(kept) == ["EV-a", "EV-b", "EV-c"]

    unsure = kept.run("scheduled", "cancel", "--all")
    assert unsure.code == 2 and unsure.sentence().startswith("Cancel 3 events for good? There is no terminal to ask on")
    assert len(listed(kept)) == 3
    one_type = kept.run("scheduled", "cancel", "--type", "SCENE_WRITTEN", "-p", "P-1", "--yes")
    assert one_type.out == "Cancelled 1 event.\n"
    named = kept.run("scheduled", "cancel", "EV-b", "EV-now")
    assert (named.code, named.out) == (1, "Cancelled 1 event.\n")
    assert named.sentence() == "Not scheduled, unknown or published already: EV-now."
    assert kept.run("scheduled", "cancel", "--all", "--yes").out == "Cancelled 1 event.\n"
    assert listed(kept) == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("publish", "A", "-p", "P", "-a", "me", "--delay", "soon"), "--delay must be a span like 90s"),
        (
            ("publish", "A", "-p", "P", "-a", "me", "--at", "24h"),
            "--at must be a moment like 2026-01-31T12:00:00Z, not",
        ),
        (("publish", "A", "-p", "P", "-a", "me", "--at", "2026-01-01", "--delay", "1s"), "Give either delay or at"),
        (("publish", "A", "-p", "P", "-a", "me", "--delay", "9999w"), "delay must be from 0 seconds to ten years"),
        (("publish", "--file", "x", "--delay", "1s"), "--file brings whole events, so --delay cannot be given"),
        (("scheduled", "cancel"), "Name the events to cancel, or give"),
        (("scheduled", "cancel", "EV-1", "--all"), "Name the events to cancel, or give"),
    ],
)
def test_a_mistake_is_one_sentence(place: Place, arguments: tuple[str, ...], sentence: str) -> None:
    done = place.run(*arguments)

    assert done.code == 2 and done.sentence().startswith(sentence)


def test_schedules_shows_what_workers_run_and_which_slot_nobody_fires(kept: Place, slots: Slots) -> None:
    assert kept.run("schedules", "list").err.startswith("No worker has run a schedule")
    assert kept.run("schedules", "forget", "nightly").sentence().startswith("There is no schedule 'nightly'")
    slots.plan("nightly", "0 3 * * *", "Europe/Riga", "last", begins=True)
    slots.plan("late", "* * * * *", "UTC", "all", begins=True)
    slots.plan("elsewhere", "0 3 * * *", "Not/Here", "skip", begins=True)
    cursor = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
    client, keys = slots._namespace.client, slots._namespace.keys
    client.hset(keys("slots", "late"), mapping={"cursor": microseconds(cursor), "last": microseconds(cursor)})

    found = {one["name"]: one for one in kept.run("schedules", "list", "--json").json()}
    assert found["late"] == {
        "name": "late", "cron": "* * * * *", "timezone": "UTC", "missed": "all", "overdue": True,
        "last": "2026-01-01T12:00:00Z", "next": "2026-01-01T12:01:00Z",
    }  # fmt: skip
    assert found["nightly"]["last"] is None and found["nightly"]["next"] > datetime.now(UTC).isoformat()
    assert (found["elsewhere"]["next"], found["elsewhere"]["overdue"]) == (None, False)
    table = kept.run("schedules", "list").out
    assert "2026-01-01 12:01:00 (overdue)" in table and "Europe/Riga" in table

    assert kept.run("schedules", "forget", "late").out == "Forgot the schedule 'late'.\n"
    assert {one["name"] for one in kept.run("schedules", "list", "--json").json()} == {"elsewhere", "nightly"}


def test_doctor_says_what_is_overdue(kept: Place, slots: Slots) -> None:
    publish(kept, "EV-a", "QA_REPORT", "P-1", "--delay", "2h")
    slots.plan("late", "* * * * *", "UTC", "all", begins=True)
    before = kept.run("doctor", "--json").json()
    assert ("ok", "1 event scheduled.") in [(finding["level"], finding["says"]) for finding in before["findings"]]
    assert before["scheduled"] == {"count": 1, "overdue_s": 0.0}
    client, keys = slots._namespace.client, slots._namespace.keys
    client.zadd(keys("scheduled"), {"EV-a": microseconds(datetime.now(UTC) - timedelta(hours=2))})
    client.hset(keys("slots", "late"), "cursor", microseconds(datetime(2026, 1, 1, 12, 0, tzinfo=UTC)))

    ended = kept.run("doctor", "--json")

    assert ended.code == 1
    found = {finding["about"]: (finding["level"], finding["says"]) for finding in ended.json()["findings"]}
    assert found["scheduled"] == (
        "wrong", "1 event scheduled, and the first is 2 h 0 min overdue: nobody publishes them.",
    )  # fmt: skip
    assert found["schedule late"] == ("warning", "Its slot of 2026-01-01 12:01:00 (UTC) has not been fired.")
