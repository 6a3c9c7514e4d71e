"""Joins, decided by the scripts: once, when nothing is under way any more, whatever crashes in between."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
import redis

from events.deliveries import Deliveries, Settlement
from events.errors import InvalidSubscription
from events.event import Event
from events.frame import Lease
from events.joining import Join
from events.namespace import Declared, Namespace, Remembered
from events.publisher import Publisher, event_arguments
from events.records import AttemptState
from events.routes import declare
from events.scripts import sources
from events.subscriptions import SubscriberOptions
from tests.valkey_servers import ValkeyServer

MIB = 1 << 20


class Bench:
    """A namespace whose handlers are played by the test."""

    def __init__(self, client: Any, texts: dict[str, str] | None = None) -> None:
        self.client = client
        self.namespace = Namespace(
            client, f"join-{secrets.token_hex(6)}", lambda: Remembered(0, ()), may_restore=True, texts=texts
        )
        self.keys = self.namespace.keys
        self.namespace.open()
        self.consumer = "w0"

    def declare(self, name: str, *types: str, **options: Any) -> None:
        declare(self.namespace, Declared(name, types, SubscriberOptions(**options).record()), 100)

    def join(self, name: str, after: str, *of: str, timeout: float = 3600, **options: Any) -> None:
        self.declare(name, after, join=Join(of, timeout), **options)

    def publish(self, event_id: str, kind: str, cause: str | None = None, origin: str = "publish") -> None:
        made = make(event_id, kind, cause)
        (answer,) = Publisher(self.namespace, MIB, 100).publish_many([made], origin)
        assert not isinstance(answer, Exception), answer

    @property
    def deliveries(self) -> Deliveries:
        return Deliveries(self.namespace, self.consumer, 100)

    def read(self, *names: str, count: int = 10) -> list[Lease]:
        return self.deliveries.read(names, count, None)

    def settle(self, lease: Lease, *returned: tuple[str, str], **how: Any) -> str:
        cause = lease.event.event_id
        events = [event_arguments(make(event_id, kind, cause), MIB) for event_id, kind in returned]
        given = {"action": "end", "state": AttemptState.DONE, **how}
        (verdict,) = self.deliveries.settle([Settlement(lease, events=events, **given)])
        return str(verdict)

    def dead(self, lease: Lease) -> None:
        assert self.settle(lease, action="dead", state=AttemptState.DEAD) == "settled"

    def left_over(self) -> list[str]:
        """Keys of joins."""
        return sorted(
            key.decode()
            for word in ("join", "joined", "joins")
            for key in self.client.scan_iter(f"{self.keys.prefix}{word}:*", 5000)
        )


def make(event_id: str, kind: str, cause: str | None = None) -> Event:
    return Event(event_id=event_id, project_id="p1", type=kind, actor="a", causation_id=cause, payload={"id": event_id})


@pytest.fixture(scope="module")
def client() -> Iterator[redis.Redis]:
    with ValkeyServer() as server, server.client() as client:
        yield client


@pytest.fixture
def bench(client: redis.Redis) -> Bench:
    return Bench(client)


def test_a_join_waits_until_nothing_is_under_way_and_sees_all_that_was_caused(bench: Bench) -> None:
    bench.declare("Director", "SCRIPT")
    bench.declare("Painter", "SHOT")
    bench.join("Editor", "SCRIPT", "IMAGE")
    bench.publish("script", "SCRIPT")

    (directing,) = bench.read("Director")
    assert bench.settle(directing, ("s1", "SHOT"), ("s2", "SHOT")) == "settled"
    first, second = bench.read("Painter")
    bench.settle(second, ("i2", "IMAGE"))
    assert bench.read("Editor") == []
    bench.settle(first, ("i1a", "IMAGE"), ("i1b", "IMAGE"), ("note", "NOTE"))

    (joining,) = bench.read("Editor")
    joined = bench.deliveries.joined(joining)
    assert joining.event.event_id == "script"
    assert [event.event_id for event in joined.events] == ["i2", "i1a", "i1b"]
    assert joined.complete
    assert {event.correlation_id for event in joined.events} == {"script"}

    bench.settle(joining, ("film", "FILM"), ("more", "IMAGE"))
    assert bench.left_over() == []


def test_an_event_that_sets_nothing_off_is_joined_at_once(bench: Bench) -> None:
    bench.join("Editor", "SCRIPT", "IMAGE")
    bench.publish("script", "SCRIPT")

    (joining,) = bench.read("Editor")
    assert bench.deliveries.joined(joining).events == ()
    assert bench.deliveries.joined(joining).complete


def test_retries_and_hand_backs_keep_a_join_waiting(bench: Bench) -> None:
    bench.declare("Painter", "SCRIPT")
    bench.join("Editor", "SCRIPT", "IMAGE")
    bench.publish("script", "SCRIPT")

    (painting,) = bench.read("Painter")
    bench.settle(painting, action="again", state=AttemptState.RETRIED, attempts=1, delay_us=-1)
    assert bench.read("Editor") == []
    bench.deliveries.promote({"Painter": 0, "Editor": 0})
    (painting,) = bench.read("Painter")
    bench.settle(painting, action="again", state=None, attempts=1)
    assert bench.read("Editor") == []
    (painting,) = bench.read("Painter")
    bench.settle(painting, ("i1", "IMAGE"))

    (joining,) = bench.read("Editor")
    assert [event.event_id for event in bench.deliveries.joined(joining).events] == ["i1"]


def test_what_a_handler_publishes_itself_is_joined_too(bench: Bench) -> None:
    bench.declare("Painter", "SCRIPT", "SHOT")
    bench.join("Editor", "SCRIPT", "IMAGE")
    bench.publish("script", "SCRIPT")

    (painting,) = bench.read("Painter")
    bench.publish("shot", "SHOT", "script", origin=painting.delivery)
    bench.settle(painting)
    assert bench.read("Editor") == []
    (painting,) = bench.read("Painter")
    bench.settle(painting, ("i1", "IMAGE"))

    assert len(bench.read("Editor")) == 1


def test_a_dead_letter_ends_what_was_under_way_and_the_join_is_told(bench: Bench) -> None:
    bench.declare("Painter", "SCRIPT")
    bench.join("Editor", "SCRIPT", "IMAGE")
    bench.publish("script", "SCRIPT")

    (painting,) = bench.read("Painter")
    bench.dead(painting)

    (joining,) = bench.read("Editor")
    joined = bench.deliveries.joined(joining)
    assert (joined.why, joined.dead, joined.complete) == ("dead", 1, False)
    assert joined.lack == "1 delivery of what was set off ended dead"


def test_a_join_whose_time_is_over_goes_once_with_what_there_is(bench: Bench) -> None:
    bench.declare("Painter", "SCRIPT", "SHOT")
    bench.join("Editor", "SCRIPT", "IMAGE", timeout=3600)
    bench.publish("script", "SCRIPT")
    (painting,) = bench.read("Painter")
    bench.settle(painting, ("i1", "IMAGE"), ("shot", "SHOT"))
    bench.deliveries.promote({"Editor": 0})
    assert bench.read("Editor") == []

    joins = bench.keys("joins", "Editor")
    ((position, _),) = bench.client.zrange(joins, 0, -1, withscores=True)
    bench.client.zadd(joins, {position: 1})  # an hour passes
    bench.deliveries.promote({"Editor": 0})

    (joining,) = bench.read("Editor")
    joined = bench.deliveries.joined(joining)
    assert ([event.event_id for event in joined.events], joined.why) == (["i1"], "timeout")
    (painting,) = bench.read("Painter")
    bench.settle(painting, ("late", "IMAGE"))
    assert bench.read("Editor") == [], "decided once"
    assert len(bench.deliveries.joined(joining).events) == 2, "a retry sees what has come since"
    bench.settle(joining)
    assert bench.left_over() == []


def test_two_joins_of_one_event_do_not_wait_for_each_other(bench: Bench) -> None:
    bench.declare("Painter", "SCRIPT")
    bench.join("Editor", "SCRIPT", "IMAGE")
    bench.join("Accountant", "SCRIPT", "IMAGE", "NOTE")
    bench.publish("script", "SCRIPT")

    (painting,) = bench.read("Painter")
    bench.settle(painting, ("i1", "IMAGE"), ("n1", "NOTE"))

    (editing,), (counting,) = bench.read("Editor"), bench.read("Accountant")
    assert [event.event_id for event in bench.deliveries.joined(editing).events] == ["i1"]
    assert [event.event_id for event in bench.deliveries.joined(counting).events] == ["i1", "n1"]


def test_an_outer_join_waits_for_the_inner_ones(bench: Bench) -> None:
    bench.declare("Director", "SCRIPT")
    bench.declare("Painter", "SHOT")
    bench.join("ShotEditor", "SHOT", "IMAGE")
    bench.join("Editor", "SCRIPT", "CLIP")
    bench.publish("script", "SCRIPT")
    (directing,) = bench.read("Director")
    bench.settle(directing, ("s1", "SHOT"), ("s2", "SHOT"))
    for painting in bench.read("Painter"):
        bench.settle(painting, (f"image of {painting.event.event_id}", "IMAGE"))

    cutting = bench.read("ShotEditor")
    assert [lease.event.event_id for lease in cutting] == ["s1", "s2"]
    bench.settle(cutting[0], ("c1", "CLIP"))
    assert bench.read("Editor") == []
    bench.settle(cutting[1], ("c2", "CLIP"))

    (editing,) = bench.read("Editor")
    assert [event.event_id for event in bench.deliveries.joined(editing).events] == ["c1", "c2"]


def test_a_cause_and_its_effect_in_one_call_share_a_join(bench: Bench) -> None:
    bench.declare("Painter", "SHOT")
    bench.join("Editor", "SCRIPT", "IMAGE")
    answers = Publisher(bench.namespace, MIB, 100).publish_many(
        [make("script", "SCRIPT"), make("shot", "SHOT", "script"), make("i0", "IMAGE", "shot")]
    )
    assert len(answers) == 3

    assert bench.read("Editor") == []
    (painting,) = bench.read("Painter")
    bench.settle(painting, ("i1", "IMAGE"))
    (joining,) = bench.read("Editor")
    assert [event.event_id for event in bench.deliveries.joined(joining).events] == ["i0", "i1"]


def test_a_settle_that_is_sent_twice_counts_once(bench: Bench) -> None:
    bench.declare("Painter", "SCRIPT")
    bench.declare("Writer", "SCRIPT")
    bench.join("Editor", "SCRIPT", "IMAGE")
    bench.publish("script", "SCRIPT")

    (painting,) = bench.read("Painter")
    assert bench.settle(painting, ("i1", "IMAGE")) == "settled"
    assert bench.settle(painting, ("i1", "IMAGE")) == "refused"
    assert bench.read("Editor") == [], "the writer is under way"


def test_effects_whose_causes_redis_has_forgotten_stay_in_the_join(bench: Bench) -> None:
    bench.declare("Painter", "SCRIPT", "SHOT")
    bench.join("Editor", "SCRIPT", "IMAGE")
    bench.publish("script", "SCRIPT")
    (painting,) = bench.read("Painter")
    bench.client.delete(bench.keys("id", "script"))

    bench.settle(painting, ("shot", "SHOT"))

    assert bench.read("Editor") == []
    (painting,) = bench.read("Painter")
    bench.settle(painting, ("i1", "IMAGE"))
    (joining,) = bench.read("Editor")
    assert [event.event_id for event in bench.deliveries.joined(joining).events] == ["i1"]


def test_a_join_has_no_ordering_and_waits_for_named_types() -> None:
    with pytest.raises(InvalidSubscription, match="cannot have the ordering 'project'"):
        SubscriberOptions(join=Join(("A",)), ordering="project")
    with pytest.raises(InvalidSubscription, match=r"'\*' cannot be one"):
        Join(("*",))
    for timeout in (0, -1, float("nan"), float("inf"), "soon", True):
        with pytest.raises(InvalidSubscription, match="timeout must be seconds"):
            Join(("A",), timeout)  # type: ignore[arg-type]
    with pytest.raises(InvalidSubscription, match="'run' or 'dead', not 'maybe'"):
        Join(("A",), partial="maybe")


# random trees against a model that knows nothing of counters

KINDS = ("A", "B", "C")


class Story:
    """Plays a random tree of causes through subscribers that crash, retry and give up.

    The model is the tree itself: an event's descendants, and the deliveries of theirs that have not ended.
    """

    def __init__(self, bench: Bench, seed: int) -> None:
        self.bench = bench
        self.random = Random(seed)
        self.parents: dict[str, str | None] = {}
        self.kinds: dict[str, str] = {}
        self.open: set[tuple[str, str]] = set()
        self.joined: dict[tuple[str, str], tuple[str, ...]] = {}
        self.leases: list[Lease] = []
        bench.declare("Worker", "A", "B")
        bench.declare("Other", "B", "C")
        bench.join("JoinA", "A", "C")
        bench.join("JoinB", "B", "A", "C")

    def play(self, steps: int) -> None:
        for _ in range(steps):
            self.random.choice((self.publish, self.read, self.settle, self.settle, self.settle, self.crash))()
            self.look()
        for _ in range(400):
            self.read()
            self.settle(ending=True)
            self.look()
        assert not self.open, f"never ended: {self.open}"

    def publish(self) -> None:
        if len(self.parents) < 6:
            self.add(f"root{len(self.parents)}", None)
            event_id = next(reversed(self.parents))
            self.bench.publish(event_id, self.kinds[event_id])

    def add(self, event_id: str, parent: str | None) -> str:
        kind = self.kinds[event_id] = self.random.choice(KINDS)
        self.parents[event_id] = parent
        takers = {"A": ("Worker", "JoinA"), "B": ("Worker", "Other", "JoinB"), "C": ("Other",)}[kind]
        self.open |= {(name, event_id) for name in takers}
        return kind

    def read(self) -> None:
        self.leases += self.bench.read("Worker", "Other", "JoinA", "JoinB", count=self.random.choice((1, 2, 8)))

    def settle(self, ending: bool = False) -> None:
        if not self.leases:
            return
        lease = self.leases.pop(self.random.randrange(len(self.leases)))
        event_id = lease.event.event_id
        how = "done" if ending else self.random.choice(("done", "done", "done", "retry", "dead"))
        if how == "retry":
            self.bench.settle(lease, action="again", state=AttemptState.RETRIED, attempts=1)
            return
        self.open.discard((lease.subscriber, event_id))
        if how == "dead":
            self.bench.dead(lease)
            return
        depth = event_id.count(".")
        count = 0 if ending or depth > 3 or len(self.parents) > 60 else self.random.choice((0, 1, 2))
        names = [f"{event_id}.{lease.subscriber[0]}{lease.subscriber[-1]}{n}" for n in range(count)]
        assert self.bench.settle(lease, *((name, self.add(name, event_id)) for name in names)) == "settled"

    def crash(self) -> None:
        """The worker dies; another takes over what it held."""
        before, self.leases = self.leases, []
        self.bench.consumer = f"w{self.random.random()}"
        for lease in before:
            queue = self.bench.keys("queue", lease.subscriber)
            self.bench.client.xclaim(queue, "fleet", "dead", 0, [lease.entry_id], idle=3_600_000, justid=True)
        seconds, micros = self.bench.client.time()
        for name in ("Worker", "Other", "JoinA", "JoinB"):
            self.bench.client.hset(
                self.bench.keys("sub", name), mapping={"reaped_at": seconds * 1_000_000 + micros, "reap_from": 0}
            )
        self.leases += self.bench.deliveries.reap(["Worker", "Other", "JoinA", "JoinB"], 600_000, 1000)
        assert len(self.leases) == len(before)

    def look(self) -> None:
        """A join is let go when, and only when, nothing below its event is under way."""
        for lease in self.leases + self.read_joins():
            if lease.subscriber.startswith("Join"):
                self.check(lease)

    def read_joins(self) -> list[Lease]:
        found = self.bench.read("JoinA", "JoinB", count=100)
        self.leases += found
        return []

    def check(self, lease: Lease) -> None:
        key = (lease.subscriber, lease.event.event_id)
        if key in self.joined:
            return
        below = self.below(key[1])
        busy = {(name, event_id) for name, event_id in self.open if event_id in below and (name, event_id) != key}
        own = {(name, event_id) for name, event_id in self.open if event_id == key[1] and not name.startswith("Join")}
        assert not busy and not own, f"{key} was let go while {busy | own} is under way"
        of = {"JoinA": ("C",), "JoinB": ("A", "C")}[lease.subscriber]
        seen = tuple(event.event_id for event in self.bench.deliveries.joined(lease).events)
        assert sorted(seen) == sorted(event_id for event_id in below if self.kinds[event_id] in of)
        self.joined[key] = seen

    def below(self, event_id: str) -> set[str]:
        """Events that it set off, itself not among them."""
        return {
            other
            for other, parent in self.parents.items()
            if other != event_id and other.startswith(f"{event_id}.") and parent is not None
        }

    def check_end(self) -> None:
        expected = {
            ({"A": "JoinA", "B": "JoinB"}[kind], event_id) for event_id, kind in self.kinds.items() if kind in "AB"
        }
        assert self.joined.keys() == expected, f"never joined: {expected - self.joined.keys()}"


def tell(client: Any, seed: int, texts: dict[str, str] | None = None) -> None:
    bench = Bench(client, texts)
    story = Story(bench, seed)
    story.play(120)
    story.check_end()


@pytest.mark.parametrize("group", range(2))
def test_random_trees_are_joined_once_complete_and_never_early(client: redis.Redis, group: int) -> None:
    for seed in range(group, 40, 2):
        tell(client, seed)


FAULTS = {
    "never_entered": ("    s.open, s.changed = s.open + 1, true", "    s.changed = true"),
    "left_at_every_retry": (
        "  local frame = next_frame(item)\n",
        "  local frame = next_frame(item)\n  leave_scopes(item.scopes, false)\n",
    ),
    "never_left": ("      if item.scopes then leave_scopes(item.scopes, item.action == 'dead') end\n", ""),
    "left_before_what_it_returned": (
        "      for _, e in ipairs(item.events) do publish(e) end\n",
        "    if item.action == 'end' then\n      leave_scopes(item.scopes, false)\n      keep_scopes()\n"
        "      enter_scopes(scopes_in(item.scopes))\n    end\n"
        "      for _, e in ipairs(item.events) do publish(e) end\n",
    ),
    "causes_do_not_pass_it_on": ("  return cause and scopes_in(cause.scopes) or {}", "  return {}"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_stories_catch(client: redis.Redis, fault: str) -> None:
    old, new = FAULTS[fault]
    texts = sources()
    assert any(old in text for text in texts.values()), f"{fault} finds its snippet in no script"
    broken = {name: text.replace(old, new) for name, text in texts.items()}

    caught = 0
    for seed in range(20):
        try:
            tell(client, seed, broken)
        except (AssertionError, KeyError):
            caught += 1
            break
    assert caught, f"{fault}: 20 stories saw nothing"
