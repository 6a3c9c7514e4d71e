"""Where an attempt's span begins and ends, in processes that make spans (`events/telemetry.py`)."""

from __future__ import annotations

from events.deliveries import Settlement
from events.telemetry import Tracing
from workers.attempt import Attempt


def begin(tracing: Tracing | None, attempt: Attempt) -> None:
    """Begin the spans of an attempt, and of those that it leads, which have started."""
    if tracing is not None:
        for one in attempt.batch:
            one.trace = tracing.processing(one.handling, one.lease) if one.started_at else None


def end(attempt: Attempt, settlement: Settlement) -> None:
    """End an attempt's span with what becomes of the delivery; that of the settlement begins."""
    if attempt.trace is not None:
        attempt.trace.ended(settlement.state or "", settlement.reason, attempt.error)
