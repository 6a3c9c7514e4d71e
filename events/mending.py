"""Finding out which deliveries of a subscriber Redis has, and putting back those that it has lost.

Reading goes on while workers work. What moves meanwhile (from a lane into the window, out of it to be retried,
back to its lane) is looked for where it was and where it may have gone, twice; see `lua/names.lua` for why what
stays is not passed over. Should a delivery be put back that was there all the same, its handler runs twice, and one
of the two settles it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from events.backfill import ENOUGH
from events.connection import mapped
from events.digits import whole
from events.event import Event
from events.kept import kept
from events.namespace import Namespace
from events.publisher import MAX_BATCH_BYTES, event_arguments
from events.records import RecordedEvent
from events.scripts import Argument

MAX_AT_ONCE = 200
_NAMES_AT_ONCE = 1000
_ANY_SIZE = 2**63
_CAUSE = 3  # among the arguments of an event
_UNSETTLED = ("queue", "delayed", "joins")
Key = tuple[int, int]
"""A delivery within its subscriber: the event's position, the redelivery."""


class Ground(NamedTuple):
    """What a subscriber's record says of it.

    Attributes:
        is_declared: somebody declares it, and it is not being dropped.
        mends: how often something was put back: read before looking for what is missing, it tells whether
            somebody else has put something back since.
        first_redelivery: of what its back-fill delivers; 0 when it never had one.
        filled_to: while it is back-filled, the position that has been reached; else None.
    """

    is_declared: bool
    mends: str
    first_redelivery: int
    filled_to: int | None


class Mended(NamedTuple):
    """What a step put back. `is_stale`: nothing, because somebody else has since the caller looked."""

    put_back: int
    mends: str
    is_stale: bool


def ground(namespace: Namespace, name: str) -> Ground:
    """Return what a subscriber's record says of it; of one that is unknown, that it is not declared.

    Raises, as every function here:
        RedisUnavailable, ScriptFailed.
    """
    with mapped(namespace.client):
        fields: Any = namespace.client.hmget(
            namespace.keys("sub", name), "types", "state", "mends", "cursor", "first_redelivery"
        )  # fmt: skip
    types, state, mends, cursor, first = fields
    with kept(namespace.keys("sub", name)):
        return Ground(
            types is not None and state != b"dropping",
            (mends or b"0").decode(),
            int(first or 0),
            int(cursor or 0) if state == b"backfill" else None,
        )


def lanes(namespace: Namespace) -> dict[str, set[str]]:
    """Return every lane that holds something, by subscriber; it walks over all keys of the server, some at a time."""
    prefix = namespace.keys("lane")
    found: dict[str, set[str]] = {}
    with mapped(namespace.client):
        for key in namespace.client.scan_iter(match=f"{_glob(prefix)}*", count=_NAMES_AT_ONCE):
            name, _, lane = key.decode(errors="surrogateescape").removeprefix(prefix).partition(":")
            found.setdefault(name, set()).add(lane)
    return found


def holds(namespace: Namespace, name: str) -> dict[str, Key]:
    """Return which delivery holds each ordered lane of a subscriber."""
    with mapped(namespace.client):
        held: Any = namespace.client.hgetall(namespace.keys("held", name))
    return {lane.decode(errors="surrogateescape"): _key(holder) for lane, holder in held.items()}


def present(namespace: Namespace, name: str, known_lanes: Iterable[str]) -> set[Key]:
    """Return every delivery of a subscriber that is anywhere in Redis: waiting, leased, to be retried, parked, dead."""
    return _found(namespace, name, known_lanes, (*_UNSETTLED, "dead"))


def unsettled(namespace: Namespace, name: str, known_lanes: Iterable[str]) -> set[Key]:
    """Return every delivery of a subscriber that waits in Redis, is leased, to be retried, or parked."""
    return _found(namespace, name, known_lanes, _UNSETTLED)


def unlisted(namespace: Namespace, name: str, known_lanes: Iterable[str]) -> list[str]:
    """Return lanes that have a head which may move, and that nobody would look into."""
    client, keys = namespace.client, namespace.keys
    stuck = []
    for lane in known_lanes:
        with mapped(client), client.pipeline(transaction=True) as pipe:
            pipe.lrange(keys("lane", name, lane), 0, 0)
            pipe.zscore(keys("lanes", name), lane)
            pipe.hget(keys("held", name), lane)
            head, place, holder = pipe.execute()
        if head and place is None and (holder is None or _key(holder) == _key(head[0])):
            stuck.append(lane)
    return stuck


