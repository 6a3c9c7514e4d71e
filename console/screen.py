"""A whole terminal for one command: frames one over the other, keys, and the terminal as it was afterwards."""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

_ENTER = "\x1b[?1049h\x1b[?25l"  # another screen, without a cursor
_LEAVE = "\x1b[?25h\x1b[?1049l"


class Screen:
    """The terminal while it is ours."""

    def __init__(self, keyboard: int) -> None:
        self._keyboard = keyboard
        self.is_over = False

    @property
    def size(self) -> tuple[int, int]:
        """Columns and rows, as they are now."""
        columns, rows = os.get_terminal_size(sys.stdout.fileno())
        return columns or 80, rows or 24

    def show(self, lines: Sequence[str]) -> None:
        """Draw a frame over the last one; it may be as wide and as high as `size` says, and no more."""
        body = "\x1b[K\r\n".join(lines)
        sys.stdout.write(f"\x1b[H{body}\x1b[K\x1b[J")
        sys.stdout.flush()

    def key(self, timeout_s: float) -> str:
        """Wait for a key; return it, or nothing when none came in time. A terminal that is gone ends it."""
        try:
            if not select.select([self._keyboard], [], [], timeout_s)[0]:
                return ""
            pressed = os.read(self._keyboard, 64).decode(errors="replace")
        except OSError:
            pressed = ""
        self.is_over |= not pressed
        return pressed


@contextmanager
def whole_screen() -> Iterator[Screen]:
    """Take the terminal of stdin and stdout, and give it back as it was, also when SIGTERM or SIGHUP ends us."""
    keyboard = sys.stdin.fileno()
    before = termios.tcgetattr(keyboard)
    screen = Screen(keyboard)

    def end(number: int, frame: Any) -> None:
        screen.is_over = True

    handlers = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        tty.setcbreak(keyboard)
        sys.stdout.write(_ENTER)
        yield screen
    finally:
        sys.stdout.write(_LEAVE)
        sys.stdout.flush()
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)
