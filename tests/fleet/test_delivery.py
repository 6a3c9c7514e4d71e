"""Deliveries on a fleet of two worker processes: once each, retries, returns, limits, refusals."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from events.event import Event
from events.publisher import Receipt
from tests.fleet.conftest import running_fleet
from tests.fleet.fleet import World
from tests.valkey_servers import ValkeyServer
from tests.waiting import wait_until


@pytest.fixture(scope="module")
def fleet(either_server: ValkeyServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A fleet of two worker processes on each kind of server."""
    yield from running_fleet(either_server.url, tmp_path_factory.mktemp("fleet"))


def make(kind: str, project: str = "p1", **payload: object) -> Event:
    return Event(project_id=project, type=kind, actor="test", payload=payload)


def publish(world: World, *events: Event) -> list[Receipt]:
    answers = world.bus.publish_many_sync(events)
    assert all(isinstance(answer, Receipt) for answer in answers), answers
    return answers  # type: ignore[return-value]


def test_each_of_three_subscribers_gets_every_event_exactly_once(fleet: World) -> None:
    events = [make("WORK", n=n) for n in range(100)]

    publish(fleet, *events)
    fleet.until_settled("Async", "Plain", "Generator")

    for name in ("Async", "Plain", "Generator"):
        assert fleet.runs(name, of=events) == {event.event_id: 1 for event in events}


def test_only_the_subscriber_that_fails_retries(fleet: World) -> None:
    event = make("WORK", fail=2, only="Plain")

    [receipt] = publish(fleet, event)
    fleet.until_settled("Async", "Plain", "Generator")

    assert fleet.runs("Plain")[event.event_id] == 3
    assert fleet.runs("Async")[event.event_id] == fleet.runs("Generator")[event.event_id] == 1
    assert [(attempt, state) for _, attempt, state, _ in fleet.outcomes("Plain", receipt.position)] == [
        (1, "retried"), (2, "retried"), (3, "done"),
    ]  # fmt: skip


def test_a_handler_that_always_fails_ends_as_a_dead_letter_with_its_reason(fleet: World) -> None:
    event = make("PLAIN_WORK", fail=99)

    publish(fleet, event)
    letter = wait_until(lambda: fleet.dead("Plain", event), 20, "the dead letter")[0]

    assert letter["r"] == "ValueError: failing on purpose, attempt 5"
    assert "misbehave" in letter["t"] and letter["a"] == "5"
    assert fleet.runs("Plain")[event.event_id] == 5
    assert fleet.waiting("Plain") == 0


@pytest.mark.parametrize("kind", ["ASYNC_WORK", "PLAIN_WORK", "GENERATOR_WORK"])
def test_returned_events_are_published_with_cause_root_and_project(fleet: World, kind: str) -> None:
    event = make(kind, project="film", emit=3)

    [receipt] = publish(fleet, event)
    first = receipt.position
    page = wait_until(
        lambda: (p := fleet.backend.history.after(first, 10)) and len(p.events) == 3 and p, 10, "3 returned events"
    )

    assert [recorded.event.payload["n"] for recorded in page.events] == [0, 1, 2]
    for recorded in page.events:
        assert recorded.event.causation_id == recorded.event.correlation_id == event.event_id
        assert (recorded.event.project_id, recorded.depth) == ("film", 1)
        assert recorded.origin.startswith(f"{first}:")
    assert len({recorded.event.event_id for recorded in page.events}) == 3


def test_retry_after_and_discard_are_obeyed(fleet: World) -> None:
    receipts = publish(fleet, make("PLAIN_WORK", retry_after=0.01), make("PLAIN_WORK", discard="not wanted"))
    fleet.until_settled("Plain")

    found = fleet.outcomes("Plain", *(receipt.position for receipt in receipts))
    assert sorted((attempt, state, error) for _, attempt, state, error in found) == [
        (1, "discarded", "not wanted"), (1, "retried", "Retry: retry after 0.01 s"), (2, "done", ""),
    ]  # fmt: skip


