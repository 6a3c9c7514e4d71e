"""`eventbus publish`: what it prints is what a script needs."""

from __future__ import annotations

from tests.console.command import Place


def test_publishing_prints_the_id_and_a_second_time_says_so(place: Place) -> None:
    arguments = (
        "publish",
        "PROJECT_CREATED",
        "-p",
        "P-1",
        "-a",
        "me",
        "--id",
        "EV-1",
        "--payload",
        '{"title": "Füchse"}',
    )

    first, again = place.run(*arguments), place.run(*arguments, "--json")
    other = place.run("publish", "PROJECT_CREATED", "-p", "P-2", "-a", "me", "--id", "EV-1")

    assert (first.code, first.out, first.err) == (0, "EV-1\n", "")
    assert again.json()["is_new"] is False
    assert other.code == 2 and "'EV-1' is taken by an event with another content" in other.sentence()


def test_payload_cause_cost_and_latency_arrive(place: Place) -> None:
    (place.directory / "payload.json").write_text('{"shot": 3}', encoding="utf-8")
    place.run("publish", "SHOT_PLANNED", "-p", "P", "-a", "A", "--id", "EV-cause", "--payload", "@payload.json")

    receipt = place.run(
        "publish", "IMAGE_GENERATED", "-p", "P", "-a", "B", "--payload", "-", "--cause", "EV-cause",
        "--cost", "0.04", "--latency-ms", "812", "--json", stdin='{"png": "a.png"}',
    )  # fmt: skip
    cause, effect = place.run("replay", "--json").json_lines()

    assert cause["payload"] == {"shot": 3}
    assert effect["event_id"] == receipt.json()["event_id"] and effect["position"] == receipt.json()["position"]
    assert effect["payload"] == {"png": "a.png"} and effect["causation_id"] == "EV-cause"
    assert effect["metadata"] == {"cost": 0.04, "latency_ms": 812}


def test_what_replay_prints_can_be_published_elsewhere(told: Place, place: Place) -> None:
    copied = told.run("replay", "--project", "P-1", "--json")

    receipts = place.run("publish", "--file", "-", "--json", stdin=copied.out)
    again = place.run("publish", "--file", "-", stdin=copied.out)

    assert [receipt["line"] for receipt in receipts.json_lines()] == [1, 2, 3, 4]
    assert receipts.err == "Published 4 events.\n"
    assert again.out == "Published 0 events; 4 were published before.\n"
    assert place.run("chain", "EV-shot-2", "--json").json()["root_id"] == "EV-root"


MODELLED = """
from pydantic import BaseModel

from events import EventBus

print("loading")
bus = EventBus()


@bus.payload("SCENE_WRITTEN", version=2)
class Scene(BaseModel):
    number: int


@bus.subscriber("Planner", ["SCENE_WRITTEN"])
def plan(event):
    raise SystemExit("it runs")
"""


def test_with_an_application_payloads_are_held_against_its_models_and_nothing_of_it_runs(place: Place) -> None:
    (place.directory / "pipeline.py").write_text(MODELLED, encoding="utf-8")
    scene = ("publish", "SCENE_WRITTEN", "-p", "P-1", "-a", "me")
    app = {"EVENTBUS_APP": "pipeline:bus"}
    lines = "".join(
        f'{{"project_id": "P-1", "type": "SCENE_WRITTEN", "actor": "me", "payload": {{"number": {number}}}}}\n'
        for number in ('"two"', "2")
    )

    refused = place.run(*scene, "--payload", '{"number": "one"}', **app)
    taken = place.run(*scene, "--payload", '{"number": 1}', "--id", "EV-1", **app)
    file = place.run("publish", "--file", "-", stdin=lines, **app)
    unchecked = place.run(*scene, "--payload", '{"number": "one"}')

    sentence = "payload.number must be a valid integer, not a string."
    assert refused.code == 2 and sentence in refused.err and not refused.out and "Traceback" not in refused.err
    assert (taken.code, taken.out, taken.err) == (0, "EV-1\n", "loading\n")
    assert file.code == 2 and f"line 1: {sentence}" in file.err.replace("The event is not valid: ", "")
    assert (unchecked.code, unchecked.err) == (0, "")
    stored = place.run("replay", "--json").json_lines()
    assert [(event["payload"], event["metadata"]) for event in stored] == [
        ({"number": 1}, {"schema_version": 2}),
        ({"number": 2}, {"schema_version": 2}),
        ({"number": "one"}, {}),
    ]
    assert place.run("subscriptions", "list", "--json").json() == []


def test_an_application_that_cannot_be_found_keeps_everything_from_being_published(place: Place) -> None:
    ended = place.run("publish", "SCENE_WRITTEN", "-p", "P-1", "-a", "me", EVENTBUS_APP="nowhere:bus")

    assert ended.code == 2 and ended.sentence().startswith("The application's module 'nowhere' cannot be found from ")
