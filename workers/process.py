"""One worker process: loads the application and runs a Dramatiq worker until it is told to go.

Started by the supervisor; by hand, `python -m workers.process --app module:attribute`. On SIGTERM, SIGINT
and SIGHUP it drains and ends, as a Dramatiq worker does: reloading is the supervisor's. It ends as well
when it has handled its number of events or handlers hang in it, after its successor has started, and when
its supervisor is gone, however that died.

Composition: it wires an application to workers. Exit codes are in `workers.exits`.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import logging
import os
import random
import sys
import threading
from typing import Any

from events.backend import Backend
from events.errors import (
    CertificateRefused,
    EmbeddedServerError,
    EventBusError,
    InvalidSettings,
    LoginRefused,
    ScriptFailed,
    Unavailable,
)
from events.settings import Settings
from workers.consuming import Consuming
from workers.exits import RET_CONNECT, RET_IMPORT, RET_KILLED, RET_OK
from workers.loading import chosen, load_app
from workers.logs import STYLES, Style, set_up
from workers.orders import FULL, KILL_AFTER_S, READY, Orders

CHECK_S = 0.2
SPREAD = 0.1

log = logging.getLogger("eventbus.worker")


def main(argv: list[str] | None = None) -> int:
    """Run a worker process to its end.

    Returns:
        Its exit code, one of `workers.exits`.
    """
    arguments = _parser().parse_args(argv)
    set_up(arguments.log_level, arguments.log_format or _log_format())
    orders = Orders(
        supervised=arguments.supervised, report_fd=arguments.report_fd, linger_s=(arguments.grace or 0) + KILL_AFTER_S
    )
    orders.heed()
    if orders.stop:
        return RET_OK
    loaded = _load(arguments)
    if isinstance(loaded, int):
        return loaded
    bus, settings, subscriptions = loaded
    gc.collect()
    gc.freeze()  # what was loaded stays, and need not be looked through for cycles again and again
    consuming = Consuming(
        settings,
        Backend(settings, may_restore=True),
        subscriptions,
        threads=settings.threads,
        schedules=bus.schedules,
        archive=arguments.archive,
        keep_waiting=lambda: not (orders.stop or orders.retire),
    )
    code = _start(consuming)
    if code is None:
        code = _serve(consuming, orders, settings, names=[subscription.name for subscription in subscriptions])
    bus.close()
    return code


def _log_format() -> Style:
    """Return what the environment asks for; where it asks for nonsense, that is said when the application is loaded."""
    with contextlib.suppress(InvalidSettings):
        if Settings.from_env().log_format == "text":
            return "text"
        if Settings.from_env().log_format == "json":
            return "json"
    return "text" if sys.stderr.isatty() else "json"


def _load(arguments: argparse.Namespace) -> tuple[Any, Settings, tuple[Any, ...]] | int:
    """Return the application's bus, the settings and the subscriptions to run, or the code to end with."""
    try:
        bus = load_app(arguments.app or Settings.from_env().app)
        subscriptions = chosen(bus, arguments.subscribers)
        given = {
            "grace_s": arguments.grace,
            "threads": arguments.threads,
            "max_events_per_process": arguments.max_events_per_process,
        }
        settings = bus.settings.with_(**{name: value for name, value in given.items() if value is not None})
    except Unavailable as error:
        log.error("The application %r needs a server while it is loaded: %s", arguments.app, error)
        return RET_CONNECT
    except EventBusError as error:
        log.error("%s", error)
        return RET_IMPORT
    except (Exception, SystemExit):
        log.exception("The application %r cannot be loaded.", arguments.app)
        return RET_IMPORT
    return bus, settings, subscriptions


def _start(consuming: Consuming) -> int | None:
    """Start handling; return the code to end with when that is not possible."""
    try:
        consuming.start()
    except (LoginRefused, CertificateRefused, ScriptFailed, EmbeddedServerError) as error:
        log.error("%s", error)
        return RET_CONNECT
    except Unavailable:  # while it is asked to, it waits for servers that are away
        log.info("Stopped before the servers could be reached.")
        return RET_OK
    except EventBusError as error:
        log.error("%s", error)
        return RET_IMPORT
    return None


def _serve(consuming: Consuming, orders: Orders, settings: Settings, names: list[str]) -> int:
    """Handle deliveries until an order, or by itself until its last event or until handlers hang; then drain."""
    while not (orders.stop or orders.retire or consuming.reads):
        orders.wait(CHECK_S)
    if consuming.reads:
        log.info("Ready: %s.", ", ".join(names) or "no subscriber, schedules alone")
        orders.report(READY)
    limit = settings.max_events_per_process
    full_at = limit + random.randint(0, int(limit * SPREAD)) if limit else float("inf")
    hangs = ""
    while not (orders.stop or orders.retire):
        orders.wait(CHECK_S)
        if not hangs and (hangs := consuming.hangs):
            log.critical(
                "%s is held by a handler that hangs: another process has to take the place of this one.", hangs
            )
            if not orders.supervised:
                consuming.stop(settings.grace_s)
                return RET_KILLED
            orders.report(FULL)
        if consuming.handled >= full_at:
            log.info("This process has handled %d events, its share; another takes its place.", consuming.handled)
            full_at = float("inf")
            orders.report(FULL)
            orders.retire = orders.retire or not orders.supervised
    _drain(consuming, orders, settings.grace_s)
    log.info("Stopped.")
    return RET_OK


def _drain(consuming: Consuming, orders: Orders, grace_s: float) -> None:
    """Drain within the grace; a process that retires lets its handlers end, unless it is told to stop meanwhile."""
    if orders.stop:
        consuming.stop(grace_s)
        return
    log.info("Retiring: what runs may end, and nothing new is taken.")
    draining = threading.Thread(target=consuming.retire, name="eventbus-retiring")
    draining.start()
    while draining.is_alive() and not orders.stop:
        orders.wait(CHECK_S)
    if orders.stop:
        consuming.hurry(grace_s)
    draining.join()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m workers.process", description=__doc__)
    parser.add_argument("--app", help="module:attribute; EVENTBUS_APP unless given")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--subscribers", nargs="*")
    parser.add_argument("--grace", type=float)
    parser.add_argument("--max-events-per-process", type=int, help="end after so many; 0 never does")
    parser.add_argument("--log-level", default="info")
    parser.add_argument("--log-format", choices=STYLES, help="EVENTBUS_LOG_FORMAT unless given")
    parser.add_argument("--archive", action="store_true", help="run an archiver too")
    parser.add_argument("--supervised", action="store_true", help="take orders on standard input, stop when it ends")
    parser.add_argument("--report-fd", type=int, help="inherited file descriptor that gets `ready` and `full`")
    return parser


def run() -> None:
    """Run `main`, and end the process."""
    code = main()
    logging.shutdown()
    sys.stdout.flush()
    os._exit(code)  # daemon threads of drivers must not hold up the end of a drained worker


if __name__ == "__main__":
    run()
