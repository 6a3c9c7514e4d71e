"""Planning shots: how each part of a scene is framed, how the camera moves, what it says."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from examples.storyboard.reading import Scene, cast_of, mood_of, moves, speaks
from examples.storyboard.text import caption, groups_of, join
from examples.storyboard.words import count

FRAMES_PER_SHOT = 14
FRAME_MS = 120
HOLD_MS = 1320
SHOT_S = ((FRAMES_PER_SHOT - 1) * FRAME_MS + HOLD_MS) / 1000


@dataclass(frozen=True, slots=True)
class Shot:
    """One picture of the storyboard.

    Attributes:
        shot_id: `<scene>-<n>`, which names its files.
        framing: `wide`, `medium` or `close`.
        move: `push in`, `pull out`, `pan left` or `pan right`.
        caption: the line of the story under the picture.
    """

    shot_id: str
    scene_id: str
    framing: str
    move: str
    caption: str
    mood: str
    setting: str
    time: str
    weather: str
    cast: tuple[str, ...]

    def as_payload(self) -> dict[str, Any]:
        return {**asdict(self), "cast": list(self.cast)}

    @classmethod
    def from_payload(cls, payload: dict[str, Any]) -> Self:
        values = {field.name: payload[field.name] for field in fields(cls)}
        return cls(**{**values, "cast": tuple(values["cast"])})

    @property
    def prompt(self) -> str:
        """The shot in words, as one would ask a painter for it."""
        who = " and ".join(f"a {kind}" for kind in self.cast) or "nobody"
        return f"{self.framing} shot, {self.setting} at {self.time}, {self.weather}, {self.mood} mood, {who}"


def plan_shots(scene: Scene) -> list[Shot]:
    """Plan a scene's 1 to 3 shots, in order; a pure function of the scene."""
    parts = groups_of(scene.sentences, scene.shots)
    return [_shot(scene, number, part) for number, part in enumerate(parts, start=1)]


def _shot(scene: Scene, number: int, part: list[str]) -> Shot:
    text = join(part)
    line = max(part, key=_telling)
    cast = cast_of(text, known=scene.cast)
    framing = _framing(number, line, cast)
    return Shot(
        shot_id=f"{scene.scene_id}-{number}",
        scene_id=scene.scene_id,
        framing=framing,
        move=_move(framing, text, int(scene.scene_id[1:]) + number),
        caption=caption(line),
        mood=mood_of(text, otherwise=scene.mood),
        setting=scene.setting,
        time=scene.time,
        weather=scene.weather,
        cast=cast[:1] if framing == "close" else cast[:3],
    )


def _telling(sentence: str) -> float:
    """How much of the story a sentence tells: figures, feelings and deeds, not too long."""
    figures = len(count("cast", sentence))
    return 2 * figures + len(count("mood", sentence)) + moves(sentence) - max(0, len(sentence) - 150) / 60


def _framing(number: int, line: str, cast: tuple[str, ...]) -> str:
    if number == 1 or not cast:
        return "wide"
    if number == 3 or (speaks(line) and len(cast) == 1):
        return "close"
    return "medium"


def _move(framing: str, text: str, turn: int) -> str:
    if moves(text):
        return "pan right"
    if framing == "wide":
        return ("pull out", "pan left", "push in")[turn % 3]
    return "push in" if framing == "close" else ("push in", "pan right", "pan left")[turn % 3]
