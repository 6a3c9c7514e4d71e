"""The land: what lies on the horizon and what the figures stand on, with water and roads."""

from __future__ import annotations

import random
from dataclasses import dataclass
from math import pi, sin

from PIL import Image, ImageDraw

from examples.storyboard.palette import Colour, Palette, mix
from examples.storyboard.pen import Point, smooth
from examples.storyboard.sky import gradient

SNOW: Colour = (236, 242, 248)


@dataclass(slots=True)
class Canvas:
    """A picture under way, and what everything painted on it needs to know."""

    picture: Image.Image
    draw: ImageDraw.ImageDraw
    palette: Palette
    time: str
    rng: random.Random
    horizon: int

    @property
    def size(self) -> tuple[int, int]:
        return self.picture.size


def ridge(canvas: Canvas, y: float, height: float, colour: Colour, waves: tuple[float, ...]) -> list[Point]:
    """Paint a ridge of hills: a sum of waves with phases that chance chose."""
    width, bottom = canvas.size
    phases = [(wave, canvas.rng.uniform(0, 2 * pi), height / (i + 1)) for i, wave in enumerate(waves)]
    line: list[Point] = [
        (x, y - sum(a * (0.5 + 0.5 * sin(x / width * 2 * pi * w + p)) for w, p, a in phases))
        for x in range(0, width + 9, 8)
    ]
    canvas.draw.polygon([*line, (width, bottom), (0, bottom)], fill=colour)
    return line


def paint_far(canvas: Canvas, setting: str) -> None:
    """What stands on the horizon, pale with distance."""
    (width, height), p, y = canvas.size, canvas.palette, canvas.horizon
    if setting in ("mountain", "snow", "castle", "cave"):
        for depth, count in ((0.0, 4), (0.4, 3)):
            for i in range(count):
                x = width * (i + canvas.rng.uniform(0.1, 0.9)) / count
                _peak(
                    canvas,
                    x,
                    y + 48,
                    height * canvas.rng.uniform(0.24, 0.42) * (1 - depth * 0.4),
                    mix(mix(p.far, p.glow, 0.4), p.mid, depth),
                )
    elif setting == "desert":
        ridge(canvas, y + 34, 60, mix(p.far, p.glow, 0.45), (1.3, 2.1))
    elif setting != "sea":
        ridge(canvas, y + 10, 90, mix(p.far, p.glow, 0.5), (1.1, 2.3, 3.1))
        ridge(canvas, y + 26, 56, p.far, (1.6, 2.7))
    else:
        ridge(canvas, y + 4, 34, mix(p.far, p.glow, 0.45), (0.7, 1.9))


def _peak(canvas: Canvas, x: float, base: float, height: float, colour: Colour) -> None:
    half = height * canvas.rng.uniform(0.85, 1.2)
    top = (x, base - height)
    canvas.draw.polygon([(x - half, base), top, (x + half, base)], fill=colour)
    canvas.draw.polygon(
        [top, (x + half, base), (x + half * 0.12, base), (x - half * 0.08, base - height * 0.55)],
        fill=mix(colour, canvas.palette.ink, 0.14),
    )
    cap, snow = 0.30, mix(SNOW, canvas.palette.glow, 0.35 if canvas.time != "night" else 0.75)
    teeth = [(-cap, cap), (-0.14, 0.22), (-0.02, 0.34), (0.10, 0.21), (cap, cap)]
    canvas.draw.polygon([top, *((x + half * dx, base - height * (1 - dy)) for dx, dy in teeth)], fill=snow)


