"""The keeper: a small detached process that owns the embedded Valkey of one home directory.

It is the only process that starts or stops that server; users only ask for a keeper. It imports the
standard library alone and is one file run by path (`python -I -S keeper.py HOME BINARY DESCRIPTOR`): `-m` would
import the package it sits in, and what that imports. It is not a supervisor of workers, and knows nothing about events.

Three `flock`s in the home say all there is to know, and the kernel lets go of each when its last holder
dies, however it dies:

    users.lock    shared by every using process           a server is wanted
    keeper.lock   exclusive, held by the keeper           handed over by the user that starts it
    server.lock   exclusive, held by Valkey itself        handed over by the keeper that starts it
    server.json   no lock: where the server listens, and whether it is being stopped

Taking `keeper.lock` or `server.lock` and handing the descriptor to the new process is one step, so
there is no moment in which two processes can both believe that nobody runs.

             users.lock taken                       Valkey died, users live: backoff
        ┌──────────────────────┐                   ┌──────────────────────────┐
        │                      v                   v                          │
      absent ──keeper──> starting ──answers──> running ──SIGKILL, crash──> starting
        ^                      │                   │
        │                      └──── users.lock ───┤  got exclusively: nobody uses it
        │                                          v
        └───server.lock free, files removed─── stopping     users.lock held exclusively throughout

Interleavings, and why each ends with a running server or none wanted:

1.  A user arrives while the keeper is stopping. `users.lock` is held exclusively from the decision until
    Valkey is dead, so the user waits; nobody can be given a server that was already told to go.
2.  A user arrives just before the decision. Its shared lock makes the keeper's attempt fail.
3.  The keeper leaves. It lets go of `keeper.lock` first and of `users.lock` second: whoever gets in finds
    no keeper and starts one. In the other order the user would first wait for a keeper that is leaving.
4.  Ten users arrive at once. One gets `keeper.lock` and hands it over; the others see it taken and wait
    for the server to answer. If the one dies before handing over, the lock is free again.
5.  The keeper is killed while users live. Valkey goes on. The next `ensure` of any process starts a keeper
    that adopts it; until then the server outlives its users. That is the price of one process, not two.
6.  The keeper is killed while stopping. `server.json` says `stopping` (written before the order to stop), users
    do not trust such a server, and the next keeper finishes the stop before it starts anew.
7.  Valkey is killed. `server.lock` is free; the keeper starts it again on the same socket (and port, if it is
    still free) and the AOF brings the data back. A dying Valkey's rewriting child holds the lock until it ends too.
8.  Valkey refuses to start `FIRST_STARTS` times (a port, its files): the keeper leaves, and `ensure` quotes the
    log. A server that once ran is tried for as long as it has users.
9.  The home is deleted or replaced while in use, or while its server stops. The server has nowhere to write: it is
    killed, not shut down, because Valkey unlinks its socket path on exit, which may be the new home's by then.
    A deletion takes its time, so nothing is concluded from a path: the keeper asks the files it opened when it
    came, and its child. One lock file missing is a home deleted; any file missing when needed is, too.
10. `systemctl stop` sends SIGTERM to everything at once. The keeper ignores it and ends when its users have, so
    that workers can drain: Valkey, which obeys, is started again for as long as they need it.

Pids are signalled in two cases: the keeper's own unreaped child, or a pid that `INFO` named on our socket,
while `server.lock` is held. Nothing is killed by name. PR_SET_PDEATHSIG is not used: it follows threads.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from typing import IO, NamedTuple

USERS, KEEPER, SERVER = "users.lock", "keeper.lock", "server.lock"
STATE, LOG, SOCKET = "server.json", "valkey.log", "valkey.sock"

POLL_S = 0.05
FIRST_STARTS = 3
LONGEST_BACKOFF_S = 5.0
STOP_GRACE_S = 5.0  # then SIGKILL, which loses nothing that a client was told: the kernel has the AOF
LONGEST_SOCKET_BYTES = 100  # sun_path holds 108 on Linux, 104 on macOS
LONGEST_LOG_BYTES = 1 << 20


class Address(NamedTuple):
    """Where the server of a home listens; `stopping` once it has been told to go."""

    socket: str
    port: int
    stopping: bool = False


def read_address(home: str) -> Address | None:
    """Return what the keeper last wrote, None when no server is wanted."""
    try:
        with open(os.path.join(home, STATE), encoding="utf-8") as file:
            return Address(**json.load(file))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def try_lock(path: str, kind: int) -> int | None:
    """Lock a file without waiting.

    Returns:
        The descriptor, close-on-exec, whose closing lets go; None when another process is in the way.

    Source: flock(2): the lock belongs to the open file, not to the process; it is let go when the last
        copy of the descriptor is closed. LOCK_UN would take it from every copy, and is never used.
    """
    descriptor = _open(path)
    try:
        locked = _lock(descriptor, kind)
    except BaseException:
        os.close(descriptor)
        raise
    if locked:
        return descriptor
    os.close(descriptor)
    return None


def _open(path: str) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def server_info(socket_path: str) -> dict[str, str] | None:
    """Return INFO's server and persistence fields; None when no server answers within a second."""
    reply = _talk(socket_path, b"INFO server persistence\r\n")
    if not reply.startswith(b"$"):
        return None
    lines = reply.decode("utf-8", "replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def _talk(socket_path: str, command: bytes) -> bytes:
    """Send one inline command and return its reply as it came; b"" when there was none."""
    reply = b""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(1.0)
        connection.connect(socket_path)
        connection.sendall(command)
        while not _is_whole(reply) and (received := connection.recv(65536)):
            reply += received
    return reply if _is_whole(reply) else b""


def _is_whole(reply: bytes) -> bool:
    head, newline, body = reply.partition(b"\r\n")
    return bool(newline) and (not head.startswith(b"$") or len(body) >= int(head[1:]) + 2)


class Keeper:
    """Runs one Valkey for as long as its home has users.

    Args:
        home: absolute path of an existing directory.
        binary: path of `valkey-server`.
        keeper_lock: the descriptor that holds `keeper.lock`.
    """

    def __init__(self, home: str, binary: str, keeper_lock: int) -> None:
        self.home = home
        self.binary = binary
        self.keeper_lock = keeper_lock
        self.users_lock = _open(self._path(USERS))
        self.adopted: int | None = _open(self._path(SERVER))  # asks whether an earlier keeper's server lives
        self.address = read_address(home)
        self.child: subprocess.Popen[bytes] | None = None
        self.pid: int | None = None  # of a server that answered on our socket
        self.ever_answered = False
        self.refusals = 0  # servers of ours that gave up by themselves before they answered
        self.starts = 0  # in a row, none of which lived for LONGEST_BACKOFF_S
        self.last_start = self.next_start = 0.0

    def run(self) -> int:
        """Keep the server until its last user has gone; return the exit code."""
        try:
            return self._keep()
        except FileNotFoundError:  # the home is being deleted under us
            self._abandon()
            raise

    def _keep(self) -> int:
        if self.address is not None and self.address.stopping:
            self._stop()
        while not self._home_is_gone():
            if _lock(self.users_lock, fcntl.LOCK_EX):
                self._stop()
                os.close(self.keeper_lock)
                os.close(self.users_lock)
                return 0
            if self._server_lives():
                self._look_after()
            elif self.refusals >= FIRST_STARTS and not self.ever_answered:
                return 1
            elif time.monotonic() >= self.next_start:
                self._start()
            time.sleep(POLL_S)
        self._abandon()
        return 0

    def _path(self, name: str) -> str:
        return os.path.join(self.home, name)

    def _home_is_gone(self) -> bool:
        """Tell whether other processes would now lock other files than we do."""
        ours = {KEEPER: self.keeper_lock, USERS: self.users_lock}
        try:
            return not all(os.path.samestat(os.fstat(ours[name]), os.stat(self._path(name))) for name in ours)
        except (FileNotFoundError, NotADirectoryError):
            return True

    def _server_lives(self) -> bool:
        """Ask the child itself, or the lock as it was when we came: the path may be deleted or another's by now."""
        if self.child is not None:
            code = self.child.poll()
            if code is None:
                return True
            self.refusals += code > 0 and self.pid is None
        elif self.adopted is not None:
            if not _lock(self.adopted, fcntl.LOCK_EX):
                return True
            os.close(self.adopted)
        self.child = self.adopted = self.pid = None
        return False

    def _look_after(self) -> None:
        """Note the pid of a server that answers on our socket; forget failed starts once one has lasted."""
        if self.pid is None and self.address is not None:
            info = server_info(self.address.socket)
            if info is not None and info["loading"] == "0":
                self.pid = int(info["process_id"])
                self.ever_answered = True
        if self.pid is not None and time.monotonic() - self.last_start > LONGEST_BACKOFF_S:
            self.starts = 0

    def _start(self) -> None:
        lock = try_lock(self._path(SERVER), fcntl.LOCK_EX)
        if lock is None:
            return
        try:
            self.address = self._choose_address()
            self._write_address(self.address)
            self.child = self._spawn(self.address, lock)
        finally:
            os.close(lock)
        self.last_start = time.monotonic()
        self.next_start = self.last_start + min(0.1 * 2**self.starts, LONGEST_BACKOFF_S)
        self.starts += 1

    def _spawn(self, address: Address, lock: int) -> subprocess.Popen[bytes]:
        options = {
            "--dir": self.home,
            "--unixsocket": address.socket,
            "--unixsocketperm": "700",
            "--bind": "127.0.0.1",
            "--port": str(address.port),
            "--protected-mode": "yes",
            "--appendonly": "yes",
            "--appendfsync": "everysec",
            "--aof-load-truncated": "yes",
            "--save": "",
            "--maxmemory-policy": "noeviction",
            "--daemonize": "no",
            "--logfile": "",
        }
        with open_log(self.home) as log:
            return subprocess.Popen(
                [self.binary, *(word for option in options.items() for word in option)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.home,
                pass_fds=(lock,),
                start_new_session=True,
            )

    def _choose_address(self) -> Address:
        """Keep the address that users know; the port only while nobody else has it."""
        old = self.address
        path = self._path(SOCKET)
        if len(os.fsencode(path)) > LONGEST_SOCKET_BYTES:
            known = os.path.dirname(old.socket) if old is not None else ""
            path = os.path.join(known if is_private(known) else _private_folder(), SOCKET)
        return Address(path, _free_port(old.port if old is not None else 0))

    def _write_address(self, address: Address) -> None:
        draft = self._path(STATE + ".new")
        with open(draft, "w", encoding="utf-8") as file:
            json.dump(address._asdict(), file)
        os.replace(draft, self._path(STATE))

    def _stop(self) -> None:
        """End the server in order, wait until it is dead, and remove the traces of its address."""
        if self.address is None:
            return
        self._write_address(self.address._replace(stopping=True))
        deadline = time.monotonic() + STOP_GRACE_S
        if self._server_lives():
            self._look_after()
            _talk(self.address.socket, b"SHUTDOWN\r\n")
            if self.child is not None:
                self.child.send_signal(signal.SIGTERM)  # one that is still coming up has no socket yet
        while self._server_lives():
            if time.monotonic() >= deadline:
                self._kill()
            time.sleep(POLL_S / 5)
        self._forget_socket(self.address)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path(STATE))

    def _kill(self) -> None:
        if self.child is not None:
            self.child.kill()
        elif self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def _abandon(self) -> None:
        """End the server of a home that is no more."""
        if self._server_lives():
            self._kill()
        if self.child is not None:
            self.child.wait()
        if self.address is not None:
            self._forget_socket(self.address)

    def _forget_socket(self, address: Address) -> None:
        folder = os.path.dirname(address.socket)
        if folder != self.home and is_private(folder):
            shutil.rmtree(folder)


def is_private(folder: str) -> bool:
    """Tell whether a path is a directory that only this user can enter, and no symbolic link."""
    try:
        status = os.lstat(folder)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return status.st_mode == 0o40700 and status.st_uid == os.getuid()


def open_log(home: str) -> IO[bytes]:
    """Open the log for appending; one over 1 MiB is put aside as `valkey.log.1` first."""
    path = os.path.join(home, LOG)
    with contextlib.suppress(FileNotFoundError):
        if os.path.getsize(path) > LONGEST_LOG_BYTES:
            os.replace(path, path + ".1")
    return open(path, "ab")


def _private_folder() -> str:
    base = tempfile.gettempdir()
    return tempfile.mkdtemp(prefix="eventbus-", dir=base if len(os.fsencode(base)) <= 60 else "/tmp")


def _free_port(wanted: int) -> int:
    """Return the wanted port if it can be had, else any; Valkey refuses to start if it is taken meanwhile."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            return _free_port(0)
        port: int = probe.getsockname()[1]
        return port


def main(home: str, binary: str, descriptor: str) -> int:
    """Detach from the user that started us, and keep. The pid is in `keeper.lock` when the user goes on."""
    keeper_lock = int(descriptor)
    os.set_inheritable(keeper_lock, False)
    if detached := os.fork():
        os.truncate(keeper_lock, 0)
        os.write(keeper_lock, f"{detached}\n".encode())
        os._exit(0)
    for name in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(name, signal.SIG_IGN)
    return Keeper(home, binary, keeper_lock).run()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
