"""`eventbus show`: one event, whole."""

from __future__ import annotations

import json

from tests.console.command import Place


def test_an_event_is_shown_with_its_payload_its_causes_and_what_it_caused(told: Place) -> None:
    shown = told.run("show", "EV-scene", COLUMNS="200")

    assert shown.code == 0 and not shown.err
    title, *lines = shown.out.splitlines()
    assert title == "EV-scene, SCENE_WRITTEN of P-1"
    causes, effects, deliveries = (
        shown.out.index(heading) for heading in ("\nCauses, oldest first", "\nEffects", "\nDeliveries")
    )
    assert causes < shown.out.index("EV-root", causes) < effects < shown.out.index("EV-shot-1") < deliveries
    assert "EV-shot-2" in shown.out and "It was delivered to nobody." in lines[-1]
    assert "  cost        $0.05" in lines and "  actor       ScriptWriter" in lines


def test_as_json_it_is_the_event_with_its_neighbours(told: Place) -> None:
    position = told.run("show", "EV-scene", "--json").json()["position"]

    found = told.run("show", position, "--json").json()

    assert (found["event_id"], found["metadata"]) == ("EV-scene", {"cost": 0.05, "latency_ms": 1200})
    assert [one["event_id"] for one in found["causes"]] == ["EV-root"]
    assert [one["event_id"] for one in found["effects"]] == ["EV-shot-1", "EV-shot-2"]
    assert found["deliveries"] == [] and found["missing"] is None


def test_a_payload_is_printed_as_json_and_a_root_says_so(place: Place) -> None:
    place.run("publish", "NOTE", "-p", "P", "-a", "A", "--id", "EV-1", "--payload", '{"title": "Füchse", "n": [1]}')

    shown = place.run("show", "EV-1")

    payload = shown.out.partition("\nPayload\n")[2].partition("\n\n")[0]
    assert json.loads(payload) == {"title": "Füchse", "n": [1]}
    assert "None: it is a root." in shown.out and "It caused nothing." in shown.out


def test_a_cause_that_is_not_there_and_many_effects_are_told(place: Place) -> None:
    base = {"project_id": "P", "actor": "A", "type": "NOTE"}
    lines = [base | {"event_id": "EV-middle", "causation_id": "EV-lost"}]
    lines += [base | {"event_id": f"EV-{n}", "causation_id": "EV-middle"} for n in range(25)]
    place.run("publish", "--file", "-", stdin="".join(json.dumps(line) + "\n" for line in lines))

    shown, found = place.run("show", "EV-middle"), place.run("show", "EV-middle", "--json").json()

    assert "EV-lost" in shown.out and found["missing"]["causation_id"] == "EV-lost"
    assert "And 5 more: `eventbus tree EV-middle` shows all." in shown.out and len(found["effects"]) == 25


def test_what_is_no_event_is_a_mistake(told: Place) -> None:
    assert told.run("show", "EV-nowhere").sentence().startswith("There is no event 'EV-nowhere'")
