"""Waiting for a condition with a deadline: the only place in the tests that may sleep."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(predicate: Callable[[], T], timeout: float = 10, what: str = "the condition") -> T:
    """Return the predicate's first true value.

    Args:
        predicate: called again and again; an exception it raises goes to the caller.
        timeout: seconds. It is called at least once, and once more after they have passed.
        what: completes the sentence "waited 10 s for ...".

    Raises:
        AssertionError: the value was still false after `timeout`; the sentence carries it.
    """
    deadline = time.monotonic() + timeout
    pause = 0.001
    while True:
        late = time.monotonic() >= deadline
        value = predicate()
        if value:
            return value
        if late:
            raise AssertionError(f"Waited {timeout:g} s for {what}; the last answer was {value!r}.")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)
