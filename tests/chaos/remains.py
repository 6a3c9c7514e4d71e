"""Rules about what Redis has at rest: nothing of what has ended, and every event where the store has it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from events.keys import GROUP, SUFFIX
from tests.chaos.losses import in_history

if TYPE_CHECKING:
    from tests.chaos.evidence import Evidence
    from tests.chaos.stage import Stage

MAY_STAY = frozenset(
    ("meta", "clock", "history", "archived", "id", "routes", "subscribers", "sub", "queue", "dead", "outcomes",
     "workers", "beats", "running", "schedules", "slots")
)  # fmt: skip
"""Kinds of keys that are there when nothing waits; streams among them are looked into. What the dead said of themselves
(workers, beats, running) goes when they have been silent for ten leases."""
PAGE = 1000


def left_in_redis(stage: Stage, last: int) -> Iterator[str]:
    """Iterate over what Redis has of deliveries, though all have ended.

    Args:
        last: position of the last event.
    """
    left: dict[str, list[str]] = defaultdict(list)
    for key in _keys(stage):
        kind = _kind_of(key.removeprefix(stage.keys.prefix))
        if kind not in MAY_STAY:
            left[kind].append(key)
        if kind == "queue":
            yield from _left_in(stage, key)
    for kind, some in sorted(left.items()):
        yield f"{len(some)} keys of the kind {kind or 'that nobody knows'} are left, such as {some[0]}."
    clock, archived = (int(stage.redis.get(stage.keys(name)) or 0) for name in ("clock", "archived"))
    if clock < last:
        yield f"The clock stands at {clock}, before the last event's position {last}."
    if archived > clock:
        yield f"History is archived up to {archived}, beyond the last position that was given, {clock}."


def _left_in(stage: Stage, queue: str) -> Iterator[str]:
    if entries := stage.redis.xlen(queue):
        yield f"{entries} entries are left in {queue}."
    if pending := stage.redis.xpending(queue, GROUP)["pending"]:
        yield f"{pending} entries of {queue} are pending."


def _keys(stage: Stage) -> Iterator[str]:
    for key in stage.redis.scan_iter(f"{stage.keys.prefix}*", count=PAGE):
        yield key.decode(errors="backslashreplace")


def _kind_of(name: str) -> str:
    """The name that events/keys.py has for a key; empty for what it does not know."""
    whole = (kind for kind, suffix in SUFFIX.items() if name == suffix and not suffix.endswith(":"))
    begun = (kind for kind, suffix in SUFFIX.items() if suffix.endswith(":") and name.startswith(suffix))
    return next(whole, "") or next(begun, "")


def places(stage: Stage) -> Iterator[tuple[str, int]]:
    """Iterate over where Redis has events: ids and positions, of history's entries and of what it remembers."""
    for recorded in in_history(stage.redis.xrange(stage.keys("history"))):
        yield recorded.event.event_id, recorded.position
    before = stage.keys("id")
    known = (key for key in _keys(stage) if key.startswith(before))
    while some := list(islice(known, PAGE)):
        for key, value in zip(some, stage.redis.mget(some), strict=True):
            if value is not None:
                yield key.removeprefix(before), int(value.partition(b"\t")[0])


def places_differ(evidence: Evidence) -> Iterator[str]:
    """Each event is at one position, in Redis and in the store.

    What Redis had forgotten, and was published again under its id, has a later position there; what came to a position
    that the store had given to something lost is set aside.
    """
    for event_id, position in evidence.places:
        row = evidence.of.get(event_id)
        stored = row["position"] if row is not None else None
        if stored == position or position in evidence.rejected:
            continue
        if stored is None:
            if event_id not in evidence.unfinished.events:
                yield f"Redis has {event_id} at {position}; the store does not have it."
        elif not evidence.may_be_overtaken(stored, position):
            yield f"Redis has {event_id} at {position}; the store has it at {stored}."
