"""Measuring a picture against the project's colour DNA."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from io import BytesIO
from math import hypot, log, log2
from typing import Any

from PIL import Image, ImageStat

from examples.storyboard.drawing import HEIGHT_PX, WIDTH, Exposure
from examples.storyboard.palette import Colour, from_hex

_WEIGHTS = (0.28, 0.22, 0.08, 0.14, 0.22, 0.04, 0.02)


@dataclass(frozen=True, slots=True)
class Measures:
    """What a picture is like, each from 0 to 1.

    Attributes:
        luminance: its mean brightness.
        contrast: the standard deviation of its brightness.
        drift: how far the mean of its hues lies from that of the palette it was asked for.
    """

    luminance: float
    contrast: float
    drift: float

    def as_payload(self) -> dict[str, Any]:
        return asdict(self)


def measure(png: bytes, palette: list[str]) -> Measures:
    """Measure the picture above the caption strip."""
    with Image.open(BytesIO(png)) as frame:
        picture = frame.convert("RGB").crop((0, 0, WIDTH, HEIGHT_PX)).reduce(4)
    grey = ImageStat.Stat(picture.convert("L"))
    red, green, blue = ImageStat.Stat(picture).mean
    asked = [sum(w * c[i] for w, c in zip(_WEIGHTS, map(from_hex, palette), strict=True)) for i in range(3)]
    here, there = _hue((red, green, blue)), _hue((asked[0], asked[1], asked[2]))
    return Measures(
        luminance=round(grey.mean[0] / 255, 4),
        contrast=round(grey.stddev[0] / 255, 4),
        drift=round(hypot(here[0] - there[0], here[1] - there[1]), 4),
    )


def findings(measures: Measures, time: str, dna: dict[str, Any]) -> list[str]:
    """Return what is wrong with a picture: `too dark`, `too bright`, `flat`, `colour cast`."""
    wrong = []
    miss = measures.luminance - dna["luminance"][time]
    if abs(miss) > dna["tolerance"]:
        wrong.append("too bright" if miss > 0 else "too dark")
    if measures.contrast < dna["min_contrast"]:
        wrong.append("flat")
    if measures.drift > dna["max_drift"]:
        wrong.append("colour cast")
    return wrong


def corrected(exposure: Exposure, measured: float, wanted: float, wrong: list[str]) -> Exposure:
    """Return the exposure to try next, from what the last one gave."""
    stops, cast = exposure.stops, exposure.cast
    if "too dark" in wrong or "too bright" in wrong:
        stops += log2(log(min(0.99, max(0.01, measured))) / log(wanted))
    if "colour cast" in wrong:
        cast *= 0.35
    return Exposure(round(min(2.5, max(-2.5, stops)), 2), round(cast, 2))


def _hue(mean: tuple[float, float, float] | Colour) -> tuple[float, float]:
    """The two colour differences of a mean colour. Source: Cb and Cr of ITU-R BT.601."""
    red, green, blue = (channel / 255 for channel in mean)
    grey = 0.299 * red + 0.587 * green + 0.114 * blue
    return 0.564 * (blue - grey), 0.713 * (red - grey)
