"""What `worker`, `dev` and `demo` share: the arguments of worker processes, their directory, and logs."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING

from console.colour import has_colour
from console.exits import Mistake
from console.options import log_level
from console.probe import require_loadable

if TYPE_CHECKING:
    from events.settings import Settings
    from workers.logs import Style


def worker_arguments(
    app: str | None,
    settings: Settings,
    *,
    threads: int | None = None,
    subscribers: str | None = None,
    grace_s: float | None = None,
    max_events: int | None = None,
    level: str = "info",
    style: Style | None = None,
    probes: bool = True,
) -> list[str]:
    """Return the arguments of a worker process.

    Args:
        style: of its log's lines; what fits this process's stderr unless given.
        probes: load the application once, to find out here that it cannot be.

    Raises:
        Mistake: there is no application, it cannot be loaded, or a value cannot be read.
        typer.Exit: it raised, and its traceback was shown.
    """
    target = app or settings.app
    if not target:
        raise Mistake(
            "There is no application to run: pass --app MODULE:ATTR or set EVENTBUS_APP, for example "
            "--app pipeline:bus for `bus = EventBus()` in pipeline.py."
        )
    arguments = ["--app", target, "--log-level", log_level(level), "--log-format", style or log_style(settings)]
    arguments += ["--threads", str(threads or settings.threads)]
    arguments += ["--grace", str(settings.grace_s if grace_s is None else grace_s)]
    limit = settings.max_events_per_process if max_events is None else max_events
    arguments += ["--max-events-per-process", str(limit)]
    names: list[str] = []
    if subscribers is not None:
        names = [name for name in (part.strip() for part in subscribers.split(",")) if name]
        if not names:
            raise Mistake("--subscribers must name at least one subscriber, for example --subscribers Editor,VideoGen.")
        arguments += ["--subscribers", *names]
    if probes:
        require_loadable(target, names)
    return arguments


def working_directory() -> str:
    """Return the current directory under the name that it was entered by.

    A deploy that points a symbolic link to a new release leaves the name as it is: processes that are started
    under it run the new release, while the directory of this process is still the old one.
    """
    name = os.environ.get("PWD", "")
    with contextlib.suppress(OSError):
        if os.path.isabs(name) and os.path.samefile(name, "."):
            return name
    return os.getcwd()


def log_style(settings: Settings) -> Style:
    """Return what the lines of logs on stderr are: what `EVENTBUS_LOG_FORMAT` says, else text on a terminal alone."""
    is_terminal = sys.stderr.isatty()
    if settings.log_format == "json" or not (is_terminal or settings.log_format):
        return "json"
    return "colour" if is_terminal and has_colour() else "text"


def log_to_stderr(settings: Settings, level: str) -> None:
    """Send this process's logs to stderr, as its workers do."""
    from workers.logs import set_up

    set_up(level, log_style(settings))
