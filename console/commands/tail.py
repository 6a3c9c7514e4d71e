"""`eventbus tail`: the last events, and the next ones as they happen."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from console.exits import complain
from console.options import Actor, JsonLines, Project, Types, event_filter, no_more
from console.printing import EventLines, event_object, print_json

if TYPE_CHECKING:
    from collections.abc import Iterable

    from events.records import RecordedEvent
    from store.filter import EventFilter
    from store.replay import Page, Replay

POLL_S = 0.25
OUTAGE_S = 1.0


def command(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new events until Ctrl-C.")] = False,
    count: Annotated[
        int, typer.Option("-n", callback=no_more, min=0, metavar="N", help="How many of the last events.")
    ] = 20,
    project: Project = None,
    types: Types = None,
    actor: Actor = None,
    as_json: JsonLines = False,
) -> None:
    """Show the last events, and with -f the next ones.

    Oldest first. Following waits while a server cannot be reached, says so, and goes on where it was.

    \b
    Examples:
      eventbus tail
      eventbus tail -f --project P-1
      eventbus tail -f -n 0 --type CONSISTENCY_FAILED --json
    """
    from console.latest import latest
    from console.opening import reading

    wanted = event_filter(project, types, actor)
    with reading() as backend:
        end = backend.history.clock()
        last = latest(backend.blackboard.replay, wanted, count, end)
        show = _json if as_json else EventLines().print
        show(last)
        if follow:
            _follow(backend.blackboard.replay, wanted, max(end, last[-1].position if last else 0), show)


def _follow(replay: Replay, wanted: EventFilter, after: int, show: object) -> None:
    while True:
        page = _page(replay, wanted, after)
        show(page.events)  # type: ignore[operator]
        after = page.last
        if page.complete:
            time.sleep(POLL_S)


def _page(replay: Replay, wanted: EventFilter, after: int) -> Page:
    """Read the next page; wait for servers that cannot be reached."""
    from events.errors import Unavailable

    waits = False
    while True:
        try:
            page = replay.page(wanted, after)
        except Unavailable as error:
            if not waits:
                complain(f"waiting: {error}")
            waits = True
            time.sleep(OUTAGE_S)
            continue
        if waits:
            complain("going on.")
        return page


def _json(events: Iterable[RecordedEvent]) -> None:
    import sys

    for recorded in events:
        print_json(event_object(recorded))
    sys.stdout.flush()
