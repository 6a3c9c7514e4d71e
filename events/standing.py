"""How subscribers stand: what each has before it, what holds it back, and which workers take it.

For operators, never for decisions about deliveries. Nothing here writes or waits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from events.connection import mapped
from events.errors import UnknownSubscriber
from events.inspection import Inspection, Queue
from events.kept import kept
from events.namespace import Namespace
from events.roster import Worker

_FIELDS = ("cursor", "concurrency", "set_concurrency", "rate", "set_rate")


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit of a subscriber. `set` goes before `declared` where an operator set one (`is_set`); None is no limit."""

    declared: float | None
    set: float | None
    is_set: bool

    @property
    def holds(self) -> float | None:
        """The limit that holds."""
        return self.set if self.is_set else self.declared


@dataclass(frozen=True, slots=True)
class Standing:
    """One subscriber.

    Attributes:
        queue: its types and state, and what it has before it.
        filled_to: while it is back-filled, the position that has been reached.
        parked: deliveries of a join that wait for what they set off.
        concurrency, rate: most deliveries ready or running; deliveries a second that may begin.
        quiet_s: seconds since something last came into its window; None when nothing ever did.
        workers: live ones that take it.
        undeclared: types it is routed and no live worker's code declares; none where it has no workers.
    """

    queue: Queue
    filled_to: int | None
    parked: int
    concurrency: Limit
    rate: Limit
    quiet_s: float | None
    workers: tuple[str, ...]
    undeclared: tuple[str, ...]

    @property
    def is_orphaned(self) -> bool:
        """Whether no live worker takes it, though something comes or waits for it."""
        return not self.workers and bool(self.queue.types or self.queue.unsettled or self.parked)

    def is_idle(self, after_s: float) -> bool:
        """Whether nothing waits for it and nothing has come for that long."""
        has_nothing = not (self.queue.unsettled or self.parked)
        return has_nothing and (self.quiet_s is None or self.quiet_s >= after_s)


def standings(namespace: Namespace, names: Sequence[str] | None = None) -> list[Standing]:
    """Return how subscribers stand, by name; all of them unless some are named.

    Raises:
        UnknownSubscriber: nobody has declared one of the names.
        RedisUnavailable, ScriptFailed.
    """
    inspection = Inspection(namespace)
    declared = inspection.subscribers()
    for name in names or ():
        if name not in declared:
            raise unknown(namespace, name)
    found = live_workers(namespace)
    return [_standing(namespace, queue, found) for queue in inspection.queues(declared if names is None else names)]


def live_workers(namespace: Namespace) -> list[Worker]:
    """Return the workers that live, as they said of themselves last.

    Raises:
        RedisUnavailable, ScriptFailed.
    """
    return [worker for worker in Inspection(namespace).workers() if worker.is_alive]


def takers(workers: Iterable[Worker], name: str) -> tuple[str, ...]:
    """Return which of these workers take a subscriber's deliveries, by name."""
    return tuple(sorted(worker.consumer for worker in workers if name in worker.said.types))


def is_declared(namespace: Namespace, name: str) -> bool:
    """Tell whether Redis knows the subscriber."""
    with mapped(namespace.client):
        return bool(namespace.client.hexists(namespace.keys("sub", name), "types"))


def unknown(namespace: Namespace, name: str) -> UnknownSubscriber:
    """Make the error for a name that nobody has declared."""
    return UnknownSubscriber(
        f"No subscriber {name!r} is declared in the namespace {namespace.keys.namespace!r}; "
        "`eventbus subscriptions list` shows those that are."
    )


def _standing(namespace: Namespace, queue: Queue, workers: Sequence[Worker]) -> Standing:
    client, keys, name = namespace.client, namespace.keys, queue.subscriber
    with mapped(client), client.pipeline(transaction=False) as pipe:
        pipe.hmget(keys("sub", name), *_FIELDS)
        pipe.zcard(keys("joins", name))
        pipe.time()
        values, parked, (seconds, micros) = pipe.execute()
    with kept(keys("sub", name)):
        texts = {field: None if value is None else value.decode() for field, value in zip(_FIELDS, values, strict=True)}
        cursor = int(texts["cursor"] or 0) or None
        concurrency = _limit(texts["concurrency"], texts["set_concurrency"])
        rate = _limit(texts["rate"], texts["set_rate"])
    mine = [worker for worker in workers if name in worker.said.types]
    declared = {kind for worker in mine for kind in worker.said.types[name]}
    return Standing(
        queue=queue,
        filled_to=cursor if queue.state == "backfill" else None,
        parked=parked,
        concurrency=concurrency,
        rate=rate,
        quiet_s=_quiet_s(namespace, name, seconds + micros / 1e6),
        workers=takers(mine, name),
        undeclared=tuple(kind for kind in queue.types if mine and kind not in declared and "*" not in declared),
    )


def _quiet_s(namespace: Namespace, name: str, now_s: float) -> float | None:
    """The ids of a window's entries are milliseconds; a stream remembers its last one when all are gone."""
    key = namespace.keys("queue", name)
    with mapped(namespace.client):
        if not namespace.client.exists(key):
            return None
        info: Any = namespace.client.xinfo_stream(key)
    last_ms = int(info["last-generated-id"].partition(b"-")[0])
    return max(0.0, now_s - last_ms / 1000) if last_ms else None


def _limit(declared: str | None, given: str | None) -> Limit:
    return Limit(_number(declared), _number(given), given is not None)


def _number(text: str | None) -> float | None:
    return float(text) if text else None
