"""`eventbus replay`: history again, filtered, in its one order."""

from __future__ import annotations

import sys
from itertools import islice
from typing import Annotated

import typer

from console.options import Actor, Correlation, JsonLines, Metadata, Payload, Project, Types, event_filter
from console.printing import EventLines, event_object, print_json


def command(
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
    until: Annotated[
        str | None, typer.Option("--until", metavar="WHEN", help="Before this moment; written like --since.")
    ] = None,
    payload: Payload = None,
    metadata: Metadata = None,
    after: Annotated[
        int, typer.Option("--after", min=0, metavar="POSITION", help="After this position; resumes an earlier replay.")
    ] = 0,
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", min=1, metavar="N", help="At most so many events.")
    ] = None,
    as_json: JsonLines = False,
) -> None:
    """Read history again, filtered, oldest first.

    Every filter is optional, and reading changes nothing. The times are those that the events carry. Of
    any length: a page is in memory at a time. A path is keys and places in lists with dots between them; a
    backslash takes the next character as it is.

    \b
    Examples:
      eventbus replay --project P-1
      eventbus replay --since 24h --type IMAGE_GENERATED --type CONSISTENCY_FAILED
      eventbus replay --payload scene.number=3 --metadata priority=5
      eventbus replay --correlation EV-... --json > story.jsonl
    """
    from console.opening import reading

    wanted = event_filter(project, types, actor, correlation, since, until, payload, metadata)
    with reading() as backend:
        events = islice(backend.blackboard.replay.iterate(wanted, after), limit)
        if as_json:
            for recorded in events:
                print_json(event_object(recorded))
        elif not EventLines().print(events):
            print("No event matches.", file=sys.stderr)
