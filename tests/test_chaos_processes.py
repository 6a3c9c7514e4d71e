"""The checker's rules about processes, seen to fail: who falls silent, ends, or does nothing."""

from __future__ import annotations

import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.chaos.cast import Exit, Signalled
from tests.chaos.imagined import broken, cast_of, cast_with

LOST = {"state": "lost", "worker": "a-host-7-0a1b", "position": 30_000_000}


@pytest.mark.parametrize(
    ("journal", "is_broken"),
    [
        ([], True),
        ([{"word": "heard", "pid": 7, "at": 29.0}, {"word": "held up", "pid": 7, "at": 28.0, "seconds": 0.9}], True),
        ([{"word": "heard", "pid": 7, "at": 5.0}, {"word": "held up", "pid": 8, "at": 29.0, "seconds": 9.0}], True),
        ([{"word": "heard", "pid": 7, "at": 5.0}, {"word": "held up", "pid": 7, "at": 20.0, "seconds": 0.9}], True),
        ([{"word": "heard", "pid": 7, "at": 5.0}, {"word": "held up", "pid": 7, "at": 29.0, "seconds": 0.4}], True),
        ([{"word": "heard", "pid": 7, "at": 5.0}, {"word": "held up", "pid": 7, "at": 29.0, "seconds": 0.9}], False),
        ([{"word": "dies", "pid": 7, "at": 5.0}], False),
    ],
)
def test_a_lease_may_run_out_where_its_own_worker_was_kept_from_running_shortly_before(
    journal: list[dict[str, Any]], is_broken: bool
) -> None:
    assert bool(broken("leases of the living hold", outcomes=[LOST], journal=journal)) == is_broken


@pytest.mark.parametrize(
    ("signals", "is_broken"),
    [
        ([(5.0, 7, signal.SIGKILL)], False),
        ([(31.0, 7, signal.SIGKILL)], True),
        ([(5.0, 8, signal.SIGKILL)], True),
        ([(5.0, 7, signal.SIGSTOP), (24.0, 7, signal.SIGCONT)], False),
        ([(5.0, 7, signal.SIGSTOP), (9.0, 7, signal.SIGCONT)], True),
        ([(5.0, 7, signal.SIGSTOP)], False),
        ([(28.0, 7, signal.SIGTERM), (28.0, 7, signal.SIGHUP)], True),
    ],
)
def test_a_lease_may_run_out_where_its_own_worker_was_killed_before_or_stopped_shortly_before(
    signals: list[tuple[float, int, signal.Signals]], is_broken: bool
) -> None:
    stage = cast_with(*(Signalled(*one) for one in signals))

    assert bool(broken("leases of the living hold", outcomes=[LOST], stage=stage)) == is_broken


@pytest.mark.parametrize(
    ("name", "ended", "others", "is_broken"),
    [
        ("cut", 29.0, (), False),
        ("cut", 12.0, (), True),
        ("cut", 12.0, ("clock",), False),
        ("freeze", 29.0, (), True),
        ("poison", 29.0, (), True),
    ],
)
def test_a_lease_may_run_out_where_everybody_was_cut_off_shortly_before(
    name: str, ended: float, others: tuple[str, ...], is_broken: bool
) -> None:
    faults = [SimpleNamespace(name=one, began=ended - 1, ended=ended) for one in (name, *others)]

    assert bool(broken("leases of the living hold", outcomes=[LOST], stage={"suffered": faults})) == is_broken


def test_a_lease_may_run_out_where_the_driver_with_its_proxy_was_late() -> None:
    assert not broken("leases of the living hold", outcomes=[LOST], stage={"held_up": [(29.0, 0.9)]})
    assert broken("leases of the living hold", outcomes=[LOST], stage={"held_up": [(15.0, 0.9)]})


def test_who_lives_and_does_nothing_is_told() -> None:
    assert broken("everybody works", stage={"silent": ["The worker 7 lives and handles nothing."]})
    assert not broken("everybody works")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP])
def test_a_process_that_ends_of_its_own_accord_is_told_and_one_that_was_killed_is_not(
    tmp_path: Path, number: signal.Signals
) -> None:
    stage = cast_of(tmp_path, Exit("archiver-1", 7, 1), signalled=(Signalled(1.0, 7, number),))

    assert bool(broken("nobody ends unasked", stage=stage)) == (number == signal.SIGSTOP)


def test_an_application_that_handled_what_kills_may_end(tmp_path: Path) -> None:
    stage = cast_of(tmp_path, Exit("application", 7, -9))

    assert not broken("nobody ends unasked", stage=stage, journal=[{"word": "dies", "pid": 7}])
    assert broken("nobody ends unasked", stage=stage, journal=[{"word": "dies", "pid": 8}])


@pytest.mark.parametrize(
    ("log", "is_broken"),
    [
        ("Worker process 1 was killed by SIGKILL; a new one starts in 0.5 s.", False),
        ("Worker process 1 was killed by SIGKILL; ...\nWorker process 2 was killed by SIGKILL; ...", True),
        ("Worker process 1 was killed by SIGSEGV; a new one starts in 0.5 s.", True),
        ("Worker process 2 ended with code 1; a new one starts in 0.5 s.", True),
        ("Worker process 2 cannot run the application; stopping.", True),
        ("Worker process 2 ended; a new one starts.\nWorker process 1 ended with code 0; ...", False),
    ],
)
def test_of_worker_processes_no_more_are_killed_than_were_sent_a_signal_and_none_ends_otherwise(
    tmp_path: Path, log: str, is_broken: bool
) -> None:
    stage = cast_of(tmp_path, signalled=(Signalled(1.0, 7, signal.SIGKILL),), log=log)

    assert bool(broken("nobody ends unasked", stage=stage)) == is_broken


def test_who_else_was_killed_says_nothing_of_worker_processes(tmp_path: Path) -> None:
    log = "Worker process 1 was killed by SIGKILL; a new one starts in 0.5 s."
    stage = cast_of(tmp_path, Exit("archiver-1", 7, -9), signalled=(Signalled(1.0, 7, signal.SIGKILL),), log=log)

    assert broken("nobody ends unasked", stage=stage) == [
        "1 worker processes were killed; 0 were sent a signal, or handled what kills."
    ]
