"""A worker process as its supervisor sees it: started, listened to, told to go, and buried.

It never waits for the process. What the two say to each other is in `workers.orders`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from workers.orders import FULL, READY, RETIRE, SIGNALS


class Child:
    """One process, from its start.

    Args:
        command: to run; `--report-fd N` is added.
        environ: its environment; this process's unless given. cwd: its directory.
        say: called, from a thread, with each line it writes; without one the lines go where this process's go.

    Attributes:
        started_at: monotonic seconds.
        is_ready: it has said that it reads. is_full: it has said that it should be replaced. As of `listen`.
        kill_at: monotonic seconds after which it may be killed.

    Raises:
        OSError: it cannot be started; nothing is left of it.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        environ: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self.started_at = time.monotonic()
        self.is_ready = False
        self.is_full = False
        self.kill_at = float("inf")
        self._said = b""
        self._reports, writes = os.pipe()
        os.set_blocking(self._reports, False)
        try:
            with _signals_held_back():
                self._process = subprocess.Popen(
                    [*command, "--report-fd", str(writes)],
                    bufsize=0,
                    stdin=subprocess.PIPE,
                    stdout=None if say is None else subprocess.PIPE,
                    stderr=None if say is None else subprocess.STDOUT,
                    env=environ,
                    cwd=cwd,
                    pass_fds=(writes,),
                )
        except OSError:
            os.close(self._reports)
            raise
        finally:
            os.close(writes)
        if say is not None:
            threading.Thread(target=_relay, args=(self._process, say), name="eventbus-relay", daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def code(self) -> int | None:
        """Its exit code, negative for the signal that killed it; None while it runs."""
        return self._process.poll()

    def listen(self) -> None:
        """Take in what it has reported since."""
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(self._reports, 64):
                self._said += chunk
        self.is_ready = READY in self._said
        self.is_full = FULL in self._said

    def retire(self) -> None:
        """Tell it to end when what runs has ended."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # it is gone already
            self._process.stdin.write(RETIRE)

    def terminate(self, within_s: float) -> None:
        """Tell it to drain within its grace, to be killed after so many seconds."""
        self.kill_at = time.monotonic() + within_s
        self._process.send_signal(signal.SIGTERM)

    def wait(self) -> bool:
        """Wait for its end, until it may be killed; return whether it has ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(max(0.1, self.kill_at - time.monotonic()))
        return self.code is not None

    def kill(self) -> None:
        self._process.kill()

    def bury(self) -> None:
        """Close what led to it, after its end."""
        self._process.wait()
        os.close(self._reports)
        if self._process.stdin is not None:
            self._process.stdin.close()


@contextlib.contextmanager
def _signals_held_back() -> Iterator[None]:
    """Let the child inherit blocked signals: until it has handlers for them they wait, instead of killing it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _relay(process: subprocess.Popen[bytes], say: Callable[[str], None]) -> None:
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            say(line.decode(errors="replace").rstrip("\r\n"))