def test_a_handler_over_its_time_limit_is_interrupted_and_tried_again(fleet: World) -> None:
    publish(fleet, make("LIMITED_WORK", sleep=30))
    wait_until(lambda: fleet.dead("Limited") and fleet.dead("LimitedAsync"), 20, f"both to give up; {fleet.log()}")

    for name in ("Limited", "LimitedAsync"):
        assert "TimeLimitExceeded" in fleet.dead(name)[0]["r"] and fleet.dead(name)[0]["a"] == "2"
        assert not fleet.runs(name, "finished")


def test_paid_output_that_cannot_be_published_is_kept_and_not_paid_twice(fleet: World) -> None:
    first = make("OTHER")
    publish(fleet, make("BIG_WORK"), first, make("TAKEN_WORK", taken=first.event_id))

    too_big = wait_until(lambda: fleet.dead("Big"), 10, "the dead letter of Big")[0]
    taken = wait_until(lambda: fleet.dead("Taken"), 10, f"the dead letter of Taken; {fleet.log()}")[0]

    assert "over the limit" in too_big["r"] and len(json.loads(too_big["o"])[0]["payload"]["text"]) == 2_000_000
    assert "taken by an event with another content" in taken["r"]
    assert json.loads(taken["o"])[0]["payload"] == {"differs": True}
    assert fleet.runs("Big").total() == fleet.runs("Taken").total() == 1


@pytest.mark.parametrize("what", ["a string", 7, ["no", "events"], {"a": "dict"}])
def test_returning_something_else_than_events_fails_the_attempt(fleet: World, what: object) -> None:
    event = make("PLAIN_WORK", returns=what)

    publish(fleet, event)
    letter = wait_until(lambda: fleet.dead("Plain", event), 20, "the dead letter")[0]

    assert letter["r"].startswith("NotAnEvent: A handler must return")


def test_an_ordered_subscriber_keeps_order_per_project_across_retries(fleet: World) -> None:
    events = [make("ORDERED_WORK", project=f"p{n % 4}", n=n, fail=int(n % 5 == 0), sleep=0.002) for n in range(80)]

    publish(fleet, *events)
    fleet.until_settled("Ordered")

    number = {event.event_id: (event.project_id, event.payload["n"]) for event in events}
    finished = [number[line.split()[0]] for line in fleet.order("Ordered", "finished")]
    for project in ("p0", "p1", "p2", "p3"):
        mine = [n for p, n in finished if p == project]
        assert mine == sorted(mine) and len(mine) == 20


def test_a_type_that_no_process_knows_yet_is_put_off_and_not_lost(fleet: World) -> None:
    fleet.redis.sadd(fleet.keys("routes", "NEW_KIND"), "Big")

    [receipt] = publish(fleet, make("NEW_KIND"))
    wait_until(lambda: fleet.redis.zcard(fleet.keys("delayed", "Big")) == 1, 10, "it to be put off")

    assert not fleet.outcomes("Big", receipt.position)
    fleet.redis.delete(fleet.keys("delayed", "Big"))


def test_a_hundred_async_handlers_overlap(fleet: World) -> None:
    events = [make("ASYNC_WORK", sleep=1.0) for _ in range(100)]

    publish(fleet, *events)
    wait_until(lambda: len(fleet.runs("Async", of=events)) == 100, 20, "all to start")

    assert len(fleet.runs("Async", "finished", of=events)) < 100, "all started before the first ended"
    fleet.until_settled("Async")


def test_an_interrupted_fleet_logs_no_payloads(fleet: World) -> None:
    secret = "payload-that-must-not-be-logged"
    event = make("PLAIN_WORK", fail=99, secret=secret)

    publish(fleet, event)
    wait_until(lambda: fleet.dead("Plain", event), 20, "the dead letter")

    assert "failing on purpose" in fleet.log() and secret not in (fleet.tmp_path / "worker.log").read_text()
