"""`eventbus subscriptions`: the real command on a directory with an embedded server, and on a running fleet."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from events.bus import EventBus
from events.deliveries import Deliveries
from events.event import Event
from events.settings import Settings
from events.steering import steer
from tests.console.command import Place
from tests.waiting import wait_until

APP = """
import os
from events.bus import EventBus
bus = EventBus()
types = os.environ.get("EDITOR_TYPES", "SCENE_WRITTEN SHOT_PLANNED").split()

@bus.subscriber("Editor", types, concurrency=4, ordering="project")
async def edit(event):
    pass

@bus.subscriber("Critic", ["SCENE_WRITTEN"])
async def judge(event):
    pass
"""


@pytest.fixture
def bus(place: Place) -> Iterator[EventBus]:
    """The bus of the directory, with the application's subscribers declared and three events."""
    (place.directory / "app.py").write_text(APP)
    bus = EventBus(Settings(home=str(place.directory / ".eventbus")))
    bus.subscriber("Editor", ["SCENE_WRITTEN", "SHOT_PLANNED"], concurrency=4, ordering="project")(print)
    bus.subscriber("Critic", ["SCENE_WRITTEN"])(print)
    bus.publish_many_sync([Event(project_id="P", type="SCENE_WRITTEN", actor="x", payload={"n": n}) for n in range(3)])
    yield bus
    bus.close()


