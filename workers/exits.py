"""How a worker process ends: the exit codes that it and its supervisor agree on. They are Dramatiq's.

Dramatiq's fifth, 4 for a PID file that cannot be written, is never given: there is no PID file here.
"""

from __future__ import annotations

import signal

RET_OK = 0
"""Stopped and drained, or retired: what it held is settled or handed back."""
RET_KILLED = 1
"""Went at once, or had to be killed, or handlers hang in it and nobody replaces it; leases expire."""
RET_IMPORT = 2
"""The application cannot be loaded, or its subscribers cannot be declared: starting again would not help."""
RET_CONNECT = 3
"""A server refuses this worker, or cannot be started. One that is only away is waited for."""

CANNOT_RUN = frozenset({RET_IMPORT, RET_CONNECT})
"""Codes of a process that never took work, and whose like would not either."""


def wording(code: int) -> str:
    """Say how a process ended: `ended with code 2`, `was killed by SIGKILL`."""
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
