"""What the log says of attempts: a line for each that ended and did not go well, or for those of a call that hangs."""

from __future__ import annotations

import logging
from collections.abc import Sequence

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


def say_given_up(call: Sequence[Attempt]) -> None:
    """Log that one call of a handler, for one attempt or the attempts of a batch, hangs and is given up."""
    log.error(
        "%r%s hangs beyond its limit of %g s and cannot be interrupted; it is given up here.",
        call[0],
        f", with {len(call) - 1} more in the same call," if len(call) > 1 else "",
        call[0].subscription.options.time_limit,
    )
