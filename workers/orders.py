"""What a worker process is told, and what it reports.

    told      stop     SIGTERM, SIGINT, SIGHUP, or the end of standard input: the supervisor is gone
              retire   a line on standard input, from the supervisor: end when what runs has ended
    reports   ready    its queues are read
              full     it has handled its number of events, or handlers hang in it, and should be replaced

Signal handlers only put a word into a `SimpleQueue`, the one queue that is safe to use in them: setting a
`threading.Event` that the interrupted thread waits for can lock up for good.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import sys
import threading
import time
from types import FrameType

from workers.exits import RET_KILLED

READY = b"ready\n"
FULL = b"full\n"
RETIRE = b"retire\n"
KILL_AFTER_S = 8.0
"""Seconds beyond the grace after which a process that was told to stop is killed."""
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Orders:
    """The orders to this process, as far as they have come.

    Args:
        supervised: only the supervisor's words count. A process group's SIGINT and SIGHUP are for it alone, and
            its end is an order to stop.
        report_fd: inherited file descriptor to report on; None reports to nobody.
        linger_s: seconds after the supervisor's end when this process goes at once, leases or not: nobody is left
            who would kill it, should it be stuck.

    Attributes:
        stop: drain within the grace. retire: end when what runs has ended. Once True, they stay.
    """

    def __init__(self, *, supervised: bool, report_fd: int | None, linger_s: float) -> None:
        self.stop = False
        self.retire = False
        self.supervised = supervised
        self._report_fd = report_fd
        self._linger_s = linger_s
        self._came: queue.SimpleQueue[None] = queue.SimpleQueue()

    def heed(self) -> None:
        """Take orders from now on; signals that came earlier and were held back come now. In the main thread."""
        if self._report_fd is not None:
            os.set_inheritable(self._report_fd, False)
        for number in SIGNALS:
            ignored = self.supervised and number != signal.SIGTERM
            signal.signal(number, signal.SIG_IGN if ignored else self._on_signal)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        if self.supervised:
            threading.Thread(target=self._listen, name="eventbus-supervised", daemon=True).start()

    def wait(self, timeout_s: float) -> None:
        """Return when an order has come, or the time is over."""
        with contextlib.suppress(queue.Empty):
            self._came.get(timeout=timeout_s)

    def report(self, word: bytes) -> None:
        """Tell the supervisor, if there is one."""
        if self._report_fd is not None:
            with contextlib.suppress(OSError):  # it is gone, which is an order of its own
                os.write(self._report_fd, word)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        """Drain; a second Ctrl-C after that goes at once, and leases expire."""
        if self.stop and number == signal.SIGINT:
            os._exit(RET_KILLED)
        self._give_stop()

    def _give_stop(self) -> None:
        self.stop = True
        self._came.put(None)

    def _listen(self) -> None:
        heard = b""
        while chunk := os.read(sys.stdin.fileno(), 4096):
            heard += chunk
            if RETIRE in heard:
                heard, self.retire = b"", True
                self._came.put(None)
        self._give_stop()
        time.sleep(self._linger_s)
        os._exit(RET_KILLED)
