"""`eventbus replay`: history again, filtered, in its one order; to look at, or to one subscriber."""

from __future__ import annotations

import sys
from itertools import islice
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from console.exits import Mistake
from console.options import Actor, Correlation, JsonLines, Metadata, Payload, Project, Types, event_filter, no_more
from console.printing import EventLines, event_object, print_json

if TYPE_CHECKING:
    from store.filter import EventFilter


class Delivering(NamedTuple):
    """What the options say about delivering again."""

    to: str | None = None
    rate: float | None = None
    reason: str = ""
    dry_run: bool = False
    yes: bool = False
    resume: bool = False
    abandon: bool = False


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
        int | None, typer.Option("--limit", "-n", callback=no_more, min=1, metavar="N", help="At most so many events.")
    ] = None,
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="SUBSCRIBER", help="Deliver the events to this subscriber again, each anew."),
    ] = None,
    rate: Annotated[
        float | None, typer.Option("--rate", metavar="N", help="With --to: at most N events a second.")
    ] = None,
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="With --to: why; kept with each delivery.")
    ] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --to: count them and show the first few; do nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="With --to: do not ask.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="With --to: go on with what was interrupted, whatever it was.")
    ] = False,
    abandon: Annotated[
        bool, typer.Option("--abandon", help="With --to: give up what was interrupted; what it delivered stays.")
    ] = False,
    as_json: JsonLines = False,
) -> None:
    """Read history again, filtered, oldest first.

    Every filter is optional, and reading changes nothing. The times are those that the events carry. Of
    any length: a page is in memory at a time. A path is keys and places in lists with dots between them; a
    backslash takes the next character as it is.

    With --to the events are delivered to that subscriber again, in history order, up to what is published by now.
    Each is a new delivery; the same command given again after an interruption delivers none twice. Those of an
    ordered subscriber go before what is later in history. While 2,000 deliveries wait for it, no more are added.

    \b
    Examples:
      eventbus replay --project P-1
      eventbus replay --since 24h --type IMAGE_GENERATED --type CONSISTENCY_FAILED
      eventbus replay --payload scene.number=3 --metadata priority=5
      eventbus replay --correlation EV-... --json > story.jsonl
      eventbus replay --to Painter --since 24h --type SHOT_PLANNED --dry-run
      eventbus replay --to Painter --after 1767225600000000 --rate 50 --reason "the new model"
    """
    from console.opening import reading

    wanted = event_filter(project, types, actor, correlation, since, until, payload, metadata)
    delivers = Delivering(to, rate, reason, dry_run, yes, resume, abandon)
    if delivers != Delivering():
        _deliver(delivers, wanted, after, limit, as_json)
        return
    with reading() as backend:
        events = islice(backend.blackboard.replay.iterate(wanted, after), limit)
        if as_json:
            for recorded in events:
                print_json(event_object(recorded))
        elif not EventLines().print(events):
            print("No event matches.", file=sys.stderr)


def _deliver(asked: Delivering, wanted: EventFilter, after: int, limit: int | None, as_json: bool) -> None:
    from console.opening import reading
    from console.redelivery import Order, abandon, carry_out
    from store.filter import EventFilter
    from workers.redelivery import Question

    if asked.to is None:
        raise Mistake("--rate, --reason, --dry-run, --yes, --resume and --abandon go with --to SUBSCRIBER.")
    if limit is not None:
        raise Mistake("--limit does not go with --to: use --after, --since and --until to say which events.")
    goes_on = asked.resume or asked.abandon
    if goes_on and (wanted != EventFilter() or after or asked.resume == asked.abandon):
        raise Mistake("--resume and --abandon stand alone: what was interrupted knows what it was asked.")
    with reading(undone=f"nothing was delivered to {asked.to} again") as backend:
        if asked.abandon:
            abandon(backend, asked.to, as_json=as_json)
            return
        question = None if asked.resume else Question(wanted, after)
        order = Order(asked.to, question, asked.rate, asked.reason, asked.dry_run, asked.yes, as_json)
        carry_out(backend, order)
