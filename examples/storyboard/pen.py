"""A pen over Pillow that draws smooth shapes in the figure's own units: feet at y = 0, up is up."""

from __future__ import annotations

from collections.abc import Sequence
from math import cos, pi, radians, sin

from PIL import ImageDraw

from examples.storyboard.palette import Colour

Point = tuple[float, float]


def smooth(points: Sequence[Point], closed: bool = True, steps: int = 8) -> list[Point]:
    """Return a curve through the points. Source: the Catmull-Rom spline."""
    n = len(points)
    curve: list[Point] = []
    for i in range(n if closed else n - 1):
        p0, p1, p2, p3 = (points[(i + k) % n] if closed else points[min(max(i + k, 0), n - 1)] for k in (-1, 0, 1, 2))
        for step in range(steps):
            t = step / steps
            a, b, c, d = -t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2
            curve.append(
                (
                    (a * p0[0] + b * p1[0] + c * p2[0] + d * p3[0]) / 2,
                    (a * p0[1] + b * p1[1] + c * p2[1] + d * p3[1]) / 2,
                )
            )
    return curve if closed else [*curve, points[-1]]


class Pen:
    """Draws at a place, in a size, to the right or mirrored.

    Args:
        x, y: where the figure's (0, 0) lies on the picture, in pixels.
        unit: how many pixels 1.0 is.
        facing: 1 when the figure looks to the right, -1 to the left.
    """

    def __init__(self, draw: ImageDraw.ImageDraw, x: float, y: float, unit: float, facing: int = 1) -> None:
        self.draw, self.x, self.y, self.unit, self.facing = draw, x, y, unit, facing

    def at(self, point: Point) -> Point:
        return self.x + self.facing * point[0] * self.unit, self.y - point[1] * self.unit

    def shape(self, points: Sequence[Point], fill: Colour, rounded: bool = True) -> None:
        """Fill an outline, its corners rounded into a smooth curve unless told not to."""
        self.draw.polygon([self.at(point) for point in (smooth(points) if rounded else points)], fill=fill)

    def oval(self, cx: float, cy: float, rx: float, ry: float, fill: Colour, turn: float = 0.0) -> None:
        """Fill an ellipse, turned by degrees counter-clockwise."""
        c, s = cos(radians(turn)), sin(radians(turn))
        steps = [2 * pi * i / 40 for i in range(40)]
        ring = [(rx * cos(a), ry * sin(a)) for a in steps]
        self.draw.polygon([self.at((cx + x * c - y * s, cy + x * s + y * c)) for x, y in ring], fill=fill)

    def stroke(self, points: Sequence[Point], width: float, fill: Colour, taper: float = 1.0) -> None:
        """Draw a smooth line with round ends whose width ends at `taper` times its beginning."""
        curve = smooth(points, closed=False, steps=10)
        for i, point in enumerate(curve):
            radius = max(0.7, width / 2 * (1 + (taper - 1) * i / (len(curve) - 1)) * self.unit)
            px, py = self.at(point)
            self.draw.ellipse((px - radius, py - radius, px + radius, py + radius), fill=fill)
            if i:
                self.draw.line((self.at(curve[i - 1]), (px, py)), fill=fill, width=max(1, round(2 * radius)))

    def eye(self, x: float, y: float, r: float) -> None:
        """Draw an eye with its light."""
        self.oval(x, y, r, r * 1.15, (28, 22, 26))
        self.oval(x + r * 0.3, y + r * 0.4, r * 0.38, r * 0.38, (255, 255, 255))
