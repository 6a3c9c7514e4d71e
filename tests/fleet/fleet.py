"""Worker fleets and archivers for tests: real processes, started and ended by pid."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import redis

from events.backend import Backend
from events.bus import EventBus
from events.event import Event
from events.keys import Keys
from events.settings import Settings, variable
from tests.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
SUPERVISE = (
    "import sys, logging; logging.basicConfig(level=logging.INFO, format='%(asctime)s %(name)s %(message)s');"
    "from workers.supervisor import Supervisor;"
    "sys.exit(Supervisor(int(sys.argv[1]), sys.argv[3:], float(sys.argv[2])).run())"
)
ARCHIVE = (
    "import signal, logging; logging.basicConfig(level=logging.INFO);"
    "from events.backend import Backend; from events.settings import Settings; from workers.archiver import Archiver;"
    "s = Settings.from_env(); b = Backend(s, may_restore=True); a = Archiver(b.history, b.archive, s);"
    "signal.signal(signal.SIGTERM, lambda *_: a.stop()); a.run()"
)


class World:
    """One namespace's servers, and the processes that a test runs on them."""

    def __init__(self, settings: Settings, tmp_path: Path) -> None:
        self.settings = settings
        self.tmp_path = tmp_path
        self.bus = EventBus(settings)
        self.backend: Backend = self.bus.backend
        self.keys = Keys(settings.namespace)
        self.processes: list[subprocess.Popen[bytes]] = []
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "EVENTBUS_LOG_FORMAT": "text",
            **{
                variable(name): str(getattr(settings, name))
                for name in settings.__dataclass_fields__
                if getattr(settings, name) is not None
            },
        }

    @property
    def redis(self) -> redis.Redis:
        return self.backend.client

    def run(self, arguments: list[str], log: str = "worker", **environment: str) -> subprocess.Popen[bytes]:
        with open(self.tmp_path / f"{log}.log", "ab") as output:
            process = subprocess.Popen(
                arguments, env={**self.environment, **environment}, cwd=self.tmp_path, stdout=output, stderr=output,
                stdin=subprocess.DEVNULL,
            )  # fmt: skip
        self.processes.append(process)
        return process

    def start_fleet(
        self,
        processes: int = 2,
        app: str = "tests.fleet.app:bus",
        grace_s: float = 10,
        timeout_s: float = 20,
        **environment: str,
    ):
        """Start a supervisor with worker processes, and wait until each of them reads."""
        before = set(self.consumers())
        fleet = self.run(
            [sys.executable, "-c", SUPERVISE, str(processes), str(grace_s), "--app", app], "worker", **environment
        )
        wait_until(
            lambda: len(set(self.consumers()) - before) >= processes,
            timeout_s,
            f"{processes} workers to read; {self.log()}",
        )
        return fleet

    def start_archiver(self) -> subprocess.Popen[bytes]:
        return self.run([sys.executable, "-c", ARCHIVE], "archiver")

    def consumers(self) -> list[str]:
        """Names of the workers that have beaten; a host's name, pid and a random word."""
        try:
            return [name.decode() for name in self.redis.zrange(self.keys("workers"), 0, -1)]
        except redis.RedisError:
            return []

    def log(self, name: str = "worker") -> str:
        path = self.tmp_path / f"{name}.log"
        return path.read_text()[-3000:] if path.exists() else ""

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
        for process in self.processes:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                for pid in [*children(process.pid), process.pid]:
                    os.kill(pid, signal.SIGKILL)
                process.wait()
        self.bus.close()

    # what happened

    def runs(self, subscriber: str, word: str = "ran", of: Iterable[Event] | None = None) -> Counter[str]:
        """How often the subscriber's handler ran for each event id; for those events only, when given."""
        ran = Counter(line.split()[0].decode() for line in self.redis.lrange(f"{word}:{subscriber}", 0, -1))
        if of is None:
            return ran
        ids = {event.event_id for event in of}
        return Counter({event_id: count for event_id, count in ran.items() if event_id in ids})

    def order(self, subscriber: str, word: str = "ran") -> list[str]:
        return [line.decode() for line in self.redis.lrange(f"{word}:{subscriber}", 0, -1)]

    def waiting(self, subscriber: str) -> int:
        """How many deliveries of the subscriber are not settled."""
        lanes = sum(
            self.redis.llen(key) for key in self.redis.scan_iter(match=f"{_glob(self.keys('lane', subscriber))}:*")
        )
        return (
            self.redis.xlen(self.keys("queue", subscriber)) + self.redis.zcard(self.keys("delayed", subscriber)) + lanes
        )

    def dead(self, subscriber: str, event: Event | None = None) -> list[dict[str, str]]:
        """The subscriber's dead letters; of that event only, when given."""
        entries: Any = self.redis.xrange(self.keys("dead", subscriber))
        letters = [{k.decode(): v.decode(errors="replace") for k, v in fields.items()} for _, fields in entries]
        return [letter for letter in letters if event is None or event.event_id in letter["f"]]

    def is_settled(self, subscriber: str) -> bool:
        """Whether nothing waits or runs; unlike `waiting` this does not walk over all keys."""
        pipe = self.redis.pipeline(transaction=True)
        pipe.xlen(self.keys("queue", subscriber))
        pipe.zcard(self.keys("delayed", subscriber))
        pipe.zcard(self.keys("lanes", subscriber))
        return not any(pipe.execute())

    def until_settled(self, *subscribers: str, timeout: float = 30) -> None:
        for name in subscribers:
            wait_until(lambda n=name: self.is_settled(n), timeout, f"{name} to settle everything; {self.log()}")

    def outcomes(self, subscriber: str, *positions: int) -> list[tuple[int, int, str, str]]:
        """(event position, attempt, state, error) of each outcome Redis holds, in order.

        Args:
            positions: of these events only; none means all.
        """
        found = []
        for _, fields in self.redis.xrange(self.keys("outcomes")):
            position, name, _, attempt, state, _, _, error = fields[b"o"].decode().split("\t", 7)
            if name == subscriber and (not positions or int(position) in positions):
                found.append((int(position), int(attempt), state, error))
        return found


def children(pid: int) -> list[int]:
    """Pids of a process's living children."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except FileNotFoundError:
        return []
    return [int(word) for word in text.split() if alive(int(word))]


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _glob(key: str) -> str:
    return key.replace("[", "\\[")
