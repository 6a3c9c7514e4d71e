"""Logs: JSON objects off a terminal, lines on one; of deliveries their ids and numbers, never payloads."""

from __future__ import annotations

import io
import json
import logging
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from events.event import Event
from tests.console.command import Place
from tests.console.terminal import on_a_terminal
from tests.waiting import wait_until
from workers.logs import formatter

SECRET = "the-secret-of-the-payload"
APP = """
import logging

from events import EventBus

bus = EventBus()


@bus.subscriber("Painter", ["SHOT_PLANNED"], max_attempts=1)
async def paint(event):
    logging.getLogger("painter").info("Painting.", extra={"strokes": 3})
    return event.caused("IMAGE_GENERATED", cost=0.25)


@bus.subscriber("Critic", ["IMAGE_GENERATED"], max_attempts=1)
def judge(event):
    print("a handler prints this")
    raise RuntimeError("no taste")
"""


@pytest.fixture
def project(place: Place) -> Place:
    (place.directory / "pipeline.py").write_text(APP, encoding="utf-8")
    return place


def test_off_a_terminal_every_line_of_dev_is_an_object_and_tells_of_deliveries_without_payloads(
    project: Place,
) -> None:
    dev = project.start("dev", "--app", "pipeline:bus", "--log-level", "debug")
    lines = _lines(dev)
    seen = [_until(lines, "Ready: ")]
    payload = json.dumps({"text": SECRET})
    project.run("publish", "SHOT_PLANNED", "-p", "P-1", "-a", "me", "--id", "EV-shot", "--payload", payload)

    letter = _until(lines, "becomes a dead letter")
    dev.send_signal(signal.SIGINT)
    everything = [*seen, letter, *lines]
    dev.wait(60)
    objects = [json.loads(line) for part in everything for line in part.splitlines()]

    assert all({"time", "level", "logger", "message", "pid"} <= one.keys() for one in objects)
    assert SECRET not in "".join(everything)
    done = _of(objects, "is done after")
    assert (done["event_id"], done["project_id"], done["subscriber"], done["attempt"]) == (
        "EV-shot", "P-1", "Painter", 1,
    )  # fmt: skip
    assert done["level"] == "debug" and done["logger"] == "eventbus.worker"
    assert (done["cost"], done["currency"]) == (0.25, "USD") and done["duration_ms"] > 0
    dead = _of(objects, "becomes a dead letter")
    assert (dead["correlation_id"], dead["causation_id"], dead["subscriber"]) == ("EV-shot", "EV-shot", "Critic")
    assert dead["level"] == "error" and "cost" not in dead
    assert dead["exception"].startswith("Traceback") and dead["exception"].rstrip().endswith("no taste")
    own = _of(objects, "Painting.")
    assert (own["event_id"], own["subscriber"], own["logger"], own["strokes"]) == ("EV-shot", "Painter", "painter", 3)
    assert _of(objects, "a handler prints this")["logger"] == "worker.1"


def test_a_worker_an_archiver_and_a_web_process_write_objects_unless_text_is_asked_for(project: Place) -> None:
    started = {
        "Ready: ": project.start("worker", "--processes", "1", "--app", "pipeline:bus"),
        "eventbus.archiver": project.start("archive"),
        "running on http": project.start("web", "--port", "0"),
    }
    text = project.start("archive", EVENTBUS_LOG_FORMAT="text")

    said = {words: _until(_lines(process), words) for words, process in started.items()}
    plain = _until(_lines(text), "eventbus.archiver")  # that it archives or stands by: of two either may be first
    for process in (*started.values(), text):
        process.terminate()
    rest = [process.communicate(timeout=60)[1] for process in started.values()]
    text.communicate(timeout=60)

    objects = [json.loads(line) for part in [*said.values(), *rest] for line in part.splitlines()]
    assert {one["logger"] for one in objects} >= {"eventbus.worker", "eventbus.archiver", "uvicorn.error"}
    assert " INFO    [" in plain and "{" not in plain


