"""What waits for the event loop, and how one sees that it stands still."""

from __future__ import annotations

import math

import pytest

from events.frame import UNREADABLE, Lease
from tests.waiting import wait_until
from workers.starting import Starting

PATIENCE_S = 20


@pytest.fixture
def starting() -> Starting:
    return Starting()


def a_lease() -> Lease:
    return Lease("Painter", "1-0", 1, UNREADABLE)


def until_it_stands_still(starting: Starting) -> None:
    wait_until(lambda: starting.stands_still, PATIENCE_S, "the loop to be seen standing still")


def test_a_loop_that_has_nothing_to_begin_does_not_stand_still(starting: Starting) -> None:
    assert not starting.stands_still and not starting.let_go() and starting.overdue_at == math.inf


def test_what_has_only_been_taken_says_nothing_of_the_loop_and_counts(starting: Starting) -> None:
    lease = a_lease()
    starting.take(lease)

    assert len(starting) == 1 and starting.overdue_at == math.inf
    starting.ask([lease])
    until_it_stands_still(starting)
    assert starting.let_go() == [lease] and len(starting) == 0


def test_what_waits_for_a_loop_that_moves_is_kept(starting: Starting) -> None:
    first, second = a_lease(), a_lease()
    starting.ask([first])
    starting.ask([second])
    until_it_stands_still(starting)

    starting.began([first])
    assert not starting.stands_still and not starting.let_go() and not starting.has_let_go(second)


def test_what_a_loop_that_stands_still_has_not_begun_is_let_go_of_once_and_what_it_has_begun_is_not(
    starting: Starting,
) -> None:
    begun, waiting = a_lease(), a_lease()
    starting.ask([begun])
    starting.began([begun])
    starting.ask([waiting])
    until_it_stands_still(starting)

    assert starting.let_go() == [waiting] and starting.let_go() == []
    assert starting.has_let_go(waiting) and not starting.has_let_go(begun)


def test_a_loop_stands_still_until_it_comes_to_what_was_let_go_of(starting: Starting) -> None:
    lease = a_lease()
    starting.ask([lease])
    until_it_stands_still(starting)
    starting.let_go()
    assert starting.stands_still and not len(starting)

    starting.began([lease])
    assert not starting.stands_still and starting.has_let_go(lease)
    starting.ended([lease])
    assert not starting.has_let_go(lease)
