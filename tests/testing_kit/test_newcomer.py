"""What a user does with the kit, in a directory of his own: pytest finds the fixture, failures explain themselves."""

from __future__ import annotations

import os
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent

PIPELINE = """
from events import Event, EventBus, EventType, publish

bus = EventBus()


@bus.subscriber("ScriptWriter", [EventType.PROJECT_CREATED])
async def write(event):
    if "title" not in event.payload:
        raise ValueError("a project without a title")
    return event.caused(EventType.SCENE_WRITTEN, payload={"scene": event.payload["title"]}, cost=0.05)


@bus.subscriber("Billing", [EventType.SCENE_WRITTEN])
def bill(event):
    publish(event.caused("SCENE_BILLED"))


def submit(title):
    return publish(Event(project_id="P-1", type=EventType.PROJECT_CREATED, actor="User", payload={"title": title}))
"""
CONFTEST = """
import pytest


@pytest.fixture
def event_bus_app():
    return "pipeline:bus"
"""
TESTS = """
import asyncio

import pipeline
import pytest
from events import Event
from events.testing import crash_test


def test_a_project_becomes_a_scene(event_bus_kit):
    root = pipeline.submit("The Fox")
    event_bus_kit.run_until_idle_sync()
    assert [one.type for one in event_bus_kit.caused_by(root)] == ["SCENE_WRITTEN", "SCENE_BILLED"]
    assert event_bus_kit.costs() == {"USD": 0.05}


@pytest.mark.parametrize("n", range(20))
def test_many(event_bus_kit, n):
    pipeline.submit(str(n))
    event_bus_kit.run_until_idle_sync()
    assert [one.payload for one in event_bus_kit.events("SCENE_WRITTEN")] == [{"scene": str(n)}]


def test_a_loop_of_its_own(event_bus_kit):
    async def run():
        await asyncio.to_thread(pipeline.submit, "x")
        await event_bus_kit.run_until_idle()
        return event_bus_kit.events("SCENE_BILLED")

    assert len(asyncio.run(run())) == 1


def test_a_project_without_a_title(event_bus_kit):
    event_bus_kit.publish_sync(Event(project_id="P-1", type="PROJECT_CREATED", actor="User"))
    event_bus_kit.run_until_idle_sync()


def test_billing_is_idempotent(event_bus_kit):
    scene = Event(project_id="P-1", type="SCENE_WRITTEN", actor="ScriptWriter")
    crash_test("Billing", scene, bus=event_bus_kit).raise_if_not()
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A directory that says of this package what an installed one says: which pytest plugin it has."""
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    info = tmp_path / "site" / "multi_agent_event_bus-0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: multi-agent-event-bus\nVersion: 0\n")
    (info / "entry_points.txt").write_text(f"[pytest11]\n{setup['options.entry_points']['pytest11'].strip()}\n")
    return info.parent


def run_pytest(folder: Path, site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("EVENTBUS_", "PYTEST_"))}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
        cwd=folder,
        env=clean | {"PYTHONPATH": f"{site}{os.pathsep}{ROOT}", "REDIS_URL": "redis://127.0.0.1:1/0", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_a_newcomer_tests_a_pipeline_and_its_failures_explain_themselves(tmp_path: Path, site: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    for name, content in {"pipeline.py": PIPELINE, "conftest.py": CONFTEST, "test_pipeline.py": TESTS}.items():
        (folder / name).write_text(content)

    done = run_pytest(folder, site)

    assert "2 failed, 22 passed" in done.stdout, done.stdout + done.stderr
    said = done.stdout
    assert 'raise ValueError("a project without a title")' in said, "the handler's own line"
    assert "ScriptWriter gave up PROJECT_CREATED EV-" in said
    assert "after 5 attempts: ValueError: a project without a title" in said
    assert "Billing is not idempotent: 3 of 4 disturbed runs leave something else than an undisturbed one." in said
    line = 1 + PIPELINE.splitlines().index('    publish(event.caused("SCENE_BILLED"))')
    assert f"The first is killed after publish 1 (of SCENE_BILLED), pipeline.py:{line} in bill:" in said
    assert sorted(path.name for path in folder.iterdir() if path.name != "__pycache__") == [
        "conftest.py", "pipeline.py", "test_pipeline.py",
    ], "nothing is left beside the project"  # fmt: skip


def test_without_a_test_that_asks_for_it_the_plugin_starts_and_imports_nothing(tmp_path: Path, site: Path) -> None:
    (tmp_path / "test_other.py").write_text(
        "import sys\ndef test_nothing():\n    assert not {'sqlalchemy', 'redis', 'events.testing'} & set(sys.modules)\n"
    )

    done = run_pytest(tmp_path, site, "-p", "no:valkey", "test_other.py")

    assert done.returncode == 0, done.stdout + done.stderr
    fixtures = run_pytest(tmp_path, site, "--fixtures", "test_other.py").stdout
    assert "event_bus_kit -- " in fixtures
    assert "A bus for one test, plain or async" in fixtures