def has_joins(namespace: Namespace, names: Iterable[str]) -> bool:
    """Tell whether one of these subscribers joins."""
    with mapped(namespace.client), namespace.client.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.hget(namespace.keys("sub", name), "join_of")
        return any(pipe.execute())


def remembered(namespace: Namespace, event_ids: Iterable[str]) -> set[str]:
    """Return those of the events whose ids Redis remembers, with the joins that they are in."""
    asked = list(event_ids)
    with mapped(namespace.client), namespace.client.pipeline(transaction=False) as pipe:
        for event_id in asked:
            pipe.exists(namespace.keys("id", event_id))
        return {event_id for event_id, is_there in zip(asked, pipe.execute(), strict=True) if is_there}


def mend(
    namespace: Namespace,
    name: str,
    mends: str,
    lost: Sequence[tuple[int, RecordedEvent]] = (),
    free: Mapping[str, Key] | None = None,
    listed: Sequence[str] = (),
    causes: Mapping[str, str] | None = None,
) -> Mended:
    """Put back what a subscriber has lost; in one step as much as fits, from the first delivery on.

    Args:
        mends: as `ground` told it before the caller looked.
        lost: redelivery and event of deliveries that wait and are nowhere, ascending by position; those beyond
            `MAX_AT_ONCE`, or some 4 MB, are left for another call.
        free: ordered lanes and the delivery that holds each and is nowhere.
        listed: of `unlisted`.
        causes: of events that Redis has forgotten, by id: the nearest of their causes that it remembers, whose joins
            they are in.

    Raises:
        HistoryReset: nothing was written.
    """
    flat: list[Argument] = [len(free or {})]
    for lane, (position, redelivery) in (free or {}).items():
        flat += [lane.encode(errors="surrogateescape"), f"{position}:{redelivery}"]
    flat += [len(listed), *(lane.encode(errors="surrogateescape") for lane in listed)]
    for redelivery, recorded in _first(lost):
        root = recorded.event.correlation_id or recorded.event.event_id
        flat += [redelivery, recorded.position, root, recorded.depth, *_arguments(recorded.event, causes or {})]
    verdict, now, count, _waiting = namespace.call("mend", name, mends, ENOUGH, *flat)
    return Mended(int(count), now.decode(), verdict == b"STALE")


def _found(namespace: Namespace, name: str, known_lanes: Iterable[str], places: Sequence[str]) -> set[Key]:
    found: set[Key] = set()
    for _ in range(2):
        for lane in sorted({*known_lanes, *_moving_lanes(namespace, name)}):
            found.update(_names(namespace, name, "lane", lane))
        for place in places:
            found.update(_names(namespace, name, place))
    return found


def _arguments(event: Event, causes: Mapping[str, str]) -> list[Argument]:
    arguments = event_arguments(event, _ANY_SIZE)
    arguments[_CAUSE] = causes.get(event.event_id, arguments[_CAUSE])
    return arguments


def _first(lost: Sequence[tuple[int, RecordedEvent]]) -> Iterator[tuple[int, RecordedEvent]]:
    size_bytes = 0
    for redelivery, recorded in lost[:MAX_AT_ONCE]:
        size_bytes += len(event_arguments(recorded.event, _ANY_SIZE)[-1])  # type: ignore[arg-type]
        if size_bytes > MAX_BATCH_BYTES and recorded is not lost[0][1]:
            return
        yield redelivery, recorded


def _moving_lanes(namespace: Namespace, name: str) -> set[str]:
    with mapped(namespace.client), namespace.client.pipeline(transaction=False) as pipe:
        pipe.zrange(namespace.keys("lanes", name), 0, -1)
        pipe.hkeys(namespace.keys("held", name))
        movable, held = pipe.execute()
    return {lane.decode(errors="surrogateescape") for lane in [*movable, *held]}


def _names(namespace: Namespace, name: str, place: str, lane: str = "") -> Iterator[Key]:
    at: bytes = b""
    while True:
        told = lane.encode(errors="surrogateescape")
        at, names = namespace.scripts.call("names", ["", name, place, told, at, _NAMES_AT_ONCE])
        yield from map(_key, names)
        if not at:
            return


def _key(name: bytes) -> Key:
    """Read `<position>:<redelivery>`, or the head of a frame; (0, 0) when it is neither."""
    parts = name.replace(b"\t", b":", 1).split(b"\t", 1)[0].split(b":")
    position, redelivery = map(whole, parts) if len(parts) == 2 else (None, None)
    return (0, 0) if position is None or redelivery is None else (position, redelivery)


def _glob(text: str) -> str:
    return "".join(f"\\{char}" if char in "*?[]\\^" else char for char in text)
