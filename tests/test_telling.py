"""How often Redis is told how many handlers run here."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from workers.telling import MUCH, TELL_S, Telling

NONE: frozenset[str] = frozenset()
NOW_S = 1000.0


@pytest.fixture(autouse=True)
def _stopped_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.telling.time", SimpleNamespace(monotonic=lambda: NOW_S))


def due_in(telling: Telling) -> float:
    return round(telling.again_at - NOW_S, 6)


def test_news_are_told_soon_and_no_news_less_and_less_often() -> None:
    telling = Telling(["S"], 1.0)
    telling.told({"S": 5}, NONE)
    assert due_in(telling) == TELL_S

    for _ in range(3):
        telling.told({"S": 5}, NONE)
    assert due_in(telling) == 8 * TELL_S
    for _ in range(10):
        telling.told({"S": 5}, NONE)
    assert due_in(telling) == 1.0


def test_not_more_often_than_redis_wants() -> None:
    telling = Telling(["S"], 1.0)

    telling.told({"S": 5}, NONE, least_s=0.4)

    assert due_in(telling) == 0.4


def test_more_is_worth_telling_where_much_more_runs_or_redis_holds_something_back() -> None:
    telling = Telling(["S", "T"], 1.0)
    telling.told({"S": 5}, NONE)
    assert not telling.is_held_back("S", 5 + MUCH - 1) and telling.is_held_back("S", 5 + MUCH)

    telling.told({"S": 5}, frozenset({"T"}))
    assert telling.is_held_back("T", 1) and not telling.is_held_back("T", 0) and not telling.is_held_back("S", 6)
    telling.ended("S", 9)
    assert telling.is_held_back("S", MUCH), "what has ended, Redis has taken off"
