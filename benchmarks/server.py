"""The server that a round is measured on: the embedded Valkey's program, new and empty for every round."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from typing import Self

import redis

from console.bench.meter import Spent, spent
from events.embedded import valkey_binary

_START_S = 20.0


class Server:
    """One server on a free loopback port, with an append-only file as users run it; a context manager."""

    def __enter__(self) -> Self:
        self._home = tempfile.mkdtemp(prefix="eventbus-bench-")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        options = {
            "port": self.port, "bind": "127.0.0.1", "dir": self._home, "save": "", "appendonly": "yes",
            "appendfsync": "everysec", "maxmemory-policy": "noeviction",
        }  # fmt: skip
        command = [valkey_binary(), *(str(word) for name, value in options.items() for word in (f"--{name}", value))]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.client = redis.Redis(port=self.port)
        deadline = time.monotonic() + _START_S
        while True:
            try:
                self.client.ping()
                return self
            except redis.ConnectionError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    self.__exit__()
                    raise RuntimeError(f"{valkey_binary()} did not start on port {self.port}.") from None
                time.sleep(0.01)

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self._process.terminate()
        self._process.wait(_START_S)
        shutil.rmtree(self._home, ignore_errors=True)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def spent(self) -> Spent:
        """Return what it has spent since it started."""
        return spent(self.client)
