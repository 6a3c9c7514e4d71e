"""What is worth holding ready in a process, and whose turn a free credit is."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from events.frame import UNREADABLE, Lease
from events.subscriptions import SubscriberOptions, Subscription
from workers.credits import MAX_READY, READY_S, Credits
from workers.prefetch import BUSY_S, MUCH_ROOM, Prefetch, worth_a_read_of_their_own
from workers.ready import Ready

QUICK_S = READY_S / 25
THREADS = 4


class Desk:
    """A process of four threads and the plain subscribers A, B and C, and the async one L.

    Args:
        batch: of subscriber A.
    """

    def __init__(self, batch: int | None = None) -> None:
        options = {"A": SubscriberOptions(batch=batch)}
        self.subscriptions = {
            name: Subscription(name, (name.upper(),), print, name == "L", options.get(name, SubscriberOptions()))
            for name in "ABCL"
        }
        self.credits = Credits(THREADS, 100)
        self.here = Ready(self.subscriptions)
        self.now = 0.0
        self.prefetch = Prefetch(self.subscriptions, self.credits, self.here, clock=lambda: self.now)
        self.started: list[Lease] = []

    def hold(self, name: str, count: int) -> None:
        for _ in range(count):
            self.here.add(Lease(name, "1-0", 1, UNREADABLE))

    def start(self, name: str) -> Lease:
        lease = Lease(name, "1-0", 1, UNREADABLE)
        assert self.credits.take(self.subscriptions[name])
        self.here.add(lease)
        self.here.take(name)
        self.prefetch.took(lease)
        self.started.append(lease)
        return lease

    def end(self, lease: Lease, elapsed_s: float) -> None:
        self.credits.give_back(self.subscriptions[lease.subscriber], elapsed_s)
        self.prefetch.ended(lease)

    def learn(self, name: str, elapsed_s: float) -> None:
        """Let a handler have shown how long it takes."""
        self.end(self.start(name), elapsed_s)

    def rooms(self, closed: Iterable[str] = ()) -> dict[str, int]:
        return self.prefetch.rooms("ABCL", frozenset(closed))

    def owed(self, closed: Iterable[str] = ()) -> list[str]:
        return self.prefetch.owed(self.rooms(closed), frozenset(closed))

    def surplus(self, closed: Iterable[str] = ()) -> dict[str, int]:
        return self.prefetch.surplus(frozenset(closed))


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.mark.parametrize(
    ("rooms", "quiet_s", "roomy"),
    [
        ({"A": MUCH_ROOM, "B": 1}, 0.0, ["A"]),
        ({"A": MUCH_ROOM, "B": 1}, BUSY_S, []),
        ({"A": MUCH_ROOM, "B": MUCH_ROOM}, 0.0, []),
        ({"A": MUCH_ROOM, "B": 0}, 0.0, []),
        ({"A": 1, "B": 1}, 0.0, []),
        ({}, 0.0, []),
    ],
)
def test_who_has_much_room_is_read_alone_while_there_is_traffic_and_others_have_little(
    rooms: dict[str, int], quiet_s: float, roomy: list[str]
) -> None:
    assert worth_a_read_of_their_own(rooms, quiet_s) == roomy


def test_free_credits_are_shared_among_those_that_may_start(desk: Desk) -> None:
    assert desk.rooms() == {"A": 1, "B": 1, "C": 1, "L": 100}
    assert desk.rooms(closed="B") == {"A": 2, "B": 0, "C": 2, "L": 100}


def test_while_slow_handlers_hold_every_thread_nothing_is_read_for_those(desk: Desk) -> None:
    for _ in range(THREADS):
        desk.start("A")

    assert desk.rooms() == {"A": 0, "B": 0, "C": 0, "L": 100} and desk.owed() == []


def test_beside_a_quick_subscriber_that_holds_much_each_other_gets_one_delivery_ready(desk: Desk) -> None:
    desk.learn("A", QUICK_S)
    for _ in range(THREADS):
        desk.start("A")
    desk.hold("A", 100)

    assert desk.rooms() == {"A": 0, "B": 0, "C": 0, "L": 100} and desk.owed() == ["B", "C"]
    desk.hold("B", 1)
    assert desk.owed() == ["C"] and "B" not in desk.surplus()


def test_a_slow_subscriber_gets_no_more_than_its_fair_share_of_threads_beside_a_quick_one(desk: Desk) -> None:
    desk.learn("A", QUICK_S)
    desk.hold("A", 50)
    desk.start("B")

    assert desk.owed(closed="C") == ["B"]
    desk.start("B")
    assert desk.owed(closed="C") == []


def test_what_a_quick_subscriber_reads_ahead_is_less_where_more_of_them_are_busy(desk: Desk) -> None:
    for name in "AB":
        desk.learn(name, QUICK_S)
    for _ in range(THREADS):
        desk.start("A")
    alone = desk.rooms()["A"]
    desk.hold("B", 1)

    assert alone == THREADS * 25 and desk.rooms()["A"] == alone // 2
    desk.now = 5 * QUICK_S
    assert desk.rooms()["A"] == alone // 2 // 5, "those that run now take longer than those before"


def test_nothing_is_read_for_a_buffer_that_is_nearly_full(desk: Desk) -> None:
    desk.learn("L", 1e-6)
    desk.hold("L", MAX_READY - 10)

    assert desk.rooms()["L"] == 0


def test_a_batch_larger_than_a_buffer_is_filled_and_the_next_one_beside_it() -> None:
    desk = Desk(batch=1000)
    desk.learn("A", QUICK_S)
    assert desk.rooms()["A"] == 2000

    for _ in range(THREADS):
        desk.start("A")
    desk.hold("A", 1000)

    assert desk.rooms()["A"] == 1000
    assert "A" not in desk.surplus(), "it starts within a moment"


def test_what_neither_starts_now_nor_soon_is_surplus_and_the_one_served_longest_ago_keeps_its_own(desk: Desk) -> None:
    desk.learn("A", 1)
    for _ in range(THREADS - 1):
        desk.start("C")
    desk.hold("A", 3)
    desk.hold("B", 1)

    assert desk.surplus() == {"A": 2}
    desk.start("C")
    assert desk.surplus() == {"A": 3, "B": 1}


def test_all_that_is_held_of_one_who_may_start_nothing_is_surplus(desk: Desk) -> None:
    desk.hold("A", 3)
    desk.hold("L", 5)

    assert desk.surplus(closed="AL") == {"A": 3, "L": 5}
