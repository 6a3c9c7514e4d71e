"""`eventbus tail`: the last events, and the next ones as they happen."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from console.exits import complain
from console.options import (
    Actor,
    Correlation,
    JsonLines,
    Metadata,
    Payload,
    Project,
    Types,
    event_filter,
    no_more,
)
from console.printing import EventLines, event_object, print_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from events.records import RecordedEvent
    from store.filter import EventFilter
    from store.replay import Page, Replay

POLL_S = 0.25
OUTAGE_S = 1.0


def command(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new events until Ctrl-C.")] = False,
    count: Annotated[
        int | None,
        typer.Option(
            "--limit",
            "-n",
            callback=no_more,
            min=0,
            metavar="N",
            help="How many of the last events.",
            show_default="20; all of a --since",
        ),
    ] = None,
    project: Project = None,
    types: Types = None,
    actor: Actor = None,
    correlation: Correlation = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since", metavar="WHEN", help="From this moment on: ISO 8601, UTC, or a span ago: 90s, 15m, 24h, 7d."
        ),
    ] = None,
    payload: Payload = None,
    metadata: Metadata = None,
    as_json: JsonLines = False,
) -> None:
    """Show the last events, and with -f the next ones.

    Oldest first; on a terminal each type, actor and project has a colour of its own. Following waits while a server
    cannot be reached, says so, and goes on where it was.

    \b
    Examples:
      eventbus tail
      eventbus tail -f --project P-1
      eventbus tail -f -n 0 --type CONSISTENCY_FAILED --json
      eventbus tail -f --since 15m --correlation EV-...
      eventbus tail -f --payload scene.number=3 --metadata priority=5
    """
    from console.latest import latest
    from console.opening import reading

    wanted = event_filter(project, types, actor, correlation, since, None, payload, metadata)
    with reading() as backend:
        end = backend.history.clock()
        replay = backend.blackboard.replay
        show = _json if as_json else EventLines().print
        is_whole = since is not None and count is None
        shown = _Last(
            replay.iterate(wanted) if is_whole else latest(replay, wanted, 20 if count is None else count, end).events
        )
        show(shown)
        if follow:
            _follow(replay, wanted, max(end, shown.position), show)


class _Last:
    """Events on their way to the reader; `position` is that of the last one, 0 before any."""

    def __init__(self, events: Iterable[RecordedEvent]) -> None:
        self._events = events
        self.position = 0

    def __iter__(self) -> Iterator[RecordedEvent]:
        for recorded in self._events:
            self.position = recorded.position
            yield recorded


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
