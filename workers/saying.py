"""What the log says of an attempt that has ended: one line for each that did not go well."""

from __future__ import annotations

import logging

from events.deliveries import Settlement
from events.errors import Discard, Retry
from events.records import AttemptState
from workers.attempt import Attempt

log = logging.getLogger("eventbus.worker")


def say(attempt: Attempt, settlement: Settlement) -> None:
    """Log an attempt that did not go well, once, with what follows; never payloads."""
    error = None if isinstance(attempt.error, Retry | Discard) else attempt.error
    if settlement.state is AttemptState.DEAD:
        log.error("%r becomes a dead letter: %s", attempt, settlement.reason, exc_info=error)
    elif settlement.state is AttemptState.RETRIED:
        level = logging.WARNING if error else logging.INFO
        log.log(
            level,
            "%r failed, and is tried again in %.1f s: %s",
            attempt,
            settlement.delay_us / 1e6,
            settlement.reason,
            exc_info=error,
        )
    elif settlement.state is AttemptState.DISCARDED:
        log.info("%r is discarded: %s", attempt, settlement.reason)
