"""Steering a subscriber while it runs: pause and resume, and limits that go before those in code.

Takes effect at once, without a restart, and stays until it is taken back. Writing it to the store too,
so that a Redis that lost everything learns it again, is the caller's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from events.errors import InvalidSubscription, UnknownSubscriber
from events.namespace import Namespace
from events.scripts import Argument
from events.subscriptions import check_concurrency, check_rate

CODE = "code"
"""As the value of a limit: follow what the subscriber's code says again."""


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
            raise UnknownSubscriber(
                f"No subscriber {name!r} is declared in the namespace {namespace.keys.namespace!r}; "
                "`eventbus subscriptions list` shows those that are."
            )
        taken_back += int(reply[0])
        if not int(reply[1]):
            return taken_back


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
