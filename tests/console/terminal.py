"""A command on a terminal: what it shows there, and keys pressed into it."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.console.command import COMMAND, Place


class Terminal:
    """A running command whose three streams are one terminal.

    Attributes:
        process: the command. shown: what it has written so far.
    """

    def __init__(self, process: subprocess.Popen[bytes], leader: int) -> None:
        self.process = process
        self.shown = ""
        self._leader = leader
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def press(self, keys: str) -> None:
        os.write(self._leader, keys.encode())

    def end(self, timeout: float = 60) -> int:
        """Wait for the end of the command and of what it shows; return its exit code."""
        code = self.process.wait(timeout)
        self._reader.join(timeout)
        return code

    def _read(self) -> None:
        try:
            while received := os.read(self._leader, 65536):
                self.shown += received.decode(errors="replace")
        except OSError:
            pass  # what Linux says when the other end is closed


@contextmanager
def on_a_terminal(place: Place, *command: object, columns: int = 120, **variables: str) -> Iterator[Terminal]:
    """Start a command on a terminal of that width; it is killed when it is still there at the end."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = place.environ({"TERM": "xterm-256color", **variables})
    with subprocess.Popen(
        [*COMMAND, *map(str, command)], stdin=follower, stdout=follower, stderr=follower, cwd=place.directory,
        env=environment, start_new_session=True,
    ) as process:  # fmt: skip
        os.close(follower)
        try:
            yield Terminal(process, leader)
        finally:
            if process.poll() is None:
                process.kill()
    os.close(leader)
