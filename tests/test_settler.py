"""The settler against a real server that refuses for a while."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext

import pytest
from dramatiq.middleware import Interrupt

from events.deliveries import Deliveries, Settlement, Verdict
from events.errors import EventBusError, ScriptFailed
from events.event import Event
from events.frame import Lease
from events.namespace import Declared, Namespace, Remembered
from events.publisher import Publisher
from events.records import AttemptState
from events.routes import declare
from events.subscriptions import SubscriberOptions
from tests.valkey_servers import ValkeyServer
from tests.waiting import wait_until
from workers.settler import WORTH_WAKING, Settler


class Refusing(Deliveries):
    """Deliveries that refuse to settle for as long as they are told to, and count how often.

    Attributes:
        settled_by: the threads that have settled, one for each call. hold: what a call waits for before it returns.
        first: what the first call answers of its only settlement, or raises.
    """

    refuses = True
    refused = 0
    hold: threading.Event | None = None
    first: Verdict | BaseException | None = None

    def settle(self, settlements: Sequence[Settlement]) -> list[Verdict | EventBusError]:
        if self.refuses:
            self.refused += 1
            raise ScriptFailed("A key has the wrong type.", "WRONGTYPE")
        if self.first is not None:
            first, self.first = self.first, None
            if isinstance(first, str | EventBusError):
                return [first]
            raise first
        self.settled_by.append(threading.current_thread())
        verdicts = super().settle(settlements)
        if self.hold is not None:
            self.hold.wait(60)
        return verdicts

    settled_by: list[threading.Thread]


@pytest.fixture
def deliveries() -> Iterator[Refusing]:
    with ValkeyServer() as server, server.client() as client:
        namespace = Namespace(client, f"test-{secrets.token_hex(6)}", lambda: Remembered(0, ()), may_restore=True)
        declare(namespace, Declared("Painter", ("SHOT",), SubscriberOptions().record()), 100)
        Publisher(namespace, 1 << 20, 100).publish_many([Event(type="SHOT", project_id="p", actor="a")])
        refusing = Refusing(namespace, "w", 100)
        refusing.settled_by = []
        yield refusing


@pytest.fixture
def settler(deliveries: Refusing) -> Iterator[Settler]:
    """A settler that has put off the settlement of the one delivery, because it was refused."""
    settler = Settler(deliveries, lambda lease: None, lambda: 0)
    settler.start()
    (lease,) = deliveries.read(["Painter"], 1, None)
    settler.put(Settlement(lease, "end", AttemptState.DONE))
    wait_until(lambda: deliveries.refused == 2, 20, "it to be refused with the others, and by itself")
    yield settler
    settler.stop(time.monotonic())


def test_what_was_refused_is_sent_again_at_once_at_the_end(deliveries: Refusing, settler: Settler) -> None:
    queue = deliveries.namespace.keys("queue", "Painter")
    deliveries.refuses = False

    is_settled = settler.flush(time.monotonic() + 3)  # it is put off for longer

    assert is_settled
    assert deliveries.namespace.client.xlen(queue) == 0


def test_what_is_refused_to_the_end_is_not_called_settled(deliveries: Refusing, settler: Settler) -> None:
    assert not settler.flush(time.monotonic() + 1)
    assert 3 <= deliveries.refused <= 6, "it was sent again, and not all the time"


def test_a_group_that_is_complete_waits_no_longer_for_others(
    deliveries: Refusing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.settler.GATHER_S", 600.0)
    deliveries.refuses = False
    size = WORTH_WAKING + 1
    events = [Event(type="SHOT", project_id="p", actor="a") for _ in range(size - 1)]
    Publisher(deliveries.namespace, 1 << 20, 100).publish_many(events)
    gathers = threading.Event()

    def running() -> int:
        gathers.set()
        return size

    settler = Settler(deliveries, lambda lease: None, running)
    settler.start()
    first, *others = deliveries.read(["Painter"], size, None)

    settler.put(Settlement(first, "end", AttemptState.DONE))
    assert gathers.wait(20)
    for lease in others:
        settler.put(Settlement(lease, "end", AttemptState.DONE))

    queue = deliveries.namespace.keys("queue", "Painter")
    wait_until(lambda: deliveries.namespace.client.xlen(queue) == 0, 20, "all of them to be settled")
    settler.stop(time.monotonic() + 5)


@pytest.fixture
def idle(deliveries: Refusing) -> Iterator[tuple[Settler, list[Settlement], list[Lease]]]:
    """A settler that has nothing to do, three settlements, and the leases that it has let go of."""
    deliveries.refuses = False
    events = [Event(type="SHOT", project_id="p", actor="a") for _ in range(2)]
    Publisher(deliveries.namespace, 1 << 20, 100).publish_many(events)
    gone: list[Lease] = []
    settler = Settler(deliveries, gone.append, lambda: 0)
    settler.start()
    leases = deliveries.read(["Painter"], 3, None)
    yield settler, [Settlement(lease, "end", AttemptState.DONE) for lease in leases], gone
    settler.stop(time.monotonic() + 5)


def test_a_single_one_is_settled_by_the_thread_that_brings_it(
    deliveries: Refusing, idle: tuple[Settler, list[Settlement], list[Lease]]
) -> None:
    settler, (first, *_), gone = idle

    settler.settle_here(first)

    assert deliveries.settled_by == [threading.current_thread()]
    assert gone == [first.lease]


def test_what_the_bringing_thread_could_not_settle_is_the_settlers_to_send_again(
    deliveries: Refusing, idle: tuple[Settler, list[Settlement], list[Lease]]
) -> None:
    settler, (first, *_), gone = idle
    deliveries.refuses = True

    settler.settle_here(first)

    wait_until(lambda: deliveries.refused >= 3, 20, "it to be tried here, in a group and by itself")
    assert gone == []
    deliveries.refuses = False
    assert settler.flush(time.monotonic() + 3)
    assert gone == [first.lease] and deliveries.settled_by != [threading.current_thread()]


def test_while_one_is_being_settled_the_next_is_put_to_the_settler_and_the_end_waits_for_both(
    deliveries: Refusing, idle: tuple[Settler, list[Settlement], list[Lease]]
) -> None:
    settler, (first, second, third), gone = idle
    deliveries.hold = threading.Event()
    bringing = threading.Thread(target=settler.settle_here, args=(first,))
    bringing.start()
    wait_until(lambda: bool(deliveries.settled_by), 20, "the first to be on its way")

    assert not settler.flush(time.monotonic() + 0.1), "nobody has heard what became of it"
    settler.put(second)
    wait_until(lambda: len(deliveries.settled_by) == 2, 20, "the settler to have the second in hand")
    settler.settle_here(third)
    deliveries.hold.set()

    assert settler.flush(time.monotonic() + 20)
    bringing.join(20)
    assert sorted(map(id, gone)) == sorted(id(one.lease) for one in (first, second, third))
    assert deliveries.settled_by.count(threading.current_thread()) == 0, "a thread with others to do does not wait"


@pytest.mark.parametrize(
    ("first", "state"),
    [
        ("later", AttemptState.DONE),
        (EventBusError("Too many subscribers."), AttemptState.DEAD),
        (Interrupt(), AttemptState.DONE),
    ],
)
def test_whatever_comes_of_it_the_settler_goes_on_with_it(
    deliveries: Refusing,
    idle: tuple[Settler, list[Settlement], list[Lease]],
    first: Verdict | BaseException,
    state: AttemptState,
) -> None:
    settler, (one, *_), gone = idle
    deliveries.first = first

    with pytest.raises(Interrupt) if isinstance(first, Interrupt) else nullcontext():
        settler.settle_here(one)

    assert settler.flush(time.monotonic() + 20)
    assert gone == [one.lease]
    assert threading.current_thread() not in deliveries.settled_by
    ((_, fields),) = deliveries.namespace.client.xrange(deliveries.namespace.keys("outcomes"))
    assert fields[b"o"].split(b"	")[4].decode() == state
