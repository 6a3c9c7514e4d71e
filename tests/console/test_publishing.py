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
