"""Figures as simple vector shapes, each about as tall as 1.0 times its `HEIGHT`, looking right."""

from __future__ import annotations

from collections.abc import Callable

from examples.storyboard.beasts import BEASTS, draw_beast
from examples.storyboard.palette import Colour, from_hex, mix
from examples.storyboard.pen import Pen

HEIGHT: dict[str, float] = {
    "mouse": 0.50, "bug": 0.40, "bird": 0.52, "tortoise": 0.58, "hare": 0.72, "cat": 0.60, "fox": 0.72, "dog": 0.74,
    "sheep": 0.78, "wolf": 0.84, "child": 0.84, "donkey": 0.98, "deer": 1.05, "lion": 1.0, "bear": 1.0, "horse": 1.1,
}  # fmt: skip


# How far before its feet a figure holds its head, where that is not about half its height.
HEAD: dict[str, float] = {
    "tortoise": 0.92, "mouse": 0.55, "hare": 0.24, "bird": 0.26, "bug": 0.40,
    **dict.fromkeys(("king", "queen", "woman", "man", "child", "person"), 0.05),
}  # fmt: skip


def draw_figure(pen: Pen, kind: str, dim: Callable[[Colour], Colour]) -> None:
    """Draw one figure, its colours put into the light of the picture by `dim`."""
    if kind in BEASTS:
        draw_beast(pen, BEASTS[kind], dim)
    elif kind in _OTHERS:
        _OTHERS[kind](pen, dim)
    else:
        _person(pen, kind, dim)


def _mouse(pen: Pen, dim: Callable[[Colour], Colour]) -> None:
    coat, pink = dim((150, 140, 142)), dim((228, 168, 164))
    shade = mix(coat, (20, 16, 30), 0.3)
    pen.stroke([(-0.40, 0.16), (-0.72, 0.08), (-0.92, 0.28), (-1.12, 0.22)], 0.055, pink, taper=0.4)
    pen.shape(
        [
            (-0.50, 0.12),
            (-0.46, 0.44),
            (-0.14, 0.66),
            (0.22, 0.62),
            (0.46, 0.34),
            (0.36, 0.06),
            (0, 0.02),
            (-0.36, 0.03),
        ],
        coat,
    )
    pen.oval(-0.02, 0.14, 0.30, 0.12, mix(coat, (255, 250, 240), 0.4))
    pen.oval(0.50, 0.76, 0.19, 0.20, shade)
    pen.shape([(0.14, 0.56), (0.30, 0.80), (0.56, 0.78), (0.86, 0.52), (0.92, 0.44), (0.66, 0.36), (0.30, 0.32)], coat)
    pen.oval(0.24, 0.82, 0.24, 0.25, coat)
    pen.oval(0.24, 0.82, 0.16, 0.17, pink)
    pen.oval(0.92, 0.46, 0.05, 0.05, dim((200, 110, 116)))
    pen.eye(0.62, 0.62, 0.055)
    for x in (-0.26, 0.30):
        pen.oval(x, 0.03, 0.14, 0.045, pink)


def _hare(pen: Pen, dim: Callable[[Colour], Colour]) -> None:
    coat, light = dim((172, 132, 92)), dim((246, 236, 220))
    shade = mix(coat, (20, 16, 30), 0.28)
    for x, turn, colour in ((0.10, 16, shade), (0.20, -4, coat)):
        pen.oval(x, 0.98, 0.075, 0.25, colour, turn=turn)
        pen.oval(x + 0.01, 0.96, 0.038, 0.18, dim((222, 168, 150)), turn=turn)
    pen.oval(-0.46, 0.18, 0.11, 0.10, light)
    pen.shape([(-0.46, 0.10), (-0.42, 0.40), (-0.16, 0.56), (0.10, 0.60), (0.30, 0.42), (0.26, 0.10), (0, 0.03)], coat)
    pen.oval(-0.22, 0.22, 0.24, 0.22, shade)
    pen.oval(-0.21, 0.23, 0.21, 0.19, coat)
    pen.oval(-0.10, 0.05, 0.24, 0.055, coat)
    pen.stroke([(0.20, 0.36), (0.25, 0.18), (0.28, 0.04)], 0.11, coat, taper=0.7)
    pen.oval(0.28, 0.30, 0.07, 0.15, light, turn=10)
    pen.oval(0.24, 0.66, 0.21, 0.18, coat, turn=-8)
    pen.oval(0.40, 0.60, 0.09, 0.08, light)
    pen.oval(0.46, 0.63, 0.035, 0.03, dim((140, 70, 74)))
    pen.eye(0.30, 0.71, 0.038)


def _tortoise(pen: Pen, dim: Callable[[Colour], Colour]) -> None:
    skin, shell = dim((148, 160, 92)), dim((112, 92, 52))
    shade, plate = mix(skin, (20, 16, 30), 0.3), mix(shell, dim((226, 190, 110)), 0.45)
    pen.shape([(-0.72, 0.26), (-0.96, 0.16), (-0.66, 0.18)], skin)
    for x, colour in ((-0.32, shade), (0.50, shade), (-0.48, skin), (0.34, skin)):
        pen.stroke([(x, 0.30), (x + 0.03, 0.06)], 0.22, colour, taper=0.9)
    pen.stroke([(0.58, 0.36), (0.82, 0.44), (0.96, 0.66)], 0.22, skin, taper=0.85)
    pen.oval(1.04, 0.72, 0.19, 0.15, skin, turn=8)
    pen.eye(1.10, 0.77, 0.04)
    pen.stroke([(1.06, 0.64), (1.16, 0.65), (1.20, 0.69)], 0.018, shade)
    pen.shape([(-0.80, 0.26), (-0.70, 0.62), (-0.30, 0.94), (0.10, 0.96), (0.52, 0.72), (0.70, 0.30), (0, 0.20)], shell)
    for x, y, rx, ry in (
        (-0.46, 0.54, 0.15, 0.17),
        (-0.10, 0.62, 0.17, 0.22),
        (0.28, 0.54, 0.16, 0.17),
        (-0.20, 0.86, 0.12, 0.05),
        (0.10, 0.86, 0.12, 0.05),
    ):
        pen.oval(x, y, rx, ry, plate)
    pen.stroke([(-0.80, 0.28), (0, 0.22), (0.72, 0.32)], 0.09, plate)