@contextmanager
def working(place: Place, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """A worker process that takes the application's subscribers."""
    worker = place.start("worker", "--app", "app:bus", "--processes", "1", "--grace", "3", **variables)
    try:
        wait_until(lambda: standing(place, "Editor")["workers"], 40, "a worker to live")
        yield worker
    finally:
        worker.terminate()
        worker.communicate(timeout=30)


def standing(place: Place, name: str) -> dict:
    shown = place.run("subscriptions", "show", name, "--json")
    assert shown.code == 0, shown.err
    return shown.json()


def test_a_list_names_who_is_orphaned_paused_and_idle_and_what_waits(place: Place, bus: EventBus) -> None:
    assert place.run("subscriptions", "pause", "Critic").code == 0
    bus.subscriber("Silent", ["MUSIC_COMPOSED"])(print)
    bus.subscriber("Newcomer", ["SCENE_WRITTEN"], start="beginning")(print)
    bus.publish_many_sync([])

    listed = place.run("subscriptions", "list", "--json").json()
    shown = place.run("subscriptions", "list")

    found = {one["subscriber"]: one for one in listed}
    assert [(name, one["state"], one["orphaned"], one["idle"]) for name, one in found.items()] == [
        ("Critic", "paused", True, False),
        ("Editor", "live", True, False),
        ("Newcomer", "back-filling", True, True),
        ("Silent", "live", True, True),
    ]
    assert (found["Editor"]["ready"], found["Editor"]["waiting"], found["Critic"]["waiting"]) == (1, 2, 3)
    assert found["Editor"]["concurrency"] == {"holds": 4, "declared": 4, "is_set": False}
    assert found["Editor"]["oldest_s"] > 0 and found["Silent"]["oldest_s"] is None
    assert shown.code == 0
    for words in ("orphaned: no live worker takes it", "idle: nothing came ever", "back-filled up to the beginning"):
        assert words in shown.out
    assert place.run("subscriptions", "list", "--idle", "soon").code == 2


def test_nobody_is_said_to_be_subscribed_where_nobody_is(place: Place) -> None:
    assert place.run("publish", "QA_REPORT", "-p", "P", "-a", "x").code == 0

    assert place.run("subscriptions", "list").err == "Nobody is subscribed.\n"
    assert place.run("subscriptions", "list", "--json").json() == []


@pytest.mark.parametrize(
    ("command", "more"),
    [
        ("show", ()),
        ("pause", ()),
        ("resume", ()),
        ("set", ("--concurrency", "2")),
        ("drop", ()),
        ("drop", ("--dry-run",)),
        ("remove-types", ("QA_REPORT",)),
    ],
)
def test_a_name_that_nobody_declared_is_a_mistake(
    place: Place, bus: EventBus, command: str, more: tuple[str, ...]
) -> None:
    ended = place.run("subscriptions", command, "Nobody", *more)

    assert ended.code == 2
    assert "No subscriber 'Nobody' is declared" in ended.sentence()


def test_pausing_and_resuming_say_what_they_did_and_go_on_after_a_wrong_name(place: Place, bus: EventBus) -> None:
    paused = place.run("subscriptions", "pause", "Editor", "Nobody", "Critic")

    assert paused.code == 2 and "'Nobody'" in paused.sentence()
    assert "Editor is paused: nothing more begins, and 1 delivery that was ready waits again." in paused.out
    assert "Critic is paused: nothing more begins, and 3 deliveries that were ready wait again." in paused.out
    assert standing(place, "Editor")["paused"]
    resumed = place.run("subscriptions", "resume", "Editor")
    assert resumed.out == "Editor goes on: 3 deliveries are not settled, but no live worker takes it.\n"


def test_limits_are_set_without_a_restart_and_given_back_to_the_code(place: Place, bus: EventBus) -> None:
    held = place.run("subscriptions", "set", "Editor", "--concurrency", "2", "--rate", "0.5")
    assert held.out == "Editor: concurrency 2 (code: 4), rate 0.5 a second (code: none).\n"
    assert "2 (code: 4)" in place.run("subscriptions", "show", "Editor").out

    given_back = place.run("subscriptions", "set", "Editor", "--concurrency", "none", "--rate", "code")
    assert given_back.out == "Editor: concurrency none (code: 4), rate none.\n"
    for wrong in (("--concurrency", "few"), ("--concurrency", "0"), ("--rate", "-1"), ("--rate", "fast"), ()):
        assert place.run("subscriptions", "set", "Editor", *wrong).code == 2


def test_a_drop_says_what_it_would_do_and_does_it(place: Place, bus: EventBus) -> None:
    would = place.run("subscriptions", "drop", "Editor", "--dry-run")
    assert would.out == (
        "Would remove 2 routes (SCENE_WRITTEN, SHOT_PLANNED) and end 3 deliveries of Editor: 1 ready, "
        "0 held by workers, 2 waiting, 0 to be retried.\n"
    )
    assert standing(place, "Editor")["ready"] == 1

    unsure = place.run("subscriptions", "drop", "Editor", "--dead-letters")
    assert unsure.code == 2 and standing(place, "Editor")["ready"] == 1
    assert unsure.sentence().startswith("Drop Editor and end 3 deliveries and 0 dead letters for good? There is no")

    dropped = place.run("subscriptions", "drop", "Editor", "--yes")

    assert dropped.out == "Dropped Editor: 3 deliveries and 0 dead letters ended.\n"
    assert [one["subscriber"] for one in place.run("subscriptions", "list", "--json").json()] == ["Critic"]
    place.run("archive", "--once")
    stats = place.run("stats", "--json").json()
    editor = next(one for one in stats["deliveries"] if one["subscriber"] == "Editor")
    assert (editor["dropped"], editor["waiting"]) == (3, 0)


def test_a_drop_that_was_interrupted_is_ended_though_redis_does_not_have_the_subscriber(
    place: Place, bus: EventBus
) -> None:
    bus.backend.registry.save("Ghost", ["QA_REPORT"], {})

    ended = place.run("subscriptions", "drop", "Ghost")
    unknown = place.run("subscriptions", "drop", "Ghost")

    assert (ended.code, ended.out) == (0, "Dropped Ghost: 0 deliveries and 0 dead letters ended.\n")
    assert unknown.code == 2 and "Ghost" in unknown.sentence()


def test_types_are_removed_by_name_and_a_dry_run_removes_none(place: Place, bus: EventBus) -> None:
    would = place.run("subscriptions", "remove-types", "Editor", "SHOT_PLANNED", "QA_REPORT", "--dry-run")
    assert would.out == "Would route Editor no more SHOT_PLANNED.\n"

    assert place.run("subscriptions", "remove-types", "Editor", "SHOT_PLANNED").out == (
        "Editor is routed no more SHOT_PLANNED.\n"
    )
    assert standing(place, "Editor")["types"] == ["SCENE_WRITTEN"]
    assert place.run("subscriptions", "remove-types", "Editor", "SHOT_PLANNED").out == (
        "Editor was routed none of these.\n"
    )


def test_on_a_running_fleet_pausing_waits_for_the_workers_and_dropping_is_refused(place: Place, bus: EventBus) -> None:
    with working(place, EDITOR_TYPES="SCENE_WRITTEN"):
        paused = place.run("subscriptions", "pause", "Editor", "Critic")
        assert paused.code == 0, paused.err

        found = standing(place, "Editor")
        assert (found["state"], found["orphaned"], found["undeclared_types"]) == ("paused", False, ["SHOT_PLANNED"])
        assert "routed, but not in any worker's code: SHOT_PLANNED" in place.run("subscriptions", "show", "Editor").out
        refused = place.run("subscriptions", "drop", "Critic", "--yes")
        assert refused.code == 1 and "would declare it again" in refused.sentence()
        assert "Would refuse, without --force: 1 live worker takes it" in (
            place.run("subscriptions", "drop", "Critic", "--dry-run").out
        )
        removed = place.run("subscriptions", "remove-types", "Editor", "SCENE_WRITTEN")
        assert "The code of 1 live worker still declares it" in removed.out


def test_a_worker_that_is_stalled_makes_pausing_fail_by_name(place: Place, bus: EventBus) -> None:
    assert Deliveries(bus.backend.namespace, "stalled-1", 100).read(["Editor"], 1, None)

    paused = place.run("subscriptions", "pause", "Editor")

    assert paused.code == 1
    assert "1 worker that holds some of it has not said so (stalled-1)" in paused.sentence()
    assert standing(place, "Editor")["paused"]


def test_the_doctor_names_what_redis_and_the_database_do_not_agree_on(
    place: Place, bus: EventBus, told_by: Callable[[], str]
) -> None:
    assert "what the database remembers" not in told_by()
    steer(bus.backend.namespace, "Editor", paused=True, rate_limit=2)
    bus.backend.registry.remove("Critic")
    bus.backend.registry.save("Ghost", ["QA_REPORT"], {})

    said = told_by()

    assert "paused 1 (remembered: not set), rate 2 (remembered: not set)" in said
    assert "subscriber Critic: The database does not remember it" in said
    assert "subscriber Ghost: The database remembers it and Redis does not know it" in said
    assert "it is paused" in said and "`eventbus subscriptions resume Editor`" in said
    assert place.run("subscriptions", "pause", "Editor").code == 0
    assert place.run("subscriptions", "set", "Editor", "--rate", "code").code == 0
    assert "what the database remembers" not in told_by()


@pytest.fixture
def told_by(place: Place) -> Callable[[], str]:
    return lambda: place.run("doctor").out
