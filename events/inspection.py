"""Looking at a namespace in Redis without touching it: for operators, never for decisions.

Every number is a moment's: the next command may find another. Nothing here writes, opens an epoch
or waits. What is expensive to count exactly is counted up to a bound, and says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import redis

from events.connection import mapped
from events.digits import whole
from events.kept import kept
from events.keys import GROUP
from events.namespace import Namespace
from events.roster import Lag, Worker, lag_of, worker_of

MAX_LANES = 1000
MAX_COUNT = 1000
MAX_OLDEST = 100
_PAGE = 100


@dataclass(frozen=True, slots=True)
class Server:
    """The server that answers.

    Attributes:
        software: `redis` or `valkey`. version: its own version, as numbers.
        role: `master` or `slave`, in Redis's words.
        maxmemory_policy: what it does when memory is full; only `noeviction` loses nothing.
        appendonly: whether it writes an append-only file.
        appendfsync: `always`, `everysec` or `no`; None when the server does not tell.
        used_memory, maxmemory: bytes; a maxmemory of 0 is no limit.
    """

    software: str
    version: tuple[int, ...]
    role: str
    maxmemory_policy: str
    appendonly: bool
    appendfsync: str | None
    used_memory: int
    maxmemory: int


@dataclass(frozen=True, slots=True)
class Queue:
    """What one subscriber has before it.

    Attributes:
        subscriber: its name. types: what it is routed. state, ordering: of its record.
        is_paused: an operator lets nothing of it begin. concurrency: most deliveries of it that may be ready or
            running across the fleet; None is no limit.
        ready: deliveries in the window that nobody has taken. running: those that a worker holds.
        waiting: deliveries in lanes, not in the window yet.
        is_bounded: there are more lanes than were counted: `waiting` is a lower bound.
        delayed: retries that are not due. dead: dead letters kept.
        oldest_s: seconds since the oldest unsettled event was published; None when nothing is unsettled. Looked
            for at the head of each lane that is counted, among the `MAX_OLDEST` deliveries that entered the window
            first, and as many retries that are due first.
        oldest_is_bounded: there are more of those than were looked at: `oldest_s` is a lower bound.
    """

    subscriber: str
    types: tuple[str, ...]
    state: str
    ordering: str
    is_paused: bool
    concurrency: int | None
    ready: int
    running: int
    waiting: int
    is_bounded: bool
    delayed: int
    dead: int
    oldest_s: float | None
    oldest_is_bounded: bool

    @property
    def unsettled(self) -> int:
        """Deliveries that are not done, dead or discarded."""
        return self.ready + self.running + self.waiting + self.delayed


@dataclass(frozen=True, slots=True)
class Backlog:
    """What SQL does not have yet.

    Attributes:
        history: entries Redis keeps, archived ones within the margin included.
        archived: the position up to which SQL has history. last: the last position of history.
        unarchived: events after it, counted up to `MAX_COUNT`.
        unarchived_is_lower_bound: there are more of them than were counted.
        oldest_s: how long the first of them has waited; None when there is none.
        outcomes: outcomes that are not archived.
        outcomes_oldest_s: how long the first of them has waited; None when there is none.
    """

    history: int
    archived: int
    last: int
    unarchived: int
    unarchived_is_lower_bound: bool
    oldest_s: float | None
    outcomes: int
    outcomes_oldest_s: float | None


class Inspection:
    """Reads one namespace.

    Raises, in every method:
        RedisUnavailable, ScriptFailed.
    """

    def __init__(self, namespace: Namespace) -> None:
        self._client = namespace.client
        self._keys = namespace.keys

    def server(self) -> Server:
        """Return what the server says of itself."""
        with mapped(self._client):
            info: dict[str, Any] = self._client.info()
        software = "valkey" if "valkey_version" in info else "redis"
        version = str(info.get(f"{software}_version", "0"))
        return Server(
            software=software,
            version=tuple(int(part) for part in version.split(".") if part.isdigit()),
            role=str(info.get("role", "master")),
            maxmemory_policy=str(info.get("maxmemory_policy", "")),
            appendonly=bool(int(info.get("aof_enabled", 0))),
            appendfsync=self._config("appendfsync"),
            used_memory=int(info.get("used_memory", 0)),
            maxmemory=int(info.get("maxmemory", 0)),
        )

    def epoch(self) -> str | None:
        """Return the namespace's epoch; None when nothing was ever published, or Redis lost it."""
        with mapped(self._client):
            found: Any = self._client.hget(self._keys("meta"), "epoch")
        with kept(self._keys("meta")):
            return found.decode() if found else None

    def subscribers(self) -> list[str]:
        """Return every declared subscriber, by name."""
        with mapped(self._client):
            names: Any = self._client.smembers(self._keys("subscribers"))
        with kept(self._keys("subscribers")):
            return sorted(name.decode() for name in names)

    def queues(self, subscribers: Sequence[str] | None = None) -> list[Queue]:
        """Return what each subscriber has before it, by name; all subscribers unless some are named."""
        names = self.subscribers() if subscribers is None else subscribers
        with mapped(self._client):
            now = self._now()
            return [self._queue(name, now) for name in names]

    def workers(self) -> list[Worker]:
        """Return the worker processes that beat and have not left, the longest silent last.

        One that was killed stays for about ten leases, until a living one has swept it away.
        """
        with mapped(self._client):
            now = self._now()
            beaten: Any = self._client.zrevrange(self._keys("workers"), 0, -1, withscores=True)
            said: Any = self._client.hmget(self._keys("beats"), [name for name, _ in beaten]) if beaten else []
        return [worker_of(name, score, raw, now) for (name, score), raw in zip(beaten, said, strict=True)]

    def live_workers(self) -> list[str]:
        """Return the consumers that beat lately; one worker process is one consumer."""
        return sorted(worker.consumer for worker in self.workers() if worker.is_alive)

    def lags(self, subscribers: Sequence[str] | None = None) -> list[Lag]:
        """Return what each subscriber has before it and who is there to do it, by name; all unless some are named."""
        queues, workers = self.queues(subscribers), self.workers()
        return [lag_of(queue, workers) for queue in queues]

    def backlog(self) -> Backlog:
        """Return what SQL does not have yet."""
        with mapped(self._client):
            now = self._now()
            with kept(self._keys("archived")):
                archived = int(self._client.get(self._keys("archived")) or 0)
            newest: Any = self._client.xrevrange(self._keys("history"), count=1)
            first, count, has_more = self._unarchived(archived)
            settled: Any = self._client.xrange(self._keys("outcomes"), count=1)
            return Backlog(
                history=int(self._client.xlen(self._keys("history"))),
                archived=archived,
                last=_position(newest[0][0]) if newest else archived,
                unarchived=count,
                unarchived_is_lower_bound=has_more,
                oldest_s=max(0.0, (now - first) / 1e6) if count else None,
                outcomes=int(self._client.xlen(self._keys("outcomes"))),
                outcomes_oldest_s=max(0.0, (now - _position(settled[0][0])) / 1e6) if settled else None,
            )

    def _queue(self, name: str, now: int) -> Queue:
        client, keys = self._client, self._keys
        pipeline = client.pipeline(transaction=False)
        pipeline.hmget(
            keys("sub", name), "types", "state", "ordering", "paused", "concurrency", "set_concurrency"
        )  # fmt: skip
        pipeline.xlen(keys("queue", name))
        pipeline.zrange(keys("lanes", name), 0, MAX_LANES - 1)
        pipeline.hkeys(keys("held", name))
        pipeline.zcard(keys("delayed", name))
        pipeline.xlen(keys("dead", name))
        pipeline.xrange(keys("queue", name), count=MAX_OLDEST)
        pipeline.zrange(keys("delayed", name), 0, MAX_OLDEST - 1)
        record, window, movable, held, delayed, dead, first, retries = pipeline.execute()
        with kept(keys("sub", name)):
            types, state, ordering, paused, declared, was_set = ((field or b"").decode() for field in record)
        leased = self._leased(name)
        with kept(keys("lanes", name)):
            lanes = [lane.decode() for lane in dict.fromkeys([*movable, *held])]
        is_bounded = len(lanes) > MAX_LANES or len(movable) == MAX_LANES
        waiting, positions = self._lanes(name, lanes[:MAX_LANES])
        positions += _positions([fields.get(b"f", b"") for _, fields in first] + retries)
        return Queue(
            subscriber=name,
            types=tuple(filter(None, types.split("\t"))),
            state=state,
            ordering=ordering,
            is_paused=paused == "1",
            concurrency=_limit(declared if record[5] is None else was_set),
            ready=max(0, window - leased),
            running=leased,
            waiting=waiting,
            is_bounded=is_bounded,
            delayed=delayed,
            dead=dead,
            oldest_s=max(0.0, (now - min(positions)) / 1e6) if positions else None,
            oldest_is_bounded=is_bounded or max(window, delayed) > MAX_OLDEST,
        )

    def _lanes(self, name: str, lanes: Sequence[str]) -> tuple[int, list[int]]:
        """Count what waits in lanes, and return the position of each lane's head. A head comes with its body, so
        that some lanes are asked for at a time."""
        waiting, positions = 0, []
        for start in range(0, len(lanes), _PAGE):
            pipeline = self._client.pipeline(transaction=False)
            for lane in lanes[start : start + _PAGE]:
                pipeline.llen(self._keys("lane", name, lane))
                pipeline.lindex(self._keys("lane", name, lane), 0)
            replies = pipeline.execute()
            waiting += sum(replies[::2])
            positions += _positions(replies[1::2])
        return waiting, positions

    def _leased(self, name: str) -> int:
        try:
            pending: Any = self._client.xpending(self._keys("queue", name), GROUP)
        except redis.ResponseError as error:
            if "NOGROUP" in str(error):
                return 0
            raise
        return int(pending["pending"])

    def _unarchived(self, archived: int) -> tuple[int, int, bool]:
        """Return the first position after `archived`, how many entries follow it, up to the bound, and whether more."""
        first, count, after = 0, 0, f"({archived}-0"
        while count < MAX_COUNT:
            entries: Any = self._client.xrange(self._keys("history"), min=after, count=_PAGE)
            if not entries:
                break
            first = first or _position(entries[0][0])
            count += len(entries)
            after = f"({entries[-1][0].decode()}"
        return first, count, count >= MAX_COUNT and bool(self._client.xrange(self._keys("history"), after, count=1))

    def _now(self) -> int:
        """Return the server's time, microseconds: positions are made with it."""
        seconds, micros = self._client.time()
        return int(seconds) * 1_000_000 + int(micros)

    def _config(self, name: str) -> str | None:
        """Ask for a setting; hosted servers often refuse."""
        with mapped(self._client):
            try:
                found: Any = self._client.config_get(name)
            except redis.ResponseError:
                return None
        return str(found[name]) if name in found else None


def _limit(text: str) -> int | None:
    return whole(text)


def _position(entry_id: bytes) -> int:
    return int(entry_id.partition(b"-")[0])


def _positions(frames: Sequence[bytes | None]) -> list[int]:
    """Return the positions of the events in frames; of what is none, nothing."""
    heads = [whole((frame or b"").partition(b"\t")[0]) for frame in frames]
    return [head for head in heads if head is not None]
