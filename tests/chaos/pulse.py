"""A pulse: each process of the application notes when it was kept from running.

A machine that has no time for a process silences it as a fault would; a lease that runs out then is nobody's mistake.
"""

from __future__ import annotations

import os
import threading
import time

from tests.chaos.journal import VARIABLE, note

EVERY_S = 0.1
NOTED_S = 0.3
"""Less than what lets a lease of a run expire, by far."""


def begin() -> None:
    """Begin to feel this process's pulse, in a thread; outside a run it does nothing."""
    if VARIABLE in os.environ:
        threading.Thread(target=_feel, name="pulse", daemon=True).start()


def _feel() -> None:
    while True:
        before = time.monotonic()
        time.sleep(EVERY_S)
        late_s = time.monotonic() - before - EVERY_S
        if late_s > NOTED_S:
            note("held up", seconds=round(late_s, 3))
