"""What an operator does to a subscriber, in both places that remember it: Redis, where it takes effect, and
the store, from which a Redis that lost everything learns it again.

Each change is made in Redis while the store's row is held, and written there last. So two operators take
turns, and both places agree when the second has ended. A crash between the two writes leaves a change that
holds and that a lost Redis would forget: `eventbus doctor` names it, and doing it again mends it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from events.dropping import Step, drop_step
from events.errors import DropRefused, StoreUnavailable
from events.namespace import Namespace
from events.routes import undeclare
from events.standing import is_declared, live_workers, takers, unknown
from events.steering import CODE, steer, steering
from store.registry import Registry


@dataclass(frozen=True, slots=True)
class Steered:
    """A change that holds.

    Attributes:
        taken_back: deliveries that were ready for workers and wait again.
        trouble: why the store does not have it, a sentence; empty when it has. A Redis that lost its data
            would forget it then.
    """

    taken_back: int
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Dropped:
    """A subscriber that is gone.

    Attributes:
        deliveries: ended. dead_letters: removed.
        is_back: somebody has declared it again meanwhile.
    """

    deliveries: int
    dead_letters: int
    is_back: bool


def steer_durably(namespace: Namespace, registry: Registry, name: str, **changes: Any) -> Steered:
    """Change how a subscriber's deliveries are let in, and remember it; arguments as `events.steering.steer`'s.

    A store that cannot be reached keeps nobody from pausing: it is done in Redis, and said.

    Raises:
        UnknownSubscriber, InvalidSubscription: nothing was changed.
        RedisUnavailable, HistoryReset, NotMigrated: the change may hold; repeat it.
    """
    fields = steering(changes)
    namespace.open()  # not while the row is held: a worker that declares everything anew needs rows
    try:
        with registry.held(name) as row:
            taken_back = steer(namespace, name, **changes)
            for field, value in fields.items():
                if value == CODE or (field, value) == ("paused", "0"):
                    row.steering.pop(field, None)
                else:
                    row.steering[field] = value
    except StoreUnavailable as error:
        return Steered(steer(namespace, name, **changes), str(error))
    return Steered(taken_back)


def drop(
    namespace: Namespace,
    registry: Registry,
    name: str,
    *,
    force: bool = False,
    dead_letters: bool = False,
    progress: Callable[[Step], None] = lambda step: None,
) -> Dropped:
    """Drop a subscriber for good: its routes, what waits for it, its dead letters when asked, and itself.

    Interrupted half-way it has no routes and starts nothing; repeating it goes on. Code that declares it
    brings it back, as a new one.

    Args:
        force: although workers are live that take it, or hold deliveries of it.
        progress: called after each step.

    Raises:
        UnknownSubscriber: neither Redis nor the store knows it.
        DropRefused: nothing was changed, or what was ended stays so.
        RedisUnavailable, HistoryReset, StoreUnavailable, NotMigrated: repeat it.
    """
    namespace.open()
    live = takers(live_workers(namespace), name)
    if live and not force:
        raise DropRefused(
            f"{len(live)} live workers take {name!r} ({live[0]}), and would declare it again, as a new subscriber: "
            "deploy them without it first, or drop it all the same with --force."
        )
    deliveries = letters = 0
    while True:
        with registry.held(name) as row:
            step = drop_step(namespace, name, force=force, dead_letters=dead_letters)
            if row.is_new and not step.was_known:
                raise unknown(namespace, name)
            row.removed = step.is_gone or row.is_new
        deliveries, letters = deliveries + step.deliveries, letters + step.dead_letters
        progress(step)
        if step.is_gone:
            return Dropped(deliveries, letters, is_declared(namespace, name))


def remove_types(namespace: Namespace, registry: Registry, name: str, types: Sequence[str] = ()) -> list[str]:
    """Remove routes of a subscriber, all of them unless types are named; what waits for it stays.

    The store comes first: between the two writes events still arrive, and a repetition mends it.

    Returns:
        The types that Redis routed to it, and routes no more.

    Raises:
        UnknownSubscriber: nothing was changed.
        RedisUnavailable, HistoryReset, StoreUnavailable, NotMigrated: repeat it.
    """
    namespace.open()
    if not is_declared(namespace, name):
        raise unknown(namespace, name)
    registry.remove(name, types or None)
    return undeclare(namespace, name, types)
