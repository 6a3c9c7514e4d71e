"""Joins and scheduled events: what a handler schedules is under way until it is published or cancelled."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from events.due import Due
from events.frame import Lease
from events.publisher import Publisher
from events.scheduled import ScheduledEvents
from tests.model.test_joins import MIB, Bench, make
from tests.valkey_servers import ValkeyServer


class Later(Bench):
    """A bench whose handlers may schedule."""

    @property
    def scheduled(self) -> ScheduledEvents:
        return ScheduledEvents(self.namespace, 100)

    def schedule(self, by: Lease, *events: tuple[str, str]) -> None:
        self.schedule_caused(by, by.event.event_id, *events)

    def schedule_caused(self, by: Lease, cause: str, *events: tuple[str, str]) -> None:
        made = [make(event_id, kind, cause) for event_id, kind in events]
        dues = [Due("+3600000000")] * len(made)
        for answer in Publisher(self.namespace, MIB, 100).publish_many(made, by.delivery, dues):
            assert not isinstance(answer, Exception), answer

    def release(self, *ids: str) -> int:
        """The hour of these events comes."""
        for event_id in ids:
            self.client.zadd(self.keys("scheduled"), {event_id: 1})
        return self.scheduled.release(100).published

    def images(self) -> list[str] | None:
        """Ids that the editor joins; None while it waits."""
        leases = self.read("Editor")
        return [event.event_id for event in self.deliveries.joined(leases[0]).events] if leases else None


@pytest.fixture(scope="module")
def client() -> Iterator[redis.Redis]:
    with ValkeyServer() as server, server.client() as client:
        yield client


@pytest.fixture
def bench(client: redis.Redis) -> Later:
    bench = Later(client)
    bench.declare("Painter", "SCRIPT", "SHOT")
    bench.join("Editor", "SCRIPT", "IMAGE")
    bench.publish("script", "SCRIPT")
    return bench


def test_a_join_waits_for_what_is_scheduled_and_for_what_that_sets_off(bench: Later) -> None:
    (painting,) = bench.read("Painter")
    bench.schedule(painting, ("i1", "IMAGE"), ("look again", "SHOT"))
    bench.settle(painting)
    assert bench.images() is None

    assert bench.release("i1") == 1
    assert bench.images() is None
    assert bench.release("look again") == 1
    assert bench.images() is None
    (painting,) = bench.read("Painter")
    bench.settle(painting, ("i2", "IMAGE"))

    assert bench.images() == ["i1", "i2"]


def test_what_is_scheduled_twice_or_published_early_is_under_way_once(bench: Later) -> None:
    (painting,) = bench.read("Painter")
    bench.schedule(painting, ("i1", "IMAGE"), ("i1", "IMAGE"))
    bench.schedule(painting, ("i1", "IMAGE"), ("i2", "IMAGE"))
    bench.settle(painting)
    bench.publish("i1", "IMAGE", "script", origin=painting.delivery)
    assert bench.images() is None

    assert bench.release("i2") == 1

    assert bench.images() == ["i1", "i2"]


def test_what_is_cancelled_is_not_waited_for(bench: Later) -> None:
    (painting,) = bench.read("Painter")
    bench.schedule(painting, ("i1", "IMAGE"), ("i2", "IMAGE"))
    bench.settle(painting)

    assert bench.scheduled.cancel(["i1"]) == [True]
    assert bench.images() is None
    assert bench.scheduled.cancel(["i2", "i1"]) == [True, False]

    assert bench.images() == []


def test_what_cannot_be_published_any_more_is_told_to_the_join(bench: Later) -> None:
    (painting,) = bench.read("Painter")
    bench.schedule(painting, ("i1", "IMAGE"))
    bench.settle(painting)
    bench.client.set(bench.keys("id", "i1"), "5\tanother")

    assert bench.release("i1") == 0

    (joining,) = bench.read("Editor")
    joined = bench.deliveries.joined(joining)
    assert (joined.why, joined.dead) == ("dead", 1)


def test_a_join_waits_for_what_was_scheduled_by_an_event_that_redis_has_forgotten(bench: Later) -> None:
    (painting,) = bench.read("Painter")
    bench.schedule(painting, ("look again", "SHOT"))
    bench.settle(painting)
    bench.client.delete(bench.keys("id", "script"))

    bench.release("look again")
    (painting,) = bench.read("Painter")
    bench.settle(painting, ("i1", "IMAGE"))

    assert bench.images() == ["i1"]
    assert bench.client.zcard(bench.keys("scheduled")) == 0


def test_a_join_waits_for_what_is_caused_by_something_that_is_itself_only_scheduled(bench: Later) -> None:
    (painting,) = bench.read("Painter")
    bench.schedule(painting, ("first", "SHOT"))
    bench.schedule_caused(painting, "first", ("then", "SHOT"))
    bench.publish("i1", "IMAGE", "first", origin=painting.delivery)
    bench.settle(painting)

    bench.release("first")
    (painting,) = bench.read("Painter")
    bench.settle(painting)
    assert bench.images() is None, "what it caused is still to come"
    bench.release("then")
    (painting,) = bench.read("Painter")
    assert (painting.frame.root, painting.frame.depth) == ("script", 2)
    bench.settle(painting, ("i2", "IMAGE"))

    assert bench.images() == ["i1", "i2"]


def test_what_would_be_in_too_many_joins_meanwhile_is_put_off_and_published_when_one_is_over(bench: Later) -> None:
    for n in range(31):
        bench.join(f"J{n}", "SCRIPT", "IMAGE")
    bench.publish("another", "SCRIPT")
    editing, another = bench.read("Painter")
    bench.schedule(another, ("later", "LATE"))
    bench.settle(editing)
    bench.settle(another)
    bench.join("Extra", "LATE", "IMAGE")

    bench.client.zadd(bench.keys("scheduled"), {"later": 1})
    released = bench.scheduled.release(100)
    ((event_id, reason),) = released.put_off
    assert event_id == "later" and "33 open joins" in str(reason) and released.dropped == ()
    assert bench.client.hexists(bench.keys("envelopes"), "later")

    bench.client.hdel(bench.keys("join", f"J0:{another.frame.position}"), "open")  # one of them is over
    assert bench.release("later") == 1
