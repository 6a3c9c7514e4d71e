"""Who is woken for a free credit, and who may take it: whoever was served longest ago, though others come first."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from events.frame import UNREADABLE, Lease
from events.subscriptions import SubscriberOptions, Subscription
from tests.waiting import wait_until
from workers.credits import Credits
from workers.prefetch import Prefetch
from workers.ready import Ready
from workers.starting import Starting
from workers.takers import Takers

LONG_S = 60.0


class House:
    """A process of plain subscribers A to E and the async ones K to N, whose consumers wait in threads of their own.

    Attributes:
        served: whose deliveries were taken, in order. looked: for whom something to start was looked for.
        shut: those of whom nothing may be started.
    """

    def __init__(self, threads: int, places: int = 0) -> None:
        self.subscriptions = {
            name: Subscription(name, (name,), print, name >= "K", SubscriberOptions()) for name in "ABCDEKLMN"
        }
        self.lock = threading.Lock()
        self.here = Ready(self.subscriptions)
        self.credits = Credits(threads, places)
        self.prefetch = Prefetch(self.subscriptions, self.credits, self.here)
        self.takers = Takers(
            self.subscriptions, self.lock, self.here, self.prefetch, self.credits.free_of, self.candidate
        )
        self.served: list[Lease] = []
        self.looked: list[str] = []
        self.shut: set[str] = set()
        self._threads: list[threading.Thread] = []

    def candidate(self, name: str) -> Lease | None:
        self.looked.append(name)
        return None if name in self.shut else self.here.next(name)

    def following(self, name: str) -> Lease | None:
        lease = self.candidate(name)
        if lease is None or not self.takers.is_turn(name) or not self.credits.take(self.subscriptions[name]):
            return None
        self.here.take(name)
        self.prefetch.took(lease)
        return lease

    def come(self, names: str) -> None:
        with self.lock:
            for name in names:
                self.here.add(Lease(name, "1-0", 1, UNREADABLE))
            self.takers.wake()

    def end(self, lease: Lease) -> None:
        with self.lock:
            self.credits.give_back(self.subscriptions[lease.subscriber], 1.0)
            self.prefetch.ended(lease, 1.0)
            self.takers.wake()

    def consume(self, names: str) -> None:
        """Let consumers wait, each for one delivery after the other."""
        for name in names:
            self._threads.append(threading.Thread(target=self._consume, args=(name,)))
            self._threads[-1].start()
        wait_until(lambda: set(names) <= set(self.takers.consumers), 10, "all to wait")

    def stop(self) -> None:
        with self.lock:
            self.takers.stop()
        for thread in self._threads:
            thread.join()

    def order(self) -> str:
        return "".join(lease.subscriber for lease in self.served)

    def _consume(self, name: str) -> None:
        subscription = self.subscriptions[name]
        while True:
            with self.lock:
                lease = self.takers.take(subscription, lambda: self.following(name), time.monotonic() + LONG_S)
                if lease is None:
                    return
                self.served.append(lease)


@contextmanager
def waiting(names: str, threads: int, places: int = 0) -> Iterator[House]:
    house = House(threads, places)
    house.consume(names)
    try:
        yield house
    finally:
        house.stop()


def test_those_of_whom_something_is_here_are_in_the_order_in_which_they_were_served() -> None:
    here = House(1).here
    for name in "ABBAA":
        here.add(Lease(name, "1-0", 1, UNREADABLE))
    for name in "AB":
        here.take(name)
    assert [*here.present(False)] == ["A", "B"]
    here.take_back({"A": 1}, ())
    assert [*here.present(False)] == ["A", "B"], "to be handed back is not to be served"
    for name in "BA":
        here.take(name)
    assert here.is_empty

    here.add(Lease("C", "1-0", 1, UNREADABLE))
    for name in "AB":
        here.add(Lease(name, "1-0", 1, UNREADABLE))
    assert [*here.present(False)] == ["C", "B", "A"], "whoever comes back has its old place"
    assert [*here.present(True)] == []


def test_as_many_are_woken_as_there_are_credits_and_then_whoever_was_served_longest_ago() -> None:
    with waiting("ABCDE", threads=2) as house:
        house.come("AABBCCDDEE")
        wait_until(lambda: len(house.served) == 2, 10, "two to start")
        for n in range(8):
            house.end(house.served[n])
            wait_until(lambda n=n: len(house.served) == n + 3, 10, "the next to start")  # type: ignore[misc]

        first, second = house.order()[:5], house.order()[5:]
        assert set(first) == set("ABCDE") and second == first


def test_what_is_read_anew_each_time_in_one_order_starves_nobody() -> None:
    """Slow handlers: what does not start at once is handed back, and comes again, the first ones first."""
    with waiting("ABCD", threads=2) as house:
        for n in range(12):
            house.come("ABCD")
            wait_until(lambda n=n: len(house.served) == n + 2, 10, "all credits to be taken")  # type: ignore[misc]
            with house.lock:
                house.here.empty()
            house.end(house.served[n])

        assert set(house.order()[:6]) == set("ABCD")


@pytest.mark.parametrize("is_paused", [True, False], ids=["it is paused", "its delivery is handed back"])
def test_a_credit_that_the_chosen_one_cannot_use_goes_to_the_next(is_paused: bool) -> None:
    with waiting("AB", threads=1) as house:
        with house.lock:
            for name in "AB":
                house.here.add(Lease(name, "1-0", 1, UNREADABLE))
            house.takers.wake()
            assert house.takers.chosen == {"A"}
            if is_paused:  # before its consumer looks
                house.shut.add("A")
            else:
                house.here.take_back({"A": 1}, ())
        wait_until(lambda: house.order() == "B", 10, "the other one to start")

        house.shut.clear()
        if not is_paused:
            house.come("A")  # and is read again
        house.end(house.served[0])
        wait_until(lambda: house.order() == "BA", 10, "it to start after all")


def test_who_waits_no_longer_passes_on_what_it_was_chosen_for() -> None:
    with waiting("B", threads=1) as house:
        left = threading.Thread(target=interrupted, args=(house, "A"))
        left.start()
        wait_until(lambda: "A" in house.takers.consumers, 10, "it to wait")
        house.come("AB")
        wait_until(lambda: house.order() == "B", 10, "the other one to start")
        left.join()


def interrupted(house: House, name: str) -> None:
    """Be a consumer that somebody raises an exception in, when it is woken."""

    def following() -> Lease | None:
        if house.here.next(name) is not None:
            raise KeyboardInterrupt
        return None

    with house.lock, pytest.raises(KeyboardInterrupt):
        house.takers.take(house.subscriptions[name], following, time.monotonic() + LONG_S)


def test_nobody_is_looked_at_when_no_credit_is_free_and_no_kind_waits_for_the_other() -> None:
    with waiting("ABCDEKL", threads=1, places=2) as house:
        house.come("ABCDEKL")
        wait_until(lambda: sorted(house.order()) == ["A", "K", "L"], 10, "one plain one and two async ones to start")
        with house.lock:
            house.looked.clear()
            house.takers.wake()
            assert house.looked == []


def test_whoever_others_go_on_for_is_in_nobodys_way() -> None:
    """A credit that nobody would be woken for is not kept for him."""
    with waiting("A", threads=2) as house, house.lock:
        house.takers._lingers = "A"  # a thread lingers for it, and looks by itself
        for name in "AB":
            house.here.add(Lease(name, "1-0", 1, UNREADABLE))
        house.takers.consumers["C"] = house.takers.consumers["D"] = False
        house.credits.take(house.subscriptions["E"])
        assert house.takers.is_turn("B")
        del house.takers.consumers["C"], house.takers.consumers["D"]
        house.takers._lingers = ""


def test_a_consumer_that_looks_in_vain_wakes_whoever_may_have_the_credit() -> None:
    """It is refused for a rival that is none any more when nobody else would look."""
    with waiting("AB", threads=1) as house:
        with house.lock:
            for name in "ABC":
                house.here.add(Lease(name, "1-0", 1, UNREADABLE))  # and nobody is woken

            def refused() -> Lease | None:
                assert not house.takers.is_turn("C")
                house.shut.add("A")
                return None

            assert house.takers.take(house.subscriptions["C"], refused, time.monotonic()) is None
        wait_until(lambda: house.order() == "B", 10, "whose turn it is by now to start")


def test_a_lingering_thread_that_looks_in_vain_wakes_whoever_may_have_the_credit() -> None:
    """It is refused for a rival that is none any more when nobody else would look."""
    with waiting("AB", threads=1) as house:
        lingering = threading.Thread(target=refused_lingering, args=(house, "C"))
        lingering.start()
        wait_until(lambda: house.takers._lingers == "C", 10, "it to linger")
        with house.lock:
            for name in "ABC":
                house.here.add(Lease(name, "1-0", 1, UNREADABLE))
            house.takers._come.notify()  # and nobody else is woken
        wait_until(lambda: house.order() == "B", 10, "whose turn it is by now to start")
    lingering.join()


def refused_lingering(house: House, name: str) -> None:
    """Be a thread that lingers and is refused for A, of whom nothing may be started from then on."""

    def refused() -> Lease | None:
        house.shut.add("A")
        return None

    with house.lock:
        house.takers.linger(house.subscriptions[name], refused, time.monotonic() + LONG_S)


def test_a_free_credit_is_no_turn_while_one_who_was_served_longer_ago_waits() -> None:
    """Also where the one who asks waits in no consumer: a thread that has just ended one of its deliveries."""
    with waiting("A", threads=1) as house, house.lock:
        for name in "AB":
            house.here.add(Lease(name, "1-0", 1, UNREADABLE))
        assert house.takers.is_turn("A")
        assert not house.takers.is_turn("B")


def test_async_ones_are_left_out_only_where_one_is_here_for_whom_no_place_is_left() -> None:
    with waiting("KLM", threads=1, places=2) as house:
        house.come("KL")
        wait_until(lambda: sorted(house.order()) == ["K", "L"], 10, "both to start")
        with house.lock:
            house.takers.wake()
            assert not house.takers.leaves_out
        house.come("M")
        with house.lock:
            assert house.takers.leaves_out
        house.end(house.served[0])
        wait_until(lambda: house.order()[2:] == "M", 10, "the third to start")


def test_no_thread_lingers_for_what_follows_on_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    house, waited = House(threads=1, places=1), list[float]()
    monkeypatch.setattr(house.takers._come, "wait", waited.append)
    with house.lock:
        for name in "KA":
            lease = Lease(name, "1-0", 1, UNREADABLE)
            house.takers.linger(house.subscriptions[name], lambda lease=lease: lease, time.monotonic() + LONG_S)
            assert bool(waited) == (name == "A")


def test_a_thread_is_wanted_by_what_was_taken_until_the_loop_is_asked_or_has_begun_it() -> None:
    starting, one, other = Starting(), *(Lease("K", f"{n}-0", 1, UNREADABLE) for n in range(2))
    assert not starting.wants_thread
    for lease in (one, other):
        starting.take(lease)
    starting.ask([one, Lease("K", "2-0", 1, UNREADABLE)])  # with one that it leads
    assert starting.wants_thread
    starting.ended([other])
    assert not starting.wants_thread and len(starting) == 1
