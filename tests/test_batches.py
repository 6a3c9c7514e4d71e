"""A handler of batches is called once for many events, and each of them ends by itself."""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import pytest

from events.context import handling
from events.errors import Discard, InvalidSubscription
from events.event import Event
from events.frame import Lease
from events.namespace import Declared, Namespace, Remembered
from events.publisher import Publisher
from events.records import Outcome, RecordedEvent
from events.routes import declare
from events.stream import HistoryStream
from events.subscriptions import SubscriberOptions, Subscription
from tests.test_going_on import House
from tests.valkey_servers import ValkeyServer
from tests.waiting import wait_until
from workers.attempt import Attempt, NotStartedAgain, materialized
from workers.batches import may_be_led, share_out
from workers.ending import conclusion
from workers.hanging import Hanging

BATCH = 10


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    with ValkeyServer() as server, server.client() as client:
        yield Namespace(client, f"test-{secrets.token_hex(6)}", lambda: Remembered(0, ()), may_restore=True)


@contextmanager
def painting(
    namespace: Namespace, handler: Callable[[list[Event]], Any], count: int, threads: int = 2, **options: Any
) -> Iterator[House]:
    """A house whose painter takes batches, with so many events before it."""
    asked = SubscriberOptions(**{"batch": BATCH, "min_backoff": 0, **options})
    painter = Subscription("Painter", ("SHOT",), handler, asyncio.iscoroutinefunction(handler), asked)
    declare(namespace, Declared("Painter", ("SHOT",), asked.record()), 100)
    events = [shot(n) for n in range(count)]
    Publisher(namespace, 1 << 20, 100).publish_many(events)
    house = House(namespace, painter, threads)
    house.start()
    try:
        yield house
    finally:
        house.close()


def shot(n: int) -> Event:
    return Event(event_id=f"e{n}", type="SHOT", project_id=f"p{n % 3}", actor="a", payload={"n": n})


def outcomes(namespace: Namespace) -> dict[int, list[str]]:
    """The states of the attempts at each event, by its number."""
    history = HistoryStream(namespace)
    numbers = {
        one.position: one.event.payload["n"]
        for _, one in history.entries_after("history", "0-0", 10_000)
        if isinstance(one, RecordedEvent) and "n" in one.event.payload
    }
    found: dict[Any, list[str]] = {}
    for _, one in history.entries_after("outcomes", "0-0", 10_000):
        assert isinstance(one, Outcome)
        found.setdefault(numbers[one.event_position], []).append(one.state.value)
    return found


@pytest.mark.parametrize("is_async", [False, True])
def test_many_events_come_in_one_call_and_none_twice(namespace: Namespace, is_async: bool) -> None:
    sizes, ran, contexts = [], Counter[Any](), []

    def plain(events: list[Event]) -> None:
        sizes.append(len(events))
        contexts.append(handling.get())
        ran.update(event.payload["n"] for event in events)

    async def awaiting(events: list[Event]) -> None:
        plain(events)
        await asyncio.sleep(0)

    with painting(namespace, awaiting if is_async else plain, 500) as house:
        wait_until(lambda: len(ran) == 500 and house.left() == 0, 60, "everything to be handled")

    assert set(ran.values()) == {1} and all(states == ["done"] for states in outcomes(namespace).values())
    assert max(sizes) == BATCH and len(sizes) < 200
    assert contexts[0] is None, "no single event is being handled"


def test_a_batch_may_be_larger_than_what_is_read_ahead_of_single_events(namespace: Namespace) -> None:
    sizes: list[int] = []

    with painting(namespace, lambda events: sizes.append(len(events)), 1500, batch=600) as house:
        wait_until(lambda: sum(sizes) == 1500 and house.left() == 0, 60, "everything to be handled")

    assert max(sizes) == 600


def test_returned_events_are_published_with_the_event_that_caused_them(namespace: Namespace) -> None:
    def plain(events: list[Event]) -> list[Event]:
        return [event.caused("FRAME", payload={"of": event.payload["n"]}, actor="Painter") for event in events]

    with painting(namespace, plain, 50) as house:
        wait_until(lambda: house.left() == 0 and len(outcomes(namespace)) == 50, 60, "everything to be handled")

    frames = [
        one.event
        for _, one in HistoryStream(namespace).entries_after("history", "0-0", 1000)
        if isinstance(one, RecordedEvent) and one.event.type.value == "FRAME"
    ]
    assert sorted((frame.causation_id, frame.payload["of"]) for frame in frames) == sorted(
        (f"e{n}", n) for n in range(50)
    )


