"""The sky: its gradient, sun or moon, stars, clouds, and what falls from it."""

from __future__ import annotations

import random

from PIL import Image, ImageDraw, ImageFilter, ImageOps

from examples.storyboard.palette import Colour, Palette, mix


def gradient(size: tuple[int, int], top: Colour, low: Colour) -> Image.Image:
    """Return a picture that fades from one colour at the top to another below."""
    return ImageOps.colorize(Image.linear_gradient("L").resize(size), top, low)


def lay(picture: Image.Image, colour: Colour, mask: Image.Image, strength: float) -> None:
    """Lay a colour over a picture where the mask is light."""
    picture.paste(colour, (0, 0, *picture.size), mask.point(lambda value: round(value * strength)))


def paint_sky(
    size: tuple[int, int], horizon: int, palette: Palette, time: str, weather: str, rng: random.Random
) -> Image.Image:
    """Paint the whole picture as sky; everything else is painted over it."""
    width = size[0]
    picture = Image.new("RGB", size, palette.glow)
    picture.paste(gradient((width, horizon), palette.sky, palette.glow), (0, 0))
    side = rng.choice((0.24, 0.72))
    _heavenly_body(picture, width * side, horizon, palette, time, rng)
    for _ in range(3 if weather in ("clear", "snow") else 7):
        _cloud(picture, rng, horizon, palette, time, weather)
    return picture


def _heavenly_body(
    picture: Image.Image, x: float, horizon: int, palette: Palette, time: str, rng: random.Random
) -> None:
    radius = picture.width * 0.042
    y = horizon * {"dawn": 0.80, "day": 0.30, "dusk": 0.84, "night": 0.30}[time]
    draw = ImageDraw.Draw(picture)
    if time == "night":
        for _ in range(110):
            sx, sy, r = (
                rng.uniform(0, picture.width),
                rng.uniform(0, horizon * 0.8) * rng.random() ** 0.4,
                rng.choice((1.0, 1.4, 2.2)),
            )
            draw.ellipse(
                (sx - r, sy - r, sx + r, sy + r), fill=mix(palette.glow, (255, 250, 230), rng.uniform(0.4, 0.95))
            )
    disc = {"night": (246, 242, 218), "day": (255, 250, 226)}.get(time, (255, 232, 190))
    halo = round(radius * (9 if time in ("dawn", "dusk") else 6))
    glow = (
        ImageOps.invert(Image.radial_gradient("L"))
        .resize((2 * halo, 2 * halo))
        .point(lambda v: max(0, v - 75) * 255 // 180)
    )
    layer = Image.new("L", picture.size)
    layer.paste(glow, (round(x - halo), round(y - halo)))
    lay(picture, disc, layer, 0.34 if time == "night" else 0.62)
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=disc)
    if time == "night":
        for dx, dy, r in ((-0.3, -0.2, 0.22), (0.25, 0.25, 0.16), (0.2, -0.4, 0.11)):
            cx, cy, cr = x + dx * radius, y + dy * radius, r * radius
            draw.ellipse((cx - cr, cy - cr, cx + cr, cy + cr), fill=mix(disc, palette.glow, 0.28))


def _cloud(picture: Image.Image, rng: random.Random, horizon: int, palette: Palette, time: str, weather: str) -> None:
    stormy = weather in ("rain", "mist")
    white = (
        mix(palette.glow, palette.far, 0.55)
        if stormy
        else mix(palette.glow, (255, 255, 255), 0.15 if time == "night" else 0.6)
    )
    x, y = rng.uniform(0, picture.width), rng.uniform(0.08, 0.55) * horizon
    size = picture.width * rng.uniform(0.028, 0.055)
    layer = Image.new("L", (round(size * 9), round(size * 1.9)))
    draw, middle, floor = ImageDraw.Draw(layer), size * 4.5, size * 1.8
    for i in range(-3, 4):
        r = size * (1.15 - abs(i) * 0.24) * rng.uniform(0.75, 1.1)
        cx, cy = middle + i * size * 0.9, floor - r * 0.42
        draw.ellipse((cx - r * 1.25, cy - r, cx + r * 1.25, cy + r), fill=255)
    draw.rectangle((0, round(floor), layer.width, layer.height), fill=0)
    strength = 0.30 if time == "night" else 0.62
    at = round(x - middle), round(y - floor)
    picture.paste(white, (*at, at[0] + layer.width, at[1] + layer.height), layer.point(lambda v: round(v * strength)))


def weather_over(picture: Image.Image, weather: str, palette: Palette, rng: random.Random) -> None:
    """Let it rain, snow or be misty over everything painted so far."""
    width, height = picture.size
    layer = Image.new("L", picture.size)
    draw = ImageDraw.Draw(layer)
    if weather == "rain":
        for _ in range(240):
            x, y, length = rng.uniform(-40, width), rng.uniform(-40, height), rng.uniform(18, 46)
            draw.line((x, y, x - length * 0.28, y + length), fill=rng.randint(70, 190), width=2)
        lay(picture, (226, 236, 246), layer, 0.55)
    elif weather == "snow":
        for _ in range(230):
            x, y, r = rng.uniform(0, width), rng.uniform(0, height), rng.choice((1.5, 2.2, 3.2, 4.4))
            draw.ellipse((x - r, y - r, x + r, y + r), fill=rng.randint(150, 255))
        lay(picture, (255, 255, 255), layer, 0.9)
    elif weather == "mist":
        for _ in range(4):
            y, thick = rng.uniform(0.45, 0.9) * height, rng.uniform(0.05, 0.10) * height
            draw.ellipse((-width * 0.2, y - thick, width * rng.uniform(0.7, 1.3), y + thick), fill=150)
        lay(picture, mix(palette.glow, (255, 255, 255), 0.3), layer.filter(ImageFilter.BoxBlur(30)), 0.8)
