"""`eventbus scheduled`: events that are to be published later, listed and cancelled."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from console import wording
from console.agenda import matching
from console.confirming import DryRun, Yes, confirm
from console.exits import FAILED, Mistake, complain, reporting
from console.options import Json, JsonLines, Project, Types, event_filter, no_more
from console.printing import print_json

if TYPE_CHECKING:
    from events.scheduled import ScheduledEvents

BATCH = 500
MAX_NAMED = 10

group = typer.Typer(
    no_args_is_help=True,
    help="List and cancel events that are to be published later.\n\n"
    "\b\nExamples:\n  eventbus scheduled list\n  eventbus scheduled cancel --help\n",
)


@group.command("list")
@reporting
def list_(
    project: Project = None,
    types: Types = None,
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", callback=no_more, min=1, metavar="N", help="At most so many events.")
    ] = None,
    as_json: JsonLines = False,
) -> None:
    """List scheduled events, the next due first.

    They are not in history before they are due. ORIGIN tells who scheduled each: `publish`, or the delivery
    whose handler did.

    \b
    Examples:
      eventbus scheduled list
      eventbus scheduled list --project P-1 --json
    """
    from console.opening import reading

    with reading() as backend:
        scheduled = _scheduled(backend)
        found = 0
        for waiting in islice(matching(scheduled, event_filter(project, types, None)), limit):
            if as_json:
                print_json(waiting)
            else:
                if not found:
                    print(_line("DUE (UTC)", "TYPE", "PROJECT", "EVENT", "ORIGIN"))
                due = wording.moment(waiting.due)
                print(_line(due, waiting.type, waiting.project_id, waiting.event_id, waiting.origin))
            found += 1
    if not found and not as_json:
        print("Nothing is scheduled." if project is None and not types else "No event matches.", file=sys.stderr)


@group.command("cancel")
@reporting
def cancel(
    event_ids: Annotated[list[str] | None, typer.Argument(metavar="EVENT_ID", help="Events to cancel.")] = None,
    project: Project = None,
    types: Types = None,
    everything: Annotated[bool, typer.Option("--all", help="Cancel everything that is scheduled.")] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Cancel scheduled events.

    Those named, or all of a project or a type. What is cancelled is gone; what is in history already cannot be
    cancelled. What is not named one by one is asked about first. The exit code is 1 when an event that is named
    was not scheduled.

    \b
    Examples:
      eventbus scheduled cancel EV-...
      eventbus scheduled cancel --project P-1 --type QA_REPORT --dry-run
    """
    from console.opening import reading

    filters = bool(project is not None or types or everything)
    if filters == bool(event_ids):
        raise Mistake("Name the events to cancel, or give --project, --type or --all; not both, and not neither.")
    with reading() as backend:
        scheduled = _scheduled(backend)
        wanted = event_filter(project, types, None)
        ids = iter(event_ids) if event_ids else (waiting.event_id for waiting in matching(scheduled, wanted))
        if not (event_ids or dry_run or yes) and (asked := list(ids)):
            confirm(f"Cancel {wording.plural(len(asked), 'event')} for good?", yes)
            ids = iter(asked)
        cancelled, missing = _cancel(scheduled, ids, dry_run)
    if event_ids is None:
        missing = []  # published, or cancelled by somebody else, in the meantime
    if as_json:
        print_json({"cancelled": cancelled, "not_scheduled": missing, "dry_run": dry_run})
    else:
        print(f"{'Would cancel' if dry_run else 'Cancelled'} {wording.plural(cancelled, 'event')}.")
    if missing:
        shown = ", ".join(missing[:MAX_NAMED]) + (", ..." if len(missing) > MAX_NAMED else "")
        complain(f"Not scheduled, unknown or published already: {shown}.")
        raise typer.Exit(FAILED)


def _scheduled(backend: Any) -> ScheduledEvents:
    from events.scheduled import ScheduledEvents

    return ScheduledEvents(backend.namespace, backend.settings.max_routes)


def _cancel(scheduled: ScheduledEvents, ids: Iterator[str], dry_run: bool) -> tuple[int, list[str]]:
    """Cancel a batch at a time; return how many were scheduled, and the ids that were not."""
    cancelled, missing = 0, []
    while batch := list(islice(ids, BATCH)):
        found = scheduled.know(batch) if dry_run else scheduled.cancel(batch)
        cancelled += sum(found)
        missing += [event_id for event_id, was in zip(batch, found, strict=True) if not was]
    return cancelled, missing


def _line(due: str, kind: str, project: str, event_id: str, origin: str) -> str:
    return f"{due:<23}  {kind:<24}  {project:<16}  {event_id:<35}  {origin}".rstrip()