def test_each_event_ends_as_the_handler_says_of_it(namespace: Namespace) -> None:
    tries: Counter[int] = Counter()

    def plain(events: list[Event]) -> dict[str, Any]:
        said: dict[str, Any] = {}
        for event in events:
            n: Any = event.payload["n"]
            tries[n] += 1
            if n == 3:
                said[event.event_id] = Discard("nothing to paint")
            elif n == 4 and tries[4] < 3:
                said[event.event_id] = ValueError("no brush")
            elif n == 5:
                said[event.event_id] = Event(type="FRAME", project_id="p", actor="Painter")
        return said

    with painting(namespace, plain, 20) as house:
        wait_until(lambda: house.left() == 0 and tries[4] == 3, 60, "everything to be handled")
        wait_until(lambda: len(outcomes(namespace).get(4, [])) == 3, 30, "the last try to be settled")
        found = outcomes(namespace)

    assert found.pop(3) == ["discarded"] and found.pop(4) == ["retried", "retried", "done"]
    assert {n: states for n, states in found.items() if states != ["done"]} == {}
    assert [tries[n] for n in range(20) if n != 4] == [1] * 19


def test_what_raises_fails_all_of_the_call_and_each_is_tried_again_by_itself(namespace: Namespace) -> None:
    failed, ran = [], Counter[Any]()

    def plain(events: list[Event]) -> None:
        if not failed:
            failed.extend(event.payload["n"] for event in events)
            raise ValueError("no paint")
        ran.update(event.payload["n"] for event in events)

    with painting(namespace, plain, 30, threads=1) as house:
        wait_until(lambda: len(ran) == 30 and house.left() == 0, 60, "everything to be handled")
        wait_until(lambda: sum(map(len, outcomes(namespace).values())) == 30 + len(failed), 30, "their outcomes")
        found = outcomes(namespace)

    assert failed and {n for n, states in found.items() if states == ["retried", "done"]} == {*failed}


def test_a_drain_hands_back_a_batch_that_does_not_end(namespace: Namespace) -> None:
    begun, release = threading.Event(), threading.Event()

    def plain(events: list[Event]) -> None:
        begun.set()
        while not release.wait(0.01):
            pass

    with painting(namespace, plain, 30, threads=1) as house:
        assert begun.wait(30)
        house.engine.drain(0)
        release.set()
        pending = namespace.client.xpending(namespace.keys("queue", "Painter"), "fleet")["pending"]

        assert pending == 0 and house.left() == 30
        assert {state for states in outcomes(namespace).values() for state in states} == {"interrupted"}


def test_one_that_another_worker_has_taken_over_is_settled_by_that_one_alone(namespace: Namespace) -> None:
    begun, release = threading.Event(), threading.Event()
    numbers: list[Any] = []

    def plain(events: list[Event]) -> None:
        numbers.extend(event.payload["n"] for event in events)
        begun.set()
        release.wait(60)

    with painting(namespace, plain, BATCH, threads=1) as house:
        assert begun.wait(30)
        followers = [lease for lease in house.engine._held.all() if lease.event.payload["n"] == numbers[-1]]
        namespace.client.xclaim(
            namespace.keys("queue", "Painter"), "fleet", "other", 0, [followers[0].entry_id], justid=False
        )
        release.set()
        wait_until(lambda: len(outcomes(namespace)) == len(numbers) - 1, 30, "the others to be settled")

        assert numbers[-1] not in outcomes(namespace) and house.left() == BATCH - len(numbers) + 1


def led(*ids: str, result: object = None) -> Attempt:
    """An attempt that leads others, all begun, with what the handler returned."""
    subscription = Subscription("S", ("A",), print, False, SubscriberOptions(batch=BATCH))
    attempts = [Attempt(lease(name), subscription, started_at=1.0) for name in ids]
    attempts[0].others, attempts[0].result = attempts[1:], result
    return attempts[0]


def lease(event_id: str) -> Lease:
    from events.encoding import encode
    from events.frame import lease_of

    body = encode(Event(event_id=event_id, type="A", project_id="p", actor="a"))
    return lease_of("S", b"1-0", 1, b"7\t0\t0\t0\tA\t" + event_id.encode() + b"\tp\t0\t\n" + body, suspect=False)


