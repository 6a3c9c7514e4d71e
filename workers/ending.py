"""How an attempt that has ended is settled, also when it never began, or its result cannot be read."""

from __future__ import annotations

from events.deliveries import Settlement
from workers.attempt import Attempt, conclude, failed, hand_back
from workers.refusing import PUT_OFF_US


def conclusion(attempt: Attempt, max_event_bytes: int, *, at_once: bool) -> Settlement:
    """Return the settlement of an attempt.

    Args:
        max_event_bytes: largest encoded event that a handler may return.
        at_once: one that did not start may be started by others at once; else it is put off.
    """
    if attempt.cancelled and attempt.error is None and not attempt.started_at:
        return hand_back(attempt.lease, delay_us=0 if at_once else PUT_OFF_US)
    try:
        return conclude(attempt, max_event_bytes)
    except BaseException as error:
        attempt.error = error  # that its result cannot be read; the log tells of it when it is settled
        return failed(attempt, error)
