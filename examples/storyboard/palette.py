"""Colour: one palette for each mood, changed by the light of the day, and the project's colour DNA."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from dataclasses import astuple, dataclass, replace
from typing import Any

Colour = tuple[int, int, int]

LUMINANCE = {"dawn": 0.61, "day": 0.62, "dusk": 0.51, "night": 0.27}
TOLERANCE = 0.085
MIN_CONTRAST = 0.055
MAX_DRIFT = 0.085


@dataclass(frozen=True, slots=True)
class Palette:
    """Seven colours that a picture is made of, from the top of the sky to the ink of its figures."""

    sky: Colour
    glow: Colour
    far: Colour
    mid: Colour
    ground: Colour
    ink: Colour
    accent: Colour

    def as_hex(self) -> list[str]:
        return ["#{:02x}{:02x}{:02x}".format(*colour) for colour in astuple(self)]


def from_hex(text: str) -> Colour:
    """Read `#rrggbb`."""
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)


def _palette(*colours: str) -> Palette:
    return Palette(*map(from_hex, colours))


MOODS: dict[str, Palette] = {
    "joy": _palette("#5fbbe3", "#fff0c4", "#a5d3b6", "#5aa578", "#9cc863", "#2c4a3c", "#f59f2a"),
    "calm": _palette("#86bccf", "#f4efdf", "#abc9c1", "#6a9a90", "#9bbb8c", "#2b4550", "#efb56e"),
    "sad": _palette("#7d93ab", "#d5dce0", "#94a6b6", "#5c7083", "#7f9189", "#293642", "#b39cc6"),
    "fear": _palette("#56608a", "#c0b3b8", "#6d7497", "#464f70", "#5b6675", "#1b1f33", "#dc6a58"),
    "anger": _palette("#c05d40", "#f7cb8f", "#b57058", "#84463f", "#a06a44", "#33191b", "#ffc24b"),
    "wonder": _palette("#5f74be", "#f7d0d6", "#958fca", "#6663a6", "#7fa3ac", "#24254d", "#ffd774"),
    "pride": _palette("#4f9fb5", "#fae3ae", "#c5ad78", "#8f7a4a", "#bba65c", "#38291f", "#a8324f"),
}


def mix(a: Colour, b: Colour, share: float) -> Colour:
    """Return a with `share` (0 to 1) of b in it."""
    return tuple(round(x + (y - x) * share) for x, y in zip(a, b, strict=True))  # type: ignore[return-value]


def luminance(colour: Colour) -> float:
    """Return how bright a colour looks, 0 to 1. Source: the luma of ITU-R BT.601."""
    red, green, blue = colour
    return (0.299 * red + 0.587 * green + 0.114 * blue) / 255


def in_light(palette: Palette, time: str) -> Palette:
    """Return a palette as it looks at a time of day."""
    if time == "night":
        navy, moon = (16, 24, 58), (92, 112, 168)
        return Palette(
            sky=mix(palette.sky, navy, 0.78),
            glow=mix(palette.glow, moon, 0.80),
            far=mix(palette.far, (52, 66, 116), 0.72),
            mid=mix(palette.mid, (30, 42, 84), 0.74),
            ground=mix(palette.ground, (40, 56, 92), 0.70),
            ink=mix(palette.ink, (8, 11, 30), 0.60),
            accent=mix(palette.accent, (255, 226, 150), 0.40),
        )
    if time == "dusk":
        return replace(
            palette,
            sky=mix(palette.sky, (74, 58, 122), 0.58),
            glow=mix(palette.glow, (255, 150, 84), 0.72),
            far=mix(palette.far, (150, 92, 122), 0.52),
            mid=mix(palette.mid, (84, 58, 92), 0.46),
            ground=mix(palette.ground, (128, 84, 84), 0.42),
        )
    if time == "dawn":
        return replace(
            palette,
            sky=mix(palette.sky, (142, 170, 216), 0.42),
            glow=mix(palette.glow, (255, 205, 178), 0.62),
            far=mix(palette.far, (214, 176, 186), 0.40),
            mid=mix(palette.mid, (136, 140, 156), 0.22),
        )
    return palette


def shot_palette(mood: str, time: str) -> Palette:
    """Return the palette of a picture of that mood, at that time of day."""
    return in_light(MOODS[mood], time)


def dna(moods: Counter[str]) -> dict[str, Any]:
    """Return the project's colour DNA: what every picture of it is measured against."""
    leading = [mood for mood, _ in moods.most_common(3)] or ["calm"]
    return {
        "moods": leading,
        "palette": MOODS[leading[0]].as_hex(),
        "luminance": dict(LUMINANCE),
        "tolerance": TOLERANCE,
        "min_contrast": MIN_CONTRAST,
        "max_drift": MAX_DRIFT,
    }


def dice(*names: str) -> random.Random:
    """Return a random generator that depends on nothing but the names."""
    return random.Random(int.from_bytes(hashlib.sha256("\0".join(names).encode()).digest()[:8], "big"))
