"""The default bus of a process, for pipeline steps that only publish.

Composition: made from the environment on first use, never at import.
"""

from __future__ import annotations

import os
import threading
from datetime import datetime, timedelta

from events.bus import EventBus
from events.event import Event

_lock = threading.Lock()
_bus: EventBus | None = None
_pid = 0


def default_bus() -> EventBus:
    """Return the process's bus; a forked child gets one of its own."""
    global _bus, _pid
    with _lock:
        if _bus is None or _pid != os.getpid():
            _bus, _pid = EventBus(), os.getpid()
        return _bus


def lend(bus: EventBus | None) -> EventBus | None:
    """Let `publish` use this bus from now on; return the one that it used until now. For tests; closes nothing."""
    global _bus, _pid
    with _lock:
        before, _bus = (_bus if _pid == os.getpid() else None), bus
        _pid = os.getpid()
        return before


def publish(
    event: Event, *, delay: float | timedelta | None = None, at: datetime | None = None, durable: bool = False
) -> str:
    """Publish an event and wait for the acknowledgement; returns its id. As `EventBus.publish` does."""
    return default_bus().publish_sync(event, delay=delay, at=at, durable=durable)
