"""Subscriptions: which handler gets which types of event, and how its deliveries are treated.

Values and their checks; writing them to Redis is `events.routes`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from events.backfill import Start, beginning, cursor_of
from events.errors import Discard, InvalidSubscription, Retry
from events.joining import Join
from events.namespace import Declared
from events.schemas import Schemas
from events.types import is_well_formed

MAX_BATCH = 1000
ORDERINGS = ("", "project", "correlation", "order_key")
Exceptions = tuple[type[BaseException], ...]
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9._-]{0,99}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriberOptions:
    """How one subscriber's deliveries are treated. Declared in code, kept in Redis where publishers need it.

    Attributes:
        ordering: None hands events out as they come; `project`, `correlation` or `order_key` (from
            `metadata.order_key`) hands out one at a time per key, in history order.
        on_dead: what a dead letter does to an ordered key: `skip` lets the next event go on,
            `block` holds it until somebody decides.
        max_attempts: tries before a delivery becomes a dead letter; one that ended with its worker's death
            counts, also when the worker held the delivery ready and had not started it. Default 5.
        min_backoff: seconds before the second try; each further wait is four times as long.
        max_backoff: longest wait, seconds, before jitter. The defaults spread 5 attempts over about an hour.
        jitter: how far a wait is spread at random, either way, as a fraction of it, 0 to 1, so that what
            failed together does not come back together. Default 0.25.
        retry_on: exception types after which a delivery is tried again; after every other it becomes a dead
            letter at once. None, the default, tries again after any.
        give_up_on: exception types after which it becomes a dead letter at once; wins over `retry_on`. Both
            are asked about `TimeLimitExceeded` too, and about every exception in an exception group; never
            about a stopping worker, a crash, `Retry` or `Discard`. They are code: Redis does not know them.
        time_limit: seconds one try may take. Default 600.
        concurrency: most deliveries ready or running across the fleet; 1 is strictly serial. By default
            as many as the fleet's workers have room for.
        rate_limit: deliveries a second that may begin across the fleet, e.g. 0.5; a tenth of a second's
            worth, and one at least, may begin ahead of the even pace. By default there is no limit.
        batch: the handler is called with a list of events instead of one: as many as are ready, at most so many, 2 to
            1000; see `workers.batches` for what it may return. The time limit is that of the call; each event is
            retried, dead or done by itself.
        join: get an event only when nothing is under way any more of what it set off.
        start: from where a subscriber gets events that nobody has declared before: `now`; `beginning`, all of
            history; a datetime; or a position, exclusive. One that exists goes on where it is.
    """

    ordering: str | None = None
    on_dead: str = "skip"
    max_attempts: int = 5
    min_backoff: float = 45.0
    max_backoff: float = 3600.0
    jitter: float = 0.25
    retry_on: Exceptions | None = None
    give_up_on: Exceptions = ()
    time_limit: float = 600.0
    concurrency: int | None = None
    rate_limit: float | None = None
    batch: int | None = None
    join: Join | None = None
    start: Start = "now"

    def __post_init__(self) -> None:
        if (self.ordering or "") not in ORDERINGS:
            raise InvalidSubscription(
                f"ordering must be None, 'project', 'correlation' or 'order_key', not {self.ordering!r}."
            )
        if self.on_dead not in ("skip", "block"):
            raise InvalidSubscription(f"on_dead must be 'skip' or 'block', not {self.on_dead!r}.")
        if not _is_whole(self.max_attempts):
            raise InvalidSubscription(f"max_attempts must be a whole number of at least 1, not {self.max_attempts!r}.")
        if self.concurrency is not None:
            check_concurrency(self.concurrency)
        if self.rate_limit is not None:
            check_rate(self.rate_limit)
        if self.batch is not None and not (_is_whole(self.batch) and 2 <= self.batch <= MAX_BATCH):
            raise InvalidSubscription(f"batch must be a whole number from 2 to {MAX_BATCH}, not {self.batch!r}.")
        if self.batch is not None and self.join is not None:
            raise InvalidSubscription("A join gets one event at a time: leave batch out, or the join.")
        if self.join is not None and not isinstance(self.join, Join):
            raise InvalidSubscription(f"join must be a Join, not {self.join!r:.80}.")
        if cursor_of(self.start) is not None and self.join is not None:
            raise InvalidSubscription(
                f"A join cannot start at {self.start!r}: what earlier events set off has ended. Leave start at 'now'."
            )
        if self.join is not None and self.ordering:
            raise InvalidSubscription(
                f"A join cannot have the ordering {self.ordering!r}: it gets events when what they set off has ended."
            )
        for name in ("min_backoff", "max_backoff", "time_limit"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
                raise InvalidSubscription(f"{name} must be seconds from 0 to 1e9, not {value!r}.")
        if isinstance(self.jitter, bool) or not isinstance(self.jitter, int | float) or not 0 <= self.jitter <= 1:
            raise InvalidSubscription(f"jitter must be a fraction from 0 to 1, not {self.jitter!r}.")
        if self.retry_on is not None:
            object.__setattr__(self, "retry_on", _exceptions("retry_on", self.retry_on))
            if not self.retry_on:
                raise InvalidSubscription("retry_on names nothing: write max_attempts=1, or leave it out to retry all.")
        object.__setattr__(self, "give_up_on", _exceptions("give_up_on", self.give_up_on))

    def record(self) -> dict[str, str]:
        """Return the fields that publishers and scripts need, as the record in Redis holds them."""
        return {
            "ordering": self.ordering or "",
            "concurrency": "" if self.concurrency is None else str(self.concurrency),
            "rate": "" if self.rate_limit is None else repr(float(self.rate_limit)),
            "dead": self.on_dead,
            "batch": "" if self.batch is None else str(self.batch),
            **(self.join.record() if self.join else {"join_of": "", "join_timeout": ""}),
        }


def check_concurrency(value: object) -> int:
    """Return how many deliveries may be ready or running.

    Raises:
        InvalidSubscription: unless it is a whole number of at least 1.
    """
    if not _is_whole(value):
        raise InvalidSubscription(f"concurrency must be a whole number of at least 1, not {value!r}.")
    return value  # type: ignore[return-value]


def check_rate(value: object) -> float:
    """Return how many deliveries a second may begin.

    Raises:
        InvalidSubscription: unless it is a number from 0.0001 (one in about three hours) to 1e6.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1e-4 <= value <= 1e6:
        raise InvalidSubscription(f"rate_limit must be deliveries a second from 0.0001 to 1e6, not {value!r}.")
    return float(value)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _exceptions(option: str, given: object) -> Exceptions:
    """Return exception types as a tuple; one alone may stand without it."""
    types = tuple(given) if isinstance(given, tuple | list | set | frozenset) else (given,)
    for kind in types:
        if not isinstance(kind, type) or not issubclass(kind, BaseException):
            raise InvalidSubscription(f"{option} must be a tuple of exception types, and {kind!r:.80} is none.")
        if issubclass(kind, Retry | Discard):
            raise InvalidSubscription(f"{option} cannot name {kind.__name__}: a handler that raises it has decided.")
    return types


