"""The camera: pans over a keyframe and zooms into it, as a small animated GIF."""

from __future__ import annotations

from io import BytesIO

from PIL import Image

from examples.storyboard.drawing import HEIGHT_PX, STRIP, WIDTH
from examples.storyboard.shots import FRAME_MS, FRAMES_PER_SHOT, HOLD_MS

PREVIEW_WIDTH = 480
PICTURE_HEIGHT = PREVIEW_WIDTH * HEIGHT_PX // WIDTH
PREVIEW_HEIGHT = PREVIEW_WIDTH * (HEIGHT_PX + STRIP) // WIDTH
_TIGHT = 0.84

Box = tuple[float, float, float, float]


def film(png: bytes, move: str) -> bytes:
    """Film a keyframe: the picture moves, its caption stands still; the last frame is held."""
    with Image.open(BytesIO(png)) as opened:
        keyframe = opened.convert("RGB")
    strip = keyframe.crop((0, HEIGHT_PX, WIDTH, HEIGHT_PX + STRIP)).resize(
        (PREVIEW_WIDTH, PREVIEW_HEIGHT - PICTURE_HEIGHT), Image.Resampling.LANCZOS
    )
    frames = []
    for number in range(FRAMES_PER_SHOT):
        frame = Image.new("RGB", (PREVIEW_WIDTH, PREVIEW_HEIGHT))
        size = (PREVIEW_WIDTH, PICTURE_HEIGHT)
        box = _view(move, _eased(number / (FRAMES_PER_SHOT - 1)))
        frame.paste(keyframe.resize(size, Image.Resampling.BICUBIC, box), (0, 0))
        frame.paste(strip, (0, PICTURE_HEIGHT))
        frames.append(frame)
    return as_gif(frames, [FRAME_MS] * (FRAMES_PER_SHOT - 1) + [HOLD_MS])


def as_gif(frames: list[Image.Image], durations_ms: list[int]) -> bytes:
    """Return pictures as an endless GIF with one palette, chosen from the first and the last."""
    sample = Image.new("RGB", (frames[0].width, frames[0].height * 2))
    sample.paste(frames[0], (0, 0))
    sample.paste(frames[-1], (0, frames[0].height))
    palette = sample.quantize(255, method=Image.Quantize.MEDIANCUT)
    flat = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    file = BytesIO()
    flat[0].save(file, "GIF", save_all=True, append_images=flat[1:], duration=durations_ms, loop=0, optimize=False)
    return file.getvalue()


def _eased(t: float) -> float:
    return t * t * (3 - 2 * t)


def _view(move: str, t: float) -> Box:
    """Return the part of the picture that the camera sees at a moment from 0 to 1."""
    if move in ("pan left", "pan right"):
        left = (1 - _TIGHT) * (t if move == "pan right" else 1 - t)
        return _box(left, (1 - _TIGHT) * 0.62, _TIGHT)
    share = 1 - (1 - _TIGHT) * (t if move == "push in" else 1 - t)
    return _box((1 - share) * 0.5, (1 - share) * 0.62, share)


def _box(left: float, top: float, share: float) -> Box:
    return left * WIDTH, top * HEIGHT_PX, (left + share) * WIDTH, (top + share) * HEIGHT_PX
