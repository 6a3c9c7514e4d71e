"""`eventbus prune`: removes from the database what is old and settled."""

from __future__ import annotations

import sys
from contextlib import suppress
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

_PAGE = 1000


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
    one that is not archived yet, and what a back-fill, a redelivery or an archiver has not come to. With an
    event go its id, deliveries, attempts, decided dead letters and its payload on the blackboard. An id that is
    gone is forgotten. Redis trims its history by itself, once it is archived.

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
    if project == "":
        raise Mistake("--project is empty.")
    with reading() as backend, going_on("the same command does the rest."):
        asked = _microseconds_before(age.total_seconds())
        before = min(asked, _awaited(backend))
        found = backend.blackboard.retention.rehearse(before, project)
        if not dry_run and found.events:
            which = f" of {project}" if project is not None else ""
            what = f"{plural(found.events, 'event')}{which} from before {moment(at(before))} (UTC)"
            confirm(f"Remove {what} for good?", yes)
        if not dry_run:
            with progress("events removed", found.events) as step:
                found = backend.blackboard.retention.prune(before, project, step)
    if as_json:
        _tell_json(found, before, before < asked, dry_run)
    else:
        _tell(found, before, before < asked, dry_run)


def _microseconds_before(age_s: float) -> int:
    return max(0, int((datetime.now(UTC).timestamp() - age_s) * 1_000_000))


def _awaited(backend: Backend) -> int:
    """Return the position that everything which delivers history to subscribers has come to."""
    from events.errors import RedeliveryRefused, UnknownSubscriber
    from events.records import END
    from events.redelivery import look
    from events.standing import standings

    cursors = []
    for found in standings(backend.namespace):
        if found.filled_to is not None:
            cursors.append(found.filled_to)
            continue
        with suppress(RedeliveryRefused, UnknownSubscriber):  # a join, or one that is being dropped
            under = look(backend.namespace, found.queue.subscriber)
            cursors += [under.cursor] if under.number else []
    cursors += _told(backend)  # last: what a redelivery has delivered by now is in the outcomes
    return min(cursors, default=END - 1) + 1


def _told(backend: Backend) -> list[int]:
    """Return how far events may go that no archiver will read again, or learn something new about.

    An archiver that died before it told Redis has left what the next one reads again, and would store again.
    """
    from events.records import Outcome

    history, found, last = backend.history, [], "0-0"
    stored = backend.blackboard.archive.cursor("history").position
    _, archived = history.clock_and_archived()
    if archived < stored:
        found.append(archived)
    while entries := history.entries_after("outcomes", last, _PAGE):
        last = entries[-1][0]
        positions = [one.event_position for _, one in entries if isinstance(one, Outcome) and one.event_position > 0]
        found += [min(positions) - 1] if positions else []
    return found


def _tell_json(found: Pruned, before: int, is_held: bool, dry_run: bool) -> None:
    told: dict[str, Any] = {"before": before, "dry_run": dry_run, "events": found.events, "rows": dict(found.rows)}
    print_json(told | {"months": found.months, "kept": found.kept, "held_by_delivery": is_held})


def _tell(found: Pruned, before: int, is_held: bool, dry_run: bool) -> None:
    verb = "Would remove" if dry_run else "Removed"
    whole = f", {'months' if len(found.months) > 1 else 'month'} {', '.join(found.months)} as a whole"
    print(
        f"{verb} {plural(found.events, 'event')} from before {moment(at(before))} (UTC){whole if found.months else ''}."
    )
    for table, count in sorted(found.rows.items()):
        if count:
            print(f"  {count:,} from {table}")
    for reason, count in found.kept.items():
        print(f"{plural(count, 'event')} {'stays' if count == 1 else 'stay'}: {reason}.")
    if is_held:
        print("Later ones stay: a back-fill, a redelivery or an archiver has not come to them yet.")
    if dry_run:
        print("Nothing was changed.", file=sys.stderr)
