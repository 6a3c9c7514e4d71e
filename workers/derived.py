"""Ids of events that a repetition of the same work would make again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container, Sequence

from events.event import Event


def derived(events: Sequence[Event], seed: Sequence[str], time_hex: str, kept: Container[str] = ()) -> list[Event]:
    """Give the n-th event an id made of a seed and n; causation ids within the list follow.

    Ids that were chosen stay.

    Args:
        seed: names the work, for example an event and who handled it.
        time_hex: up to 12 hexadecimal digits of Unix milliseconds, by which ids sort.
        kept: ids that stay though nobody chose them.
    """
    ids: dict[str, str] = {}
    for number, event in enumerate(events):
        if "event_id" not in event.model_fields_set and event.event_id not in kept:
            tail = hashlib.blake2b(json.dumps([*seed, number]).encode(), digest_size=10).hexdigest()
            ids[event.event_id] = f"EV-{time_hex:0<12}{tail}"
    return [
        event.model_copy(
            update={
                "event_id": ids.get(event.event_id, event.event_id),
                "causation_id": ids.get(event.causation_id or "", event.causation_id),
            }
        )
        for event in events
    ]
