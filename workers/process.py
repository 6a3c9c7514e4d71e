"""One worker process: loads the application and runs a Dramatiq worker until it is told to stop.

Started by the supervisor; by hand, `python -m workers.process --app module:attribute`. Stops on SIGTERM
or SIGINT, and when its standard input closes: then its supervisor is gone, however it died.

Composition: it wires an application to workers. Exit codes are Dramatiq's: 0 stopped, 1 killed,
2 the application cannot be loaded or its subscribers cannot be declared.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
from types import FrameType

from events.backend import Backend
from events.errors import EventBusError, Unavailable
from events.settings import Settings
from workers.consuming import Consuming
from workers.exits import RET_IMPORT, RET_KILLED, RET_OK
from workers.loading import chosen, load_app

LOG_FORMAT = "%(asctime)s %(levelname)-7s [%(process)d] %(name)s: %(message)s"

CHECK_S = 1.0

log = logging.getLogger("eventbus.worker")


def main(argv: list[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=arguments.log_level.upper(), format=LOG_FORMAT, stream=sys.stderr)
    for chatty in ("alembic", "dramatiq"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    stop = threading.Event()
    _install_signals(stop)
    if arguments.supervised:
        threading.Thread(target=_wait_for_supervisor, args=(stop,), name="eventbus-supervised", daemon=True).start()
    try:
        bus = load_app(arguments.app or Settings.from_env().app)
        subscriptions = chosen(bus, arguments.subscribers)
        settings = bus.settings.with_(**({"grace_s": arguments.grace} if arguments.grace is not None else {}))
        consuming = Consuming(
            settings,
            Backend(settings, may_restore=True),
            subscriptions,
            threads=arguments.threads or settings.threads,
            schedules=bus.schedules,
            archive=arguments.archive,
            keep_waiting=lambda: not stop.is_set(),
        )
        consuming.start()
    except Unavailable:
        log.info("Stopped before the servers could be reached.")
        return RET_OK
    except EventBusError as error:
        log.error("%s", error)
        return RET_IMPORT
    except Exception:
        log.exception("The application %r cannot be loaded.", arguments.app)
        return RET_IMPORT
    log.info("Ready: %s.", ", ".join(s.name for s in subscriptions))
    code = RET_OK
    while not stop.wait(CHECK_S):
        if consuming.hangs:
            log.critical(
                "Every thread is held by a handler that hangs; this process ends, for another to take its place."
            )
            code = RET_KILLED
            break
    consuming.stop(settings.grace_s if code == RET_OK else 0.0)
    bus.close()
    log.info("Stopped.")
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m workers.process", description=__doc__)
    parser.add_argument("--app", help="module:attribute; EVENTBUS_APP unless given")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--subscribers", nargs="*")
    parser.add_argument("--grace", type=float)
    parser.add_argument("--log-level", default="info")
    parser.add_argument("--archive", action="store_true", help="run an archiver too")
    parser.add_argument("--supervised", action="store_true", help="stop when standard input closes")
    return parser


def _install_signals(stop: threading.Event) -> None:
    """First signal: drain. A repeated SIGINT after that: go at once, leases expire."""

    def ask_to_stop(number: int, frame: FrameType | None) -> None:
        if stop.is_set() and number == signal.SIGINT and not _supervised():
            os._exit(RET_KILLED)
        stop.set()

    signal.signal(signal.SIGTERM, ask_to_stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN if _supervised() else ask_to_stop)
    signal.signal(signal.SIGHUP, ask_to_stop)


def _supervised() -> bool:
    return "--supervised" in sys.argv


def _wait_for_supervisor(stop: threading.Event) -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    stop.set()


def run() -> None:
    """Run `main`, and end the process."""
    code = main()
    logging.shutdown()
    sys.stdout.flush()
    os._exit(code)  # daemon threads of drivers must not hold up the end of a drained worker


if __name__ == "__main__":
    run()
