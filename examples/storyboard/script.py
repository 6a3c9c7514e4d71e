"""The script: scenes that know their mood, place and light, and who is in them."""

from __future__ import annotations

from examples.storyboard.palette import MOODS, dice
from examples.storyboard.reading import Scene, cast_of, mood_of, most
from examples.storyboard.text import Passage, split_story
from examples.storyboard.words import count

_PLACES = ("meadow", "forest", "river", "village", "mountain", "sea", "road", "castle")
_DAY = ("dawn", "day", "day", "dusk", "night")
_SOMEBODY = (("person",), ("person", "dog"), ("woman", "child"), ("man", "bird"), ("fox",))


def write_script(text: str, seed: str) -> list[Scene]:
    """Return a story's scenes, in order; the same text gives the same ones.

    A scene that does not say where or when it is, is where and when the last one was. A story
    that never says so (in a language that the lexicon does not know) gets places by chance, and
    one day from dawn to night.
    """
    passages = split_story(text)
    cast = cast_of(text)[:2] or dice(seed, "cast").choice(_SOMEBODY)
    named = {kind: bool(count(kind, text)) for kind in ("mood", "setting", "time")}
    scenes: list[Scene] = []
    for number, passage in enumerate(passages):
        setting, time = _before(scenes, seed)
        if not named["setting"]:
            setting = dice(seed, f"place {number}").choice(_PLACES)
        if not named["time"]:
            time = _DAY[number * len(_DAY) // len(passages)]
        mood = "calm" if named["mood"] else dice(seed, f"mood {number}").choice(tuple(MOODS))
        scenes.append(_scene(number, passage, mood, setting, time, cast))
    return scenes


def _before(scenes: list[Scene], seed: str) -> tuple[str, str]:
    if scenes:
        return scenes[-1].setting, scenes[-1].time
    return dice(seed, "place").choice(_PLACES[:3]), "day"


def _scene(number: int, passage: Passage, mood: str, setting: str, time: str, cast: tuple[str, ...]) -> Scene:
    text = passage.text
    setting = most(count("setting", text), otherwise=setting)
    weather = most(count("weather", text), otherwise="clear")
    if setting == "snow":
        weather = "snow"
    return Scene(
        scene_id=f"s{number + 1:02d}",
        sentences=passage.sentences,
        mood=mood_of(text, otherwise=mood),
        setting=setting,
        time=most(count("time", text), otherwise=time),
        weather=weather,
        cast=cast_of(text, known=cast),
        shots=passage.shots,
    )
