"""`eventbus tail`: filters, and colours on a terminal."""

from __future__ import annotations

import json
import signal

from tests.console.command import Place
from tests.console.terminal import on_a_terminal
from tests.waiting import wait_until


def publish(place: Place, *events: dict[str, object]) -> None:
    lines = "".join(json.dumps({"project_id": "P", "actor": "me", "type": "DRAWN", **event}) + "\n" for event in events)
    assert place.run("publish", "--file", "-", stdin=lines).code == 0


def test_what_it_shows_is_narrowed_by_payload_metadata_correlation_and_since(place: Place) -> None:
    publish(
        place,
        {"event_id": "EV-old", "timestamp": "2026-01-01T00:00:00Z"},
        {"event_id": "EV-3", "payload": {"scene": {"number": 3}}},
        {"event_id": "EV-effect", "causation_id": "EV-3", "metadata": {"priority": 5}},
    )

    def shown(*options: str) -> list[str]:
        return [event["event_id"] for event in place.run("tail", "--json", *options).json_lines()]

    assert shown() == ["EV-old", "EV-3", "EV-effect"]
    assert shown("--payload", "scene.number=3") == ["EV-3"]
    assert shown("--metadata", "priority=5") == ["EV-effect"]
    assert shown("--correlation", "EV-3") == ["EV-3", "EV-effect"]
    assert shown("--since", "1h") == ["EV-3", "EV-effect"]
    assert shown("--since", "1h", "-n", "1") == ["EV-effect"]
    assert place.run("tail", "--payload", "scene").code == 2


def test_since_shows_more_than_the_last_twenty(place: Place) -> None:
    publish(place, *({"event_id": f"EV-{n}"} for n in range(25)))

    assert len(place.run("tail", "--json").json_lines()) == 20
    assert len(place.run("tail", "--json", "--since", "1h").json_lines()) == 25


def test_following_shows_what_comes_in_colours_that_stay_with_their_names(place: Place) -> None:
    publish(place, {"event_id": "EV-first"}, {"event_id": "EV-other", "type": "PAINTED", "payload": {"n": 1}})

    with on_a_terminal(place, "tail", "-f", "--since", "1h", "--payload", "n=1", columns=200) as terminal:
        wait_until(lambda: "EV-other" in terminal.shown, 60, "what was there")
        publish(place, {"event_id": "EV-no"}, {"event_id": "EV-next", "type": "PAINTED", "payload": {"n": 1}})
        wait_until(lambda: "EV-next" in terminal.shown, 60, "what came")
        terminal.process.send_signal(signal.SIGINT)

        assert terminal.end() == 130
    coloured = [line for line in terminal.shown.splitlines() if "PAINTED" in line]
    codes = {line.partition("PAINTED")[0][-5:] for line in coloured}
    assert len(coloured) == 2 and len(codes) == 1 and codes.pop().startswith("\x1b[")
    assert "EV-no" not in terminal.shown and "EV-first" not in terminal.shown
    assert "\x1b" not in place.run("tail").out


def test_without_colour_a_terminal_gets_none(place: Place) -> None:
    publish(place, {"event_id": "EV-first"})

    with on_a_terminal(place, "tail", columns=200, NO_COLOR="1") as terminal:
        assert terminal.end() == 0

    assert "EV-first" in terminal.shown and "\x1b" not in terminal.shown
