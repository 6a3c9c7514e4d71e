"""Where it is measured: a namespace of its own on the user's servers, worker processes, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from console.bench import meter
from console.bench.app import AWAITING, BATCHED, PLAIN, event
from console.bench.ledger import VARIABLE, Ledger
from events.backend import Backend
from events.connection import mapped
from events.errors import EventBusError
from events.inspection import Inspection
from events.settings import Settings, variable
from store.erasing import erase

START_S = 60.0
_ROOT = Path(__file__).resolve().parents[2]
_AT_ONCE = 1000


class Ground:
    """Servers, a namespace on them, and workers; made by `ground`.

    Attributes:
        settings: of the namespace. ledger: what the handlers have marked.
    """

    def __init__(self, settings: Settings, home: Path, size: int) -> None:
        self.settings = settings
        self.backend = Backend(settings, may_restore=True)
        self.ledger = Ledger(home / "ledger", size)
        self._log = home / "workers.log"
        self._next = 0
        self._fleet: subprocess.Popen[bytes] | None = None

    def numbers(self, count: int) -> range:
        """Return numbers for events, those after the last that were given."""
        self._next += count
        return range(self._next - count, self._next)

    def start_workers(self, processes: int) -> None:
        """Start worker processes, and wait until they have handled something.

        Raises:
            EventBusError: they do not; with the end of what they said.
        """
        settings = self.settings.with_(redis_url=self.backend.redis_url(), database_url=self.backend.database_url())
        told = {variable(name): getattr(settings, name) for name in settings.__dataclass_fields__}
        environment = {
            **os.environ,
            **{name: str(value) for name, value in told.items() if value is not None},
            "EVENTBUS_LOG_FORMAT": "text",
            VARIABLE: str(self.ledger.path),
            "PYTHONPATH": os.pathsep.join([str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
        }
        command = [sys.executable, "-m", "console.main", "worker", "--app", "console.bench.app:bus"]
        with self._log.open("ab") as log:
            self._fleet = subprocess.Popen(
                [*command, "--processes", str(processes)], env=environment, cwd=self._log.parent,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        inspection = Inspection(self.backend.namespace)
        self._wait_for(lambda: len(inspection.workers()) >= processes, "Worker processes did not start")
        for kind in (PLAIN, AWAITING, BATCHED):
            self._warm_up(kind, 50 * processes)

    def _warm_up(self, kind: str, count: int) -> None:
        numbers = self.numbers(count)
        self.backend.publisher.publish_many([event(kind, n) for n in numbers])
        self.wait(numbers, START_S)

    def wait(self, numbers: range, timeout_s: float) -> float:
        """Wait until events were handled; return the monotonic second at which it was seen.

        Raises:
            EventBusError: they were not; with the end of what the workers said.
        """
        try:
            return self.ledger.wait(numbers.stop, timeout_s)
        except TimeoutError as error:
            raise self._failed(str(error)) from None

    def wait_settled(self) -> None:
        """Wait until nothing is in a queue."""
        inspection = Inspection(self.backend.namespace)
        self._wait_for(
            lambda: not any(queue.unsettled for queue in inspection.queues()),
            "Deliveries that were handled were not settled",
        )

    @property
    def workers(self) -> Sequence[int]:
        """Pids of the worker processes, without their supervisor."""
        return meter.tree(self._fleet.pid)[1:] if self._fleet else []

    def _wait_for(self, condition: Callable[[], bool], otherwise: str) -> None:
        deadline = time.monotonic() + START_S
        while not condition():
            if time.monotonic() > deadline or (self._fleet and self._fleet.poll() is not None):
                raise self._failed(f"{otherwise} within {START_S:.0f} s.")
            time.sleep(0.02)

    def _failed(self, sentence: str) -> EventBusError:
        said = self._log.read_text(errors="replace")[-1000:] if self._log.exists() else ""
        return EventBusError(f"{sentence} The workers said last:\n{said}".rstrip())

    def signal_workers(self, number: signal.Signals) -> None:
        """Send all of them a signal."""
        for pid in self.workers:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def spent(self) -> meter.Spent:
        """Return what the server has spent."""
        with mapped(self.backend.client):
            return meter.spent(self.backend.client)

    def _end_workers(self) -> None:
        if self._fleet is None:
            return
        everyone = meter.tree(self._fleet.pid)
        self.signal_workers(signal.SIGCONT)
        self._fleet.terminate()
        try:
            self._fleet.wait(self.settings.grace_s + 10)
        except subprocess.TimeoutExpired:
            for pid in everyone:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._fleet.wait()

    def close(self) -> None:
        """End the workers, and remove everything of the namespace from both servers."""
        self._end_workers()
        client, prefix = self.backend.client, self.backend.namespace.keys.prefix
        with mapped(client):
            for key in client.scan_iter(match=f"{prefix}*", count=_AT_ONCE):
                client.unlink(key)
        erase(self.backend.blackboard.engine, self.settings.namespace)
        self.backend.close()


@contextmanager
def ground(settings: Settings, size: int) -> Iterator[Ground]:
    """Enter a new namespace on the servers that settings name, embedded ones in a directory of their own otherwise.

    Args:
        size: how many events there will be.
    """
    with tempfile.TemporaryDirectory(prefix="eventbus-bench-") as home:
        own = settings.with_(namespace=f"bench-{uuid.uuid4().hex[:12]}", home=home)
        made = Ground(own, Path(home), size)
        try:
            yield made
        finally:
            made.close()
