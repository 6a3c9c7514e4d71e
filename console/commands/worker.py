"""`eventbus worker`: worker processes, supervised."""

from __future__ import annotations

import typer

from console.fleet import log_to_stderr, worker_arguments
from console.options import App, Grace, LogLevel, Processes, Subscribers, Threads, log_level


def command(
    app: App = None,
    processes: Processes = None,
    threads: Threads = None,
    subscribers: Subscribers = None,
    grace: Grace = None,
    level: LogLevel = "info",
) -> None:
    """Run worker processes, until Ctrl-C or SIGTERM.

    A process that dies is replaced, alone and with backoff; what it held goes to the others when its
    lease ends. At the end running handlers get the grace period, and what has not started is handed
    back. Ends with 0 when stopped, 1 when a process had to be killed, 2 when the application cannot be
    loaded.

    \b
    Examples:
      eventbus worker --app pipeline:bus
      EVENTBUS_APP=pipeline:bus eventbus worker --processes 4 --threads 16
      eventbus worker --app pipeline:bus --subscribers VideoGen,MusicComposer
    """
    from events.settings import Settings
    from workers.supervisor import Supervisor

    settings = Settings.from_env()
    arguments = worker_arguments(app, settings, threads=threads, subscribers=subscribers, grace_s=grace, level=level)
    log_to_stderr(log_level(level))
    grace_s = settings.grace_s if grace is None else grace
    raise typer.Exit(Supervisor(processes or settings.processes, arguments, grace_s).run())
