"""Real servers for the tests: a Valkey, or Debian's Redis, in a temporary directory on a free port.

They are children of the test process, addressed by TCP, and may be killed and brought back. A watcher per
server ends it, and removes its directory, when the test process is killed before it could (Linux only). The
embedded default, with its keeper, is another thing: `events/embedded.py`.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from events.embedded import valkey_binary
from tests.waiting import wait_until

DEBIAN_REDIS = "/usr/bin/redis-server"
PORTS_TRIED = 5

WATCHER = """
import contextlib, os, select, shutil, signal, sys
server = os.pidfd_open(int(sys.argv[1]))
if not sys.stdin.read():
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(server, signal.SIGKILL)
    select.select([server], [], [])
    shutil.rmtree(sys.argv[2])
"""


class ValkeyServer:
    """One `valkey-server`; as a context manager it is started and stopped.

    Args:
        aof: append every write; what `kill` and `restart` need to keep data. Nothing is synced to the disk: while it
            is, every second, a slow disk puts off writes, and a kill loses them.
        options: further configuration by name, e.g. `{"maxmemory": "20mb"}`.

    Attributes:
        url: `redis://127.0.0.1:PORT/0`, the same after a restart.
    """

    def __init__(self, *, aof: bool = False, options: Mapping[str, str] | None = None) -> None:
        self.aof = aof
        self.options = dict(options or {})
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None
        self._folder: Path | None = None
        self._watcher: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def directory(self) -> Path:
        """Where the server writes; it exists from start to stop."""
        assert self._folder is not None, "The server was not started."
        return self._folder

    @property
    def pid(self) -> int:
        assert self.process is not None, "The server does not run."
        return self.process.pid

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def client(self, **options: Any) -> redis.Redis:
        """Return a client that tries every command exactly once."""
        return redis.Redis.from_url(self.url, retry=Retry(NoBackoff(), 0), **options)

    def start(self) -> Self:
        """Start on a free port and wait until it answers."""
        self._folder = Path(tempfile.mkdtemp(prefix="eventbus-test-"))
        for _ in range(PORTS_TRIED):
            self.port = free_port()
            if self._launch():
                return self
            self._end(signal.SIGTERM)
        log = self._log()
        self.stop()
        raise AssertionError(f"The server did not start on any of {PORTS_TRIED} ports. Its log ends with:\n{log}")

    def restart(self) -> None:
        """Start again on the same port; a running server is shut down in order first."""
        self._end(signal.SIGTERM)
        assert self._launch(), f"The server did not start again on port {self.port}:\n{self._log()}"

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone. The directory stays."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """SIGSTOP: connections stay open and nothing is answered, until `resume`."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """End the server and remove its directory; repeating it does nothing."""
        self._end(signal.SIGTERM)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _binary(self) -> str:
        return valkey_binary()

    def _arguments(self) -> list[str]:
        options = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "dir": str(self.directory),
            "save": "",
            "appendonly": "yes" if self.aof else "no",
            "appendfsync": "no",
            "maxmemory-policy": "noeviction",
            "enable-debug-command": "yes",
            **self.options,
        }
        return [word for name, value in options.items() for word in (f"--{name}", value)]

    def _launch(self) -> bool:
        with open(self.directory / "server.log", "ab") as log:
            self.process = subprocess.Popen(
                [self._binary(), *self._arguments()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        # It reads until told, or until this process and its pipe are gone; a pidfd is never another process.
        self._watcher = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", WATCHER, str(self.pid), str(self.directory)],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        wait_until(lambda: not self.alive() or self._answers(), 30, f"an answer on port {self.port}")
        return self.alive()

    def _answers(self) -> bool:
        with contextlib.suppress(redis.RedisError), self.client(socket_timeout=1) as client:
            return int(client.info("server")["process_id"]) == self.pid and bool(client.ping())
        return False

    def _end(self, how: signal.Signals) -> None:
        if self.process is None:
            return
        self.process.send_signal(signal.SIGCONT)
        self.process.send_signal(how)
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None
        if self._watcher is not None:
            self._watcher.communicate(b"the server has ended")
            self._watcher = None

    def _log(self) -> str:
        return (self.directory / "server.log").read_text(errors="replace")[-3000:]


class DebianRedis(ValkeyServer):
    """The same with Debian's Redis 7.0, the oldest that is promised to work, where it is installed."""

    @staticmethod
    def available() -> bool:
        return Path(DEBIAN_REDIS).exists()

    def _binary(self) -> str:
        return DEBIAN_REDIS


def free_port() -> int:
    """Return a port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
