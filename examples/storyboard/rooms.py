"""Closed places: a room with a window and a hearth, and the mouth of a cave."""

from __future__ import annotations

import random
from math import cos, pi, sin

from PIL import Image, ImageDraw, ImageFilter, ImageOps

from examples.storyboard.palette import Colour, Palette, mix
from examples.storyboard.pen import smooth
from examples.storyboard.sky import gradient, lay
from examples.storyboard.walls import LAMPLIGHT


def paint_room(size: tuple[int, int], palette: Palette, time: str, rng: random.Random) -> Image.Image:
    """Paint a room: wall, floor boards, a window with the sky in it, a hearth with fire."""
    width, height = size
    dark = time == "night"
    wall = mix(mix(palette.glow, (226, 196, 156), 0.5), palette.far, 0.25 if not dark else 0.5)
    floor_y = round(height * 0.68)
    picture = gradient(size, mix(wall, palette.ink, 0.12), wall)
    draw = ImageDraw.Draw(picture)
    boards = mix(mix(palette.ground, (146, 100, 66), 0.65), palette.ink, 0.05 if not dark else 0.35)
    picture.paste(
        gradient((width, height - floor_y), mix(boards, palette.glow, 0.10), mix(boards, palette.ink, 0.25)),
        (0, floor_y),
    )
    for i in range(-8, 17):
        draw.line(
            (width * (0.5 + (i - 4) * 0.055), floor_y, width * (0.5 + (i - 4) * 0.16), height),
            fill=mix(boards, palette.ink, 0.3),
            width=2,
        )
    draw.rectangle((0, floor_y - 16, width, floor_y), fill=mix(boards, palette.ink, 0.35))
    side = rng.choice((0.30, 0.66))
    _window(picture, round(width * side), round(height * 0.14), palette, time)
    _hearth(picture, width * (0.84 if side < 0.5 else 0.14), floor_y, height * 0.36, palette, boards)
    shelf = round(height * 0.34)
    at = 0.58 if side < 0.5 else 0.34
    draw.rectangle((width * at, shelf, width * (at + 0.14), shelf + 9), fill=mix(boards, palette.ink, 0.3))
    for i, colour in enumerate((palette.accent, palette.mid, mix(palette.accent, palette.glow, 0.5), palette.far)):
        left = width * (at + 0.012 + i * 0.031)
        draw.rounded_rectangle((left, shelf - 34 - 9 * (i % 2), left + 24, shelf), 5, fill=colour)
    return picture


def _window(picture: Image.Image, x: int, y: int, palette: Palette, time: str) -> None:
    width, height = round(picture.width * 0.19), round(picture.height * 0.36)
    draw = ImageDraw.Draw(picture)
    frame = mix((120, 84, 58), palette.ink, 0.3)
    draw.rectangle((x - 12, y - 12, x + width + 12, y + height + 12), fill=frame)
    picture.paste(gradient((width, height), palette.sky, palette.glow), (x, y))
    if time == "night":
        draw.ellipse(
            (x + width * 0.58, y + height * 0.12, x + width * 0.58 + 44, y + height * 0.12 + 44), fill=(246, 242, 218)
        )
    hill = smooth(
        [(x, y + height * 0.8), (x + width * 0.4, y + height * 0.66), (x + width, y + height * 0.82)], closed=False
    )
    draw.polygon([*hill, (x + width, y + height), (x, y + height)], fill=palette.mid)
    draw.rectangle((x + width // 2 - 5, y, x + width // 2 + 5, y + height), fill=frame)
    draw.rectangle((x, y + height // 2 - 5, x + width, y + height // 2 + 5), fill=frame)
    beam = Image.new("L", picture.size)
    slant = picture.width * 0.16
    ImageDraw.Draw(beam).polygon(
        [(x, y), (x + width, y), (x + width + slant, picture.height), (x + slant * 0.4, picture.height)], fill=255
    )
    lay(
        picture,
        mix(palette.glow, (255, 246, 214), 0.5),
        beam.filter(ImageFilter.BoxBlur(14)),
        0.10 if time == "night" else 0.22,
    )


def _hearth(picture: Image.Image, x: float, base: float, size: float, palette: Palette, boards: Colour) -> None:
    draw = ImageDraw.Draw(picture)
    stone = mix(mix((150, 138, 130), palette.far, 0.35), palette.ink, 0.15)
    draw.rectangle((x - size * 0.30, 0, x + size * 0.30, base), fill=mix(stone, palette.glow, 0.12))
    draw.rectangle((x - size * 0.44, base - size * 0.92, x + size * 0.44, base), fill=stone)
    draw.rectangle(
        (x - size * 0.50, base - size, x + size * 0.50, base - size * 0.90), fill=mix(boards, palette.ink, 0.2)
    )
    draw.rectangle((x - size * 0.28, base - size * 0.62, x + size * 0.28, base), fill=(34, 24, 28))
    for dx, tall, colour in (
        (0, 0.46, (222, 92, 44)),
        (-0.10, 0.30, (240, 140, 50)),
        (0.10, 0.32, (240, 140, 50)),
        (0, 0.24, (255, 214, 110)),
    ):
        flame = [(-0.11, 0.02), (-0.09, 0.5), (0.0, 1.0), (0.08, 0.55), (0.11, 0.02)]
        draw.polygon(smooth([(x + (dx + fx) * size, base - fy * tall * size) for fx, fy in flame]), fill=colour)
    halo = round(size * 1.5)
    glow = (
        ImageOps.invert(Image.radial_gradient("L"))
        .resize((2 * halo, 2 * halo))
        .point(lambda v: max(0, v - 75) * 255 // 180)
    )
    layer = Image.new("L", picture.size)
    layer.paste(glow, (round(x - halo), round(base - size * 0.25 - halo)))
    lay(picture, LAMPLIGHT, layer, 0.30)


def paint_cave(picture: Image.Image, palette: Palette, rng: random.Random) -> None:
    """Surround a landscape with the rock of a cave, seen from inside."""
    width, height = picture.size
    for layer, (reach, rock) in enumerate(
        ((1.12, mix(palette.mid, palette.ink, 0.45)), (1.0, mix(palette.mid, palette.ink, 0.72)))
    ):
        mask = Image.new("L", picture.size, 255)
        hole = []
        for i in range(26):
            turn, wobble = 2 * pi * i / 26, rng.uniform(0.86, 1.06) / reach * (1.12 if layer else 1.0)
            hole.append((width * (0.5 + 0.40 * wobble * cos(turn)), height * (0.50 + 0.42 * wobble * sin(turn))))
        ImageDraw.Draw(mask).polygon(smooth(hole), fill=0)
        ImageDraw.Draw(mask).rectangle((0, round(height * (0.84 + 0.04 * layer)), width, height), fill=255)
        picture.paste(rock, (0, 0), mask.filter(ImageFilter.BoxBlur(2)))
