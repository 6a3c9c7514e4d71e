"""What the log and the spans say of attempts: a line for each that did not go well, or for those of a call that hangs.

Of an attempt that ends they tell when its settlement is put, not before: a log that does not take its line, and an
exporter that waits for its network, keep nothing from being settled. One that went well has a line at the level
`debug`, of which nothing is made at any other.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from events.deliveries import Settlement
from events.errors import Discard, Retry
from events.records import AttemptState
from workers.about import about
from workers.attempt import Attempt

if TYPE_CHECKING:
    from workers.spans import Spans

_NOT_WELL = (AttemptState.DEAD, AttemptState.RETRIED, AttemptState.DISCARDED)

log = logging.getLogger("eventbus.worker")


Ended = tuple[Attempt, Settlement]
"""An attempt, and how it is settled."""


def tell(leader: Attempt, ended: Sequence[Ended], spans: Spans | None) -> None:
    """Tell how attempts ended; what goes wrong with that is theirs who keep logs and spans.

    Args:
        leader: of the call that they are of. ended: those whose settlements are put.
    """
    for attempt, settlement in ended:
        if spans is not None:
            spans.end(attempt, settlement)
    for attempt in leader.batch:
        if attempt.trace is not None:
            attempt.trace.lost()  # unless it has ended
    for attempt, settlement in ended:
        try:
            say(attempt, settlement)
        except Exception:
            with suppress(Exception):  # it is the log itself that fails
                say_that("What became of %r could not be logged.", attempt, failed=True)


def say(attempt: Attempt, settlement: Settlement) -> None:
    """Log how an attempt ended, with what follows; never payloads."""
    if settlement.state is AttemptState.DONE:
        if log.isEnabledFor(logging.DEBUG):
            fields = about(attempt.lease, settlement, attempt.result)
            log.debug("%r is done after %.1f ms.", attempt, fields["duration_ms"], extra=fields)
        return
    if settlement.state not in _NOT_WELL:
        return
    fields = about(attempt.lease, settlement)
    error = None if isinstance(attempt.error, Retry | Discard) else attempt.error
    if settlement.state is AttemptState.DEAD:
        log.error("%r becomes a dead letter: %s", attempt, settlement.reason, exc_info=error, extra=fields)
    elif settlement.state is AttemptState.RETRIED:
        level = logging.WARNING if error else logging.INFO
        log.log(
            level,
            "%r failed, and is tried again in %.1f s: %s",
            attempt,
            settlement.delay_us / 1e6,
            settlement.reason,
            exc_info=error,
            extra=fields,
        )
    else:
        log.info("%r is discarded: %s", attempt, settlement.reason, extra=fields)


def say_that(words: str, attempt: Attempt, *, failed: bool = False) -> None:
    """Log a warning about an attempt, whose name `%r` stands for; with the exception at hand an error."""
    log.log(logging.ERROR if failed else logging.WARNING, words, attempt, exc_info=failed, extra=about(attempt.lease))


def say_given_up(call: Sequence[Attempt]) -> None:
    """Log that one call of a handler, for one attempt or the attempts of a batch, hangs and is given up."""
    log.error(
        "%r%s hangs beyond its limit of %g s and cannot be interrupted; it is given up here.",
        call[0],
        f", with {len(call) - 1} more in the same call," if len(call) > 1 else "",
        call[0].subscription.options.time_limit,
        extra=about(call[0].lease),
    )
