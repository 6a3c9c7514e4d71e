"""A slot: the place of one worker process in a fleet, and when the next may be started in it."""

from __future__ import annotations

import time
from dataclasses import dataclass

from workers.child import Child

MIN_BACKOFF_S = 0.2
MAX_BACKOFF_S = 10.0
HEALTHY_S = 30.0


@dataclass(slots=True)
class Slot:
    """A place for one worker process.

    Attributes:
        number: from 1; what logs call the process.
        child: the process that serves here; None between two.
        start_at: monotonic seconds before which no other is started here.
    """

    number: int
    child: Child | None = None
    start_at: float = 0.0
    _backoff_s: float = MIN_BACKOFF_S

    def put_off(self, lived_s: float = 0.0) -> float:
        """Let the next start wait, longer each time, after a process that failed; not after one that had lived well.

        Returns:
            Seconds to wait.
        """
        if lived_s > HEALTHY_S:
            self.clear()
            return 0.0
        self._backoff_s = min(self._backoff_s * 2, MAX_BACKOFF_S)
        self.start_at = time.monotonic() + self._backoff_s
        return self._backoff_s

    def clear(self) -> None:
        """Let the next start be at once."""
        self._backoff_s = MIN_BACKOFF_S
        self.start_at = time.monotonic()
