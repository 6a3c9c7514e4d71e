"""The scripts one by one: what each refuses, leaves alone, and survives. Interleavings are the model's."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import redis

from events.deliveries import Deliveries, Settlement
from events.errors import (
    EventIdConflict,
    HistoryReset,
    InvalidSubscription,
    ScriptFailed,
    TooManyRoutes,
    UnknownSubscriber,
)
from events.event import Event
from events.frame import Lease
from events.namespace import Declared, Namespace, Remembered
from events.publisher import Publisher, Receipt, event_arguments
from events.records import AttemptState
from events.routes import declare
from events.scripts import Argument, Scripts
from events.steering import steer
from tests.model.scene import Role
from tests.valkey_servers import ValkeyServer
from tests.waiting import wait_until

LEASE_MS = 600_000
MIB = 1 << 20


class Bench:
    """One fresh namespace with the few calls that these tests make."""

    def __init__(self, client: Any, name: str) -> None:
        self.client = client
        self.namespace = Namespace(client, name, lambda: Remembered(0, ()), may_restore=True)
        self.keys = self.namespace.keys
        self.publisher = Publisher(self.namespace, 64 * MIB, 100)
        self.namespace.open()

    def declare(self, name: str, *types: str, **options: Any) -> None:
        declare(self.namespace, Declared(name, types or ("A",), Role(types, **options).record()), 100)

    def publish(self, *events: Event, origin: str = "publish") -> list[Any]:
        return self.publisher.publish_many(events, origin)

    def as_(self, consumer: str) -> Deliveries:
        return Deliveries(self.namespace, consumer, 100)

    def read(self, name: str, count: int = 1, consumer: str = "w") -> list[Lease]:
        return self.as_(consumer).read([name], count, None)

    def settle(self, lease: Lease, events: Sequence[Event] = (), consumer: str = "w", **how: Any) -> Any:
        arguments = [event_arguments(event, 64 * MIB) for event in events]
        given = {"action": "end", "state": AttemptState.DONE, **how}
        return self.as_(consumer).settle([Settlement(lease, events=arguments, **given)])[0]

    def is_silent(self, lease: Lease, consumer: str = "w") -> None:
        """An hour passes without renewal, and reaping went on in the meantime."""
        queue = self.keys("queue", lease.subscriber)
        self.client.xclaim(queue, "fleet", consumer, 0, [lease.entry_id], idle=3_600_000, justid=True)
        seconds, micros = self.client.time()
        self.client.hset(self.keys("sub", lease.subscriber), mapping={"reaped_at": seconds * 1_000_000 + micros})

    def everything(self) -> dict[bytes, bytes]:
        """Every key of the namespace as bytes."""
        return {key: self.client.dump(key) for key in self.client.scan_iter(f"{self.keys.prefix}*", 5000)}

    def history(self) -> Any:
        return self.client.xrange(self.keys("history"))


@pytest.fixture
def client(either_server: ValkeyServer) -> Iterator[redis.Redis]:
    with either_server.client() as client:
        yield client
        client.replicaof("NO", "ONE")
        client.config_set("maxmemory", 0)
        client.flushall()


@pytest.fixture
def bench(client: redis.Redis) -> Bench:
    return Bench(client, f"test-{secrets.token_hex(6)}")


def event(id_: str = "e1", kind: str = "A", project: str = "p1", **fields: Any) -> Event:
    return Event(event_id=id_, type=kind, project_id=project, actor="tester", **fields)


# publish


def test_publishing_the_same_event_again_answers_its_old_position(bench: Bench) -> None:
    bench.declare("S")
    first, same_call = bench.publish(event(), event())

    (again,) = bench.publish(event())

    assert first == Receipt("e1", first.position, True)
    assert same_call == again == Receipt("e1", first.position, False)
    assert len(bench.history()) == 1
    assert len(bench.read("S", 10)) == 1


def test_the_same_id_with_another_body_is_refused_by_name_and_its_neighbours_are_published(bench: Bench) -> None:
    (old,) = bench.publish(event(payload={"n": 1}))

    answers = bench.publish(event("e0"), event(payload={"n": 2}), event("e2"), event("e2", payload={"n": 3}))

    assert [type(answer) for answer in answers] == [Receipt, EventIdConflict, Receipt, EventIdConflict]
    assert f"'e1' is taken by an event with another content (at position {old.position})" in str(answers[1])
    assert "'e2' is taken" in str(answers[3])
    assert len(bench.history()) == 3


def test_a_conflict_names_an_id_that_has_spaces_whole(bench: Bench) -> None:
    (old,) = bench.publish(event("a b 7"))

    (refused,) = bench.publish(event("a b 7", payload={"n": 2}))

    assert f"'a b 7' is taken by an event with another content (at position {old.position})" in str(refused)


def test_within_one_delivery_the_first_body_stays_and_its_position_is_returned(bench: Bench) -> None:
    (first,) = bench.publish(event(payload={"n": 1}), origin="7:S:0")

    (second,) = bench.publish(event(payload={"n": 2}), origin="7:S:0")
    (stranger,) = bench.publish(event(payload={"n": 3}), origin="8:S:0")

    assert second == Receipt("e1", first.position, False)
    assert isinstance(stranger, EventIdConflict)
    assert b'"n":1' in bench.history()[0][1][b"e"]


def test_a_hundred_subscribers_of_one_type_are_served_and_one_more_is_refused(bench: Bench) -> None:
    for n in range(100):
        bench.declare(f"S{n}")
    (receipt,) = bench.publish(event())
    assert receipt.is_new
    assert len(bench.history()[0][1][b"s"].split(b"\t")) == 100

    with pytest.raises(TooManyRoutes, match="'S100' would be subscriber 101 of 'A'"):
        bench.declare("S100")
    bench.client.sadd(bench.keys("routes", "A"), "by hand")
    refused = bench.publish(event("e2"), event("e2"), event("e3", "B"))

    assert [type(answer) for answer in refused] == [TooManyRoutes, TooManyRoutes, Receipt]
    assert len(bench.history()) == 2


def test_a_subscriber_of_every_type_counts_against_each_types_limit(bench: Bench) -> None:
    for n in range(100):
        bench.declare(f"S{n}")

    with pytest.raises(TooManyRoutes):
        bench.declare("all", "*")

    (receipt,) = bench.publish(event())
    assert isinstance(receipt, Receipt)


def test_an_event_caused_by_one_of_the_same_call_has_its_root(bench: Bench) -> None:
    bench.declare("S", "B", ordering="correlation")

    bench.publish(event(correlation_id="r"), event("e2", "B", causation_id="e1"), event("e3", "B", causation_id="e2"))

    assert [(fields[b"r"], fields[b"d"]) for _, fields in bench.history()] == [(b"r", b"0"), (b"r", b"1"), (b"r", b"2")]
    (lease,) = bench.read("S", 10)
    assert lease.frame.lane == "r"


@pytest.mark.parametrize(
    "payload", [{"text": "\u2028é\U0001f600 \x01\t\n"}, {"n": 1234567890123456, "x": 0.1, "l": []}]
)
def test_a_body_arrives_as_it_was_sent(bench: Bench, payload: dict[str, Any]) -> None:
    bench.declare("S")

    bench.publish(event(payload=payload))

    (lease,) = bench.read("S")
    assert lease.event.payload == payload
    assert bench.settle(lease, action="again", state=AttemptState.RETRIED, attempts=1) == "settled"
    assert bench.read("S")[0].event.payload == payload


def test_a_body_may_be_any_bytes_and_comes_back_through_every_door(bench: Bench) -> None:
    bench.declare("S")
    body = bytes(range(256)) * 40
    bench.namespace.call("publish", 100, "publish", "e1", "digest", "A", "", "", "p1", "", "0", body)

    (lease,) = bench.read("S")
    assert lease.frame.body == body
    assert lease.fault
    bench.settle(lease, action="again", state=AttemptState.RETRIED, attempts=1, delay_us=-1)
    assert bench.as_("w").promote({"S": 0}).promoted == 1
    (lease,) = bench.read("S")
    assert lease.frame.body == body
    bench.settle(lease, action="dead", state=AttemptState.DEAD)

    ((_, letter),) = bench.client.xrange(bench.keys("dead", "S"))
    assert letter[b"f"].partition(b"\n")[2] == body
    assert bench.history()[0][1][b"e"] == body


def test_a_body_of_many_mebibytes_goes_through(bench: Bench) -> None:
    bench.declare("S", ordering="project")

    bench.publish(event(payload={"text": "x" * (20 * MIB)}), event("e2"))

    (lease,) = bench.read("S", 10)
    assert lease.event.payload == {"text": "x" * (20 * MIB)}
    assert bench.settle(lease, [event("e3", payload={"text": "y" * MIB})]) == "settled"
    assert bench.client.xlen(bench.keys("queue", "S")) == 1


def test_projects_take_turns_where_the_window_is_small(bench: Bench) -> None:
    bench.declare("S", window=1)
    bench.publish(*(event(f"a{n}", project="busy") for n in range(5)))
    bench.publish(*(event(f"b{n}", project="quiet") for n in range(3)))

    order = []
    for _ in range(8):
        (lease,) = bench.read("S")
        order.append(lease.event.event_id)
        bench.settle(lease)

    assert order == ["a0", "a1", "b0", "a2", "b1", "a3", "b2", "a4"]


@pytest.mark.parametrize("room", [2, 5, 11, 12, 13, 30])
def test_projects_take_turns_where_many_are_let_in_at_once(bench: Bench, room: int) -> None:
    bench.declare("S", window=30)
    steer(bench.namespace, "S", paused=True)
    waiting = {"busy": 20, "quiet": 3, "lone": 1}
    for project, count in waiting.items():
        bench.publish(*(event(f"{project}{n}", project=project) for n in range(count)))

    steer(bench.namespace, "S", paused=False, concurrency=room)
    order = [lease.event.event_id for lease in bench.read("S", 100)]

    turns = [f"{project}{n}" for n in range(20) for project, count in waiting.items() if n < count]
    assert order == turns[:room]
    assert bench.client.zcard(bench.keys("lanes", "S")) == (room < 24) + (room < 7) + (room < 3)


def test_the_urgent_goes_first_while_it_waits_and_the_equally_urgent_take_turns(bench: Bench) -> None:
    bench.declare("S", window=1)
    bench.publish(event("running"))
    for n, priority in enumerate((0, -5, 9, 0, 9)):
        project = "other" if n == 4 else "p1"
        bench.publish(event(f"e{n}", project=project, metadata={"priority": priority}))

    order = []
    for _ in range(6):
        (lease,) = bench.read("S")
        order.append(lease.event.event_id)
        bench.settle(lease)

    assert order == ["running", "e2", "e4", "e0", "e3", "e1"]


def test_order_goes_before_urgency_within_a_key(bench: Bench) -> None:
    bench.declare("S", window=1, ordering="project")
    bench.publish(event("running", project="other"), event("a0"), event("b0", project="p2"))
    bench.publish(event("a1", metadata={"priority": 9}), event("b1", project="p2", metadata={"priority": -1}))

    order = []
    for _ in range(5):
        (lease,) = bench.read("S")
        order.append(lease.event.event_id)
        bench.settle(lease)

    assert order == ["running", "a0", "a1", "b0", "b1"]


def test_a_rate_lets_deliveries_in_at_its_pace_and_says_when_the_next_is_due(bench: Bench) -> None:
    bench.declare("S", window=100, rate=0.5)
    bench.publish(*(event(f"e{n}") for n in range(5)))

    assert [lease.event.event_id for lease in bench.read("S", 10)] == ["e0"]
    tended = bench.as_("w").promote({"S": 1})
    assert tended.wait_s is not None and 1 < tended.wait_s <= 2
    assert bench.read("S", 10) == []

    bench.client.hset(bench.keys("sub", "S"), "tat", 0)  # two seconds pass
    bench.as_("w").promote({"S": 1})
    assert [lease.event.event_id for lease in bench.read("S", 10)] == ["e1"]


def test_a_large_fleet_does_not_ask_for_every_place_of_a_rate(bench: Bench) -> None:
    bench.declare("S", window=1000, rate=1000)
    bench.publish(*(event(f"e{n}") for n in range(300)))
    for n in range(100):
        bench.as_(f"w{n}").promote({"S": 0})

    waits = [bench.as_("w7").promote({"S": 0}).wait_s for _ in range(20)]

    assert all(wait is not None and 0.25 <= wait <= 0.76 for wait in waits), waits
    assert len(set(waits)) > 1, "they do not all come back at once"


def test_many_workers_and_those_of_many_subscribers_tell_less_often_what_runs(bench: Bench) -> None:
    names = [f"S{n}" for n in range(40)]
    for name in names:
        bench.declare(name, "A")
    assert bench.as_("w").promote({"S0": 0}).tell_s == 0.005
    assert bench.as_("w").promote(dict.fromkeys(names, 0)).tell_s == 0.025
    for n in range(9):
        bench.as_(f"w{n}").promote({"S0": 0})

    assert bench.as_("w").promote({"S0": 0}).tell_s == 0.05


def test_workers_that_died_slow_no_rate_down(bench: Bench) -> None:
    bench.declare("S", window=1000, rate=1000)
    bench.publish(*(event(f"e{n}") for n in range(300)))
    bench.client.hset(bench.keys("running", "S"), mapping={f"dead{n}": 3 for n in range(100)})

    wait_s = bench.as_("w").promote({"S": 0}).wait_s

    assert wait_s is not None and wait_s < 0.2, "a hundred workers would come a quarter of a second apart"


def test_a_rate_says_when_it_opens_though_nothing_waits_yet(bench: Bench) -> None:
    bench.declare("S", window=100, rate=0.5)
    bench.publish(event("e0"))

    tended = bench.as_("w").promote({"S": 1})
    assert tended.wait_s is not None and 1 < tended.wait_s <= 2

    bench.client.hset(bench.keys("sub", "S"), "tat", 0)  # two seconds pass
    assert bench.as_("w").promote({"S": 1}).wait_s is None


def test_what_a_fleet_that_was_away_finds_ready_is_no_more_than_the_burst(bench: Bench) -> None:
    bench.declare("S", window=100, rate=20)
    for n in range(10):
        bench.publish(event(f"e{n}"))
        bench.client.hset(bench.keys("sub", "S"), "tat", 0)  # hours pass, and no worker reads

    assert bench.client.xlen(bench.keys("queue", "S")) == 2, "a tenth of a second's worth"


def test_a_new_rate_and_a_clock_that_was_set_back_hold_nothing_up_for_longer_than_the_rate_does(bench: Bench) -> None:
    bench.declare("S", window=100, rate=0.001)
    bench.publish(*(event(f"e{n}") for n in range(5)))
    assert len(bench.read("S", 10)) == 1, "the next in a quarter of an hour"

    steer(bench.namespace, "S", rate_limit=0.5)
    wait_s = bench.as_("w").promote({"S": 1}).wait_s
    assert wait_s is not None and wait_s <= 2

    bench.client.hset(bench.keys("sub", "S"), "tat", (bench.client.time()[0] + 86_400) * 1_000_000)
    wait_s = bench.as_("w").promote({"S": 1}).wait_s
    assert wait_s is not None and wait_s <= 2


def test_what_was_never_started_costs_no_place_so_a_type_that_nobody_knows_starves_nobody(bench: Bench) -> None:
    bench.declare("S", window=100, rate=0.1)
    bench.publish(event("unknown"), event("known"))
    (unknown,) = bench.read("S", 10)
    assert unknown.event.event_id == "unknown"

    bench.settle(unknown, action="again", state=None, attempts=0, delay_us=5_000_000)

    (known,) = bench.read("S", 10)
    assert known.event.event_id == "known", "at once, and not the unknown again after ten seconds"
    bench.settle(known, action="again", state=AttemptState.RETRIED, attempts=1)
    assert bench.read("S", 10) == [], "what was started has cost one"


def test_a_paused_subscriber_gets_nothing_more_and_goes_on_in_order(bench: Bench) -> None:
    bench.declare("S", window=4)
    bench.publish(*(event(f"e{n}") for n in range(8)))
    (running,) = bench.read("S")

    assert steer(bench.namespace, "S", paused=True) == 3
    assert bench.read("S", 10) == []
    assert bench.as_("w").promote({"S": 1}).paused == {"S"}
    bench.settle(running)
    bench.publish(event("late"))
    assert bench.read("S", 10) == []

    steer(bench.namespace, "S", paused=False)
    order = []
    while leases := bench.read("S"):
        order.append(leases[0].event.event_id)
        bench.settle(leases[0])
    assert order == [*(f"e{n}" for n in range(1, 8)), "late"]


def test_pausing_takes_back_a_window_of_any_size_and_leaves_what_is_no_delivery(bench: Bench) -> None:
    bench.declare("S", window=2000)
    bench.publish(*(event(f"e{n}", project=f"p{n % 7}") for n in range(1200)))
    bench.client.xadd(bench.keys("queue", "S"), {"f": "no frame"})

    assert steer(bench.namespace, "S", paused=True) == 1200
    assert bench.client.xlen(bench.keys("queue", "S")) == 1
    steer(bench.namespace, "S", paused=False)
    bench.as_("w").promote({"S": 0})  # one call lets a thousand in
    read = [lease.event.event_id for lease in bench.read("S", 2000) if lease.fault is None]
    assert sorted(read) == sorted(f"e{n}" for n in range(1200))


def test_a_lower_limit_takes_back_what_nobody_has_started_and_keeps_its_order(bench: Bench) -> None:
    bench.declare("S", window=None)
    bench.publish(*(event(f"e{n}") for n in range(700)))
    steer(bench.namespace, "S", concurrency=650)
    running = bench.read("S", 2)
    queue = bench.keys("queue", "S")

    assert steer(bench.namespace, "S", concurrency=4) == 646
    assert bench.client.xlen(queue) == 4, "two run, two are ready"
    assert steer(bench.namespace, "S", concurrency=1) == 2
    assert bench.client.xlen(queue) == 2, "what runs, runs on"

    for lease in running:
        bench.settle(lease)
    (third,) = bench.read("S", 10)
    assert third.event.event_id == "e2"

    steer(bench.namespace, "S", concurrency=None)
    assert steer(bench.namespace, "S", rate_limit=0.001) == 158
    assert [lease.event.event_id for lease in bench.read("S", 200)] == ["e3"]


def test_a_pause_takes_large_deliveries_back_in_bounded_steps(bench: Bench) -> None:
    bench.declare("S", window=20)
    for n in range(20):
        bench.publish(event(f"e{n}", payload={"text": "x" * 900_000}))

    assert bench.namespace.call("steer", "S", "paused", 1) == [9, 1]

    assert steer(bench.namespace, "S", paused=True) == 11
    steer(bench.namespace, "S", paused=False)
    assert [lease.event.event_id for lease in bench.read("S", 20)] == [f"e{n}" for n in range(20)]


def test_large_retries_come_back_in_bounded_steps_soon_one_after_the_other(bench: Bench) -> None:
    bench.declare("S", window=20)
    for n in range(20):
        bench.publish(event(f"e{n}", payload={"text": "x" * 900_000}))
    for lease in bench.read("S", 20):
        bench.settle(lease, action="again", state=AttemptState.RETRIED, attempts=1, delay_us=-1)

    steps = [bench.as_("w").promote({"S": 0}) for _ in range(4)]

    assert [step.promoted for step in steps] == [9, 9, 2, 0]
    assert [step.wait_s is not None and step.wait_s < 0.1 for step in steps] == [True, True, False, False]
    assert len(bench.read("S", 30)) == 20


def test_what_a_large_limit_lets_in_at_once_is_bounded_and_the_rest_follows_soon(bench: Bench) -> None:
    bench.declare("S", window=60)
    steer(bench.namespace, "S", paused=True)
    for n in range(50):
        bench.publish(event(f"e{n}", payload={"text": "x" * 900_000}))

    steer(bench.namespace, "S", paused=False)

    first = len(bench.read("S", 60))
    assert first == 40  # 32 MB, and what is left of eight that are taken at once
    tended = bench.as_("w").promote({"S": 0})
    assert len(bench.read("S", 60)) == 50 - first
    assert tended.wait_s is None


def test_large_deliveries_of_a_silent_worker_are_taken_over_in_bounded_steps(bench: Bench) -> None:
    bench.declare("S", window=20)
    for n in range(20):
        bench.publish(event(f"e{n}", payload={"text": "x" * 900_000}))
    for lease in bench.read("S", 20, consumer="dead"):
        bench.is_silent(lease, "dead")

    taken = [len(bench.as_("w").reap(["S"], LEASE_MS, 100)) for _ in range(4)]

    assert taken == [9, 9, 2, 0]


def test_a_release_with_a_lower_limit_takes_back_what_nobody_has_started(bench: Bench) -> None:
    bench.declare("S", window=None)
    bench.publish(*(event(f"e{n}") for n in range(200)))
    running = bench.read("S", 3)

    bench.declare("S", window=5)

    assert bench.client.xlen(bench.keys("queue", "S")) == 5, "three run, two are ready"
    for lease in running:
        bench.settle(lease)
    assert [lease.event.event_id for lease in bench.read("S", 10)] == [f"e{n}" for n in range(3, 8)]


def test_a_release_that_lowers_a_large_limit_does_so_in_several_calls(bench: Bench) -> None:
    bench.declare("S", window=1500)
    bench.publish(*(event(f"e{n}") for n in range(1500)))

    bench.declare("S", window=1)

    assert [lease.event.event_id for lease in bench.read("S", 10)] == ["e0"]
    assert bench.client.xlen(bench.keys("queue", "S")) == 1


def test_a_release_with_a_lower_rate_leaves_no_more_ready_than_its_burst(bench: Bench) -> None:
    bench.declare("S")
    bench.publish(*(event(f"e{n}") for n in range(4)))

    bench.declare("S", rate=0.001)

    assert [lease.event.event_id for lease in bench.read("S", 10)] == ["e0"]


def test_a_release_with_a_higher_limit_lets_in_what_waits_at_once(bench: Bench) -> None:
    bench.declare("S", window=1)
    bench.publish(*(event(f"e{n}") for n in range(9)))

    bench.declare("S", window=6)

    assert [lease.event.event_id for lease in bench.read("S", 10)] == [f"e{n}" for n in range(6)]


def test_a_release_changes_nothing_of_what_an_operator_has_set(bench: Bench) -> None:
    bench.declare("S", window=9)
    bench.publish(*(event(f"e{n}") for n in range(9)))
    steer(bench.namespace, "S", concurrency=7)

    bench.declare("S", window=2)

    assert bench.client.xlen(bench.keys("queue", "S")) == 7


def test_a_pause_and_its_end_cost_no_place_of_the_rate(bench: Bench) -> None:
    bench.declare("S", window=10, rate=0.001)
    bench.publish(event(), event("e2"))

    assert steer(bench.namespace, "S", paused=True) == 1
    steer(bench.namespace, "S", paused=False)

    assert [lease.event.event_id for lease in bench.read("S", 10)] == ["e1"]


def test_pausing_ends_however_much_is_there_that_is_no_delivery(bench: Bench) -> None:
    bench.declare("S", window=2000)
    bench.publish(event(), event("e2"))
    with bench.client.pipeline(transaction=False) as pipe:
        for _ in range(1100):
            pipe.xadd(bench.keys("queue", "S"), {"f": "no frame"})
        pipe.execute()

    with pytest.raises(InvalidSubscription, match="paused must be True or False, not 'no'"):
        steer(bench.namespace, "S", paused="no")
    assert steer(bench.namespace, "S", paused=True) == 2


def test_pausing_an_ordered_subscriber_leaves_what_somebody_wrote_in_a_keys_name(bench: Bench) -> None:
    bench.declare("S", window=4, ordering="project")
    bench.publish(event("e0"), event("e1"))
    by_hand = "1000\t0\t0\t0\tA\tr\tp1\t0\t\nno event"
    bench.client.xadd(bench.keys("queue", "S"), {"f": by_hand})

    assert steer(bench.namespace, "S", paused=True) == 1
    (lease,) = bench.read("S", 10)
    assert lease.fault and bench.settle(lease, action="dead", state=AttemptState.DEAD) == "settled"

    steer(bench.namespace, "S", paused=False)
    order = []
    while leases := bench.read("S"):
        order.append(leases[0].event.event_id)
        bench.settle(leases[0])
    assert order == ["e0", "e1"]


def test_an_ordered_lane_that_was_paused_keeps_its_holder_and_its_order(bench: Bench) -> None:
    bench.declare("S", window=4, ordering="project")
    bench.publish(*(event(f"e{n}") for n in range(3)))

    steer(bench.namespace, "S", paused=True)
    steer(bench.namespace, "S", paused=False)

    order = []
    while leases := bench.read("S", 5):
        assert len(leases) == 1, "one at a time"
        order.append(leases[0].event.event_id)
        bench.settle(leases[0])
    assert order == ["e0", "e1", "e2"]


def test_a_limit_that_an_operator_sets_goes_before_the_one_in_code_until_it_is_given_back(bench: Bench) -> None:
    bench.declare("S", window=1)
    bench.publish(*(event(f"e{n}") for n in range(8)))
    queue = bench.keys("queue", "S")

    steer(bench.namespace, "S", concurrency=3)
    assert bench.client.xlen(queue) == 3
    bench.declare("S", window=1)
    bench.publish(event("more"))
    assert bench.client.xlen(queue) == 3, "a worker that declares again changes nothing"

    steer(bench.namespace, "S", concurrency=None)
    assert bench.client.xlen(queue) == 9
    (running,) = bench.read("S")
    steer(bench.namespace, "S", concurrency="code")
    assert bench.client.xlen(queue) == 1, "what has not begun goes back to wait"
    bench.settle(running)
    order = []
    while leases := bench.read("S", 5):
        assert len(leases) == 1
        order.append(leases[0].event.event_id)
        bench.settle(leases[0])
    assert order == [*(f"e{n}" for n in range(1, 8)), "more"]


def test_steering_somebody_whom_nobody_declared_is_an_error_and_writes_nothing(bench: Bench) -> None:
    before = bench.everything()

    with pytest.raises(UnknownSubscriber, match="'S'"):
        steer(bench.namespace, "S", paused=True)
    assert bench.everything() == before


def test_an_unlimited_window_follows_what_the_fleet_runs(bench: Bench) -> None:
    bench.declare("S", window=None)
    bench.publish(*(event(f"e{n}") for n in range(400)))
    queue = bench.keys("queue", "S")
    assert bench.client.xlen(queue) == 160

    bench.read("S", 60, consumer="v")
    assert bench.as_("v").promote({"S": 60}).held_back == {"S"}
    assert bench.client.xlen(queue) == 220
    bench.read("S", 40)
    bench.as_("w").promote({"S": 40})
    assert bench.client.xlen(queue) == 260

    bench.as_("v").leave(["S"])
    bench.as_("w").promote({"S": 40})
    assert bench.client.hget(bench.keys("sub", "S"), "running") == b"100", "who left holds what it holds"
    bench.as_("w").promote({"S": 240})
    assert bench.client.xlen(queue) == 400
    assert bench.as_("w").promote({"S": 240}).held_back == set()


def test_an_unlimited_window_has_room_for_four_batches_and_what_runs(bench: Bench) -> None:
    bench.declare("S", window=None, batch=100)
    bench.publish(*(event(f"e{n}") for n in range(600)))
    queue = bench.keys("queue", "S")
    assert bench.client.xlen(queue) == 400

    leases = bench.read("S", 200)
    assert bench.as_("w").promote({"S": 100}).held_back == {"S"}
    assert bench.client.xlen(queue) == 500

    for lease in leases:
        bench.settle(lease)
    assert bench.client.xlen(queue) == 400
    assert len(bench.read("S", 600)) == 400, "all that has left the window was let in again"


@pytest.mark.parametrize("batch", [None, 2, 40])
def test_small_batches_have_the_window_of_single_events(bench: Bench, batch: int | None) -> None:
    bench.declare("S", window=None, batch=batch)

    bench.publish(*(event(f"e{n}") for n in range(300)))

    assert bench.client.xlen(bench.keys("queue", "S")) == 160


def test_a_limit_goes_before_the_room_for_batches(bench: Bench) -> None:
    bench.declare("S", window=5, batch=100)
    bench.publish(*(event(f"e{n}") for n in range(600)))
    queue = bench.keys("queue", "S")
    assert bench.client.xlen(queue) == 5

    steer(bench.namespace, "S", concurrency=None)
    assert bench.client.xlen(queue) == 400


@pytest.mark.parametrize(("batch", "before"), [(None, 160), (100, 400)])
def test_a_new_projects_turn_comes_after_the_window_however_much_another_project_has(
    bench: Bench, batch: int | None, before: int
) -> None:
    bench.declare("S", window=None, batch=batch)
    bench.publish(*(event(f"e{n}") for n in range(1000)))

    bench.publish(event("new", project="p2"))

    order = []
    while leases := bench.read("S", 50):
        order += [lease.event.event_id for lease in leases]
        for lease in leases:
            bench.settle(lease)
    assert order.index("new") <= before + 1, "of those that wait outside each project has its turn"


def test_a_release_that_knows_no_batches_and_one_that_does_share_a_record(bench: Bench) -> None:
    later = Role(("A",), window=None, batch=100).record()
    earlier = {name: said for name, said in later.items() if name != "batch"}
    queue = bench.keys("queue", "S")
    declare(bench.namespace, Declared("S", ("A",), earlier), 100)
    bench.publish(*(event(f"e{n}") for n in range(1000)))
    assert bench.client.xlen(queue) == 160

    declare(bench.namespace, Declared("S", ("A",), later), 100)
    assert bench.client.xlen(queue) == 400, "there is room at once"
    declare(bench.namespace, Declared("S", ("A",), earlier), 100)
    bench.settle(bench.read("S")[0])

    assert bench.client.xlen(queue) == 400, "who says nothing of batches takes nothing away"


def test_smaller_batches_let_nothing_in_until_there_is_room_and_take_nothing_back(bench: Bench) -> None:
    bench.declare("S", window=None, batch=100)
    bench.publish(*(event(f"e{n}") for n in range(600)))
    queue = bench.keys("queue", "S")

    bench.declare("S", window=None)
    assert bench.client.xlen(queue) == 400
    for lease in bench.read("S", 300):
        bench.settle(lease)

    assert bench.client.xlen(queue) == 160


def test_declaring_writes_nothing_where_a_record_of_old_lacks_what_is_empty(bench: Bench) -> None:
    bench.declare("S")
    bench.client.hdel(bench.keys("sub", "S"), "batch")
    before = bench.everything()

    bench.declare("S")

    assert bench.everything() == before


def test_an_unlimited_window_shrinks_with_what_ends_and_not_with_what_was_not_started(bench: Bench) -> None:
    bench.declare("S", window=None)
    bench.publish(*(event(f"e{n}") for n in range(400)))
    queue = bench.keys("queue", "S")
    leases = bench.read("S", 100)
    bench.as_("w").promote({"S": 50})
    assert bench.client.xlen(queue) == 210

    for lease in leases[:30]:
        bench.settle(lease)
    assert bench.client.xlen(queue) == 180, "what is ready stays 160 beyond what runs"
    for lease in leases[30:50]:
        bench.settle(lease, action="again", state=None)
    assert bench.client.xlen(queue) == 180
    for lease in leases[50:]:
        bench.settle(lease)
    assert bench.client.xlen(queue) == 160
    assert bench.client.hget(bench.keys("running", "S"), "w") == b"0"


def test_what_a_silent_worker_holds_takes_no_room_of_an_unlimited_window(bench: Bench) -> None:
    bench.declare("S", window=None)
    bench.publish(*(event(f"e{n}") for n in range(400)))
    bench.read("S", 160, consumer="v")
    bench.as_("v").promote({"S": 8})
    bench.as_("w").promote({"S": 0})
    assert len(bench.read("S", 400)) == 8

    bench.client.zadd(bench.keys("workers"), {"v": 1})  # it has been silent since 1970
    bench.as_("w").promote({"S": 0})
    assert len(bench.read("S", 400)) == 152


def test_a_retry_does_not_cost_its_project_its_turn(bench: Bench) -> None:
    bench.declare("S", window=1)
    bench.publish(event("a0"), event("a1"), event("b0", project="p2"))

    (lease,) = bench.read("S")
    bench.settle(lease, action="again", state=AttemptState.RETRIED, attempts=1)

    (again,) = bench.read("S")
    assert (again.event.event_id, again.attempt) == ("a0", 2)


# the namespace


def test_every_script_that_writes_answers_epoch_to_a_stranger_and_writes_nothing(bench: Bench) -> None:
    bench.declare("S")
    bench.publish(event())
    before = bench.everything()
    scripts = Scripts(bench.client, bench.keys)
    calls: dict[str, list[Argument]] = {
        "publish": [100, "publish", *event_arguments(event("e2"), MIB)],
        "settle": ["w", 100], "renew": ["w", "S", "1-1", 1], "reap": ["w", 1, 1, 1, 1, 1, "S"],
        "promote": ["w", 1, "", "S", 0],
        "begin": ["w", "S", "1-1", 1, "1:0"], "declare": ["T", 100, "", 1, "A"], "undeclare": ["S"],
        "archived": ["history", 1, 1, 1], "position": [0], "steer": ["S", "paused", 1],
    }  # fmt: skip

    answers = {name: scripts.call(name, ["another", *arguments]) for name, arguments in calls.items()}

    assert set(answers.values()) == {b"EPOCH"}
    assert bench.everything() == before


def test_after_flushall_nobody_publishes_until_somebody_who_knows_the_routes_declares_them(bench: Bench) -> None:
    bench.declare("S")
    bench.publish(event())
    highest = int(bench.history()[0][0].split(b"-")[0]) + 10**12
    remembered = Remembered(highest, [Declared("S", ("A",), Role(("A",)).record())])
    web = Namespace(bench.client, bench.keys.namespace, lambda: remembered, reset_wait_s=0.1)
    web.open()

    bench.client.flushall()
    (refused,) = Publisher(web, MIB, 100).publish_many([event("e2")])
    assert isinstance(refused, HistoryReset)
    assert bench.everything() == {}
    Namespace(bench.client, bench.keys.namespace, lambda: remembered, may_restore=True).open()
    (receipt,) = Publisher(web, MIB, 100).publish_many([event("e2")])

    assert isinstance(receipt, Receipt)
    assert receipt.position > highest
    assert [lease.event.event_id for lease in bench.read("S")] == ["e2"]


def test_scripts_that_the_server_forgot_are_sent_again(bench: Bench) -> None:
    bench.declare("S")
    bench.client.script_flush()
    (receipt,) = bench.publish(event())
    bench.client.script_flush()

    (lease,) = bench.read("S")
    assert bench.settle(lease) == "settled"
    assert receipt.is_new


def test_an_ordering_cannot_change_while_deliveries_are_anywhere(bench: Bench) -> None:
    bench.declare("S", ordering="project")
    bench.publish(event(), event("e2"))
    for place in ("window", "lease", "delayed"):
        with pytest.raises(InvalidSubscription, match="declared with ordering project"):
            bench.declare("S", ordering="correlation")
        if place == "window":
            (lease,) = bench.read("S", 10)
        elif place == "lease":
            bench.settle(lease, action="again", state=AttemptState.RETRIED, attempts=1, delay_us=10**9)
    delayed = bench.keys("delayed", "S")
    bench.client.zadd(delayed, dict.fromkeys(bench.client.zrange(delayed, 0, -1), 1))
    bench.as_("w").promote({"S": 0})
    for _ in range(2):
        bench.settle(bench.read("S", 10)[0])

    bench.declare("S", ordering="correlation")

    assert bench.client.hget(bench.keys("sub", "S"), "ordering") == b"correlation"


# what others wrote by hand


@pytest.mark.parametrize("stream", ["history", "outcomes", "dead"])
def test_an_entry_written_by_hand_with_a_later_id_lifts_the_clock(bench: Bench, stream: str) -> None:
    bench.declare("S")
    (first,) = bench.publish(event())
    later = first.position + 10**12
    bench.client.xadd(bench.keys(stream, *(["S"] if stream == "dead" else [])), {"x": "y"}, id=f"{later}-3")

    (lease,) = bench.read("S")
    assert bench.settle(lease, [event("e2")], action="dead", state=AttemptState.DEAD) == "settled"
    (third,) = bench.publish(event("e3"))

    assert third.position > later
    assert bench.client.xlen(bench.keys("outcomes")) == (2 if stream == "outcomes" else 1)


@pytest.mark.parametrize("ordering", ["", "project"])
def test_a_queue_begins_anew_after_somebody_wrote_the_last_of_all_ids_into_it(bench: Bench, ordering: str) -> None:
    bench.declare("S", ordering=ordering)
    bench.publish(event())
    bench.client.xadd(bench.keys("queue", "S"), {"x": "y"}, id="18446744073709551615-18446744073709551615")

    receipts = bench.publish(event("e2", project="p2"), event("e3"))
    assert [type(receipt) for receipt in receipts] == [Receipt, Receipt]
    first, foreign = bench.read("S", 10)
    bench.settle(foreign, action="dead", state=AttemptState.DEAD)
    assert bench.read("S", 10) == []
    bench.settle(first)

    assert {lease.event.event_id for lease in bench.read("S", 10)} == {"e2", "e3"}


@pytest.mark.parametrize("stream", ["history", "outcomes", "dead"])
def test_an_entry_beyond_the_year_2255_is_refused_before_anything_is_written(bench: Bench, stream: str) -> None:
    bench.declare("S")
    bench.publish(event())
    (lease,) = bench.read("S")
    key = bench.keys(stream, *(["S"] if stream == "dead" else []))
    entry = bench.client.xadd(key, {"x": "y"}, id="18446744073709551615-18446744073709551615")
    before = bench.everything()

    with pytest.raises(ScriptFailed, match="beyond the year 2255"):
        bench.settle(lease, [event("e2")], action="dead", state=AttemptState.DEAD)
    assert bench.everything() == before

    bench.client.xdel(key, entry)
    with pytest.raises(ScriptFailed):
        bench.settle(lease, [event("e2")], action="dead", state=AttemptState.DEAD)
    assert bench.as_("w").renew([lease]) == [], "the delivery is not lost"

    bench.client.rename(key, f"{key}:aside")
    assert bench.settle(lease, [event("e2")], action="dead", state=AttemptState.DEAD) == "settled"


def _keys_of(call: str) -> list[tuple[str, ...]]:
    everywhere = [("meta",)]
    window = [("queue", "S"), ("lanes", "S"), ("held", "S"), ("sub", "S")]
    other = [("queue", "T"), ("lanes", "T"), ("held", "T"), ("sub", "T"), ("lane", "T", "p1")]
    publishing = [("clock",), ("history",), ("id", "new"), ("id", "cause"), ("routes", "A"), ("routes", "*")]
    written: dict[str, list[tuple[str, ...]]] = {
        "publish": [*publishing, *window, *other, ("lane", "S", "p1")],
        "settle": [
            *publishing, *window, *other, ("lane", "S", "p1"), ("outcomes",), ("delayed", "S"), ("dead", "S"),
            ("suspects", "S"),
        ],
        "reap": [
            ("clock",), ("outcomes",), ("workers",), ("running", "T"), ("queue", "S"), ("sub", "S"), ("queue", "T"),
            ("sub", "T"),
        ],
        "promote": [
            ("workers",), ("beats",), ("running", "T"), ("delayed", "S"), ("delayed", "T"), *window, *other[:4],
            ("lane", "S", "p2"),
        ],
        "declare": [("subscribers",), ("routes", "A"), ("routes", "B"), ("routes", "*"), ("delayed", "S"), *window],
        "begin": [("suspects", "S"), ("queue", "S")],
        "archived": [("archived",), ("history",)],
        "position": [("clock",)],
        "undeclare": [("sub", "S"), ("routes", "A")],
        "steer": [*window, ("lane", "S", "p3")],
    }  # fmt: skip
    return [*everywhere, *written[call]]


@pytest.mark.parametrize(
    ("call", "parts"),
    [
        (call, parts)
        for call in (
            "publish",
            "settle",
            "reap",
            "promote",
            "declare",
            "begin",
            "archived",
            "position",
            "undeclare",
            "steer",
        )
        for parts in _keys_of(call)
    ],
)
def test_a_wrong_type_is_an_error_before_the_first_write(bench: Bench, call: str, parts: tuple[str, ...]) -> None:
    for name in ("S", "T"):
        bench.declare(name, ordering="project", window=2)
    bench.publish(event(), event("later"), event("p2", project="p2"), event("p3", project="p3"))
    first, second = bench.read("S", 2)
    bench.settle(second, action="again", state=AttemptState.RETRIED, attempts=1, delay_us=-1)
    bench.is_silent(first)
    key = bench.keys(parts[0], *parts[1:])
    is_list = bench.client.type(key) == b"list" or parts[0] == "lane"
    bench.client.delete(key)
    bench.client.set(key, "wrong") if is_list else bench.client.rpush(key, "wrong")
    before = bench.everything()
    scripts, epoch = Scripts(bench.client, bench.keys), bench.namespace._epoch
    returned = event_arguments(event("new", causation_id="cause"), MIB)
    ended = Settlement(first, "dead", AttemptState.DEAD, events=[returned])
    arguments: dict[str, list[Argument]] = {
        "publish": [100, "publish", *event_arguments(event("before", "Z"), MIB), *returned],
        "settle": ["w", 100, *ended.arguments("w")],
        "reap": ["v", LEASE_MS, 10, 1, 2, "S", "T"],
        "promote": ["w", 10, "", "S", 0, "T", 0],
        "declare": ["S", 100, "project", 2, "A", "B", "concurrency", "5"],
        "begin": ["w", "S", first.entry_id, 1, first.frame.name],
        "archived": ["history", 1, 1, 1, "e1"],
        "position": [0],
        "undeclare": ["S"],
        "steer": ["S", "paused", "1"],
    }

    with pytest.raises(ScriptFailed):
        scripts.call(call, [epoch, *arguments[call]])

    assert bench.everything() == before


# a server that refuses


def full(client: redis.Redis) -> None:
    client.config_set("maxmemory", 1 << 20)


def test_a_full_server_refuses_a_publish_whole_and_lets_deliveries_settle(bench: Bench) -> None:
    bench.declare("S")
    bench.declare("O", ordering="project")
    bench.publish(event(), event("e2"), event("e3"))
    done, retried, dead = bench.read("S", 3)
    (ordered,) = bench.read("O", 3)
    full(bench.client)
    before = bench.everything()

    (refused,) = bench.publish(event("e4"))
    assert isinstance(refused, ScriptFailed)
    assert refused.code == "OOM"
    assert bench.everything() == before
    assert bench.settle(done, [event("e5")]) == "settled"
    assert bench.settle(retried, action="again", state=AttemptState.RETRIED, attempts=1, delay_us=-1) == "settled"
    assert bench.settle(dead, action="dead", state=AttemptState.DEAD) == "settled"
    assert bench.settle(ordered) == "settled"

    assert bench.as_("w").promote({"S": 0}).promoted == 1
    assert {lease.event.event_id for lease in bench.read("S", 10)} == {"e5", "e2"}
    assert [lease.event.event_id for lease in bench.read("O", 10)] == ["e2"]


def test_a_full_server_still_lets_workers_beat_take_over_and_begin(bench: Bench) -> None:
    bench.declare("S")
    bench.publish(event())
    (lease,) = bench.read("S")
    bench.is_silent(lease)
    full(bench.client)

    assert bench.as_("v").promote({"S": 0}).promoted == 0
    (taken,) = bench.as_("v").reap(["S"], LEASE_MS, 10)
    assert bench.as_("v").renew([taken]) == []
    assert bench.as_("v").begin(taken) == 1
    assert bench.settle(taken, consumer="v") == "settled"


def test_a_full_server_still_lets_operators_resume_and_set_limits(bench: Bench) -> None:
    bench.declare("S", window=1)
    bench.publish(event(), event("e2"))
    steer(bench.namespace, "S", paused=True)
    full(bench.client)

    assert steer(bench.namespace, "S", paused=False) == 0
    assert steer(bench.namespace, "S", concurrency=2) == 0
    assert len(bench.read("S", 10)) == 2
    assert steer(bench.namespace, "S", paused=True) == 0


def test_a_full_server_still_lets_the_archive_trim(bench: Bench) -> None:
    first, second = bench.publish(event(), event("e2"))
    full(bench.client)

    bench.namespace.call("archived", "history", first.position, first.position + 1, 1000, "e1")
    bench.namespace.call("archived", "outcomes", second.position, second.position + 1, 1000)

    assert len(bench.history()) == 1
    assert bench.client.get(bench.keys("archived")) == b"%d" % first.position


def test_a_replica_refuses_every_write_and_keeps_its_data(bench: Bench) -> None:
    bench.declare("S")
    bench.publish(event())
    (lease,) = bench.read("S")
    before = bench.everything()
    bench.client.replicaof("127.0.0.1", "1")

    (refused,) = bench.publish(event("e2"))
    assert isinstance(refused, ScriptFailed)
    assert refused.code == "READONLY"
    with pytest.raises(ScriptFailed, match=r"(?i)read ?only"):
        bench.settle(lease)
    assert bench.everything() == before
    bench.client.replicaof("NO", "ONE")

    assert bench.settle(lease) == "settled"


# leases


def test_begin_counts_the_starts_of_a_suspect_until_it_settles(bench: Bench) -> None:
    bench.declare("S")
    bench.publish(event())
    (first,) = bench.read("S", consumer="w1")
    assert bench.as_("w2").begin(first) == 0, "not the caller's lease"

    bench.is_silent(first, "w1")
    (second,) = bench.as_("w2").reap(["S"], LEASE_MS, 10)
    assert second.suspect
    assert second.attempt == 2
    assert bench.as_("w2").begin(second) == 1
    bench.is_silent(second, "w2")
    (third,) = bench.as_("w3").reap(["S"], LEASE_MS, 10)
    assert bench.as_("w2").begin(second) == 0, "lost"
    assert bench.as_("w3").begin(third) == 2

    assert bench.settle(third, consumer="w3", action="again", state=AttemptState.RETRIED, attempts=3) == "settled"
    assert not bench.client.exists(bench.keys("suspects", "S"))
    assert bench.read("S")[0].attempt == 4


def taken_over(bench: Bench, lease: Lease, owner: str, by: str) -> Lease:
    bench.is_silent(lease, owner)
    (taken,) = bench.as_(by).reap(["S"], LEASE_MS, 10)
    return taken


@pytest.mark.parametrize("delay_us", [0, -1])
def test_what_silenced_workers_is_a_suspect_still_after_a_hand_back(bench: Bench, delay_us: int) -> None:
    bench.declare("S", ordering="project")
    bench.publish(event())
    second = taken_over(bench, bench.read("S", consumer="w1")[0], "w1", "w2")
    assert bench.as_("w2").begin(second) == 1
    third = taken_over(bench, second, "w2", "w3")
    assert bench.as_("w3").begin(third) == 2
    fourth = taken_over(bench, third, "w3", "w4")

    how = {"action": "again", "state": None, "attempts": 3, "delay_us": delay_us}
    assert bench.settle(fourth, consumer="w4", **how) == "settled"
    bench.as_("w5").promote({"S": 0})

    (again,) = bench.read("S", consumer="w5")
    assert (again.suspect, again.starts, again.attempt) == (True, 2, 4)
    assert bench.as_("w5").begin(again) == 3
    assert bench.settle(again, consumer="w5", action="dead", state=AttemptState.DEAD) == "settled"
    assert not bench.client.exists(bench.keys("suspects", "S"))


@pytest.mark.parametrize("delay_us", [0, -1])
def test_a_suspect_that_is_handed_back_before_its_first_start_is_one_still(bench: Bench, delay_us: int) -> None:
    bench.declare("S")
    bench.publish(event())
    taken = taken_over(bench, bench.read("S", consumer="w1")[0], "w1", "w2")

    how = {"action": "again", "state": None, "attempts": 1, "delay_us": delay_us}
    assert bench.settle(taken, consumer="w2", **how) == "settled"
    bench.as_("w3").promote({"S": 0})

    (again,) = bench.read("S", consumer="w3")
    assert (again.suspect, again.starts, again.attempt) == (True, 0, 2)
    assert bench.as_("w3").begin(again) == 1
    assert bench.settle(again, consumer="w3") == "settled"
    assert not bench.client.exists(bench.keys("suspects", "S"))


def test_a_start_that_was_counted_and_never_happened_is_taken_back(bench: Bench) -> None:
    bench.declare("S")
    bench.publish(event())
    taken = taken_over(bench, bench.read("S", consumer="w1")[0], "w1", "w2")
    assert bench.as_("w2").begin(taken) == 1

    assert bench.settle(taken, consumer="w2", action="again", state=None, attempts=1) == "settled"

    (again,) = bench.read("S")
    assert (again.suspect, again.starts) == (True, 0)
    assert bench.settle(again) == "settled"
    assert not bench.client.exists(bench.keys("suspects", "S"))


def test_three_workers_that_die_are_three_although_it_was_handed_back_between(bench: Bench) -> None:
    bench.declare("S")
    bench.publish(event())
    lease = taken_over(bench, bench.read("S", consumer="w1")[0], "w1", "w2")
    assert bench.as_("w2").begin(lease) == 1
    assert bench.settle(lease, consumer="w2", action="again", state=None, attempts=1) == "settled"

    (lease,) = bench.read("S", consumer="w3")
    assert bench.as_("w3").begin(lease) == 1
    lease = taken_over(bench, lease, "w3", "w4")
    assert bench.as_("w4").begin(lease) == 2


def test_an_attempt_that_ends_by_itself_ends_the_suspicion(bench: Bench) -> None:
    bench.declare("S")
    bench.publish(event())
    taken = taken_over(bench, bench.read("S", consumer="w1")[0], "w1", "w2")
    bench.as_("w2").begin(taken)

    bench.settle(taken, consumer="w2", action="again", state=AttemptState.INTERRUPTED, attempts=1)

    assert not bench.read("S")[0].suspect


def test_starts_that_somebody_wrote_by_hand_are_read_as_none(bench: Bench) -> None:
    bench.declare("S")
    bench.publish(event())
    ((_, fields),) = bench.client.xrange(bench.keys("queue", "S"))
    bench.client.xadd(bench.keys("queue", "S"), {**fields, "s": "many"})

    assert [lease.suspect for lease in bench.read("S", 2)] == [False, False]


def test_silence_is_measured_by_the_server_and_a_gap_in_reaping_proves_nothing(bench: Bench) -> None:
    bench.declare("S")
    bench.publish(event())
    (lease,) = bench.read("S", consumer="dead")

    def taken() -> list[Lease]:
        return bench.as_("w").reap(["S"], 500, 10)

    assert taken() == [], "nobody had reaped before: everybody gets one lease"
    (found,) = wait_until(taken, 10, "the lease to run out")
    assert found.entry_id == lease.entry_id
    assert bench.as_("dead").renew([lease]) == [lease]
    ((_, outcome),) = bench.client.xrange(bench.keys("outcomes"))
    assert outcome[b"o"].split(b"\t")[3:6] == [b"1", b"lost", b"dead"]


def test_a_worker_never_reaps_what_it_holds_itself(bench: Bench) -> None:
    bench.declare("S")
    bench.publish(event(), event("e2"))
    held, forgotten = bench.read("S", 2)
    bench.is_silent(held)
    bench.is_silent(forgotten)

    taken = bench.as_("w").reap(["S"], LEASE_MS, 10, [held])

    assert [lease.entry_id for lease in taken] == [forgotten.entry_id]


def test_a_queue_that_vanished_keeps_nobody_from_reaping_twice(bench: Bench) -> None:
    bench.declare("S")
    bench.declare("T")
    bench.publish(event())
    (lease,) = bench.read("S")
    bench.is_silent(lease)
    seconds, micros = bench.client.time()
    bench.client.hset(bench.keys("sub", "T"), "reaped_at", seconds * 1_000_000 + micros)
    bench.client.delete(bench.keys("queue", "T"))

    with pytest.raises(ScriptFailed) as error:
        bench.as_("v").reap(["S", "T"], LEASE_MS, 10)

    assert error.value.code == "NOGROUP"
    assert bench.settle(lease) == "settled", "nothing was taken by a call that failed"


def test_the_sweep_removes_only_consumers_that_hold_nothing_and_have_been_idle(bench: Bench) -> None:
    bench.declare("S")
    bench.publish(event(), event("e2"))
    (lease,) = bench.read("S", consumer="holds")
    bench.settle(bench.read("S", consumer="idle")[0], consumer="idle")
    bench.as_("idle").promote({"S": 0})

    def names() -> set[bytes]:
        return {info["name"] for info in bench.client.xinfo_consumers(bench.keys("queue", "S"), "fleet")}

    bench.as_("w").reap(["S"], LEASE_MS, 10, sweep=True)
    assert names() == {b"holds", b"idle"}, "ten leases have not passed"

    def swept() -> bool:
        bench.as_("w").renew([lease])
        bench.client.hset(bench.keys("sub", "S"), mapping={"reaped_at": 0})
        assert bench.as_("w").reap(["S"], 2, 10, sweep=True) == []
        return names() == {b"holds"} and bench.client.zrange(bench.keys("workers"), 0, -1) == []

    wait_until(swept, 10, "the idle consumer to be swept")
    assert bench.settle(lease, consumer="holds") == "settled"


def test_a_worker_that_died_is_forgotten_for_every_subscriber_whoever_sweeps(bench: Bench) -> None:
    bench.declare("S", window=None)
    bench.declare("T", window=None)
    bench.as_("dead").promote({"T": 500}, beat="{}")
    bench.client.zadd(bench.keys("workers"), {"dead": 1})

    bench.as_("w").reap(["S"], LEASE_MS, 10, sweep=True)

    assert bench.client.hgetall(bench.keys("running", "T")) == {}
    bench.as_("w").promote({"T": 2})
    assert bench.client.hget(bench.keys("sub", "T"), "running") == b"2"


def test_a_refused_settlement_keeps_no_id_from_its_neighbours_and_a_settled_one_does(bench: Bench) -> None:
    bench.declare("S")
    bench.publish(event("e1"), event("e2"), event("e3"))
    leases = bench.read("S", 3)
    returned = [
        [event("x", "B", payload={"by": 1}), event("e1", payload={"says": "another"})],
        [event("x", "B", payload={"by": 2})],
        [event("y", "B"), event("x", "B", payload={"by": 3})],
    ]
    batch = [
        Settlement(lease, "end", AttemptState.DONE, events=[event_arguments(one, MIB) for one in events])
        for lease, events in zip(leases, returned, strict=True)
    ]

    answers = bench.as_("w").settle(batch)

    assert [str(answer).split(" is taken")[0] for answer in answers] == [
        "The event id 'e1'",
        "settled",
        "The event id 'x'",
    ]
    assert b'"by":2' in bench.history()[-1][1][b"e"]
    assert len(bench.history()) == 4
    assert bench.as_("w").renew(leases) == [leases[1]], "the refused ones are still held"


# the archive


def test_tail_answers_with_what_is_archived_in_the_same_step(bench: Bench) -> None:
    receipts = bench.publish(*(event(f"e{n}") for n in range(5)))
    positions = [receipt.position for receipt in receipts]

    def tail(after: int, limit: int = 100) -> tuple[int, list[int]]:
        archived, entries = bench.namespace.call("tail", after, limit)
        return int(archived), [int(entry.split(b"-")[0]) for entry, _ in entries]

    assert tail(0, 2) == (0, positions[:2])
    assert tail(positions[1]) == (0, positions[2:])
    assert bench.namespace.call("archived", "history", positions[2], positions[4], 60_000, "e0", "e1", "e2") == (
        b"%d" % positions[2]
    )

    assert tail(positions[2]) == (positions[2], positions[3:]), "a reader that has what is archived can go on"
    assert tail(positions[0]) == (positions[2], positions[3:]), "one that has less sees that SQL has moved on"
    assert bench.namespace.call("archived", "history", positions[0], 0, 60_000, "e0") == b"%d" % positions[2]
    assert 0 < bench.client.pttl(bench.keys("id", "e2")) <= 60_000
    assert bench.client.pttl(bench.keys("id", "e3")) == -1


def test_a_position_is_later_than_every_one_before_and_than_its_floor(bench: Bench) -> None:
    (receipt,) = bench.publish(event())
    first = int(bench.namespace.call("position", 0))
    lifted = int(bench.namespace.call("position", first + 10**12))
    (after,) = bench.publish(event("e2"))

    assert receipt.position < first < lifted < after.position
    assert lifted == first + 10**12 + 1


def test_a_call_stops_after_enough_deliveries_and_the_publisher_sends_the_rest(bench: Bench) -> None:
    for n in range(100):
        bench.declare(f"S{n}", "A")
    events = [event(f"e{n}") for n in range(120)]
    flat = [argument for each in events for argument in event_arguments(each, MIB)]

    replies = bench.namespace.call("publish", 100, "publish", *flat)
    answers = bench.publish(*events)

    assert replies[49].endswith(b"\t1") and replies[50:] == [b"LATER"] * 70
    assert [answer.is_new for answer in answers] == [False] * 50 + [True] * 70
    assert [answer.position for answer in answers] == sorted(answer.position for answer in answers)
    assert all(bench.client.xlen(bench.keys("queue", f"S{n}")) == 120 for n in range(100))


def test_a_settle_that_had_enough_to_do_writes_nothing_of_the_items_it_answers_later(bench: Bench) -> None:
    bench.declare("S", "GO")
    for n in range(100):
        bench.declare(f"T{n}", "A")
    bench.publish(event("g1", "GO"), event("g2", "GO"))
    first, second = bench.read("S", 2)
    settlements = [
        Settlement(
            lease,
            "end",
            AttemptState.DONE,
            events=[event_arguments(event(f"{lease.entry_id}-{n}"), MIB) for n in range(50)],
        )
        for lease in (first, second)
    ]

    assert bench.as_("w").settle(settlements) == ["settled", "later"]
    assert len(bench.history()) == 2 + 50
    assert bench.as_("w").settle(settlements) == ["refused", "settled"]
    assert len(bench.history()) == 2 + 100