def _bird(pen: Pen, dim: Callable[[Colour], Colour]) -> None:
    coat = dim((58, 62, 84))
    for x in (-0.06, 0.10):
        pen.stroke([(x, 0.34), (x + 0.03, 0.04), (x + 0.13, 0.03)], 0.035, dim((196, 140, 60)))
    pen.shape([(-0.34, 0.44), (-0.80, 0.24), (-0.74, 0.40), (-0.40, 0.60)], coat, rounded=False)
    pen.shape(
        [(-0.42, 0.42), (-0.20, 0.68), (0.16, 0.88), (0.40, 0.76), (0.36, 0.46), (0.06, 0.26), (-0.24, 0.30)], coat
    )
    pen.oval(0.26, 0.84, 0.18, 0.17, coat)
    pen.shape([(0.40, 0.92), (0.68, 0.82), (0.40, 0.76)], dim((232, 170, 66)), rounded=False)
    pen.shape(
        [(-0.46, 0.40), (-0.16, 0.62), (0.14, 0.60), (0.08, 0.42), (-0.22, 0.34)], mix(coat, (255, 255, 255), 0.22)
    )
    pen.eye(0.31, 0.88, 0.035)


def _bug(pen: Pen, dim: Callable[[Colour], Colour]) -> None:
    coat = dim((96, 128, 58))
    for x in (-0.4, -0.1, 0.2):
        pen.stroke([(x, 0.40), (x - 0.10, 0.54), (x - 0.02, 0.02)], 0.05, mix(coat, (0, 0, 0), 0.3))
    for x, rx in ((-0.42, 0.34), (0.02, 0.20), (0.38, 0.22)):
        pen.oval(x, 0.46, rx, 0.20, coat)
    for x in (0.60, 0.72):
        pen.stroke([(0.44, 0.60), (x - 0.06, 0.84), (x + 0.08, 0.96)], 0.035, mix(coat, (0, 0, 0), 0.3))
    pen.eye(0.46, 0.52, 0.055)


_CLOTHES: dict[str, tuple[str, str]] = {
    "king": ("#8e2f4a", "#5a4636"),
    "queen": ("#6b4a8e", "#3c2a22"),
    "woman": ("#b8574e", "#4a3226"),
    "child": ("#3f83a3", "#6a4426"),
    "man": ("#5d6b3e", "#4a3a30"),
    "person": ("#41617f", "#33282a"),
}


def _person(pen: Pen, kind: str, dim: Callable[[Colour], Colour]) -> None:
    robe, hair = (dim(from_hex(colour)) for colour in _CLOTHES.get(kind, _CLOTHES["person"]))
    skin, dark = dim((232, 190, 158)), mix(robe, (18, 14, 28), 0.35)
    long = kind in ("queen", "woman", "king")
    hem = 0.04 if long else 0.30
    for x in (-0.07, 0.08):
        pen.stroke([(x, 0.36), (x, 0.05)], 0.09, mix(hair, dark, 0.4))
        pen.oval(x + 0.04, 0.03, 0.075, 0.035, (40, 30, 30))
    width = 0.26 if long else 0.19
    pen.stroke([(-0.08, 0.70), (-0.19, 0.56), (-0.17, 0.42)], 0.085, dark)
    if kind in ("queen", "woman"):
        pen.shape([(-0.12, 0.96), (-0.17, 0.76), (-0.12, 0.64), (0.04, 0.70), (0.06, 0.96)], hair)
    pen.shape(
        [(-0.09, 0.76), (0.09, 0.76), (0.14, 0.56), (width, hem), (0, hem - 0.02), (-width, hem), (-0.14, 0.56)], robe
    )
    pen.stroke([(0.08, 0.70), (0.20, 0.58), (0.30, 0.60)], 0.08, robe)
    pen.oval(0.32, 0.605, 0.04, 0.04, skin)
    pen.oval(0.01, 0.87, 0.115, 0.125, skin)
    pen.shape([(-0.12, 0.84), (-0.11, 0.97), (0, 1.02), (0.12, 0.95), (0.05, 0.94), (-0.05, 0.90)], hair)
    pen.eye(0.07, 0.87, 0.017)
    if kind in ("king", "queen"):
        gold = dim((240, 196, 80))
        pen.shape(
            [(-0.11, 0.98), (-0.12, 1.10), (-0.05, 1.03), (0, 1.13), (0.06, 1.03), (0.13, 1.10), (0.12, 0.98)],
            gold,
            rounded=False,
        )
    if kind == "man":
        straw = dim((206, 166, 96))
        pen.oval(0.01, 0.97, 0.22, 0.035, straw)
        pen.shape([(-0.10, 0.97), (-0.08, 1.07), (0.09, 1.07), (0.12, 0.97)], straw)


_OTHERS: dict[str, Callable[[Pen, Callable[[Colour], Colour]], None]] = {
    "mouse": _mouse, "hare": _hare, "tortoise": _tortoise, "bird": _bird, "bug": _bug,
}  # fmt: skip
