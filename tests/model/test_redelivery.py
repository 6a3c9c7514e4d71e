"""Delivering events again to one subscriber: once in one redelivery, in order, whoever else does so and dies."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from events.connection import connect
from events.deliveries import Deliveries, Settlement
from events.errors import InvalidFilter, RedeliveryRefused, RedisUnavailable, ScriptFailed, UnknownSubscriber
from events.namespace import Namespace
from events.records import AttemptState
from events.redelivery import Under, begin, hand_over, look
from events.routes import undeclare
from events.steering import steer
from events.stream import HistoryStream
from store.deliveries import DeliveryFilter, StoredDeliveries
from store.filter import EventFilter
from store.replay import Replay
from tests.fault_proxy import FaultProxy
from tests.model.filling import FROM_THE_BEGINNING, Bench
from tests.valkey_servers import ValkeyServer
from workers.redelivery import PAGE, Question, Redelivery

EVERYTHING = Question()


def redelivery(bench: Bench, name: str = "S", **how: Any) -> Redelivery:
    given = {"who": "ann", "why": "mended", **how}
    return Redelivery(bench.namespace, bench.registry, bench.replay, name, **given)


@contextmanager
def over_a_bad_line(bench: Bench, server: ValkeyServer) -> Iterator[tuple[FaultProxy, Redelivery]]:
    """A redelivery to S whose connection loses replies."""
    with FaultProxy("127.0.0.1", server.port) as proxy:
        client = connect(proxy.url, 20)
        namespace = Namespace(client, bench.name, bench._remembered)
        replay = Replay(bench.engine, bench.name, HistoryStream(namespace))
        yield proxy, Redelivery(namespace, bench.registry, replay, "S", who="ann", why="mended")
        client.close()


def everything(bench: Bench) -> dict[bytes, bytes]:
    return {key: bench.client.dump(key) for key in bench.client.scan_iter(f"{bench.keys.prefix}*", 5000)}


def stored(bench: Bench) -> dict[str, list[str]]:
    """What the store says of each delivery, by event."""
    for stream in ("history", "outcomes"):
        while bench.archiver.step(stream).entries:
            pass
    found: dict[str, list[str]] = {}
    for one in StoredDeliveries(bench.engine, bench.name).iterate(DeliveryFilter(), page=7):
        found.setdefault(one.event_id, []).append(one.state)
    return found


def test_everything_is_delivered_again_in_history_order_from_sql_and_redis(bench: Bench) -> None:
    bench.declare("S", "A")
    published = bench.publish(30)
    assert sorted(bench.handled("S")) == sorted(published)
    bench.archive()
    published += bench.publish(20)
    bench.publish(3, "B")
    bench.handled("S")

    under = redelivery(bench).run(EVERYTHING)

    assert (under.verdict, under.made) == ("ended", 50)
    assert sorted(bench.handled("S")) == sorted(published)
    assert look(bench.namespace, "S").verdict == "none"
    assert all(states == ["done", "done"] for event_id, states in stored(bench).items() if event_id in published)


def test_an_ordered_subscriber_gets_them_at_their_places_before_what_waits(bench: Bench) -> None:
    bench.declare("S", "A", ordering="project")
    old = bench.publish(9)
    assert sorted(bench.handled("S")) == sorted(old)
    steer(bench.namespace, "S", paused=True)
    new = bench.publish(9)

    redelivery(bench).run(EVERYTHING)
    steer(bench.namespace, "S", paused=False)

    order = bench.handled("S")
    assert sorted(order) == sorted(old + new + new), "what waits is published already, and delivered again too"
    for lane in range(3):
        numbers = [int(event_id[1:]) for event_id in order if int(event_id[1:]) % 3 == lane]
        assert numbers == sorted(numbers)


def test_a_key_that_is_held_is_waited_for(bench: Bench) -> None:
    bench.declare("S", "A", ordering="project")
    bench.publish(7)
    worker = Deliveries(bench.namespace, "w", 100)
    (first, *_) = worker.read(["S"], 1, None)

    redelivery(bench).run(EVERYTHING)

    assert first.event_id == "e0"
    order = bench.handled("S")
    assert not {"e0", "e3", "e6"} & set(order), "its key is held"
    assert worker.settle([Settlement(first, "end", AttemptState.DONE)]) == ["settled"]
    assert bench.handled("S") == ["e0", "e3", "e3", "e6", "e6"]


def test_only_what_matches_and_what_the_subscriber_takes(bench: Bench) -> None:
    bench.declare("S", "A", "B")
    bench.publish(6)
    b, c = bench.publish(6, "B"), bench.publish(6, "C")
    bench.handled("S")
    middle = bench.replay.find(b[2])
    assert middle is not None

    def again(**wanted: Any) -> list[str]:
        after = wanted.pop("after", 0)
        assert redelivery(bench).run(Question(EventFilter(**wanted), after)).verdict == "ended"
        return sorted(bench.handled("S"))

    assert again(types=("B", "C")) == sorted(b)
    assert again(after=middle.position) == sorted(b[3:])
    assert again(project_id="p1", types=("B",)) == ["e10", "e7"]
    with pytest.raises(RedeliveryRefused, match="'S' takes A, B, not C: there is nothing"):
        redelivery(bench).run(Question(EventFilter(types=("C",))))
    assert c and look(bench.namespace, "S").verdict == "none"
    undeclare(bench.namespace, "S")
    with pytest.raises(RedeliveryRefused, match="'S' takes no events of any type: there is nothing"):
        redelivery(bench).run(Question(EventFilter(types=("A",))))


def test_asking_again_goes_on_where_it_was_cut_short_and_another_question_is_refused(bench: Bench) -> None:
    bench.declare("S", "A")
    published = bench.publish(700)
    steer(bench.namespace, "S", paused=True)
    cut = redelivery(bench)

    def stop(under: Under) -> None:
        if under.made >= 200:
            cut.stop.set()

    under = cut.run(EVERYTHING, stop)
    assert (under.verdict, under.made) == ("going", 200)
    with pytest.raises(RedeliveryRefused, match=r"has made 200 deliveries.*--resume.*--abandon"):
        redelivery(bench).run(Question(EventFilter(project_id="p1")))
    later = bench.publish(10)

    under = redelivery(bench).run(EVERYTHING)

    assert (under.verdict, under.made) == ("ended", 700)
    steer(bench.namespace, "S", paused=False)
    assert sorted(bench.handled("S")) == sorted(published * 2 + later)


def test_it_can_be_resumed_without_saying_what_it_was_and_given_up(bench: Bench) -> None:
    bench.declare("S", "A")
    bench.publish(6)
    bench.handled("S")
    question = Question(EventFilter(project_id="p1", types=("A",)), 7)
    narrow = Question(
        EventFilter(
            payload={"a.b": 1, "c": None, r"d\.e.0": "x"},
            metadata={"f": 0.5},
            start_time=datetime(2026, 1, 2, 3, 4, 5, 6, UTC),
        )
    )
    assert Question.read(narrow.text()) == narrow
    begun = begin(bench.namespace, "S", 70_000, 7, question.text())

    assert Question.read(begun.question) == question
    assert redelivery(bench).run(None).made == 2
    assert redelivery(bench).run(None).verdict == "none", "nothing is under way"
    begin(bench.namespace, "S", 80_000, 0, question.text())
    assert redelivery(bench).abandon().verdict == "given"
    assert sorted(bench.handled("S")) == ["e1", "e4"]


def test_of_several_that_drive_it_at_once_each_event_is_delivered_once(bench: Bench) -> None:
    bench.declare("S", "A")
    published = bench.publish(450)
    assert len(bench.handled("S")) == 450
    threads = [threading.Thread(target=redelivery(bench).run, args=(EVERYTHING,)) for _ in range(4)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    again = bench.handled("S")
    assert len(again) % 450 == 0 and set(again) == set(published), "who began after the end began another one"
    assert {len(states) for states in stored(bench).values()} == {1 + len(again) // 450}


def test_a_page_that_was_read_from_another_cursor_writes_nothing(bench: Bench) -> None:
    bench.declare("S", "A")
    bench.publish(6)
    bench.handled("S")
    under = begin(bench.namespace, "S", 10_000, 0, "{}")
    page = bench.replay.page(EventFilter(), 0, 3)

    first = hand_over(bench.namespace, "S", under, page.last, page.events, "ann", "")
    before = everything(bench)
    second = hand_over(bench.namespace, "S", under, page.last, page.events, "ben", "")

    assert (first.verdict, second.verdict, second.made) == ("going", "stale", 3)
    assert everything(bench) == before


def test_one_event_is_delivered_again_in_one_step_beside_what_is_under_way(bench: Bench) -> None:
    bench.declare("S", "A", ordering="project")
    published = bench.publish(6)
    bench.publish(1, "B")
    assert sorted(bench.handled("S")) == sorted(published)
    begun = begin(bench.namespace, "S", 70_000, 0, "{}")
    first, other = bench.replay.find("e0"), bench.replay.find("e6")
    assert first is not None and other is not None

    assert redelivery(bench).once(first) == 1
    with pytest.raises(RedeliveryRefused, match="'S' takes A, not B"):
        redelivery(bench).once(other)

    looked = look(bench.namespace, "S")
    assert looked._replace(verdict="begun", waiting=0) == begun, "it is no part of what is under way"
    assert bench.handled("S") == ["e0"]
    assert redelivery(bench).run(None).made == 6
    assert sorted(bench.handled("S")) == sorted(published)
    assert stored(bench)["e0"] == ["done"] * 3


@pytest.mark.parametrize("count", [3, 250])
def test_a_redelivery_whose_last_reply_is_lost_has_ended_and_is_not_begun_anew(
    bench: Bench, either_server: ValkeyServer, count: int
) -> None:
    bench.declare("S", "A")
    published = bench.publish(count)
    bench.handled("S")
    with over_a_bad_line(bench, either_server) as (proxy, driver):

        def lose_the_last(under: Under) -> None:
            if count - under.made <= PAGE:
                proxy.drop_replies(1, matching=b"page")

        under = driver.run(EVERYTHING, lose_the_last)

        assert proxy.dropped == 1
    assert (under.verdict, under.made, under.cursor) == ("ended", count, under.end)
    assert sorted(bench.handled("S")) == sorted(published), "each once"


def test_a_step_in_the_middle_whose_reply_is_lost_is_gone_on_with(bench: Bench, either_server: ValkeyServer) -> None:
    bench.declare("S", "A")
    published = bench.publish(PAGE + 50)
    bench.handled("S")
    with over_a_bad_line(bench, either_server) as (proxy, driver):
        proxy.drop_replies(1, matching=b"page")
        with pytest.raises(RedisUnavailable):
            driver.run(EVERYTHING)

        assert driver.run(EVERYTHING).made == PAGE + 50
    assert sorted(bench.handled("S")) == sorted(published)


def test_one_event_whose_reply_is_lost_may_have_been_delivered_and_the_error_says_so(
    bench: Bench, either_server: ValkeyServer
) -> None:
    bench.declare("S", "A")
    (event_id,) = bench.publish()
    bench.handled("S")
    recorded = bench.replay.find(event_id)
    assert recorded is not None
    with over_a_bad_line(bench, either_server) as (proxy, driver):
        driver.look()  # the server has the script: what is dropped is not that it lacks it
        proxy.drop_replies(1, matching=b"once")
        with pytest.raises(RedisUnavailable, match="'e0' may have been delivered to 'S' again, as"):
            driver.once(recorded)

    assert bench.handled("S") == [event_id]


def test_a_rehearsal_writes_nothing_and_tells_what_would_be(bench: Bench) -> None:
    bench.declare("S", "A")
    bench.publish(12)
    bench.archive()
    bench.handled("S")
    before = everything(bench)

    rehearsed = redelivery(bench).rehearse(Question(EventFilter(project_id="p1")))

    assert (rehearsed.count, [one.event_id for one in rehearsed.first]) == (4, ["e1", "e4", "e7", "e10"])
    assert everything(bench) == before
    assert redelivery(bench).look().number == 0


def test_nothing_is_delivered_again_to_a_join_to_one_that_is_filled_and_to_nobody(bench: Bench) -> None:
    bench.publish(2)
    bench.declare("Filled", "A", steering=FROM_THE_BEGINNING)
    bench.declare("Join", "A")
    bench.client.hset(bench.keys("sub", "Join"), mapping={"join_of": "B", "join_timeout": "1000000"})

    with pytest.raises(RedeliveryRefused, match="'Filled' is being back-filled"):
        redelivery(bench, "Filled").run(EVERYTHING)
    with pytest.raises(RedeliveryRefused, match="'Join' joins"):
        redelivery(bench, "Join").run(EVERYTHING)
    with pytest.raises(UnknownSubscriber, match="'Nobody'"):
        redelivery(bench, "Nobody").run(EVERYTHING)
    with pytest.raises(InvalidFilter, match="more than 0, not 0"):
        redelivery(bench, "Filled", rate=0)


def test_a_full_server_refuses_a_page_whole(bench: Bench) -> None:
    bench.declare("S", "A")
    bench.publish(3)
    bench.handled("S")
    under = begin(bench.namespace, "S", 10_000, 0, "{}")
    page = bench.replay.page(EventFilter())
    before = everything(bench)
    bench.client.config_set("maxmemory", 1)

    with pytest.raises(ScriptFailed, match="maxmemory"):
        hand_over(bench.namespace, "S", under, page.last, page.events, "ann", "")

    bench.client.config_set("maxmemory", 0)
    assert everything(bench) == before
    assert redelivery(bench).run(None).made == 3


def test_what_fails_again_and_is_retried_has_the_next_number(bench: Bench) -> None:
    bench.declare("S", "A")
    bench.publish(1)
    bench.handled("S")
    redelivery(bench).run(EVERYTHING)
    worker = Deliveries(bench.namespace, "w", 100)
    (lease,) = worker.read(["S"], 1, None)

    number = lease.frame.redelivery
    assert worker.settle([Settlement(lease, "end", AttemptState.DONE)]) == ["settled"]
    redelivery(bench).run(EVERYTHING)
    (later,) = worker.read(["S"], 1, None)

    assert number > 0 and later.frame.redelivery > number
    assert (later.attempt, later.event_id) == (1, "e0")
