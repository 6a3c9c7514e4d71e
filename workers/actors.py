"""Actors: one per (event type, subscriber), each a plain function that runs one attempt.

Named `<subscriber>.<TYPE>` on the subscriber's queue, so that Dramatiq's middleware and logs see
which agent handles what. `*` stands where a subscriber takes every type.
"""

from __future__ import annotations

from collections.abc import Iterable

import dramatiq

from events.subscriptions import Subscription
from workers.attempt import Attempt
from workers.going_on import go_on
from workers.messages import actor_name


def declare_actors(broker: dramatiq.Broker, subscriptions: Iterable[Subscription]) -> None:
    """Declare on the broker an actor for each type of each subscriber."""

    def run(attempt: Attempt) -> None:
        engine = broker.engine  # type: ignore[attr-defined]
        engine.run(attempt)
        if engine.receiver.quick.is_on and not attempt.deferred:
            go_on(engine, attempt)

    for subscription in subscriptions:
        for kind in subscription.types:
            dramatiq.Actor(
                run,
                broker=broker,
                actor_name=actor_name(subscription, kind),
                queue_name=subscription.name,
                priority=0,
                options={},
            )
