"""Runs commands as processes that are forked from one that has imported everything already.

Importing takes a command three quarters of a second of CPU, ten times what most of them work. A forked one
is a process like any other: its own directory, environment, arguments, output and exit code.

    tester ──(directory, environment, arguments, stdin, stdout, stderr)──> this ──fork──> the command
       └───────────────────────────────<── exit code ──────────────────────────┘
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import io
import json
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MAX_REQUEST = 1 << 20
PACKAGES = ("console.commands", "events", "store", "workers")
DIALECTS = ("sqlalchemy.dialects.sqlite", "sqlalchemy.dialects.postgresql", "sqlite3", "psycopg2")


class Prefork:
    """Starts the process that forks, and asks it for one command after another; ends it with this one."""

    def __init__(self) -> None:
        self._address = str(Path(tempfile.mkdtemp(prefix="eventbus-prefork-")) / "socket")
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", __name__, self._address],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert self._process.stdout is not None and self._process.stdout.readline() == b"ready\n"
        atexit.register(self._close)

    def run(
        self, arguments: Sequence[str], *, cwd: Path, env: Mapping[str, str], stdin: bytes, timeout_s: float
    ) -> tuple[int, bytes, bytes]:
        """Return a command's exit code (minus the signal that ended it), stdout and stderr.

        Raises:
            TimeoutError: it ran for longer; it has been killed.
        """
        with contextlib.ExitStack() as files:
            given, out, err = (files.enter_context(tempfile.TemporaryFile()) for _ in range(3))
            given.write(stdin)
            given.seek(0)
            connection = files.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            connection.connect(self._address)
            connection.settimeout(timeout_s)
            request = json.dumps([list(arguments), str(cwd), dict(env)]).encode()
            socket.send_fds(
                connection, [len(request).to_bytes(4, "big")], [file.fileno() for file in (given, out, err)]
            )
            connection.sendall(request)
            code = connection.recv(16)
            assert code, f"The command {arguments!r} was not run."
            return int(code), *(_content(file) for file in (out, err))

    def _close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)
        with contextlib.suppress(OSError):
            os.unlink(self._address)
            os.rmdir(os.path.dirname(self._address))


def _content(file: io.BufferedRandom) -> bytes:
    file.seek(0)
    return file.read()


def _serve(address: str) -> None:
    """Fork for every request, until stdin ends."""
    _import_everything()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(address)
    listener.listen(16)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that answer
    print("ready", flush=True)
    while True:
        readable, _, _ = select.select([listener, sys.stdin], [], [])
        if sys.stdin in readable:
            return
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _answer(connection)
            os._exit(0)
        connection.close()


def _import_everything() -> None:
    for name in (*PACKAGES, *DIALECTS):
        module = importlib.import_module(name)
        for found in pkgutil.iter_modules(getattr(module, "__path__", ()), f"{name}."):
            if not found.ispkg and name in PACKAGES and found.name != "workers.app":
                importlib.import_module(found.name)


def _answer(connection: socket.socket) -> None:
    """Run what is asked for in a process of its own, and send its exit code; kill it when nobody waits any more."""
    size, descriptors, _, _ = socket.recv_fds(connection, 4, 3)
    request = b""
    while len(request) < int.from_bytes(size, "big"):
        request += connection.recv(MAX_REQUEST)
    pid = os.fork()
    if pid == 0:
        connection.close()
        _become(*json.loads(request), descriptors)
    pidfd = os.pidfd_open(pid)
    readable, _, _ = select.select([pidfd, connection], [], [])
    if pidfd not in readable:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    connection.sendall(str(os.waitstatus_to_exitcode(status)).encode())


def _become(arguments: list[str], directory: str, environment: dict[str, str], descriptors: list[int]) -> None:
    """Run the command in this process, as if it had been started like that."""
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["eventbus", *arguments]
    sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, "r")), encoding="utf-8")
    sys.stdout = io.TextIOWrapper(io.BufferedWriter(io.FileIO(1, "w")), encoding="utf-8")
    sys.stderr = io.TextIOWrapper(
        io.BufferedWriter(io.FileIO(2, "w")), encoding="utf-8", errors="backslashreplace", line_buffering=True
    )
    code: object = 1
    try:
        importlib.import_module("console.main").main()
    except SystemExit as end:
        code = end.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code if isinstance(code, int) else 0 if code is None else 1)


if __name__ == "__main__":
    _serve(sys.argv[1])
