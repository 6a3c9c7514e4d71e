"""`eventbus dead`: what was given up, why, and what is to become of it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from console.confirming import DryRun, Yes
from console.exits import Mistake, reporting
from console.options import JsonLines, Project, Types, event_filter, moment, no_more
from console.printing import Lines, console, print_json

if TYPE_CHECKING:
    from datetime import datetime

    from events.backend import Backend
    from events.dead_letters import Decision
    from events.records import DeadLetter, LetterFilter

group = typer.Typer(
    no_args_is_help=True,
    help="List dead letters, retry or discard them.\n\n"
    "A dead letter is a delivery that was given up. It is kept until somebody decides about it: it is delivered "
    "again, or given up for good. Each command has its own --help.\n\n"
    "\b\nExamples:\n  eventbus dead list\n  eventbus dead retry --help\n",
)

Letters = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="LETTER",
        help="Letters by name: delivery (POSITION:SUBSCRIBER:REDELIVERY), event id, or the letter's own position.",
    ),
]
Subscriber = Annotated[
    list[str] | None,
    typer.Option("--subscriber", "-s", metavar="NAME", help="Only of this subscriber; repeat it for several."),
]
Since = Annotated[
    str | None,
    typer.Option("--since", metavar="WHEN", help="Only given up since: ISO 8601, UTC, or a span ago: 90s, 24h, 7d."),
]
Until = Annotated[
    str | None, typer.Option("--until", metavar="WHEN", help="Only given up before; written like --since.")
]
ErrorText = Annotated[
    str | None, typer.Option("--error", metavar="TEXT", help="Only with this text in the reason, whichever case.")
]
Limit = Annotated[
    int | None, typer.Option("--limit", "-n", callback=no_more, min=1, metavar="N", help="At most so many letters.")
]
Everything = Annotated[bool, typer.Option("--all", help="Act on all of them, without a name or a filter.")]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; kept with the decision.")]


@group.command("list")
@reporting
def list_(
    letters: Letters = None,
    subscribers: Subscriber = None,
    types: Types = None,
    project: Project = None,
    since: Since = None,
    until: Until = None,
    error: ErrorText = None,
    resolved: Annotated[
        bool,
        typer.Option("--resolved", help="Those already decided, and those that Redis has lost; from the database."),
    ] = False,
    limit: Limit = None,
    as_json: JsonLines = False,
) -> None:
    """List dead letters, each subscriber's oldest first.

    Those about which nobody has decided, as Redis has them; BLOCKS names the key of an ordered subscriber
    that waits for the decision. With --resolved the others: NOW tells what became of each; `lost` are those
    that nobody decided about and Redis has no more.

    \b
    Examples:
      eventbus dead list
      eventbus dead list -s Painter --error timeout --since 24h
      eventbus dead list --resolved --json
    """
    from console.letters import DECIDED_HEADINGS, HEADINGS, decided_lines, letter_object, open_lines
    from console.opening import reading

    wanted = letter_filter(letters, subscribers, types, project, since, until, error)
    with reading() as backend:
        found = islice(_resolved(backend, wanted) if resolved else _open(backend, wanted), limit)
        if as_json:
            for letter, word in found:
                print_json(letter_object(letter, word) if resolved else letter_object(letter, "open", word))
            return
        lines = Lines(DECIDED_HEADINGS if resolved else HEADINGS, ("TRIES",), cuts=True)
        if not (decided_lines if resolved else open_lines)(lines, found):
            print("No dead letter matches.", file=sys.stderr)


@group.command("show")
@reporting
def show(
    letters: Letters = None,
    subscribers: Subscriber = None,
    as_json: JsonLines = False,
) -> None:
    """Show all that is known of a dead letter.

    Its event with the payload, why it was given up, the traceback, every attempt with its time and worker,
    what it returned and could not publish, its causes, and what was decided about it.

    \b
    Examples:
      eventbus dead show 1767225600000000:Painter:0
      eventbus dead show EV-... --json
    """
    from console.dossier import dossiers
    from console.letters import dossier_object, print_dossier
    from console.opening import reading

    if not letters:
        raise Mistake("Name the letters to show; `eventbus dead list` has their names.")
    wanted = letter_filter(letters, subscribers)
    with reading() as backend:
        count = 0
        for count, dossier in enumerate(dossiers(backend, wanted), 1):
            if as_json:
                print_json(dossier_object(dossier))
                continue
            if count > 1:
                print()
            print_dossier(console(), dossier)
    if not count:
        raise Mistake(
            f"There is no dead letter {', '.join(letters)}: `eventbus dead list` and `eventbus dead list --resolved` "
            "have their names."
        )


@group.command("retry")
@reporting
def retry(
    letters: Letters = None,
    subscribers: Subscriber = None,
    types: Types = None,
    project: Project = None,
    since: Since = None,
    until: Until = None,
    error: ErrorText = None,
    everything: Everything = False,
    limit: Limit = None,
    reason: Reason = "",
    dry_run: DryRun = False,
    as_json: JsonLines = False,
) -> None:
    """Deliver dead letters again.

    Each becomes a new delivery of the same event, whose attempts begin anew, at the head of its lane. A key
    that the letter blocks stays its own until that delivery ends, so its order is kept. What fails again is
    a dead letter again. The exit code is 1 when one could not be delivered, or a name is no letter's.

    \b
    Examples:
      eventbus dead retry 1767225600000000:Painter:0
      eventbus dead retry -s Painter --error "no brush" --dry-run
      eventbus dead retry --all --reason "the printer is back"
    """
    wanted = letter_filter(letters, subscribers, types, project, since, until, error)
    _carry_out("redelivered", wanted, everything, limit, reason, dry_run, as_json)


@group.command("discard")
@reporting
def discard(
    letters: Letters = None,
    subscribers: Subscriber = None,
    types: Types = None,
    project: Project = None,
    since: Since = None,
    until: Until = None,
    error: ErrorText = None,
    everything: Everything = False,
    limit: Limit = None,
    reason: Reason = "",
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: JsonLines = False,
) -> None:
    """Give dead letters up for good.

    A key that one blocks goes on with what waits behind it. The database keeps each letter, its texts and the
    reason; the delivery stays `dead` there. The exit code is 1 when a name is no letter's.

    \b
    Examples:
      eventbus dead discard EV-... --reason "the client cancelled"
      eventbus dead discard -s Painter --project P-1 --dry-run
    """
    wanted = letter_filter(letters, subscribers, types, project, since, until, error)
    _carry_out("discarded", wanted, everything, limit, reason, dry_run, as_json, yes=yes)


@group.command("purge")
@reporting
def purge(
    letters: Letters = None,
    subscribers: Subscriber = None,
    types: Types = None,
    project: Project = None,
    since: Since = None,
    until: Until = None,
    error: ErrorText = None,
    everything: Everything = False,
    limit: Limit = None,
    reason: Reason = "",
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: JsonLines = False,
) -> None:
    """Remove old dead letters, for space and for privacy.

    Like `discard`; and the database forgets the traceback, the output and the raw text of each, also of those
    decided before and of those that Redis has lost. The line that says why stays, and so do events, attempts
    and decisions. It wants --until, names, or --all.

    \b
    Examples:
      eventbus dead purge --until 90d --dry-run
      eventbus dead purge --until 30d -s Painter --yes
    """
    if not (until or letters or everything):
        raise Mistake("Say what to purge: --until WHEN, for example --until 90d, names of letters, or --all.")
    wanted = letter_filter(letters, subscribers, types, project, since, until, error)
    _carry_out("purged", wanted, everything, limit, reason, dry_run, as_json, yes=yes)


def letter_filter(
    letters: list[str] | None,
    subscribers: list[str] | None,
    types: list[str] | None = None,
    project: str | None = None,
    since: str | None = None,
    until: str | None = None,
    error: str | None = None,
) -> LetterFilter:
    """Return what the arguments ask for; names narrow where it has to be looked for.

    Raises:
        Mistake: a value cannot be read, or can match nothing.
    """
    from events.records import END, LetterFilter

    after, before = moment("--since", since), moment("--until", until)
    if before and after and after >= before:
        raise Mistake(f"--since {after.isoformat()} is after --until {before.isoformat()}.")
    named = event_filter(project, types, None)
    lowest, whose = _places(letters or [])
    return LetterFilter(
        subscribers=tuple(subscribers or whose),
        types=named.types,
        project_id=project,
        after=max(lowest, _position(after) if after else 0),
        before=_position(before) if before else END,
        error=error or "",
        names=frozenset(letters or ()),
    )


def _places(names: list[str]) -> tuple[int, list[str]]:
    """Return the position after which all these letters lie, and their subscribers where every name has one.

    A letter lies after its event; of an event's id alone nobody can tell.
    """
    parts = [name.split(":") for name in names]
    if not parts or not all(part[0].isdecimal() and len(part[0]) <= 18 for part in parts):
        return 0, []
    lowest = min(int(part[0]) for part in parts)
    whose = {part[1] for part in parts if len(part) == 3}
    return max(0, lowest - 1), sorted(whose) if all(len(part) == 3 for part in parts) else []


def _position(when: datetime) -> int:
    return int(when.timestamp() * 1_000_000)


def _open(backend: Backend, wanted: LetterFilter) -> Iterator[tuple[DeadLetter, str]]:
    from console.dossier import letters_of

    for page in letters_of(backend).pages(wanted):
        yield from zip(page, letters_of(backend).holders(page), strict=True)


def _resolved(backend: Backend, wanted: LetterFilter) -> Iterator[tuple[DeadLetter, str]]:
    from console.dossier import no_more_open

    return no_more_open(backend, wanted)


def _carry_out(
    decision: Decision,
    wanted: LetterFilter,
    everything: bool,
    limit: int | None,
    reason: str,
    dry_run: bool,
    as_json: bool,
    *,
    yes: bool = True,
) -> None:
    from dataclasses import replace

    from console.deciding import Order, carry_out
    from console.opening import reading
    from events.records import LetterFilter

    if everything == (wanted != LetterFilter()):
        raise Mistake("Name letters or give a filter; to act on all of them give --all, and nothing else.")
    with reading() as backend:
        # What fails again while this goes on is not asked about again.
        now = backend.history.clock() + 1
        if now > 1:
            wanted = replace(wanted, before=min(wanted.before, now))
        carry_out(backend, Order(decision, wanted, limit, reason, dry_run, yes, as_json))
