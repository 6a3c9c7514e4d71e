"""`eventbus dev`: embedded servers, workers and archiver together, for local work."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Annotated

import typer

from console.fleet import worker_arguments, working_directory
from console.options import App, LogLevel, Subscribers, Threads, log_level
from console.wording import plural

if TYPE_CHECKING:
    from events.backend import Backend
    from events.settings import Settings
    from workers.archiver import Archiver

LAST_WORDS_S = 5.0
_COLOURS = (36, 33, 32, 35, 34, 31)


def command(
    app: App = None,
    processes: Annotated[int, typer.Option("--processes", min=1, metavar="N", help="Worker processes.")] = 1,
    threads: Threads = None,
    subscribers: Subscribers = None,
    grace: Annotated[float, typer.Option("--grace", min=0, metavar="S", help="Seconds for running handlers.")] = 5.0,
    level: LogLevel = "info",
) -> None:
    """Run servers, workers and archiver on this machine.

    Everything that local work needs, until Ctrl-C. Without REDIS_URL and DATABASE_URL that is a real
    Valkey and SQLite in .eventbus. Publish and ask from another terminal in the same directory. Each
    line of output says who wrote it. SIGHUP reloads the application, as in `eventbus worker`.

    \b
    Examples:
      eventbus dev --app pipeline:bus
      eventbus dev --app console.demo.pipeline:bus   # the agents of the demo
    """
    from console.opening import opened
    from events.settings import Settings
    from workers.archiver import Archiver
    from workers.supervisor import Supervisor

    settings = Settings.from_env()
    arguments = worker_arguments(app, settings, threads=threads, subscribers=subscribers, grace_s=grace, level=level)
    _log_with_prefix(log_level(level))
    relay = _Lines()
    with opened(settings, may_restore=True) as backend:
        _introduce(backend, settings, app or settings.app or "", processes)
        archiver = Archiver(backend.history, backend.archive, settings)
        thread = threading.Thread(target=archiver.run, name="eventbus-archiver", daemon=True)
        thread.start()
        try:
            code = Supervisor(processes, arguments, grace, cwd=working_directory(), relay=relay.worker).run()
        finally:
            _end(archiver, thread)
    raise typer.Exit(code)


def _introduce(backend: Backend, settings: Settings, app: str, processes: int) -> None:
    from events.connection import reachable_name
    from store.failures import name_of

    own = "" if settings.redis_url else " (embedded)"
    print(f"Redis: {reachable_name(backend.client)}{own}", file=sys.stderr)
    print(f"Database: {name_of(backend.blackboard.engine)}", file=sys.stderr)
    fleet = plural(processes, "worker process", "worker processes")
    print(f"Running {fleet} of {app} and the archiver; Ctrl-C stops all.\n", file=sys.stderr, flush=True)


def _end(archiver: Archiver, thread: threading.Thread) -> None:
    archiver.stop()
    thread.join(LAST_WORDS_S)
    archiver.finish(time.monotonic() + LAST_WORDS_S)


class _Lines:
    """Lines of several processes on one stderr, each whole and with its writer's name."""

    def worker(self, number: int, line: str) -> None:
        print(f"{_label(f'worker.{number}', number)} {line}", file=sys.stderr, flush=True)


class _Labelled(logging.Formatter):
    """Puts the part of this process that logs in front: the supervisor or the archiver."""

    def format(self, record: logging.LogRecord) -> str:
        return f"{_label(record.name.rpartition('.')[2], 0)} {super().format(record)}"


def _log_with_prefix(level: str) -> None:
    from workers.process import LOG_FORMAT

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Labelled(LOG_FORMAT))
    logging.basicConfig(level=level.upper(), handlers=[handler])
    logging.getLogger("alembic").setLevel(logging.WARNING)


def _label(name: str, number: int) -> str:
    label = f"{name:<10} |"
    if not sys.stderr.isatty() or os.environ.get("NO_COLOR"):
        return label
    return f"\x1b[{_COLOURS[number % len(_COLOURS)]}m{label}\x1b[0m"
