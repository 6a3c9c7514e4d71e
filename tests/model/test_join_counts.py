"""Random fleets around joins, compared with a model after every step: each count, each list, each key.

Settlements go in groups, some of them twice, some with events that are refused; causes and effects go in
one call; workers crash, subscribers are paused, joins time out; and a call has soon done enough (LATER).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

import pytest
import redis

from events.deliveries import Settlement
from events.frame import Lease
from events.publisher import Publisher, Receipt, event_arguments
from events.records import AttemptState
from events.scripts import sources
from events.steering import steer
from tests.model.test_joins import MIB, Bench, make
from tests.valkey_servers import ValkeyServer

JOINS = {"JoinA": ("A", "C"), "JoinB": ("B", "AC"), "Join-A.b": ("C", "BC")}  # name -> after, of
ROUTES = {"A": ("Worker", "JoinA"), "B": ("Worker", "Other", "JoinB"), "C": ("Other", "Ordered", "Join-A.b")}
NAMES = ("Worker", "Other", "Ordered", *JOINS)
MAX_EVENTS = 50

Delivery = tuple[str, str]  # subscriber, event id
Returned = tuple[str, str, str | None]  # event id, type, cause


@dataclass
class Opened:
    """A join as the model knows it; `why` is empty while its delivery is parked."""

    open: set[Delivery] = field(default_factory=set)
    dead: int = 0
    kept: list[str] = field(default_factory=list)
    why: str = ""


class Model:
    """Which deliveries have not ended, and which joins wait for them. A join is named by its own delivery."""

    def __init__(self) -> None:
        self.kinds: dict[str, str] = {}
        self.within: dict[str, set[Delivery]] = {}
        self.live: dict[Delivery, set[Delivery]] = {}
        self.joins: dict[Delivery, Opened] = {}

    def publish(self, event_id: str, kind: str, cause: str | None) -> None:
        if event_id in self.kinds:
            return
        self.kinds[event_id] = kind
        outer = self.within.get(cause or "", set()) & self.joins.keys()
        for name in outer:
            join = self.joins[name]
            if kind in JOINS[name[0]][1] and join.why != "complete":
                join.kept.append(event_id)
        own = {(name, event_id) for name in ROUTES[kind] if name in JOINS}
        self.within[event_id] = outer | own
        self.joins |= {name: Opened() for name in own}
        for taker in ROUTES[kind]:
            self.live[taker, event_id] = outer if taker in JOINS else outer | own
            for name in self.live[taker, event_id]:
                self.joins[name].open.add((taker, event_id))

    def end(self, delivery: Delivery, is_dead: bool) -> None:
        for name in self.live.pop(delivery) & self.joins.keys():
            self.joins[name].open.discard(delivery)
            self.joins[name].dead += is_dead
        if not is_dead:
            self.joins.pop(delivery, None)

    def decide(self) -> None:
        for join in self.joins.values():
            if not join.why and not join.open:
                join.why = "dead" if join.dead else "complete"


class Play:
    """One run: what the bench does and what the model says, compared after every step."""

    def __init__(self, client: redis.Redis, seed: int, most: int) -> None:
        texts = {
            name: text.replace("MAX_DELIVERIES = 5000", f"MAX_DELIVERIES = {most}") for name, text in sources().items()
        }
        self.bench, self.model, self.random = Bench(client, texts), Model(), Random(seed)
        self.publisher = Publisher(self.bench.namespace, MIB, 100)
        self.leases: dict[Delivery, Lease] = {}
        self.positions: dict[str, str] = {}
        self.paused: set[str] = set()
        self.bench.declare("Worker", "A", "B", concurrency=self.random.choice((None, 1, 3)))
        self.bench.declare("Other", "B", "C", concurrency=self.random.choice((None, 1)))
        self.bench.declare("Ordered", "C", ordering=self.random.choice(("project", "correlation", "order_key")))
        for name, (after, of) in JOINS.items():
            self.bench.join(name, after, *of, concurrency=self.random.choice((None, 1)))

    def run(self, steps: int) -> None:
        moves = (
            self.publish,
            self.read,
            self.read,
            self.settle,
            self.settle,
            self.settle,
            self.late,
            self.pause,
            self.crash,
        )
        for _ in range(steps):
            self.random.choice(moves)()
            self.compare()
        for name in self.paused:
            steer(self.bench.namespace, name, paused=False)
        for _ in range(1000):
            self.bench.deliveries.promote(dict.fromkeys(NAMES, 0))
            self.read()
            if not self.model.live:
                break
            self.settle(ends=True)
            self.compare()
        assert not self.model.live, "deliveries never ended"
        dead = {f"{name}:{self.positions[event_id]}" for name, event_id in self.model.joins}
        left = {key.split(":", 1)[1].split(":", 1)[1] for key in self.bench.left_over()}
        assert left <= dead, "only joins that are dead letters are kept"

    # moves

    def make_events(self, cause: str | None, count: int) -> list[Returned]:
        made: list[Returned] = []
        for _ in range(count if len(self.model.kinds) < MAX_EVENTS else 0):
            made.append((f"e{len(self.model.kinds)}-{self.random.random()}", self.random.choice("ABC"), cause))
            if self.random.random() < 0.4:
                cause = made[-1][0]
        return made

    def publish(self) -> None:
        events = self.make_events(self.random.choice([None, None, *self.model.kinds]), self.random.choice((1, 2, 4)))
        taken = [(next(iter(self.model.kinds)), "Z", None)] if self.model.kinds and self.random.random() < 0.2 else []
        answers = self.publisher.publish_many([make(*event) for event in [*taken, *events]])
        assert [isinstance(answer, Receipt) for answer in answers] == [False] * len(taken) + [True] * len(events)
        for event in events:
            self.model.publish(*event)

    def read(self) -> None:
        for lease in self.bench.read(*NAMES, count=self.random.choice((1, 3, 9))):
            delivery = (lease.subscriber, lease.event.event_id)
            assert delivery in self.model.live and delivery not in self.leases, f"{delivery} is handed out twice"
            assert delivery not in self.model.joins or self.model.joins[delivery].why, f"{delivery} goes early"
            self.leases[delivery] = lease

    def settle(self, ends: bool = False) -> None:
        chosen = self.random.sample(sorted(self.leases), min(len(self.leases), self.random.choice((1, 1, 3, 12))))
        hows = [
            "end" if ends else self.random.choice(("end", "end", "end", "retry", "back", "dead", "refused", "twice"))
            for _ in chosen
        ]
        tries = [self.ending(*pair, ends) for pair in zip(chosen, hows, strict=True)]
        tries += [again for again, how in zip(tries, hows, strict=True) if how == "twice"]
        verdicts = self.bench.deliveries.settle([settlement for _, settlement, _ in tries])
        for (delivery, settlement, returned), verdict in zip(tries, verdicts, strict=True):
            if verdict != "settled" or delivery not in self.leases:
                continue
            del self.leases[delivery]
            for event in returned:
                self.model.publish(*event)
            if settlement.action != "again":
                self.model.end(delivery, settlement.action == "dead")

    def ending(self, delivery: Delivery, how: str, ends: bool) -> tuple[Delivery, Settlement, list[Returned]]:
        lease = self.leases[delivery]
        if how in ("retry", "back"):
            state, delay_us = (AttemptState.RETRIED, -1) if how == "retry" else (None, 0)
            return delivery, Settlement(lease, "again", state, attempts=1, delay_us=delay_us), []
        if how == "dead":
            return delivery, Settlement(lease, "dead", AttemptState.DEAD), []
        returned = [] if ends else self.make_events(delivery[1], self.random.choice((0, 1, 3)))
        refused = [(next(iter(self.model.kinds)), "Z", delivery[1])] if how == "refused" else []
        events = [event_arguments(make(*event), MIB) for event in [*returned, *refused]]
        return delivery, Settlement(lease, "end", AttemptState.DONE, events=events), returned

    def late(self) -> None:
        """The time of a join is over."""
        name = self.random.choice(list(JOINS))
        joins = self.bench.keys("joins", name)
        for position in self.bench.client.zrange(joins, 0, 0):
            self.bench.client.zadd(joins, {position: 1})
            self.bench.deliveries.promote({name: 0})
            event_id = next(event for event, at in self.positions.items() if at == position.decode())
            assert not self.model.joins[name, event_id].why
            self.model.joins[name, event_id].why = "timeout"

    def pause(self) -> None:
        name = self.random.choice(NAMES)
        self.paused ^= {name}
        steer(self.bench.namespace, name, paused=name in self.paused)

    def crash(self) -> None:
        """The worker dies; another takes over what it held."""
        client, keys = self.bench.client, self.bench.keys
        held, self.leases, self.bench.consumer = list(self.leases.values()), {}, f"w{self.random.random()}"
        for lease in held:
            client.xclaim(
                keys("queue", lease.subscriber), "fleet", "dead", 0, [lease.entry_id], idle=3_600_000, justid=True
            )
        seconds, micros = client.time()
        for name in NAMES:
            client.hset(keys("sub", name), mapping={"reaped_at": seconds * 1_000_000 + micros, "reap_from": 0})
        for lease in self.bench.deliveries.reap(NAMES, 600_000, 1000):
            self.leases[lease.subscriber, lease.event.event_id] = lease
        assert len(self.leases) == len(held)

    # comparison

    def compare(self) -> None:
        client, keys = self.bench.client, self.bench.keys
        self.model.decide()
        for event_id in self.model.kinds.keys() - self.positions.keys():
            self.positions[event_id] = (client.get(keys("id", event_id)) or b"").split(b"\t")[0].decode()
        found = {key.removeprefix(keys("join")) for key in self.bench.left_over() if key.startswith(keys("join"))}
        assert found == {f"{name}:{self.positions[event_id]}" for name, event_id in self.model.joins}
        for (name, event_id), join in self.model.joins.items():
            position = self.positions[event_id]
            said = client.hgetall(keys("join", name, position))
            frames = client.lrange(keys("joined", name, position), 0, -1)
            assert int(said[b"open"]) == len(join.open), f"{name} of {event_id} counts {said}, not {join}"
            assert int(said[b"dead"]) == join.dead
            assert (b"frame" in said) == (not join.why)
            assert said.get(b"why", b"").decode() == join.why
            assert [frame.split(b"\t")[0].decode() for frame in frames] == [self.positions[kept] for kept in join.kept]


@pytest.fixture(scope="module")
def client() -> Iterator[redis.Redis]:
    with ValkeyServer() as server, server.client() as client:
        yield client


@pytest.mark.parametrize("most", [5000, 3])
@pytest.mark.parametrize("seed", range(4))
def test_joins_count_exactly_what_is_under_way_whatever_happens(client: redis.Redis, seed: int, most: int) -> None:
    Play(client, seed, most).run(120)
