"""`eventbus archive`: copies history and outcomes into the database."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from console.fleet import log_to_stderr
from console.options import Json, LogLevel, log_level
from console.printing import print_json
from console.progress import progress
from console.wording import plural

if TYPE_CHECKING:
    from events.backend import Backend
    from events.stream import Stream
    from workers.archiver import Archiver
    from workers.scheduler import Scheduler

LAST_WORDS_S = 5.0


def command(
    once: Annotated[bool, typer.Option("--once", help="Archive what is there, print how much, and end.")] = False,
    level: LogLevel = "info",
    as_json: Json = False,
) -> None:
    """Copy history into the database, until Ctrl-C or SIGTERM.

    History and the outcomes of deliveries, exactly once and in order. Several may run: one holds each
    stream, the others stand by. While Redis or the database cannot be reached it waits, and says so.
    `eventbus dev` and `start_consuming` archive by themselves; a fleet needs one of these beside its
    workers. It also publishes what is in the outbox, and scheduled events when they are due.

    \b
    Examples:
      eventbus archive
      eventbus archive --once
    """
    from console.opening import opened
    from events.settings import Settings
    from workers.archiver import Archiver
    from workers.assembly import make_scheduler

    settings = Settings.from_env()
    log_to_stderr(settings, log_level(level))
    moved: Counter[str] = Counter()

    steps: list[Callable[[int], None]] = []

    def count(stream: str, entries: int) -> None:
        moved[stream] += entries
        for step in steps:
            step(entries)

    with opened(settings, may_restore=True) as backend:
        _require_schema(backend, may_wait=not once)
        archiver = Archiver(backend.history, backend.archive, settings, count)
        if once:
            with progress("entries archived", None) as step:
                steps.append(step)
                _once(archiver)
        else:
            scheduler = make_scheduler(settings, backend.namespace)
            scheduler.start()
            _until_told(archiver, scheduler)
    if as_json:
        print_json({"events": moved["history"], "outcomes": moved["outcomes"]})
    else:
        print(f"Archived {plural(moved['history'], 'event')} and {plural(moved['outcomes'], 'outcome')}.")


def _require_schema(backend: Backend, *, may_wait: bool) -> None:
    """Refuse to start on a schema of another version; a database that is away is waited for, as later."""
    from events.errors import StoreUnavailable

    try:
        backend.registry.require_current()
    except StoreUnavailable:
        if not may_wait:
            raise


def _once(archiver: Archiver) -> None:
    from events.errors import EventBusError

    while archiver.relay():
        pass
    streams: tuple[Stream, ...] = ("history", "outcomes")
    for stream in streams:
        while (step := archiver.step(stream)).entries:
            pass
        if step.standby:
            raise EventBusError(f"Another archiver holds {stream} and archives it: there is nothing to do here.")
    archiver.relay()  # what the store has by now leaves the outbox


def _until_told(archiver: Archiver, scheduler: Scheduler) -> None:
    def stop(number: int, frame: Any) -> None:
        archiver.stop()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop)
    archiver.run()
    scheduler.stop()
    archiver.finish(time.monotonic() + LAST_WORDS_S)
