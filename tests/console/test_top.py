"""`eventbus top`: one frame into a pipe, and a terminal that is watched and given back."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

import pytest

from tests.console.command import Place
from tests.console.terminal import on_a_terminal
from tests.fleet.conftest import make_world
from tests.valkey_servers import ValkeyServer
from tests.waiting import wait_until

APP = "tests.console.watched:bus"
CLEARED, GIVEN_BACK = "\x1b[?1049h", "\x1b[?1049l"


def test_one_frame_tells_of_subscribers_workers_spend_and_what_is_wrong_in_80_columns(tmp_path: Path) -> None:
    with ValkeyServer() as server:
        world = make_world(server.url, tmp_path)
        place = Place(tmp_path, world.environment)
        try:
            world.start_fleet(1, APP)
            world.start_archiver()
            for kind in ("PAINTED", "BROKEN"):
                assert place.run("publish", kind, "-p", "P", "-a", "me", "--cost", "0.5").code == 0
            world.until_settled("Painter", "Breaker")
            wait_until(lambda: "dead letter" in place.run("top", "--once").out, 30, "the dead letter")
            told = place.run("top", "--json", "--once").json()

            shown = place.run("top", "--once").out
        finally:
            world.close()

    assert all(len(line) <= 80 for line in shown.splitlines()) and "\x1b" not in shown
    assert "Breaker: 1 dead letters wait for a decision." in shown
    assert re.search(r"^Painter +0 +0 +0 +0 +1$", shown, re.MULTILINE), shown
    assert re.search(r"^spent: \$1\.00, today \$1\.00$", shown, re.MULTILINE), shown
    assert re.search(r" alive +\d.* s +0$", shown, re.MULTILINE), shown
    assert told["events"] == 2 and told["spent"] == {"USD": 1.0}
    assert [one["subscriber"] for one in told["subscribers"]] == ["Breaker", "Painter"]
    assert told["workers"][0]["alive"] and told["attention"]


@pytest.mark.parametrize("ends", ["q", signal.SIGTERM, signal.SIGINT])
def test_on_a_terminal_it_goes_on_until_it_is_told_to_end_and_gives_the_terminal_back(
    told: Place, ends: str | signal.Signals
) -> None:
    with on_a_terminal(told, "top", columns=80) as terminal:
        wait_until(lambda: terminal.shown.count("Nobody is subscribed.") > 1, 60, "a second frame")
        if isinstance(ends, str):
            terminal.press(ends)
        else:
            terminal.process.send_signal(ends)
        code = terminal.end()

    assert code == (130 if ends == signal.SIGINT else 0)
    assert terminal.shown.startswith(CLEARED) and terminal.shown.rstrip().endswith(GIVEN_BACK)
    assert "Traceback" not in terminal.shown
    frames = terminal.shown.split("\x1b[H")[1:]
    lines = [re.sub(r"\x1b\[[\d?;]*[A-Za-z]", "", line) for frame in frames for line in frame.split("\r\n")]
    assert all(len(line.strip("\r\n")) <= 80 for line in lines)


def test_servers_that_are_away_are_waited_for(place: Place) -> None:
    away = {"REDIS_URL": "redis://127.0.0.1:1/0", "DATABASE_URL": f"sqlite:///{place.directory / 'events.db'}"}
    with on_a_terminal(place, "top", columns=80, NO_COLOR="1", **away) as terminal:
        wait_until(lambda: "Waiting: " in terminal.shown, 60, "it to say that it waits")
        terminal.press("q")

        assert terminal.end() == 0
    assert "\x1b[7m" not in terminal.shown, "no colour"


def test_off_a_terminal_it_says_what_to_ask_for(told: Place) -> None:
    ended = told.run("top")

    assert ended.code == 2 and "--once" in ended.sentence()


def test_json_is_an_object_a_second_until_it_is_stopped(told: Place) -> None:
    process = told.start("top", "--json")
    assert process.stdout is not None
    objects = [json.loads(process.stdout.readline()) for _ in range(2)]
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)

    assert process.returncode == 130
    assert objects[0]["at"] < objects[1]["at"] and objects[0]["events"] >= 1005


def test_what_is_calm_is_left_out_before_what_needs_attention() -> None:
    from datetime import UTC, datetime

    from console.frame import frame
    from console.watch import View
    from console.web.live.pulse import Sample
    from events.inspection import Backlog, Queue
    from events.standing import Limit, Standing

    def standing(name: str, ready: int, workers: tuple[str, ...]) -> Standing:
        queue = Queue(name, ("A",), "live", "", False, None, ready, 0, 0, False, 0, 0, 5.0 if ready else None, False)
        return Standing(queue, None, 0, Limit(None, None, False), Limit(None, None, False), None, workers, ())

    calm = [standing(f"Calm{n}", 0, ("w",)) for n in range(30)]
    sample = Sample(
        datetime.now(UTC),
        1,
        0,
        0,
        {},
        {},
        (*calm, standing("Orphan", 7, ())),
        (),
        Backlog(0, 0, 0, 0, False, None, 0, None),
    )
    for columns, rows in ((80, 24), (40, 12), (200, 60), (20, 3)):
        lines = frame(View(sample, "", None, None, None, ()), "ns", columns, rows)

        assert len(lines) <= rows and all(len(line) <= columns for line in lines)
        assert rows < 24 or any(line.startswith("Orphan ") for line in lines)
