"""The Node example does what it says, killed or not. Not run where there is no Node of version 18 or later."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.web.site import Site

STEP = Path(__file__).parents[2] / "examples" / "node" / "voice.mjs"


def node() -> str:
    found = shutil.which("node")
    version = subprocess.run([found, "--version"], capture_output=True, text=True).stdout if found else ""
    major = re.match(r"v(\d+)", version)
    if found is None or major is None or int(major[1]) < 18:
        pytest.skip(f"Not run: there is no Node of version 18 or later ({version.strip() or 'none'}).")
    return found


def test_a_step_in_node_answers_each_scene_once_also_when_it_forgets_its_place(site: Site, tmp_path: Path) -> None:
    command, environment = node(), {"EVENTBUS_URL": site.url, "PATH": "/usr/bin:/bin"}
    scenes = [
        site.published(project_id="node", type="SCENE_WRITTEN", payload={"text": "a fox " * n})["event_id"]
        for n in range(1, 4)
    ]

    def run(count: int) -> str:
        done = subprocess.run(
            [command, str(STEP), str(count)], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    before = len(site.get("/events", type="SCENE_WRITTEN", limit=1000)["events"]) - 3
    first = run(before + 2)
    (tmp_path / "cursor.txt").unlink()
    second = run(before + 3)

    assert first.count("(was there)") == 0 and second.count("(was there)") == before + 2
    voices = site.get("/events", project="node", type="VOICE_RENDERED")["events"]
    assert [event["causation_id"] for event in voices] == scenes
    assert all(event["actor"] == "VoiceGen" and event["metadata"]["cost"] > 0 for event in voices)
    chain = site.get(f"/events/voice-{scenes[0]}/chain")["events"]
    assert [event["event_id"] for event in chain] == [scenes[0], f"voice-{scenes[0]}"]
