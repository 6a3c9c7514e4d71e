"""Actors: one per (event type, subscriber), each a plain function that runs one attempt.

Named `<subscriber>.<TYPE>` on the subscriber's queue, so that Dramatiq's middleware and logs see
which agent handles what. `*` stands where a subscriber takes every type.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

import dramatiq

from events.subscriptions import Subscription
from workers.attempt import Attempt
from workers.engine import Engine

SLICE_S = 0.01


def actor_name(subscription: Subscription, kind: str) -> str:
    """Name the actor that handles events of that type for the subscriber."""
    return f"{subscription.name}.{kind if kind in subscription.types else '*'}"


def go_on(engine: Engine, attempt: Attempt) -> None:
    """After a plain handler run those of its subscriber that wait here in the same thread, for a moment.

    What Dramatiq does around a message costs more than a quick handler: this way many share it. Each delivery
    has its credit, its limit and its end as ever, and what is not started stays where others find it.
    """
    until = time.monotonic() + SLICE_S
    while not attempt.deferred and time.monotonic() < until:
        following = engine.finish(attempt, goes_on=True)
        if following is None:
            return
        attempt = following
        try:
            engine.run(attempt)
        except BaseException as error:
            attempt.error = error
    if not attempt.deferred:
        engine.finish(attempt)


def declare_actors(broker: dramatiq.Broker, subscriptions: Iterable[Subscription]) -> None:
    """Declare on the broker an actor for each type of each subscriber."""

    def run(attempt: Attempt) -> None:
        engine = broker.engine  # type: ignore[attr-defined]
        engine.run(attempt)
        if engine.goes_on:
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
