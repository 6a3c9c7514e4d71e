"""Trees, bushes, grass: a base point, a height, a colour."""

from __future__ import annotations

import random
from math import cos, pi, sin

from PIL import ImageDraw

from examples.storyboard.palette import Colour, mix
from examples.storyboard.pen import smooth

DARK: Colour = (24, 22, 38)
_LEAF = ((-1.0, 0.0), (-0.3, 0.36), (0.4, 0.26), (1.0, 0.0), (0.4, -0.26), (-0.3, -0.36))


def _disc(draw: ImageDraw.ImageDraw, x: float, y: float, rx: float, ry: float, fill: Colour | int) -> None:
    draw.ellipse((x - rx, y - ry, x + rx, y + ry), fill=fill)


def pine(
    draw: ImageDraw.ImageDraw, x: float, base: float, height: float, colour: Colour, snow: Colour | None = None
) -> None:
    """Draw a fir of four stacked skirts, its right side in shade."""
    trunk = height * 0.035
    draw.rectangle((x - trunk, base - height * 0.16, x + trunk, base), fill=mix(colour, DARK, 0.55))
    for i in range(4):
        top, foot, half = base - height * (1 - i * 0.16), base - height * (0.60 - i * 0.17), height * (0.13 + i * 0.05)
        draw.polygon([(x, top), (x + half, foot), (x - half, foot)], fill=colour)
        draw.polygon([(x, top), (x + half, foot), (x + half * 0.15, foot)], fill=mix(colour, DARK, 0.20))
        if snow:
            draw.polygon(
                [
                    (x, top),
                    (x + half * 0.45, top + (foot - top) * 0.45),
                    (x, top + (foot - top) * 0.32),
                    (x - half * 0.45, top + (foot - top) * 0.45),
                ],
                fill=snow,
            )


def round_tree(draw: ImageDraw.ImageDraw, x: float, base: float, height: float, colour: Colour) -> None:
    """Draw a broad tree: trunk, dark crown, lighter crown towards the light."""
    trunk = mix(mix(colour, (92, 62, 44), 0.5), DARK, 0.35)
    draw.polygon(
        [
            (x - height * 0.055, base),
            (x - height * 0.025, base - height * 0.5),
            (x + height * 0.03, base - height * 0.5),
            (x + height * 0.06, base),
        ],
        fill=trunk,
    )
    crown = (
        (-0.20, 0.52, 0.19),
        (0.20, 0.54, 0.19),
        (0.0, 0.60, 0.24),
        (-0.12, 0.76, 0.19),
        (0.13, 0.75, 0.18),
        (0.0, 0.86, 0.15),
    )
    for dx, dy, r in crown:
        _disc(draw, x + dx * height, base - dy * height, r * height, r * height * 0.92, mix(colour, DARK, 0.20))
    for dx, dy, r in crown:
        _disc(
            draw, x + (dx - 0.035) * height, base - (dy + 0.035) * height, r * height * 0.80, r * height * 0.72, colour
        )
    for dx, dy, r in ((-0.16, 0.66, 0.07), (-0.06, 0.84, 0.06), (0.08, 0.72, 0.05)):
        _disc(
            draw, x + dx * height, base - dy * height, r * height, r * height * 0.7, mix(colour, (255, 250, 220), 0.16)
        )


def bush(draw: ImageDraw.ImageDraw, x: float, base: float, size: float, colour: Colour, rng: random.Random) -> None:
    """Draw a low bush of overlapping discs, a lighter row before a darker one."""
    for shade, lift in ((0.22, 0.45), (0.05, 0.0)):
        for i in range(-2, 3):
            r = size * rng.uniform(0.55, 0.85)
            _disc(draw, x + i * size * 0.8, base - r * 0.5 - lift * size, r, r * 0.85, mix(colour, DARK, shade))


def grass(draw: ImageDraw.ImageDraw, width: int, height: int, rng: random.Random) -> None:
    """Draw tufts of blades along the lower edge into a mask, higher towards the corners."""
    for _ in range(150):
        x = rng.uniform(-10, width + 10)
        edge = abs(x / width - 0.5) * 2
        tall = height * (0.025 + 0.12 * edge**2.2) * rng.uniform(0.5, 1.1)
        lean = rng.uniform(-0.45, 0.45) * tall
        half = 3 + 4 * edge
        draw.polygon(
            [(x - half, height), (x + lean * 0.4, height - tall * 0.6), (x + lean, height - tall), (x + half, height)],
            fill=255,
        )


def reeds(draw: ImageDraw.ImageDraw, x: float, base: float, height: float, rng: random.Random) -> None:
    """Draw bulrushes into a mask."""
    for i in range(7):
        foot, tall, lean = x + i * 15 - 50, height * rng.uniform(0.6, 1.0), rng.uniform(-26, 26)
        draw.line((foot, base, foot + lean, base - tall), fill=255, width=4)
        _disc(draw, foot + lean, base - tall, 7, 24, 255)


def leafy_branch(draw: ImageDraw.ImageDraw, width: int, height: int, side: int, rng: random.Random) -> None:
    """Draw a branch with leaves into a mask, hanging into an upper corner."""
    x0 = 0.0 if side > 0 else float(width)
    reach, drop = width * 0.30, height * 0.10
    for i in range(30):
        t = i / 29
        x, y = x0 + side * reach * t, height * 0.015 + drop * t * t
        _disc(draw, x, y, 7 * (1 - t) + 2, 7 * (1 - t) + 2, 255)
        if i % 2 == 0:
            for turn in (rng.uniform(0.15, 0.45) * pi, rng.uniform(0.50, 0.85) * pi, rng.uniform(1.1, 1.8) * pi):
                size = rng.uniform(20, 32) * (1.15 - 0.4 * t)
                c, s = cos(turn), sin(turn)
                lx, ly = x + c * size * 1.1, y + s * size * 1.1
                outline = smooth([(lx + (a * c - b * s) * size, ly + (a * s + b * c) * size) for a, b in _LEAF])
                draw.polygon(outline, fill=255)
