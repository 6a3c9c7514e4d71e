"""Numbers and keys that a hand has damaged: a script does whole what it acknowledges, and fails before it writes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from events.due import Due
from events.errors import ScriptFailed
from events.event import Event
from events.frame import Lease
from events.publisher import Publisher, Receipt
from events.records import RecordedEvent
from events.redelivery import once
from events.scheduled import ScheduledEvents
from events.scripts import Argument, Scripts
from tests.model.test_joins import MIB, Bench, make
from tests.valkey_servers import ValkeyServer
from tests.waiting import wait_until


@pytest.fixture(scope="module")
def client() -> Iterator[redis.Redis]:
    with ValkeyServer() as server, server.client() as client:
        yield client


@pytest.fixture
def bench(client: redis.Redis) -> Bench:
    return Bench(client)


def publish(bench: Bench, *events: Event) -> None:
    """Publish, and once more where there was an error, as a caller does who is told that this is safe."""
    for event in events:
        for answer in (Publisher(bench.namespace, MIB, 100).publish_many([event])[0] for _ in range(2)):
            assert isinstance(answer, Receipt), answer


def of(project: str, event_id: str) -> Event:
    return Event(event_id=event_id, project_id=project, type="SHOT", actor="a")


def handled(bench: Bench, name: str) -> list[str]:
    """Handle what is there, one after the other."""
    order: list[str] = []
    while leases := bench.read(name, count=1):
        bench.settle(leases[0])
        order.append(leases[0].event.event_id)
    return order


def everything(bench: Bench) -> dict[bytes, Any]:
    """Every key of the namespace as bytes."""
    return {key: bench.client.dump(key) for key in bench.client.scan_iter(f"{bench.keys.prefix}*", 5000)}


# counts


@pytest.mark.parametrize("value", ["abc", "", "inf", "nan", "-5", "2.5", "1e300"])
def test_a_join_whose_count_is_none_goes_by_its_time_out_and_loses_no_publish(bench: Bench, value: str) -> None:
    bench.declare("Painter", "SHOT", "SCRIPT")
    bench.join("Editor", "SCRIPT", "SHOT")
    bench.publish("script", "SCRIPT")
    (script,) = bench.read("Painter")
    position = script.frame.position
    bench.client.hset(bench.keys("join", f"Editor:{position}"), "open", value)

    publish(bench, make("shot", "SHOT", "script"))
    assert bench.settle(script, ("returned", "SHOT")) == "settled"
    shot, returned = bench.read("Painter")
    bench.dead(shot)

    assert (shot.event.event_id, bench.settle(returned)) == ("shot", "settled")
    assert bench.read("Editor") == [], "nobody knows what is under way"
    bench.client.zadd(bench.keys("joins", "Editor"), {str(position): 1})
    bench.deliveries.promote({"Editor": 0})
    (lease,) = bench.read("Editor")
    joined = bench.deliveries.joined(lease)
    assert (joined.why, [event.event_id for event in joined.events]) == ("timeout", ["shot", "returned"])


def test_a_clock_that_is_no_whole_number_gives_no_two_events_one_position(bench: Bench) -> None:
    bench.declare("Painter", "SHOT")
    bench.client.set(bench.keys("clock"), "1900000000000000.5")

    answers = Publisher(bench.namespace, MIB, 100).publish_many([of("one", name) for name in "abcd"])

    receipts = [answer for answer in answers if isinstance(answer, Receipt)]
    assert [entry.decode() for entry, _ in bench.client.xrange(bench.keys("history"))] == [
        f"{receipt.position}-0" for receipt in receipts
    ]
    assert len({receipt.position for receipt in receipts}) == 4


@pytest.mark.parametrize("value", ["abc", "", "9223372036854775807", "100000000000000", "-1", "1.5", "inf"])
def test_turns_that_are_none_go_on_after_the_last_lane_and_lose_no_publish(bench: Bench, value: str) -> None:
    bench.declare("Narrow", "SHOT", concurrency=1)
    bench.declare("Wide", "SHOT")
    publish(bench, of("one", "a"), of("one", "b"), of("two", "c"), of("three", "d"))
    bench.client.hset(bench.keys("sub", "Narrow"), "turn", value)

    publish(bench, of("four", "e"), of("one", "f"))

    assert handled(bench, "Wide") == ["a", "b", "c", "d", "e", "f"]
    assert handled(bench, "Narrow") == ["a", "b", "c", "d", "e", "f"], "each lane at its turn"
    assert int(bench.client.hget(bench.keys("sub", "Narrow"), "turn") or "") < 100


@pytest.mark.parametrize("field", ["set_concurrency", "concurrency", "running"])
def test_a_limit_that_is_no_whole_number_loses_no_publish(bench: Bench, field: str) -> None:
    bench.declare("Painter", "SHOT", **({} if field == "running" else {"concurrency": 2}))
    bench.client.hset(bench.keys("sub", "Painter"), field, "2.5")
    names = [f"e{n:03}" for n in range(170)]

    publish(bench, *(of(f"p{n % 7}", name) for n, name in enumerate(names)))

    assert sorted(handled(bench, "Painter")) == names


@pytest.mark.parametrize("value", ["many", "1.5", "9223372036854775807"])
def test_starts_of_a_suspect_that_are_no_number_fail_no_settlement(bench: Bench, value: str) -> None:
    bench.declare("Painter", "SHOT")
    publish(bench, of("one", "a"), of("one", "b"))
    suspect, other = bench.read("Painter")
    suspect.begun = True  # as one whose start was counted, and whose handler was never called
    bench.client.hset(bench.keys("suspects", "Painter"), suspect.frame.name, value)

    verdicts = [bench.settle(other), _handed_back(bench, suspect)]

    assert verdicts == ["settled", "settled"]
    (again,) = bench.read("Painter")
    bench.client.hset(bench.keys("suspects", "Painter"), suspect.frame.name, value)
    assert bench.deliveries.begin(again) >= 1
    assert bench.client.xlen(bench.keys("outcomes")) == 1


def _handed_back(bench: Bench, lease: Lease) -> str:
    return bench.settle(lease, action="again", state=None, attempts=0)


def test_a_time_out_that_is_no_time_keeps_no_id_from_expiring(bench: Bench) -> None:
    bench.declare("Painter", "SCRIPT")
    bench.join("Editor", "SCRIPT", "SHOT")
    bench.publish("script", "SCRIPT")
    bench.publish("alone", "NOTE")
    (lease,) = bench.read("Painter")
    position = lease.frame.position
    bench.client.zadd(bench.keys("joins", "Editor"), {str(position): "inf"})

    bench.namespace.call("archived", "history", position, 0, 20, "script", "alone")

    wait_until(lambda: not bench.client.exists(bench.keys("id", "alone")), 20, "the id of a neighbour to expire")
    assert bench.client.pttl(bench.keys("id", "script")) > 0


# keys of a wrong type


@pytest.mark.parametrize("parts", [("clock",), ("subscribers",), ("routes", "SHOT"), ("sub", "P"), ("queue", "P")])
def test_no_epoch_begins_whose_routes_cannot_be_written(bench: Bench, parts: tuple[str, ...]) -> None:
    bench.client.delete(bench.keys("meta"), bench.keys("clock"))
    bench.client.set(bench.keys(*parts), "wrong")
    before = everything(bench)
    declared: list[Argument] = ["A", 1, "SCRIPT", 0, "P", 1, "SHOT", 0]

    with pytest.raises(ScriptFailed):
        Scripts(bench.client, bench.keys).call("open", ["e9", 0, *declared])

    assert everything(bench) == before, "whoever publishes meanwhile is told that the namespace is not there"


@pytest.mark.parametrize(("call", "asked"), [("undeclare", ["P"]), ("drop", ["P", 0, 0, 100])])
def test_a_route_of_a_wrong_type_keeps_the_others(bench: Bench, call: str, asked: list[Argument]) -> None:
    bench.declare("P", "SCRIPT", "SHOT")
    bench.client.delete(bench.keys("routes", "SHOT"))
    bench.client.set(bench.keys("routes", "SHOT"), "wrong")
    before = everything(bench)

    with pytest.raises(ScriptFailed, match="WRONGTYPE"):
        bench.namespace.call(call, *asked)

    assert everything(bench) == before


@pytest.mark.parametrize("what", ["delayed", "lane"])
def test_a_delivery_again_is_told_though_nobody_can_count_what_waits(bench: Bench, what: str) -> None:
    bench.declare("P", "SHOT", concurrency=1)
    publish(bench, of("one", "a"), of("two", "b"), of("three", "c"))
    first = bench.client.xrange(bench.keys("history"))[0][0]
    event = of("one", "a").model_copy(update={"correlation_id": "a"})
    key = bench.keys("delayed", "P") if what == "delayed" else bench.keys("lane", "P", "three")
    bench.client.delete(key)
    bench.client.hset(key, "wrong", "type")

    assert once(bench.namespace, "P", 70_000, RecordedEvent(int(first.split(b"-")[0]), event), "ann", "") is True

    if what == "delayed":
        bench.client.delete(key)
    assert handled(bench, "P") == (["a", "b", "a"] if what == "lane" else ["a", "b", "c", "a"])


def test_an_unreadable_scheduled_event_of_a_damaged_join_holds_up_no_other(bench: Bench) -> None:
    bench.declare("Painter", "SHOT")
    odd = "publish\todd\t0\tEditor/5\tx\tdigest\ttoo short"
    bench.client.hset(bench.keys("envelopes"), "odd", odd)
    bench.client.set(bench.keys("join", "Editor:5"), "wrong")
    (answer,) = Publisher(bench.namespace, MIB, 100).publish_many([of("one", "a")], dues=[Due("+3600000000")])
    assert not isinstance(answer, Exception), answer
    bench.client.zadd(bench.keys("scheduled"), {"odd": 1, "a": 2})

    released = ScheduledEvents(bench.namespace, 100).release(100)

    assert released.published == 1 and handled(bench, "Painter") == ["a"]
    ((event_id, reason),) = released.put_off
    assert event_id == "odd" and "WRONGTYPE" in str(reason)
    due = bench.client.zscore(bench.keys("scheduled"), "odd")
    assert due is not None and due > time.time() * 1e6
    assert bench.client.zscore(bench.keys("scheduled"), "a") is None
