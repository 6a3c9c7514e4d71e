"""`eventbus stats`: counts, costs and latencies of events, and what deliveries came to."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, cast

import typer

from console.exits import Mistake
from console.options import Json, Project, moment, no_more
from console.printing import console, print_json
from console.wording import plural

if TYPE_CHECKING:
    from collections.abc import Collection

    from events.backend import Backend
    from store.statistics import Grain, Statistics

SHOWN = 100
WAYS = ("type", "actor", "subscriber", "project", "day", "hour")
By = Annotated[
    str | None,
    typer.Option(
        "--by",
        metavar="WHAT",
        help="type, actor, subscriber, project, day or hour.",
        show_default="type",
        autocompletion=lambda: list(WAYS),
    ),
]
Since = Annotated[
    str | None, typer.Option("--since", metavar="WHEN", help="With --by day or hour: from then, or so long ago.")
]
Until = Annotated[str | None, typer.Option("--until", metavar="WHEN", help="With --by day or hour: until then.")]
Limit = Annotated[
    int | None,
    typer.Option(
        "--limit",
        "-n",
        callback=no_more,
        min=1,
        metavar="N",
        help="With --by project: those N that cost most; with day or hour: the newest N.",
        show_default="20; 100 days or hours, all of a --since or --until",
    ),
]
Recount = Annotated[
    bool, typer.Option("--recount", help="Add everything up again from what is stored, and say what was wrong.")
]
ForgetPruned = Annotated[
    bool, typer.Option("--forget-pruned", help="With --recount: leave out what was pruned, which is stored no more.")
]


def command(
    project: Project = None,
    by: By = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = None,
    recount: Recount = False,
    forget_pruned: ForgetPruned = False,
    as_json: Json = False,
) -> None:
    """Show counts, costs and latencies, and states of deliveries.

    By type, actor, subscriber, project, day or hour. Attempts, failures and dead deliveries are shown as soon as
    something failed: by type, actor and project those of the events that are counted in that row. Events are exact to
    the last one that was published, archived or not; deliveries, and the dead letters that wait for a decision, as far
    as archived. Averages and percentiles are over the events that carry the measure; percentiles are less than 1/128
    off. Days and hours are those of the events' timestamps, whole and in UTC; deliveries are in those of their events'
    publishing.

    \b
    Examples:
      eventbus stats
      eventbus stats --project P-1 --json
      eventbus stats --by subscriber
      eventbus stats --by project --limit 5
      eventbus stats --by hour --since 2d
    """
    from console.opening import reading

    if forget_pruned and not recount:
        raise Mistake("--forget-pruned goes with --recount.")
    if recount and (project, by) != (None, None):
        raise Mistake("--recount adds everything up again: neither --project nor --by goes with it.")
    by = "type" if by is None else by
    if by not in WAYS:
        raise Mistake(f"--by must be one of {', '.join(WAYS)}, not {by!r}.")
    if limit is not None and by not in ("project", "day", "hour"):
        raise Mistake(f"--limit goes with --by project, day and hour, not with --by {by}.")
    start, end = _range(by, since, until)
    with reading() as backend:
        if recount:
            _recount(backend, forget_pruned, as_json)
        elif by == "project":
            _show_projects(backend.blackboard.statistics, project, limit or 20, as_json)
        elif by in ("day", "hour"):
            _show_series(backend.blackboard.statistics, project, cast("Grain", by), start, end, limit, as_json)
        else:
            _show(backend, project, by, as_json)


def _range(by: str, since: str | None, until: str | None) -> tuple[datetime | None, datetime | None]:
    start, end = moment("--since", since), moment("--until", until)
    if (start or end) and by not in ("day", "hour"):
        raise Mistake(f"--since and --until go with --by day and --by hour, not with --by {by}.")
    if start and end and start > end:
        raise Mistake(f"--since ({start.isoformat()}) is after --until ({end.isoformat()}).")
    return start, end


def _show(backend: Backend, project: str | None, by: str, as_json: bool) -> None:
    from console.sparkline import grain_for
    from console.statistics import print_actors, print_deliveries, print_timeline, print_types

    statistics = backend.blackboard.statistics
    found, deliveries = statistics.project(project), statistics.deliveries(project)
    open_letters = backend.blackboard.dead_letters.open_counts()
    if as_json:
        print_json({
            "project_id": found.project_id,
            "total": found.total,
            "types": found.types,
            "actors": found.actors,
            "deliveries": deliveries,
            "open_dead_letters": open_letters,
        })  # fmt: skip
        return
    out = console()
    if by != "subscriber":
        grain = grain_for(found.total)
        print_timeline(out, statistics.series(project, grain), grain)
        (print_actors if by == "actor" else print_types)(out, found)
    if deliveries:
        _head_deliveries(project, is_first=by == "subscriber")
        print_deliveries(out, deliveries)
    elif by == "subscriber":
        print("There are no deliveries" + ("." if project is None else f" of project {project!r}."))
    if count := sum(open_letters.values()):
        wait = "waits" if count == 1 else "wait"
        of_all = "" if project is None else " of all projects"
        print(f"\n{plural(count, 'dead letter')}{of_all} {wait} for a decision: see `eventbus dead list`.")


def _show_projects(statistics: Statistics, project: str | None, limit: int, as_json: bool) -> None:
    from console.statistics import print_projects

    if project is not None:
        raise Mistake("--by project shows all projects: leave --project out, or ask with another --by.")
    found = statistics.projects(limit + 1)
    projects = found[:limit]
    if as_json:
        print_json({"total": statistics.project().total, "projects": projects, "is_all": len(found) <= limit})
        return
    print_projects(console(), projects, statistics.project())
    if len(found) > limit:
        print(f"\nThere are more projects than these, which cost most: --limit {10 * limit} shows more.")


def _show_series(
    statistics: Statistics,
    project: str | None,
    grain: Grain,
    start: datetime | None,
    end: datetime | None,
    limit: int | None,
    as_json: bool,
) -> None:
    from console.statistics import nothing_of, print_buckets, print_delivery_buckets, print_timeline

    buckets = statistics.series(project, grain, start, end)
    deliveries = statistics.delivery_series(project, grain, start, end)
    if limit is None and not (start or end or as_json):
        limit = SHOWN
    starts = {one.start for one in buckets} | {one.start for one in deliveries if one.start}
    first, older = _cut(starts, limit)
    shown = [one for one in buckets if one.start >= first]
    deliveries = [one for one in deliveries if one.start and one.start >= first]
    if as_json:
        print_json({"project_id": project, "grain": grain, "buckets": shown, "deliveries": deliveries})
        return
    if shown:
        print_timeline(console(), buckets, grain)
        print_buckets(console(), shown, grain)
    else:
        print(nothing_of(project, " in that time" if start or end else ""))
    if deliveries:
        _head_deliveries(project, f", by the {grain} in which their events were published")
        print_delivery_buckets(console(), deliveries, grain)
    if older:
        there = "is" if older == 1 else "are"
        print(f"\nThere {there} {plural(older, f'earlier {grain}')}: --limit or --since shows more.")


def _cut(starts: Collection[datetime], limit: int | None) -> tuple[datetime, int]:
    """Return the first start of the newest N, and how many are earlier."""
    every = sorted(starts)
    older = 0 if limit is None else max(0, len(every) - limit)
    return (every[older] if every else datetime.min.replace(tzinfo=UTC)), older


def _head_deliveries(project: str | None, how: str = "", *, is_first: bool = False) -> None:
    of = "" if project is None else f" of project {project!r}"
    before = "" if is_first else "\n"
    console().print(f"{before}Deliveries{of}, as far as archived{how}", soft_wrap=True, style="bold")


def _recount(backend: Backend, forget_pruned: bool, as_json: bool) -> None:
    from store.inspection import counted
    from store.recount import differences, recount

    engine, namespace = backend.blackboard.engine, backend.settings.namespace
    pruned = counted(engine, namespace).pruned_events
    if pruned and not forget_pruned:
        raise Mistake(
            f"The statistics still count {plural(pruned, 'event')} that prune removed, which nobody can add up again: "
            "ask with --forget-pruned too, if the statistics may lose them."
        )
    print("Adding up all that is stored: of millions of events that takes minutes.", file=sys.stderr, flush=True)
    wrong = len(differences(engine, namespace))
    if wrong:
        recount(engine, namespace)
    if as_json:
        print_json({"wrong": wrong})
        return
    print(f"{plural(wrong, 'sum')} {'was' if wrong == 1 else 'were'} wrong{', and are added up again' * bool(wrong)}.")
