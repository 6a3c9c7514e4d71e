"""`eventbus dev`: embedded servers, workers and archiver together, for local work."""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from console.colour import has_colour, painted
from console.fleet import log_style, worker_arguments, working_directory
from console.options import App, LogLevel, Subscribers, Threads, log_level
from console.wording import plural

if TYPE_CHECKING:
    from events.backend import Backend
    from events.settings import Settings
    from workers.archiver import Archiver
    from workers.logs import Style

LAST_WORDS_S = 5.0
_COLOURS = (36, 33, 32, 35, 34, 31)


def command(
    app: App = None,
    processes: Annotated[int, typer.Option("--processes", min=1, metavar="N", help="Worker processes.")] = 1,
    threads: Threads = None,
    subscribers: Subscribers = None,
    grace: Annotated[
        float, typer.Option("--grace", min=0, metavar="S", help="Seconds for running handlers at the end.")
    ] = 5.0,
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
    style = log_style(settings)
    relay = _log(log_level(level), style)
    with opened(settings, may_restore=True) as backend:
        _introduce(backend, settings, app or settings.app or "", processes, relay.own)
        archiver = Archiver(backend.history, backend.archive, settings)
        thread = threading.Thread(target=archiver.run, name="eventbus-archiver", daemon=True)
        thread.start()
        try:
            code = Supervisor(processes, arguments, grace, cwd=working_directory(), relay=relay.worker).run()
        finally:
            _end(archiver, thread)
    raise typer.Exit(code)


def _introduce(backend: Backend, settings: Settings, app: str, processes: int, say: Callable[[str], None]) -> None:
    from events.connection import reachable_name
    from store.failures import name_of

    own = "" if settings.redis_url else " (embedded)"
    say(f"Redis: {reachable_name(backend.client)}{own}")
    say(f"Database: {name_of(backend.blackboard.engine)}")
    fleet = plural(processes, "worker process", "worker processes")
    say(f"Running {fleet} of {app} and the archiver; Ctrl-C stops all.")


def _end(archiver: Archiver, thread: threading.Thread) -> None:
    archiver.stop()
    thread.join(LAST_WORDS_S)
    archiver.finish(time.monotonic() + LAST_WORDS_S)


class _Lines:
    """Lines of several processes on one stderr, each whole and with its writer's name."""

    def own(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    def worker(self, number: int, line: str) -> None:
        print(f"{_label(f'worker.{number}', number)} {line}", file=sys.stderr, flush=True)


class _Objects(_Lines):
    """The same as JSON objects: what a handler prints becomes the message of one."""

    def own(self, line: str) -> None:
        logging.getLogger("eventbus.dev").info("%s", line)

    def worker(self, number: int, line: str) -> None:
        try:
            is_object = line.startswith("{") and isinstance(json.loads(line), dict)
        except ValueError:
            is_object = False
        if is_object:
            print(line, file=sys.stderr, flush=True)
        else:
            logging.getLogger(f"worker.{number}").info("%s", line)


class _Labelled(logging.Formatter):
    """Puts the part of this process that logs in front: the supervisor or the archiver."""

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        return f"{_label(record.name.rpartition('.')[2], 0)} {self._inner.format(record)}"


def _log(level: str, style: Style) -> _Lines:
    """Set up this process's log; return what writes the lines of the others."""
    from workers.logs import set_up

    if style == "json":
        set_up(level, style)
        return _Objects()
    set_up(level, style, label=_Labelled)
    return _Lines()


def _label(name: str, number: int) -> str:
    label = f"{name:<10} |"
    if not (sys.stderr.isatty() and has_colour()):
        return label
    return painted(label, _COLOURS[number % len(_COLOURS)])
