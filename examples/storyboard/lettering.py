"""Letters: a font that has them, lines that fit, and honest grey bars where no font has them."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from examples.storyboard.palette import Colour, mix

# Tried after Pillow's own font, which covers Latin only. Where none is installed, bars are drawn.
FONT_FILES = (
    "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf",
    "/usr/share/fonts/dejavu-sans-fonts/DejaVuSans.ttf",
    "/usr/share/fonts/truetype/noto/NotoSans-Regular.ttf",
    "/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/noto-cjk/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/google-noto-sans-cjk-fonts/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/truetype/wqy/wqy-microhei.ttc",
    "/usr/share/fonts/truetype/droid/DroidSansFallbackFull.ttf",
    "/System/Library/Fonts/PingFang.ttc",
    "/System/Library/Fonts/Hiragino Sans GB.ttc",
    "/System/Library/Fonts/Supplemental/Arial Unicode.ttf",
    "C:/Windows/Fonts/segoeui.ttf",
    "C:/Windows/Fonts/msyh.ttc",
)
MIN_COVERED = 0.7

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@lru_cache(maxsize=64)
def _open(path: str, size: int) -> Font | None:
    try:
        return ImageFont.truetype(path, size) if path else ImageFont.load_default(size)
    except OSError:
        return None


@lru_cache(maxsize=4096)
def _has(path: str, character: str) -> bool:
    """Tell whether a font has a character: it looks other than one that no font has."""
    font = _open(path, 24)
    if font is None or not isinstance(font, ImageFont.FreeTypeFont):
        return font is not None and character.isascii()
    missing = font.getmask("\U0010fffe")
    drawn = font.getmask(character)
    return (drawn.size, bytes(drawn)) != (missing.size, bytes(missing))


def _covered(path: str, text: str) -> float:
    letters = [c for c in text if not c.isspace() and c.isprintable()]
    return sum(_has(path, c) for c in letters) / len(letters) if letters else 0.0


def font_for(text: str, size: int) -> tuple[Font, str] | None:
    """Choose the first font that has every letter, else the one that has most of them.

    Returns:
        The font and the text without the characters it lacks; None when no font has enough.
    """
    best, best_share = "", -1.0
    for path in ("", *(path for path in FONT_FILES if Path(path).exists())):
        share = _covered(path, text) if _open(path, size) else -1.0
        if share > best_share:
            best, best_share = path, share
        if share == 1.0:
            break
    font = _open(best, size)
    if font is None or best_share < MIN_COVERED:
        return None
    kept = "".join(c for c in text if c.isspace() or (c.isprintable() and _has(best, c)))
    return font, " ".join(kept.split())


def lacking(text: str) -> str:
    """Return what `write` cannot draw of a text here, each character once: bars stand for it, or it is left out."""
    letters = dict.fromkeys(c for c in text if not c.isspace() and c.isprintable())
    chosen = font_for(text, 24)
    return "".join(c for c in letters if chosen is None or c not in chosen[1])


def wrap(text: str, font: Font, width: float, max_lines: int) -> list[str]:
    """Break a text into lines that fit, at spaces, or anywhere in a word that is wider than a line."""
    lines, line = [], ""
    for piece in _pieces(text, font, width):
        if line and font.getlength((line + piece).rstrip()) > width:
            lines.append(line.rstrip())
            line = piece.lstrip()
        else:
            line += piece
    lines = [*lines, line.rstrip()] if line.strip() else lines
    if len(lines) > max_lines:
        last = lines[max_lines - 1]
        while last and font.getlength(last + "…") > width:
            last = last[:-1]
        lines = [*lines[: max_lines - 1], last.rstrip(" ,;:") + "…"]
    return lines


def _balanced(text: str, font: Font, width: float, lines: list[str]) -> list[str]:
    """Wrap a text again into as many lines of about one length: as narrow as their number allows."""
    for share in (0.55, 0.65, 0.75, 0.85, 0.93) if len(lines) > 1 else ():
        narrow = wrap(text, font, width * share, len(lines) + 1)
        if len(narrow) == len(lines):
            return narrow
    return lines


def _pieces(text: str, font: Font, width: float) -> list[str]:
    pieces: list[str] = []
    for word in text.split(" "):
        if font.getlength(word) > width:
            pieces.extend(word)
            pieces.append(" ")
        else:
            pieces.append(word + " ")
    return pieces


def write(
    picture: Image.Image,
    box: tuple[int, int, int, int],
    text: str,
    size: int,
    colour: Colour,
    max_lines: int = 3,
    anchor: str = "mm",
) -> None:
    """Write a text in the middle of a box (`lm`: at its left), smaller when its lines would not fit.

    Where no installed font has the letters, rounded bars stand for the lines.
    """
    left, top, right, bottom = box
    draw = ImageDraw.Draw(picture)
    while True:
        chosen = font_for(text, size)
        if chosen is None or not chosen[1]:
            _bars(draw, box, text, size, colour)
            return
        font, kept = chosen
        lines = wrap(kept, font, right - left, max_lines)
        height = size * 1.28
        if size <= 9 or (
            len(lines) * height <= bottom - top and not (lines[-1].endswith("…") and not kept.endswith("…"))
        ):
            break
        size -= 1
    lines = _balanced(kept, font, right - left, lines)
    y = (top + bottom) / 2 - len(lines) * height / 2 + height / 2
    for line in lines:
        draw.text((left if anchor == "lm" else (left + right) / 2, y), line, font=font, fill=colour, anchor=anchor)
        y += height


def _bars(draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], text: str, size: int, colour: Colour) -> None:
    left, top, right, bottom = box
    lines = max(1, min(int((bottom - top) // (size * 1.3)), -(-len(text) * size // (right - left))))
    colour = mix(colour, (255, 255, 255), 0.62)
    y = (top + bottom) / 2 - lines * size * 0.65
    for i in range(lines):
        inset = (right - left) * (0.08 if i < lines - 1 else 0.24)
        draw.rounded_rectangle((left + inset, y + size * 0.35, right - inset, y + size * 0.8), size * 0.2, fill=colour)
        y += size * 1.3
