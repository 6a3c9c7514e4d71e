"""The processes of a run: started as a host would, brought back when they die, ended by pid.

publisher ──┐                                   ┌── fleet: a supervisor and its worker processes
            ├── proxy ── Valkey (AOF) ── proxy ──┼── two archivers
application ┘                                   └── (and a database: SQLite, or PostgreSQL behind a proxy)
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.fleet.fleet import ROOT, SUPERVISE, alive, children

PYTHON = sys.executable
GRACE_S = 5
COMMAND = (
    "import os; from tests.chaos import levers, mutations; mutations.plant(os.environ.get(mutations.VARIABLE, ''));"
    "levers.obey(); import sys; from console.main import main; sys.argv[0] = 'eventbus'; main()"
)
"""`eventbus`, as the run has it."""
CONSUME = """
import asyncio, signal
from {module} import bus
async def main():
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    while True:
        try:
            await bus.start_consuming(archive=False)
            break
        except Exception as error:
            print("not yet:", error, flush=True)
            await asyncio.sleep(0.2)
    await stop.wait()
    await bus.stop_consuming()
    await bus.disconnect()
asyncio.run(main())
"""
"""An application that consumes on its own loop; `{module}` has its bus."""


@dataclass(frozen=True)
class Signalled:
    """A signal that the driver sent: when, in monotonic seconds, and to whom."""

    at: float
    pid: int
    number: signal.Signals


@dataclass(frozen=True)
class Exit:
    """An end that nobody of the cast was told to come to; `code` as `Popen` has it."""

    role: str
    pid: int
    code: int


@dataclass
class Role:
    """A kind of process that is kept running.

    Attributes:
        command: its command. process: the running one. wanted: whether it is brought back. starts: how often it was.
    """

    name: str
    command: list[str]
    process: subprocess.Popen[bytes] | None = None
    wanted: bool = True
    starts: int = 0


@dataclass
class Cast:
    """All processes of a run.

    Args:
        folder: for logs and journals. environment: of the processes.
        app: `module:attribute` of the bus. publisher: returns the publisher's command, at each of its starts.

    Attributes:
        signalled: what was done to processes. exits: of roles, while they were wanted; whoever ended them.
    """

    folder: Path
    environment: Mapping[str, str]
    app: str
    publisher: Callable[[], list[str]]
    roles: dict[str, Role] = field(default_factory=dict)
    signalled: list[Signalled] = field(default_factory=list)
    exits: list[Exit] = field(default_factory=list)

    def raise_curtain(self, workers: int) -> None:
        """Start everything."""
        supervise = [PYTHON, "-c", SUPERVISE, str(workers), str(GRACE_S), "--app", self.app]
        commands = {
            "fleet": supervise,
            "archiver-1": self.eventbus("archive"),
            "archiver-2": self.eventbus("archive"),
            "application": [PYTHON, "-c", CONSUME.replace("{module}", self.app.partition(":")[0])],
            "publisher": [],
        }
        self.roles = {name: Role(name, command) for name, command in commands.items()}
        self.tend()

    @staticmethod
    def eventbus(*arguments: str) -> list[str]:
        """Return a command of `eventbus`."""
        return [PYTHON, "-c", COMMAND, *arguments]

    def start(self, command: list[str], log: str) -> subprocess.Popen[bytes]:
        """Start a process of the run that nobody brings back; its log is the caller's to read."""
        with open(self.folder / log, "ab") as output:
            return subprocess.Popen(
                command, env={**self.environment, "PYTHONPATH": str(ROOT)}, cwd=self.folder,
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip

    @property
    def journal(self) -> Path:
        return self.folder / "journal"

    def tend(self) -> None:
        """Bring back what has died, as a host's service manager would."""
        for role in self.roles.values():
            code = role.process.poll() if role.process is not None else None
            if role.wanted and role.process is not None and code is not None:
                self.exits.append(Exit(role.name, role.process.pid, code))
            if role.wanted and (role.process is None or code is not None):
                self._start(role)

    def signal(self, pid: int, number: signal.Signals) -> None:
        """Send a signal, and note it.

        Who kills a supervisor ends its worker processes too.
        """
        fleet = self.roles["fleet"].process
        along = children(pid) if number == signal.SIGKILL and fleet is not None and pid == fleet.pid else []
        self.signalled += [Signalled(time.monotonic(), one, number) for one in (pid, *along)]
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)

    def pids(self, kind: str) -> list[int]:
        """Living processes of a kind: `worker`, or a role's name without its number."""
        if kind == "worker":
            fleet = self.roles["fleet"].process
            return children(fleet.pid) if fleet else []
        return [
            role.process.pid
            for role in self.roles.values()
            if role.name.partition("-")[0] == kind and role.process is not None and alive(role.process.pid)
        ]

    def end_publishing(self) -> None:
        """Let the publisher finish what it is at; nothing new comes."""
        role = self.roles["publisher"]
        role.wanted = False
        if role.process is not None and role.process.poll() is None:
            role.process.send_signal(signal.SIGCONT)
            role.process.terminate()

    def drop_curtain(self) -> None:
        """End everything, in order; what does not end in time is killed."""
        for role in self.roles.values():
            role.wanted = False
            if role.process is not None and role.process.poll() is None:
                role.process.send_signal(signal.SIGCONT)
                role.process.terminate()
        for role in self.roles.values():
            if role.process is None:
                continue
            try:
                role.process.wait(GRACE_S + 15)
            except subprocess.TimeoutExpired:
                for pid in [*children(role.process.pid), role.process.pid]:
                    os.kill(pid, signal.SIGKILL)
                role.process.wait()

    def _start(self, role: Role) -> None:
        if role.name == "publisher":
            role.command = self.publisher()
        role.starts += 1
        role.process = self.start(role.command, f"{role.name}.log")
