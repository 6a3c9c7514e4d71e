"""Joins at their edges: many at once, many around one event, records that change, too much to keep, forgotten ids."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from events.dead_letters import DeadLetters
from events.deliveries import Settlement
from events.dropping import drop_step
from events.errors import InvalidSubscription, PublishRefused
from events.joining import Join
from events.publisher import Publisher, Receipt, event_arguments
from events.records import AttemptState, LetterFilter
from events.subscriptions import SubscriberOptions
from events.types import EventType
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


def test_joins_that_end_in_one_step_go_in_history_order(bench: Bench) -> None:
    bench.declare("Painter", "SCRIPT")
    bench.join("Editor", "SCRIPT", "IMAGE")
    names = [f"script{n}" for n in range(12)]
    for name in names:
        bench.publish(name, "SCRIPT")

    bench.deliveries.settle([Settlement(lease, "end", AttemptState.DONE) for lease in bench.read("Painter", count=20)])

    assert [lease.event.event_id for lease in bench.read("Editor", count=20)] == names


def test_a_join_stays_one_and_nothing_else_becomes_one_while_deliveries_wait(bench: Bench) -> None:
    bench.declare("Painter", "SCRIPT")
    bench.declare("Plain", "SCRIPT")
    bench.join("Editor", "SCRIPT", "IMAGE")
    bench.publish("script", "SCRIPT")

    with pytest.raises(InvalidSubscription, match=r"'Editor' is declared as a join .* cannot become none"):
        bench.declare("Editor", "SCRIPT")
    with pytest.raises(InvalidSubscription, match="'Editor' is declared as a join"):
        bench.declare("Editor", "SCRIPT", ordering="project")
    with pytest.raises(InvalidSubscription, match=r"'Plain' is declared as no join .* cannot become one"):
        bench.join("Plain", "SCRIPT", "IMAGE")
    bench.join("Editor", "SCRIPT", "IMAGE", "SOUND", timeout=60)

    for name in ("Painter", "Plain", "Editor"):
        bench.settle(*bench.read(name))
    bench.declare("Editor", "SCRIPT", ordering="project")
    bench.join("Plain", "SCRIPT", "IMAGE")


def test_what_is_in_too_many_joins_at_once_is_refused_whole_and_kept_with_a_dead_letter(bench: Bench) -> None:
    bench.declare("Painter", "SCRIPT")
    bench.join("Editor", "SCRIPT", "IMAGE")
    bench.publish("script0", "SCRIPT")
    for n in range(31):
        (painting,) = bench.read("Painter")
        assert bench.settle(painting, (f"script{n + 1}", "SCRIPT")) == "settled"

    (painting,) = bench.read("Painter")
    refused = bench.settle(painting, ("image", "IMAGE"), ("script32", "SCRIPT"))
    assert "'SCRIPT' would be in 33 open joins at once, over the limit of 32" in refused
    in_one_call = [make("a", "IMAGE", "script31"), make("b", "SCRIPT", "a"), make("c", "IMAGE", "b")]
    answers = Publisher(bench.namespace, MIB, 100).publish_many(in_one_call)
    assert [type(answer) for answer in answers] == [Receipt, PublishRefused, Receipt]
    assert bench.client.exists(bench.keys("id", "script32"), bench.keys("id", "image")) == 0

    bench.settle(painting, action="dead", state=AttemptState.DEAD)
    went = []
    while joining := bench.read("Editor"):
        went += [lease.event.event_id for lease in joining]
        for lease in joining:
            bench.settle(lease)
    assert sorted(went) == sorted(f"script{n}" for n in range(32))
    assert bench.left_over() == []


def test_a_complete_join_stays_as_it_is_and_every_attempt_sees_the_same(bench: Bench) -> None:
    bench.declare("Painter", "SCRIPT")
    bench.join("Editor", "SCRIPT", "IMAGE")
    bench.publish("script", "SCRIPT")
    bench.settle(*bench.read("Painter"), ("i1", "IMAGE"))
    (joining,) = bench.read("Editor")
    first = bench.deliveries.joined(joining)

    bench.publish("own", "IMAGE", "script", origin=joining.delivery)
    bench.settle(joining, action="again", state=AttemptState.RETRIED, attempts=1)

    (joining,) = bench.read("Editor")
    assert bench.deliveries.joined(joining) == first
    assert [event.event_id for event in first.events] == ["i1"]


def test_a_join_keeps_no_more_bytes_than_a_handler_can_take(bench: Bench) -> None:
    bench.declare("Painter", "SCRIPT")
    bench.join("Editor", "SCRIPT", "IMAGE")
    bench.publish("script", "SCRIPT")
    images = [make(f"i{n}", "IMAGE", "script").model_copy(update={"payload": {"x": "y" * 990_000}}) for n in range(34)]
    assert all(isinstance(a, Receipt) for a in Publisher(bench.namespace, MIB, 100).publish_many(images))

    bench.settle(*bench.read("Painter"), ("last", "IMAGE"))

    (joining,) = bench.read("Editor")
    joined = bench.deliveries.joined(joining)
    assert [event.event_id for event in joined.events] == [*(f"i{n}" for n in range(32)), "last"]
    assert (joined.why, joined.dead, joined.left_out) == ("dead", 0, 2)
    assert joined.lack == "2 events were more than it keeps, or cannot be read"


def test_an_event_that_cannot_be_read_is_left_out_and_the_join_is_told(bench: Bench) -> None:
    bench.declare("Painter", "SCRIPT")
    bench.join("Editor", "SCRIPT", "IMAGE")
    bench.publish("script", "SCRIPT")
    bad = ["bad", "digest", "IMAGE", "script", "", "p1", "", "0", b"no JSON"]
    bench.namespace.call("publish", 100, "publish", *bad)

    bench.settle(*bench.read("Painter"), ("i1", "IMAGE"))

    (joining,) = bench.read("Editor")
    joined = bench.deliveries.joined(joining)
    assert [event.event_id for event in joined.events] == ["i1"]
    assert (joined.why, joined.left_out, joined.complete) == ("dead", 1, False)


def test_a_join_names_its_types_and_takes_nothing_else_for_them() -> None:
    for of in ((), "IMAGE", 7, ("IMAGE", "*"), ("no type",)):
        with pytest.raises(InvalidSubscription, match="A join waits for"):
            Join(of)  # type: ignore[arg-type]
    with pytest.raises(InvalidSubscription, match="join must be a Join, not 'IMAGE'"):
        SubscriberOptions(join="IMAGE")  # type: ignore[arg-type]
    assert Join((EventType.QA_REPORT, "QA_REPORT", "MINE")).record()["join_of"] == "QA_REPORT\tMINE"


def test_a_forgotten_cause_is_told_by_its_own_handler_and_not_by_its_join(bench: Bench) -> None:
    bench.declare("Painter", "SCRIPT", "SHOT")
    bench.join("Hasty", "SCRIPT", "IMAGE", timeout=1e-6)
    bench.join("Patient", "SCRIPT", "IMAGE")
    bench.publish("script", "SCRIPT")
    bench.deliveries.promote({"Hasty": 0})
    painting, hasty = bench.read("Painter", "Hasty")
    bench.client.delete(bench.keys("id", "script"))

    shot = event_arguments(make("shot", "SHOT", "script"), MIB)
    bench.deliveries.settle(
        [
            Settlement(painting, "end", AttemptState.DONE, events=[shot]),
            Settlement(hasty, "end", AttemptState.DONE),
        ]
    )

    assert bench.read("Patient") == [], "the shot is under way"
    bench.settle(*bench.read("Painter"))
    assert len(bench.read("Patient")) == 1


def test_an_id_is_remembered_as_long_as_a_join_waits_for_what_its_event_causes(bench: Bench) -> None:
    bench.declare("Painter", "SCRIPT", "SHOT")
    bench.join("Editor", "SCRIPT", "IMAGE", timeout=3600)
    bench.publish("alone", "NOTE")
    bench.publish("script", "SCRIPT")
    (painting,) = bench.read("Painter")
    position = painting.frame.position

    bench.namespace.call("archived", "history", position, 0, 20, "alone", "script", "nobody's")

    assert 3_500_000 < bench.client.pttl(bench.keys("id", "script")) <= 3_600_020
    wait_until(lambda: not bench.client.exists(bench.keys("id", "alone")), 20, "an id that no join waits for expires")
    bench.publish("shot", "SHOT", "script", origin=painting.delivery)
    bench.settle(painting)
    assert bench.read("Editor") == [], "what the handler has published itself is under way"
    bench.settle(*bench.read("Painter"))
    assert len(bench.read("Editor")) == 1
    bench.namespace.call("archived", "history", position, 0, 20, "script")
    wait_until(lambda: not bench.client.exists(bench.keys("id", "script")), 20, "nobody waits for it any more")


def test_dead_letters_of_a_join_that_is_none_any_more_leave_nothing_behind_when_they_are_decided(
    bench: Bench,
) -> None:
    bench.join("Editor", "SCRIPT", "IMAGE")
    for n in range(4):
        bench.publish(f"s{n}", "SCRIPT")
    for joining in bench.read("Editor"):
        bench.dead(joining)
    assert len(bench.left_over()) == 4
    bench.declare("Editor", "SCRIPT")

    desk = DeadLetters(bench.namespace)
    first, second, third, _ = desk.iterate(LetterFilter())
    desk.decide("redelivered", [first], "me")
    desk.decide("purged", [second], "me")
    desk.decide("discarded", [third], "me")
    (again,) = bench.read("Editor")
    bench.settle(again)
    assert len(bench.left_over()) == 1

    while not drop_step(bench.namespace, "Editor", dead_letters=True).is_gone:
        pass
    assert bench.left_over() == []