def paint_ground(canvas: Canvas, setting: str) -> None:
    """Paint what the figures stand on, and water or a road across it."""
    (width, height), p, y = canvas.size, canvas.palette, canvas.horizon
    earth = mix(p.ground, SNOW, 0.72 if canvas.time != "night" else 0.30) if setting == "snow" else p.ground
    if setting == "desert":
        earth = mix(p.ground, (232, 196, 130), 0.6 if canvas.time != "night" else 0.2)
    if setting == "sea":
        _water(canvas, canvas.horizon, height)
        shore = smooth(
            [(0, height * 0.82), (width * 0.3, height * 0.80), (width * 0.62, height * 0.87), (width, height * 0.83)],
            closed=False,
        )
        sand = mix(p.ground, (240, 214, 160), 0.6 if canvas.time != "night" else 0.15)
        canvas.draw.line([(x, y - 5) for x, y in shore], fill=mix(sand, (255, 255, 255), 0.6), width=9)
        canvas.draw.polygon([*shore, (width, height), (0, height)], fill=sand)
        return
    edge = ridge(canvas, y + 44, 26, mix(earth, p.far, 0.32), (0.8, 1.7))
    fade = gradient((width, height - y), mix(earth, p.glow, 0.16), mix(earth, p.ink, 0.30))
    mask = Image.new("L", canvas.size)
    lift = height * 0.075
    ImageDraw.Draw(mask).polygon([*((x, line + lift) for x, line in edge), (width, height), (0, height)], fill=255)
    canvas.picture.paste(fade, (0, y), mask.crop((0, y, width, height)))
    if setting == "river":
        _river(canvas)
    elif setting in ("road", "village", "castle"):
        _road(canvas, earth)


def _water(canvas: Canvas, top: int, bottom: int) -> None:
    width, p = canvas.size[0], canvas.palette
    deep = mix(p.sky, p.mid, 0.45)
    canvas.picture.paste(gradient((width, bottom - top), mix(p.glow, deep, 0.45), deep), (0, top))
    for _ in range(70):
        depth = canvas.rng.random() ** 1.6
        y, x, length = top + 6 + depth * (bottom - top), canvas.rng.uniform(0, width), 16 + depth * 90
        canvas.draw.line(
            (x, y, x + length, y), fill=mix(deep, p.glow, canvas.rng.uniform(0.2, 0.75)), width=2 + round(depth * 2)
        )


def _winding(canvas: Canvas, near: float, far: float, x0: float, top: float) -> list[Point]:
    """The outline of a band that winds from the foreground to a point on the horizon."""
    width, height = canvas.size
    turn = canvas.rng.choice((-1, 1))
    left, right = [], []
    for i in range(21):
        t = i / 20
        y = height + 10 - (height + 10 - top) * (1 - (1 - t) ** 2.0)
        half = (near * (1 - t) ** 2 + far) / 2
        middle = width * (x0 + turn * 0.16 * sin(t * pi * 1.7) * (1 - t * 0.5))
        left.append((middle - half, y))
        right.append((middle + half, y))
    return left + right[::-1]


def _river(canvas: Canvas) -> None:
    """A river that flows through the picture behind the figures' bank."""
    (width, height), p, rng = canvas.size, canvas.palette, canvas.rng
    phase, top, deep = rng.uniform(0, 2 * pi), canvas.horizon + height * 0.07, mix(p.sky, p.glow, 0.25)
    far = [(x, top + 8 * sin(x / width * 9 + phase)) for x in range(-8, width + 17, 8)]
    near = [(x, top + height * 0.125 + 20 * sin(x / width * 4.4 + phase)) for x in range(-8, width + 17, 8)]
    canvas.draw.polygon([*far, *((x, y + 9) for x, y in near[::-1])], fill=mix(p.ground, p.ink, 0.35))
    canvas.draw.polygon([*far, *near[::-1]], fill=deep)
    for _ in range(60):
        i, t = rng.randrange(0, len(far) - 8), rng.uniform(0.12, 0.92)
        x, y, length = far[i][0], far[i][1] + (near[i][1] - far[i][1]) * t, rng.uniform(16, 70) * (0.5 + t)
        canvas.draw.line((x, y, x + length, y), fill=mix(deep, (255, 255, 255), rng.uniform(0.2, 0.6)), width=3)


def _road(canvas: Canvas, earth: Colour) -> None:
    dust = mix(mix(earth, (222, 196, 150), 0.75 if canvas.time != "night" else 0.25), canvas.palette.glow, 0.15)
    band = _winding(canvas, canvas.size[0] * 0.62, canvas.size[0] * 0.018, 0.5, canvas.horizon + 40)
    canvas.draw.polygon([(x + (9 if i > 20 else -9), y) for i, (x, y) in enumerate(band)], fill=mix(dust, earth, 0.55))
    canvas.draw.polygon(band, fill=dust)
