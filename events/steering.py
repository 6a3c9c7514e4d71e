"""Steering a subscriber in Redis while it runs: pause and resume, and limits that go before those in code.

Takes effect at once, without a restart, and stays until it is taken back. Writing it to the store too,
so that a Redis that lost everything learns it again, is `workers.operating`'s.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from events.connection import mapped
from events.errors import InvalidSubscription, ScriptFailed
from events.inspection import Inspection
from events.keys import GROUP
from events.namespace import Namespace
from events.scripts import Argument
from events.standing import unknown
from events.subscriptions import check_concurrency, check_rate

CODE = "code"
"""As the value of a limit: follow what the subscriber's code says again."""
HEED_S = 10.0
_LOOK_S = 0.05
_BEATS = 2


def steer(namespace: Namespace, name: str, **changes: Any) -> int:
    """Change how a subscriber's deliveries are let in; what is not named stays as it is.

    Args:
        changes: `paused` True lets nothing more begin, False goes on, and what runs is not touched;
            `concurrency` most deliveries ready or running across the fleet; `rate_limit` deliveries a
            second that may begin. A limit of None is no limit, of `CODE` what the code says.

    Returns:
        How many deliveries that were ready for workers were put back to wait, by a pause or a lower limit.

    Raises:
        UnknownSubscriber: nobody has declared it; nothing was changed.
        InvalidSubscription: a limit is out of range; nothing was changed.
    """
    flat: list[Argument] = [part for pair in steering(changes).items() for part in pair]
    taken_back = 0
    while True:
        reply = namespace.call("steer", name, *flat)
        if reply == b"UNKNOWN":
            raise unknown(namespace, name)
        taken_back += int(reply[0])
        if not int(reply[1]):
            return taken_back


def until_heeded(namespace: Namespace, name: str, timeout_s: float = HEED_S) -> tuple[str, ...]:
    """Wait until every worker that holds deliveries of a paused subscriber starts nothing more of it.

    What Redis held ready is nobody's from the moment of the pause. What a worker held ready it may start
    until it hears of the pause, which its next beat tells it, at most a second later; so what it says in the
    beat after that is of this pause, and not of an earlier one.

    Returns:
        Workers that hold some and have not said so in time: they were killed, are stalled, or cannot reach
        Redis. They may start what they hold as long as their leases last.
    """
    deadline = time.monotonic() + timeout_s
    beats: dict[str, list[datetime]] = {}
    heeding: set[str] = set()
    while silent := _holders(namespace, name) - heeding:
        if time.monotonic() >= deadline:
            break
        for worker in Inspection(namespace).workers():
            seen = beats.setdefault(worker.consumer, [worker.seen_at])
            if worker.seen_at != seen[-1]:
                seen.append(worker.seen_at)
            if len(seen) > _BEATS and name in worker.said.paused:
                heeding.add(worker.consumer)
        time.sleep(_LOOK_S)
    return tuple(sorted(silent))


def _holders(namespace: Namespace, name: str) -> set[str]:
    """Return the workers that hold deliveries of a subscriber; of one that was dropped meanwhile nobody does."""
    try:
        with mapped(namespace.client):
            pending: Any = namespace.client.xpending(namespace.keys("queue", name), GROUP)
    except ScriptFailed as error:
        if error.code == "NOGROUP":
            return set()
        raise
    return {consumer["name"].decode() for consumer in pending["consumers"]}


def steering(changes: Mapping[str, Any]) -> dict[str, str]:
    """Return changes as fields of the subscriber's record.

    Raises:
        InvalidSubscription: a limit is out of range, or a change is not one.
    """
    fields: dict[str, str] = {}
    for change, value in changes.items():
        if change == "paused":
            if not isinstance(value, bool):
                raise InvalidSubscription(f"paused must be True or False, not {value!r:.80}.")
            fields["paused"] = "1" if value else "0"
        elif change == "concurrency":
            fields["set_concurrency"] = _limit(value, lambda given: str(check_concurrency(given)))
        elif change == "rate_limit":
            fields["set_rate"] = _limit(value, lambda given: repr(check_rate(given)))
        else:
            raise InvalidSubscription(f"{change!r} cannot be steered; paused, concurrency and rate_limit can.")
    return fields


def _limit(value: Any, checked: Any) -> str:
    return CODE if value == CODE else "" if value is None else str(checked(value))
