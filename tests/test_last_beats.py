"""The last beats of a worker that drains: they go on whatever happens, and none comes after its leave."""

from __future__ import annotations

import threading

import pytest

from tests.waiting import wait_until
from workers import last_beats
from workers.last_beats import LastBeats


def test_a_beat_that_fails_in_whatever_way_is_followed_by_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(last_beats, "BEAT_S", 0.01)
    tried: list[int] = []

    def beat() -> None:
        tried.append(1)
        raise ValueError("what nobody thought of")

    beats = LastBeats(beat, lambda: None)
    beats.start()
    wait_until(lambda: len(tried) >= 3, 20, "two more beats")
    beats.stop()


def test_a_beat_that_arrives_after_the_worker_has_left_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(last_beats, "LAST_WORDS_S", 0.05)
    alive: set[str] = set()
    begun, release = threading.Event(), threading.Event()

    def beat() -> None:
        begun.set()
        release.wait(30)
        alive.add("this one")

    beats = LastBeats(beat, lambda: alive.discard("this one"))
    beats.start()
    assert begun.wait(20)
    beats.stop()
    release.set()
    beats._thread.join(20)

    assert not beats._thread.is_alive()
    assert not alive


def test_a_worker_that_never_began_to_drain_leaves_all_the_same() -> None:
    left: list[int] = []

    LastBeats(lambda: None, lambda: left.append(1)).stop()

    assert left == [1]
