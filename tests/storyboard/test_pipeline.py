"""The whole pipeline: what it leaves on disk, and that nothing depends on order or repetition."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import wave
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from examples.storyboard import SUBSCRIPTIONS, opening_event, subscribers
from examples.storyboard.agent import StoryEvent
from tests.storyboard.conftest import Told
from tests.storyboard.driver import SHORT, contents, opened, run

ROOT = Path(__file__).resolve().parents[2]


def test_the_fable_becomes_a_storyboard_a_contact_sheet_a_soundtrack_and_a_cut_list(fable: Told) -> None:
    finals = fable.of("PROJECT_FINALIZED")

    assert len(finals) == 1
    cuts = json.loads((fable.out / "storyboard.json").read_text("utf-8"))
    assert finals[0].payload["shots"] == len(cuts["cuts"]) == len(fable.of("SHOT_PLANNED"))
    assert 8 <= len(cuts["cuts"]) <= 12
    assert {path.name for path in fable.out.iterdir()} == {*finals[0].payload["files"].values(), "work"}


def test_the_animated_storyboard_shows_every_shot_for_its_time(fable: Told) -> None:
    cuts = json.loads((fable.out / "storyboard.json").read_text("utf-8"))

    with opened(fable.out / "storyboard.gif") as gif:
        assert gif.is_animated
        lasting_ms = 0
        for number in range(gif.n_frames):
            gif.seek(number)
            gif.load()
            lasting_ms += gif.info["duration"]
    assert gif.size == (480, 324)
    assert lasting_ms == pytest.approx(cuts["duration_s"] * 1000)
    assert cuts["cuts"][-1]["out_s"] == cuts["duration_s"]


def test_splicing_keeps_every_pixel_of_the_previews(fable: Told) -> None:
    cuts = json.loads((fable.out / "storyboard.json").read_text("utf-8"))

    with opened(fable.out / "storyboard.gif") as joined:
        at = 1
        for cut in cuts["cuts"][:2]:
            with opened(fable.out / cut["preview"]) as preview:
                for number in range(preview.n_frames):
                    preview.seek(number)
                    joined.seek(at)
                    assert preview.convert("RGB").tobytes() == joined.convert("RGB").tobytes()
                    at += 1


def test_the_soundtrack_is_as_long_as_the_storyboard_and_not_silent(fable: Told) -> None:
    cuts = json.loads((fable.out / "storyboard.json").read_text("utf-8"))

    with wave.open(str(fable.out / "soundtrack.wav")) as sound:
        seconds = sound.getnframes() / sound.getframerate()
        frames = sound.readframes(sound.getnframes())
    assert seconds == pytest.approx(cuts["duration_s"], abs=0.01)
    loudest = max(abs(value) for value in memoryview(frames).cast("h"))
    assert 8_000 < loudest < 32_000


def test_every_picture_can_be_opened_and_has_many_colours(fable: Told) -> None:
    pictures = sorted(fable.out.rglob("*.png"))

    assert len(pictures) == len(fable.of("IMAGE_GENERATED")) + 1
    for path in pictures:
        with Image.open(path) as picture:
            picture.load()
            assert len(picture.convert("RGB").getcolors(1_000_000) or ()) > 500


def test_the_guardian_sends_some_shots_back_and_they_pass_on_a_later_take(fable: Told) -> None:
    failed, approved = fable.of("CONSISTENCY_FAILED"), fable.of("SHOT_APPROVED")

    assert 1 <= len({event.payload["shot"]["shot_id"] for event in failed}) < len(approved)
    assert len(fable.of("PROMPT_ADJUSTMENT")) == len(failed)
    assert all(event.payload["findings"] for event in failed)
    assert not any(event.payload["findings"] for event in approved)
    assert {event.payload["take"] for event in approved} <= {1, 2, 3}
    assert len(approved) == len(fable.of("SHOT_PLANNED"))


def test_every_event_names_its_cause_and_shares_the_root(fable: Told) -> None:
    known = {fable.events[0].event_id}

    assert fable.events[0].causation_id is None
    for event in fable.events[1:]:
        assert event.causation_id in known
        assert event.correlation_id == fable.events[0].event_id
        known.add(event.event_id)


def test_every_caused_event_carries_a_cost_a_latency_and_its_actor(fable: Told) -> None:
    names = {agent.name for agent in subscribers()}

    for event in fable.events[1:]:
        assert event.cost is not None and event.cost > 0
        assert event.latency_ms is not None and event.latency_ms >= 0
        assert event.actor in names
    assert 1 < sum(event.cost or 0 for event in fable.events) < 10


def test_payloads_stay_small_and_pointers_point_to_files(fable: Told) -> None:
    for event in fable.events[1:]:
        assert len(json.dumps(event.payload)) < 4_000
        if event.blackboard_pointer:
            assert (fable.out / event.blackboard_pointer).is_file()


def test_no_file_name_holds_an_event_id_and_no_draft_is_left(fable: Told) -> None:
    names = " ".join(path.name for path in fable.out.rglob("*"))

    assert ".tmp" not in names
    assert not any(event.event_id in names for event in fable.events)


def test_another_process_with_another_hash_seed_writes_the_same_bytes(tale: Told, tmp_path: Path) -> None:
    told = f"from tests.storyboard.driver import SHORT, run; run('Fox and Crow', SHORT, {str(tmp_path)!r})"
    environment = {**os.environ, "PYTHONHASHSEED": "12345", "PYTHONPATH": str(ROOT)}

    subprocess.run([sys.executable, "-c", told], check=True, env=environment, cwd=tmp_path, timeout=120)

    assert contents(tmp_path) == contents(tale.out)


@pytest.mark.parametrize("shuffle", [1, 2])
def test_order_and_repetition_change_no_byte(tale: Told, tmp_path: Path, shuffle: int) -> None:
    many = run("Fox and Crow", SHORT, tmp_path, shuffle=shuffle, twice=shuffle == 2)

    assert contents(tmp_path) == contents(tale.out)
    assert Counter(event.type.value for event in many) == Counter(event.type.value for event in tale.events)


def test_a_late_duplicate_finishes_nothing_twice(tale: Told) -> None:
    events = tale.events
    editor = next(agent for agent in subscribers() if agent.name == "Editor")
    pieces = [event for event in events if event.type in ("PREVIEW_VIDEO_READY", "MUSIC_COMPOSED")]

    finished = [piece for piece in pieces if editor.handle_event(piece)]

    assert finished == [pieces[-1]], "only the piece that closed the ledger may finish again, as a redo"


def test_a_crash_between_the_files_and_settling_is_repaired_by_doing_it_again(tale: Told) -> None:
    events, before = tale.events, contents(tale.out)
    for closed in tale.out.rglob("received/*/closed"):
        closed.unlink()
    (tale.out / "storyboard.gif").unlink()
    editor = next(agent for agent in subscribers() if agent.name == "Editor")
    last = [event for event in events if event.type in ("PREVIEW_VIDEO_READY", "MUSIC_COMPOSED")][-1]

    (final,) = editor.handle_event(last)

    assert final.type == "PROJECT_FINALIZED"
    assert contents(tale.out) == before


def test_a_second_run_into_the_same_folder_finishes_by_its_own_pieces(tale: Told) -> None:
    second = run("Fox and Crow", SHORT, tale.out)

    assert [event.type for event in second] == [event.type for event in tale.events]
    assert second[-1].type == "PROJECT_FINALIZED"


def test_the_wiring_names_each_agent_once_and_orders_only_the_editor() -> None:
    names = [agent.name for agent in subscribers()]

    assert names == [
        "RequirementParser",
        "ScriptWriter",
        "ShotDirector",
        "ImageGen",
        "ConsistencyGuardian",
        "VideoGen",
        "MusicComposer",
        "Editor",
    ]
    assert [agent.name for agent, _, options in SUBSCRIPTIONS if options.get("ordering")] == ["Editor"]


def test_the_opening_event_carries_the_story_and_an_absolute_folder() -> None:
    event = opening_event("T", "Once.", "out", "P-9")

    assert event.type == "PROJECT_CREATED"
    assert event.project_id == "P-9"
    assert event.payload == {"title": "T", "story": "Once.", "out_dir": str(Path("out").absolute())}


def test_the_pipeline_adds_a_type_of_its_own(fable: Told) -> None:
    assert [event.type.value for event in fable.of("REQUIREMENTS_PARSED")] == [StoryEvent.REQUIREMENTS_PARSED.value]
