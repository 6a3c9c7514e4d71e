"""Places: layers from far to near, each a little darker, composed for the setting of a scene."""

from __future__ import annotations

import random

from PIL import Image, ImageDraw, ImageFilter

from examples.storyboard.land import SNOW, Canvas, paint_far, paint_ground, ridge
from examples.storyboard.palette import Palette, mix
from examples.storyboard.pen import smooth
from examples.storyboard.plants import bush, grass, leafy_branch, pine, reeds, round_tree
from examples.storyboard.rooms import paint_cave, paint_room
from examples.storyboard.sky import paint_sky, weather_over
from examples.storyboard.walls import castle, house


def paint_place(
    size: tuple[int, int], setting: str, time: str, weather: str, palette: Palette, rng: random.Random
) -> Image.Image:
    """Paint the place of a scene, without its figures; the same arguments give the same picture."""
    if setting == "indoors":
        return paint_room(size, palette, time, rng)
    horizon = round(size[1] * {"mountain": 0.66, "sea": 0.52, "river": 0.56}.get(setting, 0.60))
    picture = paint_sky(size, horizon, palette, time, weather, rng)
    canvas = Canvas(picture, ImageDraw.Draw(picture), palette, time, rng, horizon)
    paint_far(canvas, setting)
    paint_ground(canvas, setting)
    _middle(canvas, setting)
    if setting == "cave":
        paint_cave(picture, palette, rng)
    _near(canvas, setting)
    weather_over(picture, weather, palette, rng)
    return picture


def _middle(canvas: Canvas, setting: str) -> None:
    """What the figures live among, left and right of the place where they stand."""
    (width, height), p, rng, y = canvas.size, canvas.palette, canvas.rng, canvas.horizon
    lit = canvas.time in ("night", "dusk")
    if setting == "forest":
        for step in range(-20, width + 60, 74):
            pine(
                canvas.draw,
                step + rng.uniform(-26, 26),
                y + 52,
                height * rng.uniform(0.24, 0.40),
                mix(p.mid, p.far, 0.45),
            )
        for x in sorted((rng.uniform(0, width) for _ in range(9)), key=lambda x: -abs(x - width / 2))[:7]:
            tree = pine if rng.random() < 0.35 else round_tree
            tree(
                canvas.draw,
                x,
                y + rng.uniform(70, 105),
                height * rng.uniform(0.34, 0.50),
                mix(p.mid, p.ink, rng.uniform(0, 0.25)),
            )
    elif setting == "village":
        for x, size in ((0.08, 0.25), (0.22, 0.20), (0.38, 0.15), (0.62, 0.16), (0.77, 0.22), (0.93, 0.28)):
            house(canvas.draw, width * x, y + 30 + 220 * (size - 0.1), height * size, p, lit, rng)
        round_tree(canvas.draw, width * 0.50, y + 44, height * 0.16, p.mid)
    elif setting == "castle":
        castle(canvas.draw, width * rng.choice((0.26, 0.74)), y + 46, height * 0.44, p, lit)
        for _ in range(5):
            bush(canvas.draw, rng.uniform(0, width), y + rng.uniform(56, 90), height * 0.05, p.mid, rng)
    elif setting == "snow":
        for x in (0.06, 0.15, 0.25, 0.70, 0.82, 0.94):
            pine(
                canvas.draw,
                width * x,
                y + rng.uniform(50, 90),
                height * rng.uniform(0.22, 0.36),
                mix(p.mid, p.ink, 0.2),
                snow=mix(SNOW, p.glow, 0.2),
            )
    elif setting == "sea":
        _boat(canvas, width * rng.uniform(0.25, 0.7), y + height * 0.07, height * 0.15)
    elif setting == "desert":
        ridge(
            canvas,
            height * 0.80,
            60,
            mix(p.ground, (214, 170, 104), 0.45 if canvas.time != "night" else 0.15),
            (0.9, 1.4),
        )
    else:
        low, high = (40, 52) if setting == "river" else (44, 86)
        for _ in range(6 if setting == "mountain" else 9):
            size = height * rng.uniform(0.03, 0.06)
            bush(canvas.draw, rng.uniform(0, width), y + rng.uniform(low, high), size, p.mid, rng)
        for x in (rng.uniform(0.03, 0.24), rng.uniform(0.76, 0.97)):
            tall = height * rng.uniform(0.30, 0.44)
            round_tree(canvas.draw, width * x, y + rng.uniform(low, high) + 10, tall, mix(p.mid, p.ink, 0.08))


def _boat(canvas: Canvas, x: float, y: float, size: float) -> None:
    p = canvas.palette
    canvas.draw.polygon(
        smooth(
            [
                (x - size * 0.6, y - size * 0.16),
                (x, y - size * 0.10),
                (x + size * 0.62, y - size * 0.2),
                (x + size * 0.4, y + size * 0.1),
                (x - size * 0.4, y + size * 0.1),
            ]
        ),
        fill=p.ink,
    )
    canvas.draw.line((x, y - size * 0.1, x, y - size), fill=p.ink, width=4)
    canvas.draw.polygon(
        [(x + 6, y - size), (x + 6, y - size * 0.22), (x + size * 0.55, y - size * 0.22)],
        fill=mix(p.glow, (255, 255, 255), 0.5),
    )
    canvas.draw.polygon(
        [(x - 6, y - size * 0.85), (x - 6, y - size * 0.22), (x - size * 0.36, y - size * 0.22)],
        fill=mix(p.accent, p.glow, 0.2),
    )


def _near(canvas: Canvas, setting: str) -> None:
    """The frame in front: dark grass, reeds, a branch, softly out of focus."""
    (width, height), p, rng = canvas.size, canvas.palette, canvas.rng
    if setting in ("desert", "sea", "cave", "snow"):
        return
    mask = Image.new("L", canvas.size)
    pencil = ImageDraw.Draw(mask)
    grass(pencil, width, height, rng)
    if setting == "river":
        reeds(pencil, width * rng.choice((0.06, 0.9)), height, height * 0.34, rng)
    if setting in ("forest", "meadow", "river"):
        leafy_branch(pencil, width, height, rng.choice((-1, 1)), rng)
    canvas.picture.paste(mix(p.mid, p.ink, 0.72), (0, 0), mask.filter(ImageFilter.BoxBlur(2)))
