"""The keyframe: a place, its figures, the exposure that the prompt asks for, and the caption below."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from io import BytesIO
from typing import Any, Self

from PIL import Image, ImageDraw, ImageFilter

from examples.storyboard.creatures import HEAD, HEIGHT, draw_figure
from examples.storyboard.lettering import write
from examples.storyboard.palette import Colour, Palette, dice, mix, shot_palette
from examples.storyboard.pen import Pen
from examples.storyboard.scenery import paint_place
from examples.storyboard.shots import Shot

WIDTH, HEIGHT_PX, STRIP = 640, 360, 72
PAPER: Colour = (250, 246, 236)
PENCIL: Colour = (52, 46, 50)
_SCALE = 2


@dataclass(frozen=True, slots=True)
class Exposure:
    """How a picture is developed.

    Attributes:
        stops: brighter above 0, darker below.
        cast: -1 to 1: how far its colours lean to orange, or to blue below 0.
    """

    stops: float = 0.0
    cast: float = 0.0

    def as_payload(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_payload(cls, payload: dict[str, Any]) -> Self:
        return cls(float(payload["stops"]), float(payload["cast"]))


def first_exposure(seed: str, shot_id: str) -> Exposure:
    """Return what the light meter says before anybody has looked: wrong for the first shot and some others."""
    meter = dice(seed, shot_id, "meter")
    miss, cast = meter.random(), meter.random()
    off = (0.62 + 0.5 * meter.random()) * meter.choice((-1.0, 1.0))
    return Exposure(
        stops=round(off, 2) if shot_id == "s01-1" or miss < 0.16 else 0.0,
        cast=round(meter.choice((-0.8, 0.8)), 2) if cast < 0.10 else 0.0,
    )


def draw_keyframe(shot: Shot, seed: str, exposure: Exposure) -> bytes:
    """Draw a shot and return it as PNG: `WIDTH` x `HEIGHT_PX` of picture above a strip with the caption."""
    palette = shot_palette(shot.mood, shot.time)
    picture = _stage(shot, seed, palette)
    picture = _developed(picture.reduce(_SCALE), exposure)
    frame = Image.new("RGB", (WIDTH, HEIGHT_PX + STRIP), PAPER)
    frame.paste(picture, (0, 0))
    ImageDraw.Draw(frame).rectangle((0, HEIGHT_PX, WIDTH, HEIGHT_PX + 3), fill=palette.accent)
    write(frame, (36, HEIGHT_PX + 6, WIDTH - 36, HEIGHT_PX + STRIP - 3), shot.caption, 19, PENCIL)
    return as_png(frame)


def as_png(picture: Image.Image) -> bytes:
    """Return a picture as PNG."""
    file = BytesIO()
    picture.save(file, "PNG", compress_level=4)
    return file.getvalue()


def _stage(shot: Shot, seed: str, palette: Palette) -> Image.Image:
    """Paint place and figures in twice the size; the place is the same in every shot of a scene."""
    size = (WIDTH * _SCALE, HEIGHT_PX * _SCALE)
    place = paint_place(size, shot.setting, shot.time, shot.weather, palette, dice(seed, shot.scene_id, "place"))
    zoom = {"wide": 1.0, "medium": 1.28, "close": 1.7}[shot.framing]
    if zoom > 1:
        place = _zoomed(place, zoom, 0.06 if int(shot.shot_id[-1]) % 2 else -0.06)
    if shot.framing == "close":
        place = place.filter(ImageFilter.BoxBlur(7))
    _figures(place, shot, palette, seed)
    return _vignette(place, palette)


def _zoomed(picture: Image.Image, zoom: float, aside: float) -> Image.Image:
    width, height = picture.size
    w, h = width / zoom, height / zoom
    left, top = (width - w) * (0.5 + aside * 4), (height - h) * 0.72
    return picture.resize(picture.size, Image.Resampling.BILINEAR, (left, top, left + w, top + h))


def _figures(picture: Image.Image, shot: Shot, palette: Palette, seed: str) -> None:
    """Set the figures on the ground, facing each other, with their shadows."""
    width, height = picture.size
    unit = height * {"wide": 0.27, "medium": 0.46, "close": 0.86}[shot.framing]
    foot = height * {"wide": 0.86, "medium": 0.92, "close": 1.08}[shot.framing]
    places = {1: (0.46,), 2: (0.33, 0.67), 3: (0.22, 0.52, 0.80)}.get(len(shot.cast), ())
    gloom = {"night": 0.52, "dusk": 0.30, "dawn": 0.12}.get(shot.time, 0.04)

    def dim(colour: Colour) -> Colour:
        return mix(mix(colour, palette.glow, 0.07), palette.ink, gloom)

    jitter = dice(seed, shot.shot_id, "figures")
    for place, kind in zip(places, shot.cast, strict=False):
        x = width * (place + jitter.uniform(-0.03, 0.03))
        y = foot - height * (jitter.uniform(0, 0.03) if shot.framing != "close" else 0)
        size = unit * HEIGHT.get(kind, 1.0)
        if shot.framing == "close":
            size = unit * HEIGHT.get(kind, 1.0) ** 0.35
            x = width * 0.56 - size * HEAD.get(kind, 0.45)
        _shadow(picture, x, y, size, palette)
        draw_figure(
            Pen(ImageDraw.Draw(picture), x, y, size, 1 if place < 0.5 or shot.framing == "close" else -1), kind, dim
        )


def _shadow(picture: Image.Image, x: float, y: float, size: float, palette: Palette) -> None:
    box = [round(v) for v in (x - size * 0.7, y - size * 0.10, x + size * 0.7, y + size * 0.10)]
    shadow = Image.new("L", (box[2] - box[0], box[3] - box[1]))
    inset = round(size * 0.04)
    ImageDraw.Draw(shadow).ellipse((inset, inset, shadow.width - inset, shadow.height - inset), fill=95)
    picture.paste(palette.ink, (box[0], box[1]), shadow.filter(ImageFilter.BoxBlur(size * 0.025)))


def _vignette(picture: Image.Image, palette: Palette) -> Image.Image:
    """Darken the corners a little, so that the eye stays in the middle."""
    edge = Image.radial_gradient("L").resize(picture.size).point(lambda v: max(0, v - 120) * 90 // 135)
    picture.paste(palette.ink, (0, 0), edge)
    return picture


def _developed(picture: Image.Image, exposure: Exposure) -> Image.Image:
    """Apply exposure as a gamma curve, which keeps black and white, and the colour cast as a tint."""
    if exposure.stops:
        gamma = 2.0**-exposure.stops
        picture = picture.point([round(255 * (value / 255) ** gamma) for value in range(256)] * 3)
    if exposure.cast:
        tint = (255, 138, 40) if exposure.cast > 0 else (36, 92, 255)
        picture = Image.blend(picture, Image.new("RGB", picture.size, tint), min(0.45, abs(exposure.cast) * 0.42))
    return picture
