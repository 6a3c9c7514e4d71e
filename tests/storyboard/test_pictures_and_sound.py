"""Keyframes, measurements, previews and cues, each by itself."""

from __future__ import annotations

import itertools
import wave
from collections import Counter
from io import BytesIO

import pytest
from PIL import Image

from examples.storyboard.beasts import BEASTS
from examples.storyboard.camera import as_gif, film
from examples.storyboard.drawing import Exposure, draw_keyframe
from examples.storyboard.measure import corrected, findings, measure
from examples.storyboard.music import MANNERS, RATE, compose, join_wavs
from examples.storyboard.palette import LUMINANCE, MOODS, dna, shot_palette
from examples.storyboard.shots import SHOT_S, Shot
from examples.storyboard.splice import splice
from examples.storyboard.words import CAST, SETTINGS, TIMES, WEATHER
from tests.storyboard.driver import opened


def shot(**given: object) -> Shot:
    values = {
        "shot_id": "s02-1",
        "scene_id": "s02",
        "framing": "wide",
        "move": "push in",
        "caption": "A fox ran over the hill.",
        "mood": "calm",
        "setting": "meadow",
        "time": "day",
        "weather": "clear",
        "cast": ("fox", "bird"),
    }
    return Shot(**{**values, **given})  # type: ignore[arg-type]


def test_every_word_of_the_lexicon_has_a_picture_a_palette_and_a_music() -> None:
    assert set(MOODS) == set(MANNERS)
    assert set(LUMINANCE) == set(TIMES)
    assert set(BEASTS) < set(CAST)


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_setting_can_be_drawn_at_every_time_and_in_every_weather(setting: str) -> None:
    weathers = itertools.cycle(["clear", *WEATHER])
    framings = itertools.cycle(["wide", "medium", "close"])

    for time in TIMES:
        asked = shot(setting=setting, time=time, weather=next(weathers), framing=next(framings))
        png = draw_keyframe(asked, "seed", Exposure())
        with Image.open(BytesIO(png)) as picture:
            picture.load()
            assert picture.size == (640, 432)


def test_every_figure_can_be_drawn() -> None:
    empty = draw_keyframe(shot(cast=()), "seed", Exposure())

    pictures = {draw_keyframe(shot(cast=(kind,)), "seed", Exposure()) for kind in [*CAST, "person"]}

    assert len(pictures) == len(CAST) + 1
    assert empty not in pictures


def test_the_same_shot_is_the_same_picture_and_another_seed_is_another() -> None:
    assert draw_keyframe(shot(), "seed", Exposure()) == draw_keyframe(shot(), "seed", Exposure())
    assert draw_keyframe(shot(), "seed", Exposure()) != draw_keyframe(shot(), "other", Exposure())


@pytest.mark.parametrize("stops", [-1.0, 1.0])
@pytest.mark.parametrize("time", TIMES)
def test_a_wrong_exposure_is_found_and_corrected_within_two_retakes(time: str, stops: float) -> None:
    genes, asked = dna(Counter({"joy": 1})), shot(time=time)
    palette, exposure = shot_palette("calm", time).as_hex(), Exposure(stops=stops)

    verdicts = []
    for _ in range(3):
        measures = measure(draw_keyframe(asked, "seed", exposure), palette)
        verdicts.append(findings(measures, time, genes))
        exposure = corrected(exposure, measures.luminance, genes["luminance"][time], verdicts[-1])

    assert verdicts[0] == ["too dark" if stops < 0 else "too bright"]
    assert [] in verdicts


def test_a_colour_cast_is_found_and_corrected() -> None:
    genes, palette = dna(Counter({"joy": 1})), shot_palette("calm", "day").as_hex()

    measures = measure(draw_keyframe(shot(), "seed", Exposure(cast=0.8)), palette)
    wrong = findings(measures, "day", genes)
    exposure = corrected(Exposure(cast=0.8), measures.luminance, 0.6, wrong)

    assert "colour cast" in wrong
    assert "colour cast" not in findings(measure(draw_keyframe(shot(), "seed", exposure), palette), "day", genes)


@pytest.mark.parametrize("move", ["push in", "pull out", "pan left", "pan right"])
def test_a_preview_moves_and_lasts_as_long_as_a_shot(move: str) -> None:
    gif = film(draw_keyframe(shot(), "seed", Exposure()), move)

    with opened(BytesIO(gif)) as preview:
        frames, lasting_ms = [], 0
        for number in range(preview.n_frames):
            preview.seek(number)
            lasting_ms += preview.info["duration"]
            frames.append(preview.convert("RGB").tobytes())
    assert lasting_ms == pytest.approx(SHOT_S * 1000)
    assert len(set(frames)) == len(frames) > 10
    assert len(gif) < 700_000


def test_films_of_different_sizes_or_none_are_not_joined() -> None:
    small, large = (as_gif([Image.new("RGB", (side, side), "red")], [100]) for side in (10, 20))

    with pytest.raises(ValueError, match="no film"):
        splice([])
    with pytest.raises(ValueError, match="sizes"):
        splice([small, large])
    with pytest.raises(ValueError, match="not a GIF"):
        splice([b"PNG" + small[3:]])


@pytest.mark.parametrize("mood", MANNERS)
def test_a_cue_of_any_mood_is_exactly_as_long_as_asked_and_always_the_same(mood: str) -> None:
    cue = compose(mood, 2.88, "seed", "s01")

    with wave.open(BytesIO(cue)) as sound:
        assert (sound.getnchannels(), sound.getsampwidth(), sound.getframerate()) == (1, 2, RATE)
        assert sound.getnframes() == round(2.88 * RATE)
        assert any(sound.readframes(RATE))
    assert cue == compose(mood, 2.88, "seed", "s01")
    assert cue != compose(mood, 2.88, "other", "s01")


def test_joined_cues_follow_a_silence() -> None:
    cue = compose("joy", 0.5, "seed", "s01")

    with wave.open(BytesIO(join_wavs([cue, cue], silence_s=1.0))) as sound:
        assert sound.getnframes() == RATE + 2 * round(0.5 * RATE)
        assert not any(sound.readframes(RATE))
