"""What hangs: handlers that outlive their time limit and cannot be interrupted, and a loop that has stopped.

It only looks. What follows is the engine's, which lets go of their deliveries, and the process's, which
makes room for another: nothing inside a process ends a thread that does not listen.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Sequence

from workers.attempt import Attempt

HEED_S = 5.0
"""A plain handler may clean up for so long after it was interrupted, before it counts as hanging."""


class Hanging:
    """Looks for what hangs among the attempts of one process.

    Args:
        attempts: those that have not ended.
        loop: where async handlers run.
        lease_s: seconds beyond its limit after which a handler hangs, and for which a loop may be silent.
        threads: plain handlers that run at once.
    """

    def __init__(
        self,
        attempts: Callable[[], Sequence[Attempt]],
        loop: asyncio.AbstractEventLoop,
        lease_s: float,
        threads: int,
    ) -> None:
        self._attempts = attempts
        self._loop = loop
        self._lease_s = lease_s
        self._threads = threads
        self._asked_at = math.inf  # when the loop was asked for a sign of life that it owes

    def ask_loop(self) -> None:
        """Ask the loop for a sign of life, unless it owes one; to be called a few times a lease."""
        if math.isinf(self._asked_at):
            self._asked_at = time.monotonic()
            with contextlib.suppress(RuntimeError):  # it has ended, which is another matter
                self._loop.call_soon_threadsafe(self._answer)

    def overdue(self) -> list[list[Attempt]]:
        """Return, of each call of a handler that runs a lease beyond its limit, the attempts not yet let go of."""
        before = time.monotonic() - self._lease_s
        calls = (
            [one for one in attempt.batch if one.started_at and not one.abandoned]
            for attempt in self._attempts()
            if not (attempt.led or attempt.finished) and attempt.started_at and _deadline(attempt) < before
        )
        return [call for call in calls if call]

    @property
    def what(self) -> str:
        """What no handler can use any more, and begins a sentence; empty while all is well.

        Every thread, when handlers whose result is void have ignored an interrupt for `HEED_S`. The event loop,
        when it has been silent for a lease, and what runs on it should have ended a lease ago.
        """
        now = time.monotonic()
        attempts = self._attempts()
        if sum(_ignores_interrupts(attempt, now) for attempt in attempts) >= self._threads:
            return "Every thread"
        return "The event loop" if self._is_loop_held(attempts, now) else ""

    def _answer(self) -> None:
        self._asked_at = math.inf

    def _is_loop_held(self, attempts: Sequence[Attempt], now: float) -> bool:
        """A synchronous call on the loop has as long as the limit of the handler that makes it, if that can be told.

        Else as long as the latest limit there: what is left to end is not interrupted for one that may end.
        """
        asked_at = self._asked_at
        if now - asked_at <= self._lease_s:
            return False
        on_loop = [attempt for attempt in attempts if attempt.deferred]
        current = asyncio.current_task(self._loop)
        holds = [attempt for attempt in on_loop if attempt.task is not None and attempt.task is current]
        latest = max((_deadline(attempt, asked_at) for attempt in holds or on_loop), default=math.inf)
        return now - latest > self._lease_s


def _deadline(attempt: Attempt, begun_at: float = 0.0) -> float:
    """When the attempt should have ended; one that has not begun counts from the moment given."""
    return (attempt.started_at or begun_at) + attempt.subscription.options.time_limit


def _ignores_interrupts(attempt: Attempt, now: float) -> bool:
    if not attempt.abandoned or attempt.deferred or attempt.led or not attempt.started_at:
        return False  # one that is led holds no thread of its own
    return now - (attempt.interrupted_at or _deadline(attempt)) > HEED_S
