"""Four-legged animals: one body, many measures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from examples.storyboard.palette import Colour, from_hex, mix
from examples.storyboard.pen import Pen, Point


@dataclass(frozen=True, slots=True)
class Beast:
    """The measures of a four-legged animal, its height being 1."""

    coat: str
    length: float = 0.95
    belly: float = 0.34
    leg: float = 0.36
    head: float = 0.17
    neck: float = 0.20
    snout: float = 0.16
    ears: str = "pointed"
    tail: str = "bush"
    extra: str = ""


BEASTS: dict[str, Beast] = {
    "lion": Beast("#d9a24c", 1.05, 0.36, 0.34, 0.19, 0.16, 0.11, "round", "tuft", "mane"),
    "fox": Beast("#d8702f", 0.95, 0.27, 0.36, 0.17, 0.16, 0.20, "pointed", "bush", "bib"),
    "wolf": Beast("#77808c", 1.0, 0.31, 0.40, 0.16, 0.14, 0.21, "pointed", "bush"),
    "dog": Beast("#a8753f", 0.90, 0.29, 0.38, 0.17, 0.18, 0.18, "floppy", "thin"),
    "cat": Beast("#8a7f78", 0.85, 0.29, 0.32, 0.19, 0.16, 0.08, "pointed", "up"),
    "sheep": Beast("#ece5d3", 0.85, 0.44, 0.28, 0.15, 0.08, 0.14, "floppy", "short", "wool"),
    "horse": Beast("#8c5a38", 0.86, 0.27, 0.40, 0.12, 0.32, 0.19, "pointed", "hair", "crest"),
    "donkey": Beast("#8d8781", 0.86, 0.29, 0.38, 0.14, 0.24, 0.20, "long", "thin", "crest"),
    "deer": Beast("#b07a4a", 0.72, 0.23, 0.42, 0.11, 0.30, 0.15, "floppy", "short", "antlers"),
    "bear": Beast("#6e4e38", 1.05, 0.46, 0.26, 0.20, 0.08, 0.14, "round", "short"),
}


def draw_beast(pen: Pen, beast: Beast, dim: Callable[[Colour], Colour]) -> None:
    """Draw an animal that looks to the right, its colours put into the light of the picture by `dim`."""
    coat = dim(from_hex(beast.coat))
    shade, light = mix(coat, (20, 16, 30), 0.34), mix(coat, dim((255, 246, 226)), 0.45)
    back, front = -beast.length * 0.46, beast.length * 0.36
    top = beast.leg + beast.belly
    _tail(pen, beast.tail, back, top - 0.08, coat, shade, light)
    for x, colour in ((back + 0.18, shade), (front - 0.12, shade), (back + 0.07, coat), (front, coat)):
        pen.stroke([(x, beast.leg + 0.12), (x - 0.02, beast.leg * 0.5), (x + 0.01, 0.03)], 0.12, colour, taper=0.62)
        pen.oval(x + 0.035, 0.03, 0.055, 0.03, colour)
    pen.shape(
        [
            (back - 0.05, beast.leg + beast.belly * 0.62), (back + 0.10, top), (0, top - 0.02),
            (front - 0.02, top + 0.02), (front + 0.10, top - 0.10), (front + 0.06, beast.leg + 0.02),
            (0, beast.leg + 0.03), (back + 0.08, beast.leg),
        ],
        coat,
    )  # fmt: skip
    head = front + 0.10 + beast.neck * 0.35, top + beast.neck * 0.72
    if beast.extra == "wool":
        for i in range(9):
            pen.oval(back + 0.02 + i * (front - back) / 8, top - 0.02 - (i % 2) * 0.03, 0.11, 0.11, coat)
            pen.oval(back + 0.03 + i * (front - back) / 8, beast.leg + 0.10, 0.10, 0.09, mix(coat, shade, 0.3))
        coat, shade = dim((92, 80, 76)), dim((60, 52, 52))
    pen.stroke([(front - 0.02, top - 0.12), ((front + head[0]) / 2, (top + head[1]) / 2), head], 0.27, coat, taper=0.66)
    if beast.extra == "mane":
        _mane(pen, head, beast.head, dim)
    if beast.extra == "crest":
        pen.stroke(
            [(front - 0.05, top), (front + 0.02, top + beast.neck * 0.5), (head[0] - 0.07, head[1] + 0.08)], 0.09, shade
        )
    if beast.extra == "bib":
        pen.oval(front + 0.09, top - 0.10, 0.07, 0.12, light, turn=-15)
    _head(pen, beast, head, coat, shade, light)


def _mane(pen: Pen, head: Point, size: float, dim: Callable[[Colour], Colour]) -> None:
    dark, warm = dim((118, 66, 30)), dim((160, 92, 40))
    ring = ((0.9, 0.9), (1.0, 0), (0.9, -0.9), (0, -1.25), (-0.9, -0.9), (-1.25, 0), (-0.9, 0.9), (0, 1.2))
    for x, y in ring:
        pen.oval(head[0] - 0.03 + x * size * 0.85, head[1] + y * size * 0.85, size * 0.72, size * 0.72, dark)
    pen.oval(head[0] - 0.02, head[1], size * 1.28, size * 1.3, warm)


def _head(pen: Pen, beast: Beast, at: Point, coat: Colour, shade: Colour, light: Colour) -> None:
    x, y, r = at[0], at[1], beast.head
    if beast.extra == "antlers":
        for lean in (-0.06, 0.05):
            pen.stroke(
                [(x - 0.02, y + r * 0.7), (x + lean * 2.2, y + r + 0.12), (x + lean * 1.4, y + r + 0.27)], 0.035, shade
            )
            pen.stroke([(x + lean * 2, y + r + 0.10), (x + lean * 3.6, y + r + 0.17)], 0.03, shade)
    _ears(pen, beast.ears, x, y, r, shade, coat)
    pen.oval(x, y, r, r * 0.94, coat)
    pen.oval(
        x + r * 0.75 + beast.snout * 0.22,
        y - r * 0.32,
        r * 0.3 + beast.snout * 0.5,
        r * 0.46,
        mix(coat, light, 0.6),
        turn=-10,
    )
    pen.oval(x + r * 0.95 + beast.snout * 0.62, y - r * 0.24, r * 0.17, r * 0.15, (34, 26, 30))
    pen.eye(x + r * 0.34, y + r * 0.18, r * 0.15)


def _ears(pen: Pen, kind: str, x: float, y: float, r: float, shade: Colour, coat: Colour) -> None:
    for dx, colour in ((0.28, shade), (-0.42, coat)):
        cx = x + dx * r
        if kind == "round":
            pen.oval(cx - 0.1 * r, y + r * 0.88, r * 0.36, r * 0.36, colour)
        elif kind == "floppy":
            pen.oval(cx - r * 0.35, y + r * 0.35, r * 0.24, r * 0.55, shade, turn=-28)
        elif kind == "long":
            pen.oval(cx - r * 0.2, y + r * 1.4, r * 0.24, r * 0.85, colour, turn=12)
        else:
            pen.shape(
                [(cx - r * 0.4, y + r * 0.55), (cx - r * 0.12, y + r * 1.6), (cx + r * 0.4, y + r * 0.6)],
                colour,
                rounded=False,
            )


def _tail(pen: Pen, kind: str, x: float, y: float, coat: Colour, shade: Colour, light: Colour) -> None:
    if kind == "bush":
        pen.shape(
            [
                (x + 0.05, y),
                (x - 0.14, y + 0.02),
                (x - 0.34, y - 0.10),
                (x - 0.46, y - 0.30),
                (x - 0.24, y - 0.26),
                (x, y - 0.10),
            ],
            coat,
        )
        pen.oval(x - 0.40, y - 0.24, 0.075, 0.055, light, turn=55)
    elif kind == "tuft":
        pen.stroke([(x, y), (x - 0.20, y + 0.03), (x - 0.28, y - 0.20), (x - 0.40, y - 0.22)], 0.05, coat)
        pen.oval(x - 0.43, y - 0.21, 0.09, 0.06, shade, turn=20)
    elif kind == "up":
        pen.stroke(
            [(x, y - 0.02), (x - 0.16, y + 0.04), (x - 0.14, y + 0.26), (x - 0.24, y + 0.38)], 0.07, coat, taper=0.7
        )
    elif kind == "hair":
        pen.stroke([(x, y), (x - 0.13, y - 0.10), (x - 0.15, y - 0.40)], 0.10, shade, taper=0.4)
    elif kind == "short":
        pen.oval(x - 0.05, y, 0.08, 0.06, light, turn=30)
    else:
        pen.stroke([(x, y), (x - 0.16, y + 0.08), (x - 0.24, y + 0.22)], 0.05, coat, taper=0.6)
