"""Understanding a passage well enough to draw it: mood, place, time, weather, who is there."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from examples.storyboard.words import CAST, count

MAX_CAST = 4
_CAPITALISED = re.compile(r"(?<=[a-z,;] )[A-Z][a-z]{2,}")
_NOT_NAMES = frozenset(
    (
        "The",
        "And",
        "But",
        "Then",
        "When",
        "While",
        "She",
        "His",
        "Her",
        "They",
        "There",
        "This",
        "That",
        "You",
        "Your",
        "What",
        "Who",
        "God",
    )
)
_QUOTE = re.compile(r"[\"“”«»「」『』]")


@dataclass(frozen=True, slots=True)
class Scene:
    """What one scene says and shows.

    Attributes:
        scene_id: `s01`, `s02`, ... in the order of the story.
        cast: kinds of figures to draw, the most important first; `person` for a name nobody knows.
        shots: how many shots the scene gets.
    """

    scene_id: str
    sentences: tuple[str, ...]
    mood: str
    setting: str
    time: str
    weather: str
    cast: tuple[str, ...]
    shots: int

    def as_payload(self) -> dict[str, Any]:
        return {**asdict(self), "sentences": list(self.sentences), "cast": list(self.cast)}

    @classmethod
    def from_payload(cls, payload: dict[str, Any]) -> Self:
        values = {field.name: payload[field.name] for field in fields(cls)}
        return cls(**{**values, "sentences": tuple(values["sentences"]), "cast": tuple(values["cast"])})


def most(counted: Counter[str], otherwise: str) -> str:
    """Return the commonest tag, the first seen among equals."""
    return counted.most_common(1)[0][0] if counted else otherwise


def mood_of(text: str, otherwise: str = "calm") -> str:
    """Return the mood that most words of a text speak of; an exclamation leans to the loud ones."""
    found = count("mood", text)
    if "!" in text or "！" in text:
        for loud in ("joy", "anger", "fear"):
            if loud in found:
                found[loud] += 1
    return most(found, otherwise)


def cast_of(text: str, known: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Return the figures a text speaks of, the most often named first, at most `MAX_CAST`."""
    found = count("cast", text)
    if not any(kind in found for kind in CAST) and names_in(text):
        found["person"] += 1
    figures = tuple(kind for kind, _ in found.most_common(MAX_CAST))
    return figures or known


def names_in(text: str) -> list[str]:
    """Return capitalised words inside sentences that occur at least twice: probably names."""
    found = Counter(name for name in _CAPITALISED.findall(text) if name not in _NOT_NAMES)
    return [name for name, times in found.most_common() if times >= 2]


def speaks(text: str) -> bool:
    """Tell whether somebody is quoted."""
    return _QUOTE.search(text) is not None


def moves(text: str) -> bool:
    """Tell whether somebody runs, leaps or flies."""
    return bool(count("action", text))