def read_options(name: str, given: Mapping[str, Any]) -> SubscriberOptions:
    """Make the options of a subscriber from keyword arguments.

    Raises:
        InvalidSubscription: naming what is not an option, or has a wrong value.
    """
    known = SubscriberOptions.__dataclass_fields__
    unknown = [option for option in given if option not in known]
    if unknown:
        raise InvalidSubscription(f"{name!r} has the option {unknown[0]!r}; known are {', '.join(known)}.")
    return SubscriberOptions(**given)


def check_name(name: object) -> str:
    """Return the subscriber's name.

    Raises:
        InvalidSubscription: unless it matches `[A-Za-z_][A-Za-z0-9._-]{0,99}` and does not end in
            `.DQ` or `.XQ`, which Dramatiq reads as queues of its own.
    """
    if not isinstance(name, str) or not _NAME.match(name) or name.endswith((".DQ", ".XQ")):
        raise InvalidSubscription(
            f"A subscriber's name must be a letter or underscore and up to 99 of A-Z a-z 0-9 . _ -, "
            f"not ending in .DQ or .XQ, not {name!r:.150}."
        )
    return name


def check_types(types: Iterable[object]) -> tuple[str, ...]:
    """Return the type names, without repeats; `*` stands for every type.

    Raises:
        InvalidSubscription: when there is none, or one is not well formed.
    """
    if isinstance(types, str) or not isinstance(types, Iterable):
        raise InvalidSubscription(f"types must be a list of event types, not {types!r:.80}.")
    names = []
    for kind in types:
        name = str(getattr(kind, "value", kind))
        if name != "*" and not is_well_formed(name):
            raise InvalidSubscription(
                f"{name[:120]!r} cannot name an event type: write a letter, then A-Z a-z 0-9 _ . : -."
            )
        names.append(name)
    if not names:
        raise InvalidSubscription("A subscriber needs at least one event type; '*' stands for all of them.")
    return tuple(dict.fromkeys(names))


@dataclass(frozen=True, slots=True)
class Subscription:
    """A named handler, the types it gets, and its options.

    Attributes:
        name: the subscriber; its queue has the same name.
        types: type names; `*` stands for every type.
        handler: called with the event, and a join's with what it has joined too. A coroutine function or an
            async generator function runs on an event loop, any other in a worker thread.
        is_async: which of the two.
        options: how its deliveries are treated.
        schemas: what payloads are held against that the handler returns, and read by.
        wants_payload: the handler is called with the event's payload as its model, too.
    """

    name: str
    types: tuple[str, ...]
    handler: Callable[..., Any]
    is_async: bool
    options: SubscriberOptions
    schemas: Schemas = field(default_factory=Schemas)
    wants_payload: bool = False

    def takes(self, kind: str) -> bool:
        """Tell whether events of that type are for this subscriber."""
        return kind in self.types or "*" in self.types

    def is_same_as(self, other: Subscription) -> bool:
        """Tell whether the other has the same handler, whichever binding of it, and the same options."""
        return self.options == other.options and _function(self.handler) == _function(other.handler)

    def declared(self) -> Declared:
        """Return what Redis and the store keep of it."""
        return Declared(self.name, self.types, self.options.record(), beginning(self.options.start))


def _function(handler: Any) -> Any:
    return getattr(handler, "__func__", handler)
