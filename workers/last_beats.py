"""Says that a process lives and drains, from when its receiver has stopped to when it leaves."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from events.errors import EventBusError

BEAT_S = 1.0
LAST_WORDS_S = 2.0

log = logging.getLogger("eventbus.worker")


class LastBeats:
    """Beats once a second, from a thread of its own.

    Args:
        beat: says it to Redis.
    """

    def __init__(self, beat: Callable[[], object]) -> None:
        self._beat = beat
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._run, name="eventbus-beats", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Beat no more; does nothing when it never began."""
        self._left.set()
        if self._thread.is_alive():
            self._thread.join(LAST_WORDS_S)

    def _run(self) -> None:
        while not self._left.is_set():
            try:
                self._beat()
            except EventBusError as error:
                log.warning("The worker cannot say that it drains: %s", error)
            self._left.wait(BEAT_S)
