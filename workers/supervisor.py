"""The supervisor: keeps a number of worker processes alive, each running one Dramatiq worker.

A process that dies is replaced, alone and with backoff; its siblings go on (Dramatiq's own main
stops them all). A reload and a process that is full are `workers.renewals`.
It imports nothing of the application, so a leak or a crash there never reaches it.
"""

from __future__ import annotations

import functools
import logging
import os
import queue
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Literal

from workers.child import Child
from workers.exits import CANNOT_RUN, RET_KILLED, RET_OK, wording
from workers.orders import KILL_AFTER_S, SIGNALS
from workers.renewals import Renewals
from workers.slot import Slot

READY_WITHIN_S = 300.0
POLL_S = 0.1

# Not `-m`: that would search the current directory first, and an application's own `workers.py` would be
# taken for ours. The application's directory is added by `load_app`, after our modules are loaded.
_ROOT = str(Path(__file__).resolve().parent.parent)
_ENTRY = "import sys; sys.path.append(sys.argv.pop(1)); from workers.process import run; run()"
Relay = Callable[[int, str], None]

log = logging.getLogger("eventbus.supervisor")


class Supervisor:
    """Runs worker processes until told to stop.

    Args:
        processes: how many. arguments: passed to `workers.process`.
        grace_s: seconds the processes get to drain; killed some seconds later.
        environ: the processes' environment; this one's unless given.
        cwd: the processes' directory; this one's unless given.
        relay: called, from threads, with a process's number (from 1) and each line it writes; without
            one the lines go where this process's go.
        ready_within_s: seconds a new process gets to become ready in a reload, which else ends there.
    """

    def __init__(
        self,
        processes: int,
        arguments: Sequence[str],
        grace_s: float,
        *,
        environ: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
        relay: Relay | None = None,
        ready_within_s: float = READY_WITHIN_S,
    ) -> None:
        self._command = [sys.executable, "-P", "-c", _ENTRY, _ROOT, "--supervised", *arguments, "--grace", str(grace_s)]
        self._grace_s = grace_s
        self._environ = None if environ is None else dict(environ)
        self._cwd = cwd
        self._relay = relay
        self._slots = [Slot(number) for number in range(1, processes + 1)]
        self._renewals = Renewals(self._slots, self._start, grace_s, ready_within_s)
        # A SimpleQueue is safe to use in a signal handler; an Event that this thread waits for is not.
        self._asked: queue.SimpleQueue[Literal["stop", "reload"]] = queue.SimpleQueue()
        self._stopping = False
        self._terminals = [number for number in (0, 1, 2) if os.isatty(number)]

    def run(self, *, handles_signals: bool = True) -> int:
        """Run until SIGTERM, SIGINT, `stop`, or until no process can run the application. SIGHUP reloads.

        Args:
            handles_signals: False leaves signals to the caller, as anywhere but in the main thread.

        Returns:
            0 when stopped, 1 when a process had to be killed; what the processes ended with, 2 when the
            application cannot be loaded, 3 when a server refuses them.
        """
        if handles_signals:
            for number in SIGNALS:
                signal.signal(number, self._on_signal)
        code = RET_OK
        while not self._stopping and code == RET_OK:
            for slot in self._slots:
                code = code or self._tend(slot)
            self._renewals.step()
            self._obey()
        ended = self._shut_down()
        return code or ended

    def stop(self) -> None:
        """Make `run` return, after the processes have drained; from any thread."""
        self._asked.put("stop")

    def reload(self) -> None:
        """Replace every process by a new one, one after another; from any thread."""
        self._asked.put("reload")

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        """SIGHUP reloads, unless it came because the terminal was closed that this was started in."""
        has_hung_up = any(not os.isatty(terminal) for terminal in self._terminals)
        if number == signal.SIGHUP and not has_hung_up:
            self.reload()
        else:
            self.stop()

    def _obey(self) -> None:
        try:
            asked = self._asked.get(timeout=POLL_S)
        except queue.Empty:
            return
        if asked == "reload":
            self._renewals.reload()
        else:
            self._stopping = True

    def _tend(self, slot: Slot) -> int:
        """Start the slot's process, or see why it ended; return the code to end with, if it is the end of all."""
        child = slot.child
        if child is None:
            if time.monotonic() >= slot.start_at:
                slot.child = self._start(slot)
                if slot.child is None:
                    slot.put_off()
            return RET_OK
        child.listen()
        code = child.code
        if code is None:
            return RET_OK
        child.bury()
        slot.child = None
        if self._renewals.inherit(slot):
            log.warning("Worker process %d %s; its successor is on its way.", slot.number, wording(code))
            return RET_OK
        return self._account_for(slot, child, code)

    def _account_for(self, slot: Slot, child: Child, code: int) -> int:
        """Say why a process ended and when the next starts; return its code if none could run either."""
        if code in CANNOT_RUN and not any(other.child and other.child.is_ready for other in self._slots):
            log.error("Worker process %d cannot run the application; stopping.", slot.number)
            return code
        if code == RET_OK and child.is_ready:
            slot.clear()
            log.info("Worker process %d ended; a new one starts.", slot.number)
            return RET_OK
        wait_s = slot.put_off(time.monotonic() - child.started_at)
        level = logging.ERROR if code in CANNOT_RUN else logging.WARNING
        log.log(level, "Worker process %d %s; a new one starts in %.1f s.", slot.number, wording(code), wait_s)
        return RET_OK

    def _start(self, slot: Slot) -> Child | None:
        say = None if self._relay is None else functools.partial(self._relay, slot.number)
        try:
            return Child(self._command, environ=self._environ, cwd=self._cwd, say=say)
        except OSError as error:  # the directory or Python itself is gone in a deploy, or there is no memory
            log.error("Worker process %d cannot be started: %s.", slot.number, error)
            return None

    def _shut_down(self) -> int:
        self._renewals.abandon()
        serving = [slot.child for slot in self._slots if slot.child is not None]
        leaving = self._renewals.leaving
        for child in (*serving, *leaving):
            if child.code is None:
                child.terminate(self._grace_s + KILL_AFTER_S)
        codes = [_end(child) for child in serving]
        codes += [code for child in leaving if (code := _end(child)) and child.is_ready]
        return next((code for code in codes if code), RET_OK)


def _end(child: Child) -> int:
    """Wait for a process that was told to go, and kill it after its time; return its code."""
    if not child.wait():
        log.error("Worker process %d did not stop in time and is killed.", child.pid)
        child.kill()
    child.bury()
    code = child.code or RET_OK
    return code if code >= 0 else RET_KILLED
