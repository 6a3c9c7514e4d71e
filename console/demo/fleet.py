"""The demo's worker processes: started, logged to a file, drained."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from console.fleet import worker_arguments

if TYPE_CHECKING:
    from events.settings import Settings

PROCESSES = 2
THREADS = 2
GRACE_S = 5.0
LOG = "demo.log"
LINES_QUOTED = 8


class Fleet:
    """Two worker processes; what they write is added to a file.

    Args:
        settings: with an absolute `home`.
    """

    def __init__(self, settings: Settings) -> None:
        from workers.supervisor import Supervisor

        self.log = Path(settings.home) / LOG
        self._settings = settings
        self._last: deque[str] = deque(maxlen=LINES_QUOTED)
        self._file = self.log.open("a", encoding="utf-8")
        self._writing = threading.Lock()
        self._code: int | None = None
        arguments = worker_arguments(
            "console.demo.pipeline:bus",
            settings,
            threads=THREADS,
            grace_s=GRACE_S,
            level="warning",
            style="text",
            probes=False,
        )
        # The directory is one without Python files: an `examples` of the user's must not be taken for ours.
        self._supervisor = Supervisor(
            PROCESSES, arguments, GRACE_S, environ=_environment(settings), cwd=settings.home, relay=self._note
        )
        self._thread = threading.Thread(target=self._run, name="eventbus-supervisor", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Drain and end the processes."""
        self._supervisor.stop()
        self._thread.join()

    @property
    def has_ended(self) -> bool:
        """True when the processes cannot run the application."""
        return self._code is not None

    def last_words(self) -> str:
        """Return the last lines of the log, indented."""
        with self._writing:
            return "".join(f"\n    {line}" for line in self._last)

    def _run(self) -> None:
        self._code = self._supervisor.run(handles_signals=False)

    def _note(self, number: int, line: str) -> None:
        with self._writing:
            self._last.append(line)
            self._file.write(f"worker.{number} | {line}\n")
            self._file.flush()


def _environment(settings: Settings) -> Mapping[str, str]:
    """Return the workers' environment: they start in another directory."""
    environ = dict(os.environ)
    environ["EVENTBUS_HOME"] = settings.home
    for name, value in (("REDIS_URL", settings.redis_url), ("DATABASE_URL", settings.database_url)):
        if value:
            environ[name] = value
    return environ
