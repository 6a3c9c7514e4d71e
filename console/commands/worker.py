"""`eventbus worker`: worker processes, supervised."""

from __future__ import annotations

import typer

from console.fleet import log_to_stderr, worker_arguments, working_directory
from console.options import App, Grace, LogLevel, MaxEvents, Processes, Subscribers, Threads, log_level


def command(
    app: App = None,
    processes: Processes = None,
    threads: Threads = None,
    subscribers: Subscribers = None,
    grace: Grace = None,
    max_events: MaxEvents = None,
    level: LogLevel = "info",
) -> None:
    """Run worker processes, until Ctrl-C or SIGTERM.

    A process that dies is replaced, alone and with backoff; what it held goes to the others when its
    lease ends. SIGHUP reloads: one process after another is replaced by one with the code that is there
    now, which takes work before the old one ends; if the new code cannot be loaded, the old processes go
    on. At the end running handlers get the grace period, and what has not started is handed back.

    Ends with 0 when stopped, 1 when a process had to be killed, 2 when the application cannot be loaded,
    3 when a server refuses the workers.

    \b
    Examples:
      eventbus worker --app pipeline:bus
      EVENTBUS_APP=pipeline:bus eventbus worker --processes 4 --threads 16
      eventbus worker --app pipeline:bus --subscribers VideoGen,MusicComposer
      eventbus worker --app pipeline:bus --max-events-per-process 10000
    """
    from events.settings import Settings
    from workers.supervisor import Supervisor

    settings = Settings.from_env()
    arguments = worker_arguments(
        app, settings, threads=threads, subscribers=subscribers, grace_s=grace, max_events=max_events, level=level
    )
    log_to_stderr(settings, log_level(level))
    grace_s = settings.grace_s if grace is None else grace
    supervisor = Supervisor(processes or settings.processes, arguments, grace_s, cwd=working_directory())
    raise typer.Exit(supervisor.run())