def test_on_a_terminal_there_are_lines_whose_level_has_a_colour_unless_it_is_unwanted(project: Place) -> None:
    asked = ("worker", "--processes", "1", "--app", "pipeline:bus", "--log-level", "info")
    shown = {}
    for name, variables in (("", {}), ("plain", {"NO_COLOR": "1"}), ("json", {"EVENTBUS_LOG_FORMAT": "json"})):
        with on_a_terminal(project, *asked, **variables) as terminal:
            wait_until(lambda seen=terminal: "Ready: " in seen.shown, 60, "the worker")
            terminal.process.send_signal(signal.SIGHUP)  # the terminal is there, so that it reloads
            wait_until(lambda seen=terminal: "Reloaded" in seen.shown, 60, "the reload")
            terminal.process.terminate()
            assert terminal.end() == 0
        shown[name] = terminal.shown

    assert " INFO    [" in shown[""] and "{" not in shown[""]
    assert " INFO    [" in shown["plain"] and "\x1b[" not in shown["plain"]
    assert all(json.loads(line) for line in shown["json"].splitlines() if line.strip())


def test_a_format_that_there_is_not_is_a_mistake(place: Place) -> None:
    ended = place.run("archive", "--once", EVENTBUS_LOG_FORMAT="xml")

    assert ended.code == 2
    assert ended.sentence() == "EVENTBUS_LOG_FORMAT must be json or text, not 'xml'."


def test_a_warning_has_a_colour_and_nothing_that_a_terminal_obeys(caplog: pytest.LogCaptureFixture) -> None:
    record = logging.makeLogRecord({"name": "x", "levelno": 30, "levelname": "WARNING", "msg": "\x1b[2J\tno\a"})

    line = formatter("colour", sys.stderr).format(record)

    assert "\x1b[33m WARNING\x1b[0m" in line
    assert line.endswith("\\x1b[2J\tno\\x07")


def test_an_object_holds_whatever_an_application_gives_it() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    ring: list[Any] = []
    ring.append(ring)
    for extra in ({"ring": ring}, {"odd": {1, 2}}, {"nan": float("nan")}, {"key": {(1, 2): 3}}, {"snow": "雪\ud800"}):
        record = logging.makeLogRecord({"msg": "%s", "args": ("a\nb",), "levelname": "INFO", **extra})

        line = formatter("json", stream).format(record)

        assert line.isascii() and "\n" not in line
        assert json.loads(line)["message"] == "a\nb" and extra.keys() <= json.loads(line).keys()


def test_of_a_delivery_that_went_well_nothing_is_made_unless_the_level_asks_for_it() -> None:
    from events.deliveries import Settlement
    from events.encoding import encode
    from events.frame import Frame, Lease
    from events.records import AttemptState
    from workers import saying

    class Counted(Lease):
        shown = 0

        def __repr__(self) -> str:
            Counted.shown += 1
            return super().__repr__()

    event = Event(project_id="P", type="SHOT_PLANNED", actor="me", payload={"text": SECRET})
    lease = Counted("Painter", "1-0", 1, Frame(1, 0, 0, 0, "SHOT_PLANNED", "", "P", 0, "", encode(event)))
    attempt: Any = type(
        "Attempt", (), {"lease": lease, "error": None, "result": None, "__repr__": lambda _: repr(lease)}
    )()
    settlement = Settlement(lease, "end", AttemptState.DONE, elapsed_us=1500)
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(formatter("json", sys.stderr))
    saying.log.addHandler(handler)
    try:
        for level in (logging.INFO, logging.DEBUG):
            saying.log.setLevel(level)
            saying.say(attempt, settlement)
            if level == logging.INFO:
                assert Counted.shown == 0 and lease.event_id == "", "neither shown nor decoded"
    finally:
        saying.log.removeHandler(handler)
        saying.log.setLevel(logging.NOTSET)

    [line] = written.getvalue().splitlines()
    assert json.loads(line)["duration_ms"] == 1.5 and SECRET not in line


def _lines(process: subprocess.Popen[str]) -> Iterator[str]:
    assert process.stderr is not None
    return iter(process.stderr)


def _until(lines: Iterator[str], text: str) -> str:
    """Read lines up to one that holds the text; return what was read."""
    seen = ""
    for line in lines:
        seen += line
        if text in line:
            return seen
    raise AssertionError(f"It never said {text!r}:\n{seen}")


def _of(objects: list[dict[str, Any]], words: str) -> dict[str, Any]:
    return next(one for one in objects if words in one["message"])