@pytest.mark.parametrize(
    ("result", "says"),
    [
        ({"e9": None}, "must say something of its own events only, not of 'e9'"),
        ([Event(event_id="f", type="B", project_id="p", actor="a")], "'f' names None"),
        ([Event(event_id="f", type="B", project_id="p", actor="a", causation_id="e9")], "'f' names 'e9'"),
        ({"e1": 7}, "A handler of batches must return None, an Event or a list of Events, not a int"),
        ("done", "not a str"),
        ({7: None}, "not of 7"),
        ({None: None}, "not of None"),
        ({"": None}, "not of ''"),
        ({"e1": Event(event_id="f", type="B", project_id="p", actor="a", causation_id="e9")}, "'f' names 'e9'"),
    ],
)
def test_what_says_nothing_of_the_batchs_events_fails_all_of_them(result: object, says: str) -> None:
    leader = led("e1", "e2", result=result)

    share_out(leader)

    assert [says in str(attempt.error) for attempt in leader.batch] == [True, True]


class Unreadable(list[Event]):
    def __iter__(self) -> Iterator[Event]:
        raise ValueError("no eyes")


@pytest.mark.parametrize("result", [Unreadable(), {"e1": Unreadable()}])
def test_an_answer_that_raises_while_it_is_read_fails_all_of_the_batch(result: object) -> None:
    leader = led("e1", "e2", result=result)

    share_out(leader)

    assert [str(attempt.error) for attempt in leader.batch] == ["no eyes", "no eyes"]


def test_an_answer_that_raises_while_it_is_read_leaves_nothing_unsettled(namespace: Namespace) -> None:
    with painting(namespace, lambda events: {event.event_id: Unreadable() for event in events}, 20, 1, max_attempts=1):
        wait_until(lambda: namespace.client.xlen(namespace.keys("dead", "Painter")) == 20, 30, "all to be given up")


def test_a_mapping_that_is_no_dict_is_heeded_and_what_is_lazy_in_it_is_made_at_once() -> None:
    made = materialized(MappingProxyType({"e1": iter([1])}))

    assert made == {"e1": [1]}


def test_events_may_be_caused_by_earlier_ones_of_the_same_answer() -> None:
    first = Event(event_id="f", type="B", project_id="p", actor="a", causation_id="e2")
    second = Event(event_id="g", type="B", project_id="p", actor="a", causation_id="f")
    leader = led("e1", "e2", result=[first, second])

    share_out(leader)

    assert [attempt.result for attempt in leader.batch] == [None, [first, second]]


def test_one_that_has_no_attempt_left_is_not_led() -> None:
    leader = led("e1", "e2")
    leader.others[0].lease.count = 1000

    assert may_be_led(leader) and not may_be_led(leader.others[0])
    assert isinstance(leader.others[0].error, NotStartedAgain)


def test_a_leader_that_another_worker_has_does_not_hold_up_those_it_led(namespace: Namespace) -> None:
    ran: list[int] = []
    with painting(namespace, lambda events: ran.append(len(events)), 0, 1) as house:
        house.engine.receiver.stop()
        leader = led("e1", "e2")
        leader.started_at = leader.others[0].started_at = 0.0
        leader.others[0].led, leader.others[0].lease.renewed_at = True, time.monotonic()
        house.engine._let_go(leader)
        share_out(leader)

        at_once = house.engine._may_start_elsewhere(leader.others[0])
        assert conclusion(leader.others[0], 1000, at_once=at_once).delay_us == 0


def test_a_batch_that_hangs_holds_one_thread() -> None:
    leader = led("e1", "e2")
    for attempt in leader.batch:
        attempt.abandoned, attempt.interrupted_at = True, 1.0
    leader.others[0].led = True
    loop = asyncio.new_event_loop()

    assert Hanging(lambda: leader.batch, loop, 1.0, 2).what == ""
    assert Hanging(lambda: leader.batch, loop, 1.0, 1).what == "Every thread"
    loop.close()


@pytest.mark.parametrize("batch", [0, 1, 1001, True, "10", 2.0])
def test_a_batch_that_is_none_is_refused(batch: Any) -> None:
    with pytest.raises(InvalidSubscription, match="batch must be a whole number from 2 to 1000"):
        SubscriberOptions(batch=batch)
