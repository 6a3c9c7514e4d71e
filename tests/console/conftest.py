"""A directory with history in it, shared by the tests that only read; and empty ones."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from events.embedded import ensure
from tests.console.command import Place

EVENTS = [
    {"event_id": "EV-root", "project_id": "P-1", "type": "PROJECT_CREATED", "actor": "Author"},
    {
        "event_id": "EV-scene", "project_id": "P-1", "type": "SCENE_WRITTEN", "actor": "ScriptWriter",
        "causation_id": "EV-root", "metadata": {"cost": 0.05, "latency_ms": 1200},
    },
    {
        "event_id": "EV-shot-1", "project_id": "P-1", "type": "SHOT_PLANNED", "actor": "ShotDirector",
        "causation_id": "EV-scene", "metadata": {"cost": 0.01, "latency_ms": 20},
    },
    {
        "event_id": "EV-shot-2", "project_id": "P-1", "type": "SHOT_PLANNED", "actor": "ShotDirector",
        "causation_id": "EV-scene", "metadata": {"cost": 0.01, "latency_ms": 40},
    },
    {"event_id": "EV-other", "project_id": "[red]P-2", "type": "PROJECT_CREATED", "actor": "Author"},
]  # fmt: skip


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """An empty directory, with the embedded servers to come."""
    return Place(tmp_path, {})


@pytest.fixture(scope="session")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A directory whose embedded history holds `EVENTS` and 1,000 more of project BULK, half of it archived."""
    directory = tmp_path_factory.mktemp("told")
    place = Place(directory, {})
    server = ensure(directory / ".eventbus")
    bulk = [
        {
            "event_id": f"EV-bulk-{n}",
            "project_id": "BULK",
            "type": "QA_REPORT",
            "actor": "QA",
            "payload": {"text": "x" * 200},
        }
        for n in range(1000)
    ]
    first = place.run("publish", "--file", "-", stdin=_lines(bulk))
    assert first.code == 0, first.err
    assert place.run("archive", "--once").code == 0
    second = place.run("publish", "--file", "-", stdin=_lines(EVENTS))
    assert second.code == 0, second.err
    yield place
    server.release()


def _lines(events: list[dict]) -> str:
    return "".join(json.dumps(event) + "\n" for event in events)
