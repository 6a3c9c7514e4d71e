"""Interrupting plain handlers: the time limit, a lost lease, the end of the worker.

An exception is raised inside the handler's thread, as Dramatiq's own time limit does, and with its
limits: it arrives at the next bytecode, so a system call is not cut short. Unlike there, it never
arrives after the handler: one that is on its way when the handler ends is waited for here, and
never hits the code that settles.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from dramatiq.threading import raise_thread_exception

from events.errors import TimeLimitExceeded
from workers.attempt import Attempt, Interrupted

CHECK_S = 0.25
INTERRUPTS = (Interrupted, TimeLimitExceeded)
_raise: Callable[[int, type[BaseException]], None] = raise_thread_exception


@dataclass(slots=True, eq=False)
class _Running:
    thread_id: int
    deadline: float
    raised: bool = False
    returned: bool = False
    result: object = None
    error: BaseException | None = None


class Interrupter:
    """Knows which thread runs which attempt, and raises inside it, at most once."""

    def __init__(self) -> None:
        self._running: dict[int, _Running] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="eventbus-limits", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    def call(self, attempt: Attempt, limit_s: float, handler: Callable[[], object]) -> object:
        """Run a handler in the calling thread under a time limit.

        Raises:
            TimeLimitExceeded, Interrupted: inside the handler, and from here when it lets them pass.
        """
        running = _Running(threading.get_ident(), time.monotonic() + limit_s)
        with self._lock:
            self._running[id(attempt)] = running
        try:
            try:
                if attempt.cancelled:  # between the decision to start and here
                    raise Interrupted
                running.result = handler()
                running.returned = True
            except BaseException as error:
                running.error = error
                if isinstance(error, TimeLimitExceeded) and not error.args:
                    error.args = (f"the handler ran longer than {limit_s:g} s",)
            self._forget(attempt)
            self._await_one_on_its_way(running)
        except INTERRUPTS as late:
            self._forget(attempt)  # the only one has arrived: nothing interrupts this
            if not running.returned and running.error is None:
                running.error = late
        if running.error is not None:
            raise running.error
        return running.result

    def interrupt(self, attempt: Attempt) -> None:
        """Raise `Interrupted` inside the attempt's handler, if it runs in a thread here."""
        with self._lock:
            running = self._running.get(id(attempt))
            if running and not running.raised:
                running.raised = True
                _raise(running.thread_id, Interrupted)

    def _forget(self, attempt: Attempt) -> None:
        with self._lock:
            self._running.pop(id(attempt), None)

    @staticmethod
    def _await_one_on_its_way(running: _Running) -> None:
        if running.raised and not isinstance(running.error, INTERRUPTS):
            deadline = time.monotonic() + 1
            while time.monotonic() < deadline:
                time.sleep(0.001)

    def _run(self) -> None:
        while not self._stop.wait(CHECK_S):
            now = time.monotonic()
            with self._lock:
                for running in self._running.values():
                    if not running.raised and now >= running.deadline:
                        running.raised = True
                        _raise(running.thread_id, TimeLimitExceeded)
