"""The fields of a log record that is about a delivery: ids and numbers, never payloads.

event_id, project_id, type, correlation_id, causation_id    of its event; absent where it cannot be read
delivery, subscriber, attempt                               1 is the first try
duration_ms                                                 how long the handler ran, where it has ended
cost, currency                                              of what the handler returned, where it is in one currency
"""

from __future__ import annotations

from typing import Any

from events.context import Handling
from events.deliveries import Settlement
from events.event import Event
from events.frame import Lease
from events.records import AttemptState


def about(lease: Lease, settlement: Settlement | None = None, result: object = None) -> dict[str, Any]:
    """Return the fields of a delivery, and of how an attempt at it ended.

    Args:
        settlement: its end. result: what its handler returned, of which the cost is told if it is done.
    """
    found: dict[str, Any] = {} if lease.fault is not None else _of_event(lease.event)
    found |= {"delivery": lease.delivery, "subscriber": lease.subscriber, "attempt": lease.attempt}
    if settlement is not None:
        found["duration_ms"] = settlement.elapsed_us / 1000
        if settlement.state is AttemptState.DONE:
            found |= _cost(result)
    return found


def handled(handling: Handling) -> dict[str, Any]:
    """Return the fields of what a handler logs by itself."""
    return {
        **_of_event(handling.event),
        "delivery": handling.delivery,
        "subscriber": handling.subscriber,
        "attempt": handling.attempt,
    }


def _of_event(event: Event) -> dict[str, Any]:
    return {
        "event_id": event.event_id,
        "project_id": event.project_id,
        "type": event.type.value,
        "correlation_id": event.correlation_id or event.event_id,
        "causation_id": event.causation_id,
    }


def _cost(result: object) -> dict[str, Any]:
    events = [result] if isinstance(result, Event) else result if isinstance(result, list | tuple) else []
    costs: dict[str, float] = {}
    for event in events:
        if isinstance(event, Event) and event.cost is not None:
            currency = str(event.metadata.get("currency") or "USD")
            costs[currency] = costs.get(currency, 0.0) + event.cost
    if len(costs) != 1:
        return {}
    ((currency, cost),) = costs.items()
    return {"cost": round(cost, 6), "currency": currency}
