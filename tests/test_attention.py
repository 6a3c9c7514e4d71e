"""Which queues a read looks at in a process of many subscribers."""

from __future__ import annotations

from events.frame import UNREADABLE, Lease
from workers.attention import EVERYWHERE_S, FEW, LATELY_S, Attention

MANY = [f"S{number}" for number in range(FEW + 1)]


def lease(name: str) -> Lease:
    return Lease(name, "1-0", 1, UNREADABLE)


def test_a_few_subscribers_are_all_looked_at_whatever_comes() -> None:
    attention = Attention()
    attention.came([lease("S1")], 0.0)
    assert [attention.names(MANY[:FEW], now) for now in (0.0, 0.001)] == [MANY[:FEW]] * 2


def test_of_many_only_those_from_whom_something_comes_are_looked_at_in_between() -> None:
    attention = Attention()
    assert attention.names(MANY, 0.0) == MANY
    attention.came([lease("S1"), lease("S2"), lease("S1")], 0.001)
    assert sorted(attention.names(MANY, 0.002)) == ["S1", "S2"]
    assert attention.until == EVERYWHERE_S


def test_however_much_comes_all_are_looked_at_again_in_a_moment() -> None:
    attention = Attention()
    attention.names(MANY, 0.0)
    attention.came([lease("S1")], EVERYWHERE_S - 0.001)
    assert attention.names(MANY, EVERYWHERE_S) == MANY


def test_when_nothing_comes_any_more_all_are_looked_at_at_once() -> None:
    attention = Attention()
    attention.names(MANY, 0.0)
    attention.came([lease("S1")], 0.001)
    attention.came([], 0.002)
    assert attention.names(MANY, 0.003) == MANY


def test_before_anything_has_come_all_are_looked_at() -> None:
    attention = Attention()
    assert [attention.names(MANY, now) for now in (0.0, 0.001)] == [MANY] * 2


def test_one_from_whom_nothing_has_come_for_a_while_is_no_longer_among_them() -> None:
    attention = Attention()
    attention.came([lease("S1")], 0.0)
    attention.came([lease("S2")], LATELY_S)
    assert attention.names(MANY, LATELY_S) == MANY
    assert attention.names(MANY, LATELY_S + 0.001) == ["S2"]
