"""What people build: houses and castles."""

from __future__ import annotations

import random

from PIL import ImageDraw

from examples.storyboard.palette import Colour, Palette, mix

LAMPLIGHT: Colour = (255, 214, 120)


def house(
    draw: ImageDraw.ImageDraw, x: float, base: float, size: float, palette: Palette, lit: bool, rng: random.Random
) -> None:
    """Draw a cottage with a roof, a chimney, a door and windows that glow in the evening."""
    wall = mix(mix(palette.glow, (246, 226, 196), 0.4), palette.far, rng.uniform(0.15, 0.45))
    if lit:
        wall = mix(wall, palette.mid, 0.45)
    roof = mix(rng.choice(((168, 84, 62), (126, 88, 72), (150, 104, 62))), palette.mid, 0.25 if not lit else 0.6)
    half, tall = size * 0.46, size * 0.52
    draw.rectangle(
        (x + half * 0.45, base - size * 1.06, x + half * 0.70, base - tall), fill=mix(wall, palette.ink, 0.35)
    )
    draw.rectangle((x - half, base - tall, x + half, base), fill=wall)
    draw.rectangle((x + half * 0.55, base - tall, x + half, base), fill=mix(wall, palette.ink, 0.12))
    draw.polygon(
        [
            (x - half * 1.2, base - tall),
            (x - half * 0.62, base - size),
            (x + half * 0.62, base - size),
            (x + half * 1.2, base - tall),
        ],
        fill=roof,
    )
    draw.polygon(
        [
            (x + half * 0.40, base - size),
            (x + half * 0.62, base - size),
            (x + half * 1.2, base - tall),
            (x + half * 0.8, base - tall),
        ],
        fill=mix(roof, palette.ink, 0.2),
    )
    pane = LAMPLIGHT if lit else mix(palette.sky, palette.ink, 0.35)
    for dx in (-0.58, 0.36):
        left, top, edge = x + half * dx, base - tall * 0.72, size * 0.12
        draw.rectangle((left - 3, top - 3, left + edge + 3, top + edge + 3), fill=mix(roof, palette.ink, 0.4))
        draw.rectangle((left, top, left + edge, top + edge), fill=pane)
    draw.rectangle((x - half * 0.16, base - tall * 0.62, x + half * 0.16, base), fill=mix(roof, palette.ink, 0.45))


def castle(draw: ImageDraw.ImageDraw, x: float, base: float, size: float, palette: Palette, lit: bool) -> None:
    """Draw a castle of three towers with pennants."""
    stone = mix(mix(palette.far, palette.mid, 0.45), (150, 146, 150), 0.2)
    for dx, width, tall in ((-0.42, 0.20, 0.66), (0.42, 0.20, 0.62), (0.0, 0.26, 0.88)):
        left, right, top = x + (dx - width / 2) * size, x + (dx + width / 2) * size, base - tall * size
        draw.rectangle((left, top, right, base), fill=stone)
        draw.rectangle((left + (right - left) * 0.62, top, right, base), fill=mix(stone, palette.ink, 0.18))
        draw.polygon(
            [(left - 8, top), ((left + right) / 2, top - size * 0.22), (right + 8, top)],
            fill=mix(palette.accent, palette.mid, 0.35),
        )
        draw.line(
            ((left + right) / 2, top - size * 0.22, (left + right) / 2, top - size * 0.32), fill=palette.ink, width=3
        )
        middle, tip = (left + right) / 2, top - size * 0.32
        draw.polygon(
            [(middle, tip), (middle + size * 0.10, tip + size * 0.025), (middle, tip + size * 0.05)],
            fill=palette.accent,
        )
        window = LAMPLIGHT if lit else mix(palette.ink, stone, 0.2)
        draw.rectangle(
            (middle - size * 0.022, top + size * 0.08, middle + size * 0.022, top + size * 0.16), fill=window
        )
    wall = base - size * 0.34
    draw.rectangle((x - size * 0.5, wall, x + size * 0.5, base), fill=mix(stone, palette.glow, 0.10))
    for i in range(11):
        left = x - size * 0.5 + i * size / 11
        if i % 2 == 0:
            draw.rectangle((left, wall - size * 0.05, left + size / 11, wall), fill=mix(stone, palette.glow, 0.10))
    gate = size * 0.09
    draw.rectangle((x - gate, base - size * 0.15, x + gate, base), fill=palette.ink)
    draw.ellipse((x - gate, base - size * 0.15 - gate, x + gate, base - size * 0.15 + gate), fill=palette.ink)
