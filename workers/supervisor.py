"""The supervisor: keeps a number of worker processes alive, each running one Dramatiq worker.

A process that dies is replaced, alone and with backoff; its siblings go on (Dramatiq's own main
stops them all). A process that cannot load the application ends the supervisor, with its code.
It imports nothing of the application, so a leak or a crash there never reaches it.
"""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from workers.exits import RET_IMPORT, RET_KILLED, RET_OK

MIN_BACKOFF_S = 0.2
MAX_BACKOFF_S = 10.0
HEALTHY_S = 30.0
KILL_AFTER_S = 8.0
POLL_S = 0.1

# Not `-m`: that would search the current directory first, and an application's own `workers.py` would be
# taken for ours. The application's directory is added by `load_app`, after our modules are loaded.
_ROOT = str(Path(__file__).resolve().parent.parent)
_ENTRY = "import sys; sys.path.append(sys.argv.pop(1)); from workers.process import run; run()"
Relay = Callable[[int, str], None]

log = logging.getLogger("eventbus.supervisor")


@dataclass(slots=True)
class _Slot:
    """A place for one worker process."""

    number: int
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    backoff_s: float = MIN_BACKOFF_S
    start_at: float = 0.0
    exits: list[int] = field(default_factory=list)


class Supervisor:
    """Runs worker processes until told to stop.

    Args:
        processes: how many. arguments: passed to `workers.process`.
        grace_s: seconds the processes get to drain; killed some seconds later.
        environ: the processes' environment; this one's unless given.
        cwd: the processes' directory; this one's unless given.
        relay: called, from threads, with a process's number (from 1) and each line it writes; without
            one the lines go where this process's go.
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
    ) -> None:
        self._arguments = [*arguments, "--grace", str(grace_s)]
        self._grace_s = grace_s
        self._environ = None if environ is None else dict(environ)
        self._cwd = cwd
        self._relay = relay
        self._slots = [_Slot(number) for number in range(1, processes + 1)]
        self._stop = threading.Event()

    @property
    def pids(self) -> list[int]:
        """Pids of the processes that run now."""
        return [slot.process.pid for slot in self._slots if slot.process and slot.process.poll() is None]

    def run(self, *, handles_signals: bool = True) -> int:
        """Run until SIGTERM, SIGINT, `stop`, or a process that cannot load the application.

        Args:
            handles_signals: False leaves signals to the caller, as anywhere but in the main thread.

        Returns:
            0 when stopped, 1 when a process had to be killed, 2 when the application cannot be loaded.
        """
        if handles_signals:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, self._on_signal)
        code = RET_OK
        while not self._stop.is_set() and code == RET_OK:
            for slot in self._slots:
                if self._tend(slot) == RET_IMPORT:
                    code = RET_IMPORT
            self._stop.wait(POLL_S)
        return self._shut_down() or code

    def stop(self) -> None:
        """Make `run` return, after the processes have drained."""
        self._stop.set()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._stop.set()

    def _tend(self, slot: _Slot) -> int | None:
        """Start the slot's process, or see why it ended; return the code of one that ended now."""
        now = time.monotonic()
        if slot.process is None:
            if now >= slot.start_at:
                self._start(slot)
            return None
        code = slot.process.poll()
        if code is None:
            return None
        _close_input(slot.process)
        slot.process = None
        lived_s = now - slot.started_at
        if code == RET_IMPORT:
            log.error("Worker process %d cannot run the application; stopping.", slot.number)
            return code
        slot.backoff_s = MIN_BACKOFF_S if lived_s > HEALTHY_S else min(slot.backoff_s * 2, MAX_BACKOFF_S)
        slot.start_at = now + (0.0 if lived_s > HEALTHY_S else slot.backoff_s)
        reason = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        log.warning("Worker process %d %s; a new one starts in %.1f s.", slot.number, reason, slot.start_at - now)
        return code

    def _start(self, slot: _Slot) -> None:
        slot.started_at = time.monotonic()
        output = None if self._relay is None else subprocess.PIPE
        slot.process = subprocess.Popen(
            [sys.executable, "-P", "-c", _ENTRY, _ROOT, "--supervised", *self._arguments],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=None if output is None else subprocess.STDOUT,
            env=self._environ,
            cwd=self._cwd,
        )
        if self._relay is not None:
            relaying = (self._relay, slot.number, slot.process)
            threading.Thread(target=_relay_lines, args=relaying, name="eventbus-relay", daemon=True).start()

    def _shut_down(self) -> int:
        running = [slot.process for slot in self._slots if slot.process is not None]
        for process in running:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + self._grace_s + KILL_AFTER_S
        code = RET_OK
        for process in running:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                log.error("Worker process %d did not stop in time and is killed.", process.pid)
                process.kill()
                process.wait()
                code = RET_KILLED
            _close_input(process)
        return code


def _relay_lines(relay: Relay, number: int, process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            relay(number, line.decode(errors="replace").rstrip("\r\n"))


def _close_input(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        process.stdin.close()
