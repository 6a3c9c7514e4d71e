"""`eventbus prune`: removes from the database what is old and settled."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from console.confirming import DryRun, Yes, confirm
from console.exits import Mistake, going_on
from console.options import Json, Project, span
from console.printing import print_json
from console.progress import progress
from console.wording import at, moment, plural

if TYPE_CHECKING:
    from events.backend import Backend
    from store.retention import Pruned


def command(
    older_than: Annotated[
        str | None,
        typer.Option("--older-than", metavar="AGE", help="In history for longer than this: 24h, 30d, 52w."),
    ] = None,
    project: Project = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Remove old, settled events from the database.

    What stays, and is counted with the reason: an event of which a delivery waits or a dead letter is open,
    one that is not archived yet, what a back-fill, a redelivery or an archiver has not come to, and what is
    later than a delivery of a back-fill that is not settled. With an event go its id, deliveries, attempts,
    decided dead letters and its payload on the blackboard. An id that is gone is forgotten. Redis trims its
    history by itself, once it is archived.

    On PostgreSQL months that are old as a whole are dropped at once (not with --project). Workers, archivers
    and readers go on meanwhile. Stopped at any moment, the same command does the rest.

    \b
    Examples:
      eventbus prune --older-than 52w --dry-run
      eventbus prune --older-than 90d --project P-1 --yes
    """
    from console.opening import reading

    age = span("--older-than", older_than)
    if age is None:
        raise Mistake("Say how old: `eventbus prune --older-than AGE`, for example 52w.")
    with reading() as backend, going_on("the same command does the rest."):
        _require_namespace(backend)
        asked = _microseconds_before(age.total_seconds())
        found = backend.blackboard.retention.rehearse(asked, project)
        before = found.before
        if not dry_run and found.events:
            which = f" of {project}" if project is not None else ""
            what = f"{plural(found.events, 'event')}{which} from before {moment(at(before))} (UTC)"
            confirm(f"Remove {what} for good?", yes)
        if not dry_run:
            with progress("events removed", found.events) as step:
                found = backend.blackboard.retention.prune(before, project, step)
    is_held = min(before, found.before) < asked
    if as_json:
        _tell_json(found, is_held, dry_run)
    else:
        _tell(found, is_held, dry_run)


def _require_namespace(backend: Backend) -> None:
    """Refuse when Redis has lost the namespace: it cannot tell what it needs."""
    from console.opening import lost
    from events.inspection import Inspection

    if Inspection(backend.namespace).epoch() is None and backend.archive.highest_position():
        raise lost(backend, "what it needs of the database cannot be told, so nothing is removed")


def _microseconds_before(age_s: float) -> int:
    return max(0, int((datetime.now(UTC).timestamp() - age_s) * 1_000_000))


def _tell_json(found: Pruned, is_held: bool, dry_run: bool) -> None:
    told: dict[str, Any] = {"before": found.before, "dry_run": dry_run, "events": found.events}
    told |= {"rows": dict(found.rows), "months": found.months, "kept": found.kept, "held_by_delivery": is_held}
    print_json(told)


def _tell(found: Pruned, is_held: bool, dry_run: bool) -> None:
    verb = "Would remove" if dry_run else "Removed"
    months = f"{'months' if len(found.months) > 1 else 'month'} {', '.join(found.months)} as a whole"
    whole = f", {months}" if found.months else ""
    since = f" from before {moment(at(found.before))} (UTC)" if found.before > 1 else ""
    print(f"{verb} {plural(found.events, 'event')}{since}{whole}.")
    for table, count in sorted(found.rows.items()):
        if count:
            print(f"  {count:,} from {table}")
    for reason, count in found.kept.items():
        print(f"{plural(count, 'event')} {'stays' if count == 1 else 'stay'}: {reason}.")
    if is_held:
        print(
            "Later ones stay: a back-fill, a redelivery or an archiver has not come to them yet, what a back-fill "
            "has delivered is not settled, or the database does not have a dead letter that is open in Redis."
        )
    if dry_run:
        print("Nothing was changed.", file=sys.stderr)
