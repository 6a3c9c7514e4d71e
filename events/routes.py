"""Declaring subscribers in Redis: durable routes, one record and one queue each.

A route, once declared, stays until `undeclare`: a process that stops, or a deploy that no longer
mentions a type, loses no events.
"""

from __future__ import annotations

from collections.abc import Sequence

from events.errors import InvalidSubscription, TooManyRoutes
from events.namespace import Declared, Namespace
from events.scripts import Argument


def declare(namespace: Namespace, declared: Declared, max_routes: int) -> None:
    """Write a subscriber's routes, record and queue; declaring it again changes only what differs.

    What operators have set and how far a back-fill has come is changed by nobody who declares.

    Raises:
        TooManyRoutes: when a type has `max_routes` other subscribers.
        InvalidSubscription: when the ordering differs from the declared one, or a join becomes none or
            is made of what was none, while deliveries wait.
    """
    options = dict(declared.options)
    ordering = options.pop("ordering", "")
    flat = [part for pair in options.items() for part in pair]
    new = [part for pair in declared.steering.items() for part in pair]
    told: list[Argument] = [declared.name, max_routes, ordering, len(declared.types), *declared.types]
    told += [len(flat), *flat, *new]
    while (reply := namespace.call("declare", *told).decode()) == "MORE":
        continue  # a lower limit takes back what is ready, a bounded step at a time
    word, _, rest = reply.partition(" ")
    if word == "ROUTES":
        kind, count = rest.split(" ")
        raise TooManyRoutes(
            f"{declared.name!r} would be subscriber {count} of {kind!r}, over the limit of {max_routes} "
            "(EVENTBUS_MAX_ROUTES)."
        )
    if word == "ORDERING":
        raise InvalidSubscription(
            f"{declared.name!r} is declared with ordering {rest} and has deliveries waiting; its ordering cannot "
            f"change to {ordering or 'none'} until they are settled. Let it drain, or use another name."
        )
    if word == "JOIN":
        was, now = ("no join", "one") if options.get("join_of") else ("a join", "none")
        raise InvalidSubscription(
            f"{declared.name!r} is declared as {was} and has deliveries waiting, or is being back-filled; it cannot "
            f"become {now} until they are settled. Let it drain, or use another name."
        )


def undeclare(namespace: Namespace, name: str, types: Sequence[str] = ()) -> list[str]:
    """Remove routes (all of the subscriber's when no types are given); return the types removed."""
    return [kind.decode() for kind in namespace.call("undeclare", name, *types)]
