"""Says that a process lives and drains, from when its receiver has stopped to when it leaves; and that it leaves."""

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
        leave: says to Redis that the process is gone.
    """

    def __init__(self, beat: Callable[[], object], leave: Callable[[], object]) -> None:
        self._beat = beat
        self._leave = leave
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._run, name="eventbus-beats", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Beat no more, and leave; also when it never began.

        A beat that is stuck on its way may arrive after that, and count the process among the living again:
        it leaves again then.
        """
        self._left.set()
        if self._thread.is_alive():
            self._thread.join(LAST_WORDS_S)
        self._say(self._leave, "The worker leaves without a word")

    def _run(self) -> None:
        while not self._left.is_set():
            self._say(self._beat, "The worker cannot say that it drains")
            if self._left.is_set():
                self._say(self._leave, "The worker leaves without a word")
            self._left.wait(BEAT_S)

    @staticmethod
    def _say(word: Callable[[], object], otherwise: str) -> None:
        try:
            word()
        except EventBusError as error:
            log.warning("%s: %s", otherwise, error)
        except Exception:
            log.exception("%s.", otherwise)
