"""`eventbus redact`: takes payloads out of events that stay."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from console.confirming import DryRun, Yes, confirm
from console.exits import FAILED, Mistake, going_on
from console.options import Json, named
from console.printing import print_json
from console.progress import progress
from console.wording import plural

if TYPE_CHECKING:
    from store.redacting import Redacted


def command(
    event_ids: Annotated[list[str] | None, typer.Argument(metavar="EVENT_ID", help="The events.")] = None,
    project: Annotated[
        str | None,
        typer.Option("--project", "-p", callback=named, metavar="ID", help="Every event of this project instead."),
    ] = None,
    paths: Annotated[
        list[str] | None,
        typer.Option(
            "--path", metavar="PATH", help="Only what is there, e.g. payload.text or metadata.prompt; may be repeated."
        ),
    ] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Take payloads out of events that stay.

    Ids, types, actors, causes, costs and times are as before. A payload becomes {"redacted": true}; what --path
    names becomes "[redacted]". Payloads on the blackboard are redacted too, tracebacks and outputs of dead
    letters emptied, errors cut to the exception's name. Nothing puts it back: neither importing nor publishing
    the event again.

    What it cannot reach it counts: deliveries that wait and dead letters that are open keep their event in Redis
    until they have ended or are decided. Redis's history keeps it for a minute after archiving, files and backups of
    the servers as long as they do; docs/retention.md tells it all.

    \b
    Examples:
      eventbus redact EV-... --dry-run
      eventbus redact --project P-1 --yes
      eventbus redact --project P-1 --path payload.author.name --path metadata.prompt
    """
    if event_ids and project is not None:
        raise Mistake("Name events, or a --project: one or the other.")
    if not event_ids and project is None:
        raise Mistake("Say what to redact: `eventbus redact EVENT_ID...`, or `eventbus redact --project ID`.")
    found = _redact(event_ids or (), project, paths or (), dry_run=dry_run, yes=yes)
    (_tell_json if as_json else _tell)(found, dry_run)
    if found.unarchived:
        raise typer.Exit(FAILED)


def _redact(
    event_ids: Sequence[str], project: str | None, paths: Sequence[str], *, dry_run: bool, yes: bool
) -> Redacted:
    """Redact what is named, when somebody has agreed; in a dry run only say what that would be."""
    from console.opening import reading

    with reading() as backend, going_on("the same command does the rest."):
        redact = backend.blackboard.redaction.redact
        found = redact(event_ids, project, paths, dry_run=True)
        if not (found.events or found.unchanged or found.unarchived):
            raise Mistake(f"There are no events of project {project!r}; nothing was redacted.")
        if dry_run:
            return found
        which = f" of {project}" if project is not None else ""
        if found.events:
            confirm(f"Redact {plural(found.events, 'event')}{which} for good?", yes)
        with progress("events looked at", found.events + found.unchanged) as step:
            return redact(event_ids, project, paths, on_batch=step)


def _tell_json(found: Redacted, dry_run: bool) -> None:
    told: dict[str, Any] = {
        "dry_run": dry_run,
        "events": found.events,
        "unchanged": found.unchanged,
        "rows": found.rows,
    }
    told |= {"waiting": found.waiting, "open_dead_letters": found.open_letters, "unarchived": found.unarchived}
    print_json(told)


def _tell(found: Redacted, dry_run: bool) -> None:
    print(f"{'Would redact' if dry_run else 'Redacted'} {plural(found.events, 'event')}.")
    if found.unchanged:
        print(f"{plural(found.unchanged, 'event has', 'events have')} nothing of it, or nothing any more.")
    for table, count in sorted(found.rows.items()):
        print(f"  {count:,} changed in {table}")
    if found.waiting:
        print(f"{plural(found.waiting, 'delivery waits', 'deliveries wait')} with the body in Redis, until they end.")
    if found.open_letters:
        opened = plural(found.open_letters, "dead letter is open", "dead letters are open")
        print(f"{opened} with the body in Redis: `eventbus dead purge` ends that; then redact again.")
    if found.unarchived:
        unarchived = plural(found.unarchived, "event is", "events are")
        print(f"{unarchived} not archived yet and not redacted: do it again in a moment.", file=sys.stderr)
    if dry_run:
        print("Nothing was changed.", file=sys.stderr)
