"""`worker`, `dev`, `archive`: they run until told to stop, and leave nothing behind."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
from contextlib import closing

import pytest

from tests.console.command import Place
from tests.valkey_servers import ValkeyServer
from tests.waiting import wait_until

APP = """
from events import EventBus

bus = EventBus()


@bus.subscriber("Echo", ["PING"])
async def echo(event):
    return event.caused("PONG", cost=0.5)
"""


@pytest.fixture
def project(place: Place) -> Place:
    """A directory with an application, and with a `workers.py` and `events` of its own kind beside it."""
    (place.directory / "pipeline.py").write_text(APP, encoding="utf-8")
    (place.directory / "workers.py").write_text("raise ImportError('not ours')", encoding="utf-8")
    return place


def test_dev_runs_everything_and_ctrl_c_stops_all(project: Place) -> None:
    dev = project.start("dev", "--app", "pipeline:bus", EVENTBUS_LOG_FORMAT="text")
    seen = _until(dev, "Ready: Echo")
    project.run("publish", "PING", "-p", "P", "-a", "me", "--id", "EV-ping")

    wait_until(lambda: _types(project) == ["PING", "PONG"], 20, "the answer")
    dev.send_signal(signal.SIGINT)
    _, rest = dev.communicate(timeout=30)

    assert dev.returncode == 0
    assert "(embedded)" in seen and "worker.1   |" in seen
    assert "Traceback" not in seen + rest
    stats = project.run("stats", "--json").json()
    assert [(one["subscriber"], one["done"]) for one in stats["deliveries"]] == [("Echo", 1)]


def test_dev_reloads_the_application_on_sighup(project: Place) -> None:
    dev = project.start("dev", "--app", "pipeline:bus")
    _until(dev, "Ready: Echo")

    (project.directory / "pipeline.py").write_text(APP.replace("PONG", "ANSWERED"), encoding="utf-8")
    dev.send_signal(signal.SIGHUP)
    _until(dev, "Reloaded")
    project.run("publish", "PING", "-p", "P", "-a", "me")

    wait_until(lambda: _types(project) == ["PING", "ANSWERED"], 20, "the new code's answer")
    dev.send_signal(signal.SIGINT)
    dev.communicate(timeout=30)
    assert dev.returncode == 0


def test_an_archiver_says_what_it_writes_and_for_what_it_stands_by(place: Place) -> None:
    place.run("publish", "X", "-p", "P", "-a", "A")
    archiver = place.start("archive")
    try:
        begun = _until(archiver, "Archives outcomes.")
        with closing(sqlite3.connect(place.directory / ".eventbus" / "eventbus.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            _until(archiver, "Stands by for history")
            other.execute("ROLLBACK")
        after = _until(archiver, "Takes history over")
    finally:
        archiver.terminate()
        _, rest = archiver.communicate(timeout=30)

    assert "Archives history." in begun and begun.count("Stands by") == 0
    assert "Archives history." not in after + rest and (after + rest).count("Stands by for history") == 0


def test_a_worker_and_an_archiver_make_a_fleet_and_drain_on_sigterm(project: Place) -> None:
    worker = project.start("worker", "--processes", "1", EVENTBUS_APP="pipeline:bus")
    archiver = project.start("archive")
    _until(worker, "Ready: Echo")
    project.run("publish", "PING", "-p", "P", "-a", "me")

    wait_until(lambda: _types(project) == ["PING", "PONG"], 20, "the answer")
    worker.terminate()
    assert worker.wait(30) == 0
    archiver.terminate()
    out, _ = archiver.communicate(timeout=30)

    assert archiver.returncode == 0
    assert out == "Archived 2 events and 1 outcome.\n"


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("nowhere:bus", "The application's module 'nowhere' cannot be found"),
        ("pipeline:nothing", "has no attribute 'nothing'"),
    ],
)
def test_a_worker_whose_application_cannot_be_loaded_says_why_and_ends(project: Place, target: str, says: str) -> None:
    ended = project.run("worker", "--processes", "1", "--app", target)

    assert ended.code == 2
    assert says in ended.err and "Traceback" not in ended.err


def test_a_worker_whose_login_is_refused_says_so_and_ends(project: Place, valkey_server: ValkeyServer) -> None:
    url = f"redis://someone:sesame@127.0.0.1:{valkey_server.port}/0"

    ended = project.run("worker", "--processes", "1", "--app", "pipeline:bus", REDIS_URL=url)

    assert ended.code == 3
    assert "refused the login" in ended.err and "Check user and password in REDIS_URL." in ended.err
    assert "sesame" not in ended.err + ended.out and "Traceback" not in ended.err


def test_an_application_that_raises_shows_its_traceback_once(project: Place) -> None:
    (project.directory / "broken.py").write_text("bus = 1 / 0", encoding="utf-8")

    ended = project.run("worker", "--processes", "2", "--app", "broken:bus")

    assert ended.code == 2
    assert ended.err.count("ZeroDivisionError") == ended.err.count("Traceback") == 1


def test_migrating_says_what_was_applied_and_then_that_there_is_nothing_to_do(place: Place) -> None:
    where = {"REDIS_URL": "redis://127.0.0.1:1/0", "DATABASE_URL": f"sqlite:///{place.directory / 'events.db'}"}

    first, again = place.run("migrate", **where), place.run("migrate", "--json", **where)

    assert "applied: 0001, 0002, 0003" in first.out
    told = first.err.splitlines()
    assert told[0].startswith("Migrating to 0001: The first tables") and [line[13:17] for line in told] == [
        f"000{n}" for n in range(1, len(told) + 1)
    ]
    assert f"Migrating to {again.json()['revision']}: " in told[-1] and not again.err
    assert again.json()["applied"] == []


def _types(place: Place) -> list[str]:
    return [event["type"] for event in place.run("replay", "--json").json_lines()]


def _until(process: subprocess.Popen[str], text: str) -> str:
    """Read a process's stderr up to a line that holds the text; return what was read."""
    assert process.stderr is not None
    seen = ""
    for line in process.stderr:
        seen += line
        if text in line:
            return seen
    raise AssertionError(f"It ended with {process.wait()} and never said {text!r}:\n{seen}")
