"""`eventbus top`: the fleet on a terminal, as it is now, once a second."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from console.exits import Mistake
from console.options import JsonLines
from console.printing import print_json

if TYPE_CHECKING:
    from console.watch import Watch
    from events.backend import Backend

KEY_S = 0.1
_WIDTH = 80


def command(
    once: Annotated[bool, typer.Option("--once", help="Print one frame and end, e.g. into a pipe.")] = False,
    as_json: JsonLines = False,
) -> None:
    """Watch throughput, subscribers, workers and spend, live.

    Once a second: events and ended deliveries a second (over the last five), what waits for each subscriber and since
    when, what every worker process is busy with, how far the archive is behind, what was spent, and what needs
    attention. `q` ends it. It reads what is there and changes nothing; servers that cannot be reached are waited for.
    Deliveries count as ended when their outcome is archived.

    \b
    Examples:
      eventbus top
      eventbus top --once
      eventbus top --json | jq .events_per_s
    """
    from console.opening import reading
    from console.watch import Watch, view_object

    is_live = not (once or as_json)
    if is_live and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise Mistake("`eventbus top` needs a terminal: --once prints one frame, --json an object a second.")
    with reading() as backend:
        watch, namespace = Watch(backend), backend.settings.namespace
        if is_live:
            _live(watch, namespace)
            return
        watch.look()
        while True:
            time.sleep(1)
            watch.look()
            if as_json:
                print_json(view_object(watch.view, namespace))
                sys.stdout.flush()
            else:
                _print(watch, backend)
            if once:
                return


def _print(watch: Watch, backend: Backend) -> None:
    from console.colour import has_colour
    from console.frame import frame, text_of

    is_terminal = sys.stdout.isatty()
    asked = os.environ.get("COLUMNS", "")
    columns = os.get_terminal_size(sys.stdout.fileno()).columns if is_terminal else 0
    width = columns or (int(asked) if asked.isdecimal() and int(asked) else _WIDTH)
    print(text_of(frame(watch.view, backend.settings.namespace, width, None, colour=is_terminal and has_colour())))


def _live(watch: Watch, namespace: str) -> None:
    from console.colour import has_colour
    from console.frame import frame
    from console.screen import whole_screen

    drawn: object = None
    watch.start()
    try:
        with whole_screen() as screen:
            while not screen.is_over:
                now = (watch.count, screen.size)
                if now != drawn:
                    screen.show(frame(watch.view, namespace, *screen.size, colour=has_colour()))
                    drawn = now
                if screen.key(KEY_S).lower() in ("q", "\x1b", "\x03"):
                    return
    finally:
        watch.stop()
