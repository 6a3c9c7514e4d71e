"""How a worker process ends: the exit codes that it and its supervisor agree on. They are Dramatiq's."""

from __future__ import annotations

RET_OK = 0
"""Stopped, and drained."""
RET_KILLED = 1
"""Went at once, or had to be killed; leases expire."""
RET_IMPORT = 2
"""The application cannot be loaded, or its subscribers cannot be declared: starting again would not help."""
