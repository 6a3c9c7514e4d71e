"""The servers that all tests of a process share: an embedded Valkey, and SQLite files made from one template.

Composition: it wires `events.embedded` and the store's schema for `events.testing`. Everything is in one temporary
directory, which goes when the process ends.
"""

from __future__ import annotations

import atexit
import os
import secrets
import shutil
import sqlite3
import tempfile
import threading
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from events.connection import mapped
from events.embedded import Embedded, ensure
from events.namespace import Namespace
from store.engine import open_engine
from store.migrate import upgrade

START_S = 120.0  # machines that run tests are overloaded now and then; nobody waits for one that answers
_AT_ONCE = 500
_lock = threading.Lock()
_shared: Servers | None = None


class Servers:
    """One Valkey, and as many databases as are asked for."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.home = Path(tempfile.mkdtemp(prefix="eventbus-testing-"))
        try:
            self._valkey: Embedded = ensure(self.home, timeout_s=START_S)
        except BaseException:
            shutil.rmtree(self.home, ignore_errors=True)
            raise
        self._template = self.home / "template.db"
        engine = open_engine(url_of(self._template))
        try:
            upgrade(engine)
        finally:
            engine.dispose()

    @property
    def redis_url(self) -> str:
        """Where the Valkey is."""
        return self._valkey.redis_url

    def new_database(self) -> Path:
        """Return an SQLite file with the store's schema and nothing in it: a copy, which costs a few milliseconds."""
        path = self.home / f"{secrets.token_hex(6)}.db"
        shutil.copyfile(self._template, path)
        return path

    def close(self) -> None:
        """Let the Valkey go, and remove the directory; a forked child leaves both to its parent."""
        self._valkey.release()
        if os.getpid() == self.pid:
            shutil.rmtree(self.home, ignore_errors=True)


def shared() -> Servers:
    """Return the servers of this process, started by whoever asks first; a forked child gets its own.

    Raises:
        EmbeddedServerError: there is no Valkey for this platform, or it does not start.
    """
    global _shared
    with _lock:
        if _shared is None or _shared.pid != os.getpid():
            _shared = Servers()
            atexit.register(_shared.close)
        return _shared


def url_of(path: Path) -> str:
    """Return the URL of an SQLite file, as settings take it."""
    return f"sqlite:///{quote(str(path))}"


def remove_database(path: Path) -> None:
    """Remove an SQLite file and what is beside it."""
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


def remove_namespace(namespace: Namespace) -> None:
    """Delete every key of a namespace."""
    client, prefix = namespace.client, namespace.keys.prefix
    with mapped(client):
        for key in client.scan_iter(match=f"{prefix}*", count=_AT_ONCE):
            client.unlink(key)


def count_rows(path: Path) -> dict[str, int]:
    """Count the rows of every table in a test's SQLite file that is not the bus's own."""
    with closing(sqlite3.connect(shared().home / "template.db")) as template:
        ours = set(_tables(template))
    with closing(sqlite3.connect(path, timeout=30)) as live:
        theirs = [name for name in _tables(live) if name not in ours]
        return {name: live.execute(f"SELECT COUNT(*) FROM {_quoted(name)}").fetchone()[0] for name in theirs}


def _tables(connection: sqlite3.Connection) -> list[str]:
    found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
    return [name for (name,) in found if not name.startswith("sqlite_")]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


class Snapshot:
    """What an SQLite file holds now, to be put back as often as one likes, under whatever connections are open.

    Args:
        path: nobody writes to it while it is copied or put back.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._copy = sqlite3.connect(":memory:", check_same_thread=False)
        with closing(sqlite3.connect(path)) as live:
            live.backup(self._copy)

    def put_back(self) -> None:
        """Make the file hold again what it held."""
        with closing(sqlite3.connect(self._path, timeout=30)) as live:
            self._copy.backup(live)

    def close(self) -> None:
        """Forget the copy."""
        self._copy.close()
