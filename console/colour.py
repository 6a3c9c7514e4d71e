"""Colours on a terminal: whether it takes them, and one for each name, the same every time."""

from __future__ import annotations

import os
from zlib import crc32

# Cyan, yellow, green, magenta, blue, and three bright ones; red is left to what went wrong.
NAMES = (36, 33, 32, 35, 34, 96, 93, 92)


def has_colour() -> bool:
    """Whether the terminal takes colours, and its user wants them. Whether there is a terminal is another question."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def painted(text: str, code: int | str) -> str:
    """Return text in a colour, by the number that terminals give it."""
    return f"\x1b[{code}m{text}\x1b[0m" if text else text


def of_name(text: str) -> str:
    """Return a name, with the spaces around it, in the colour that is its own."""
    return painted(text, NAMES[crc32(text.strip().encode()) % len(NAMES)])
