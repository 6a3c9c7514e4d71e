"""Handlers so quick that a second one started beside the first would end later than after it.

To give a delivery to another thread takes longer than such a handler, and Python runs one thread at a time anyway.
So whoever runs one goes on with the next that waits here, and nobody else is woken for it; but for one that
hangs: then others begin as ever.
"""

from __future__ import annotations

QUICK_S = 0.0002
SLOW_S = 0.002
LOOK_AGAIN_S = 0.005
WEIGHT = 0.2


class Quick:
    """How long the handlers of each subscriber usually take. Not thread-safe; the receiver's lock guards it.

    Attributes:
        is_on: whether those who end a delivery of this process go on with the next.
    """

    def __init__(self) -> None:
        self.is_on = False
        self._usual_s: dict[str, float] = {}

    def ended(self, name: str, elapsed_s: float) -> None:
        """Note how long a handler ran, 0 when it was not started. A single slow one says little: it may have waited
        for the interpreter."""
        if elapsed_s > 0:
            usual = self._usual_s.get(name, elapsed_s)
            self._usual_s[name] = usual + WEIGHT * min(elapsed_s - usual, usual)

    def usual_s(self, name: str) -> float:
        """How long the handlers of a subscriber usually run, seconds; 0 where none has ended."""
        return self._usual_s.get(name, 0.0)

    def is_enough(self, name: str, oldest_s: float | None) -> bool:
        """Whether nobody needs to be woken for the subscriber's deliveries, because whoever runs one goes on.

        Args:
            oldest_s: how long the oldest one that runs has run; None when none does.
        """
        return self.is_on and oldest_s is not None and oldest_s < SLOW_S and self._usual_s.get(name, 1.0) < QUICK_S
