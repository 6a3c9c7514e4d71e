"""Where an attempt's span begins and ends, in processes that make spans (`events/telemetry.py`)."""

from __future__ import annotations

import logging

from events.deliveries import Settlement
from events.telemetry import Tracing
from workers.attempt import Attempt

log = logging.getLogger("eventbus.worker")


def begin(tracing: Tracing | None, attempt: Attempt) -> None:
    """Begin the spans of an attempt, and of those that it leads, which have started."""
    if tracing is not None:
        for one in attempt.batch:
            one.trace = tracing.processing(one.handling, one.lease) if one.started_at else None


def end(attempt: Attempt, settlement: Settlement) -> None:
    """End an attempt's span with what becomes of the delivery; that of the settlement begins.

    Never raises: what a span cannot tell, such as an error whose text cannot be made, does not keep a delivery from
    its settlement.
    """
    if attempt.trace is None:
        return
    try:
        attempt.trace.ended(settlement.state or "", settlement.reason, attempt.error)
    except Exception:
        log.exception("The span of %r could not be ended.", attempt)
