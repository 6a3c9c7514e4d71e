"""The smallest application: a subscriber that leaves one byte for each event it handled."""

from __future__ import annotations

import os

from events.bus import EventBus
from events.event import Event

bus = EventBus()
_marks = os.open(f"handled-{os.getpid()}", os.O_CREAT | os.O_APPEND | os.O_WRONLY)


@bus.subscriber("Counter", ["COUNTED"])
async def count(event: Event) -> None:
    """Make one mark, in a file of this process in its working directory."""
    os.write(_marks, b".")
