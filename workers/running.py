"""The attempts of one process that have not ended."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

from workers.attempt import Attempt


class Running:
    """Threads may share it.

    Attributes:
        changed: to be held where what becomes of an attempt is decided.
        handled: attempts that have run here and ended, however they did.
    """

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.handled = 0
        self._attempts: dict[int, Attempt] = {}

    def __len__(self) -> int:
        return len(self._attempts)

    def add(self, attempts: Iterable[Attempt]) -> None:
        with self.changed:
            self._attempts |= {id(one): one for one in attempts}

    def remove(self, attempts: Iterable[Attempt]) -> None:
        """Note that they have ended."""
        with self.changed:
            for one in attempts:
                self._attempts.pop(id(one), None)
                self.handled += one.started_at > 0
            self.changed.notify_all()

    def all(self) -> list[Attempt]:
        with self.changed:
            return list(self._attempts.values())

    def until_idle(self, deadline: Callable[[], float]) -> bool:
        """Wait until nothing runs but what is another worker's; return whether that is so.

        Args:
            deadline: when to give up, monotonic seconds; asked again when `changed` is notified.
        """
        with self.changed:
            while any(not attempt.abandoned for attempt in self._attempts.values()):
                if (left := deadline() - time.monotonic()) <= 0:
                    return False
                self.changed.wait(left)
        return True
