"""Which streams an archiver writes and for which it stands by, said once for each change.

Archivers take turns: whoever finds a stream free writes the next batch. So one that finds it held now and then is no
news; one that finds it held all the time stands by.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

STANDS_BY_AFTER_S = 5.0

log = logging.getLogger("eventbus.archiver")


class Duty:
    """Tells the log. For one thread.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._written: set[str] = set()
        self._held_since: dict[str, float] = {}
        self._told: set[str] = set()

    def wrote(self, stream: str) -> None:
        """Take note that the stream was free, and its next batch written, if there was one."""
        self._held_since.pop(stream, None)
        if stream in self._told:
            log.info("Takes %s over: nobody else holds it any more.", stream)
        elif stream not in self._written:
            log.info("Archives %s.", stream)
        self._written.add(stream)
        self._told.discard(stream)

    def stood_by(self, stream: str) -> None:
        """Take note that another one held the stream."""
        since = self._held_since.setdefault(stream, self._clock())
        if stream not in self._told and self._clock() - since >= STANDS_BY_AFTER_S:
            log.info(
                "Stands by for %s, which another archiver holds, or whose database another process is writing to. One "
                "that hangs keeps it until it is ended.",
                stream,
            )
            self._told.add(stream)
