"""A limit on the CPU time of a call: what hangs computes, and a slow machine is no hang."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

LIMIT_S = 3.0


class Hang(BaseException):
    """The call has used up its time; no `except Exception` swallows it."""


@contextmanager
def no_hang(limit_s: float = LIMIT_S) -> Iterator[None]:
    """Raise `Hang` in the main thread when the block has computed for longer."""

    def stop(number: int, frame: object) -> None:
        raise Hang(f"It has computed for {limit_s:g} s.")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, limit_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
