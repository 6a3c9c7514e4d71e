"""Statistics as tables."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from console import wording
from console.printing import print_fitting
from console.sparkline import timeline

if TYPE_CHECKING:
    from datetime import datetime

    from rich.console import Console
    from rich.table import Table

    from store.numbers import (
        BucketStatistics,
        DeliveryNumbers,
        DeliveryStatistics,
        EventNumbers,
        HandledNumbers,
        ProjectNumbers,
        ProjectStatistics,
    )
    from store.statistics import Grain

    Named = Sequence[tuple[str, EventNumbers]]

_TEXT = ("TYPE", "ACTOR", "PROJECT", "FIRST (UTC)", "LAST (UTC)", "DAY (UTC)", "HOUR (UTC)")
# What a narrow terminal goes without, and a narrower one.
_MOMENTS = ("FIRST (UTC)", "LAST (UTC)")
_AVERAGES = (*_MOMENTS, "AVG COST", "AVG LATENCY")
_ATTEMPTS = (*_AVERAGES, "ATTEMPTS", "FAILURES")
_COUNTS = ("waiting", "done", "dead", "discarded", "dropped", "attempts", "failures")
_OF_HANDLED = ("attempts", "failures", "dead")
_TIMES = ("elapsed_p50_ms", "elapsed_p95_ms", "elapsed_p99_ms")


def print_types(out: Console, found: ProjectStatistics) -> None:
    """Print a table of types with a total."""
    _print_events(out, "TYPE", [(one.type, one) for one in found.types], found)
    _print_unknown(out, "type", found, found.types)


def print_actors(out: Console, found: ProjectStatistics) -> None:
    """Print a table of actors with a total."""
    _print_events(out, "ACTOR", [(one.actor, one) for one in found.actors], found)
    _print_unknown(out, "actor", found, found.actors)


def print_projects(out: Console, projects: Sequence[ProjectNumbers], found: ProjectStatistics) -> None:
    """Print a table of projects, and the total of all projects."""
    _print_events(out, "PROJECT", [(one.project_id, one) for one in projects], found)


def print_timeline(out: Console, buckets: Sequence[BucketStatistics], grain: Grain) -> None:
    """Print when events came, as a line, if there is anything to see."""
    if line := timeline(buckets, grain):
        out.print(f"{line}\n", soft_wrap=True)


def print_buckets(out: Console, buckets: Sequence[BucketStatistics], grain: Grain) -> None:
    """Print a table of days or hours that have events."""
    named = [(_bucket(one.start, grain), one) for one in buckets]
    print_fitting(
        out, *(_events_table(f"{grain.upper()} (UTC)", named, without=out_) for out_ in (_MOMENTS, _AVERAGES))
    )


def print_deliveries(out: Console, deliveries: Sequence[DeliveryStatistics]) -> None:
    """Print a table of subscribers with a total; a narrow terminal goes without zeros, a narrower one without times."""
    zeros = [name for name in _COUNTS if not any(getattr(one, name) for one in deliveries)]
    print_fitting(out, *(_deliveries_table("SUBSCRIBER", deliveries, without) for without in ((), zeros, _TIMES)))


def print_delivery_buckets(out: Console, deliveries: Sequence[DeliveryStatistics], grain: Grain) -> None:
    """Print a table of what came of the deliveries of each day or hour, all subscribers together, with a total."""
    from store.numbers import DeliveryStatistics

    buckets = []
    for start, group in groupby(deliveries, lambda one: one.start):
        these = list(group)
        counts = {name: sum(getattr(one, name) for one in these) for name in _COUNTS}
        buckets.append(DeliveryStatistics(subscriber=_bucket(start, grain), **counts))
    print_fitting(out, _deliveries_table(f"{grain.upper()} (UTC)", buckets, _TIMES))


def nothing_of(project_id: str | None, when: str = "") -> str:
    """Return the sentence that there are no events."""
    of = "" if project_id is None else f" of project {project_id!r}"
    return f"There are no events{of}{when}."


def _print_events(out: Console, heading: str, named: Named, found: ProjectStatistics) -> None:
    if not named:
        out.print(nothing_of(found.project_id), soft_wrap=True)
        return
    of_all = found.total.deliveries
    untold = [] if of_all.failures else ["ATTEMPTS", "FAILURES"]
    untold += [] if of_all.dead else ["DEAD"]
    narrower = ((), _MOMENTS, _AVERAGES, _ATTEMPTS)
    print_fitting(
        out, *(_events_table(heading, named, found.total, without=[*untold, *without]) for without in narrower)
    )


def _print_unknown(out: Console, what: str, found: ProjectStatistics, named: Sequence[HandledNumbers]) -> None:
    """Say how many deliveries are in the total's failures, and in no row."""
    of_all = found.total.deliveries
    rest = _deliveries(of_all) - sum(_deliveries(one.deliveries) for one in named)
    if rest > 0 and named and (of_all.failures or of_all.dead):
        deliveries = wording.plural(rest, "delivery", "deliveries")
        out.print(
            f"\nThe total counts {deliveries} of which no {what} is known: pruned before schema 0008, or of an event "
            "that is not archived.",
            soft_wrap=True,
        )


def _deliveries(numbers: DeliveryNumbers) -> int:
    return numbers.waiting + numbers.done + numbers.dead + numbers.discarded + numbers.dropped


def _events_table(
    heading: str, named: Named, total: EventNumbers | None = None, *, without: Sequence[str] = ()
) -> Table:
    """Return the numbers of each, and in the footer of all together."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_footer=total is not None, footer_style="bold")
    footer = _cells(heading, "total", total) if total else {}
    columns = [name for name in _cells(heading, "", named[0][1]) if name not in without]
    for name in columns:
        justify = "left" if name in _TEXT else "right"
        table.add_column(name, footer.get(name, ""), justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for name, numbers in named:
        cells = _cells(heading, name, numbers)
        table.add_row(*(cells[column] for column in columns))
    return table


def _cells(heading: str, name: str, numbers: EventNumbers) -> dict[str, str]:
    from store.numbers import HandledNumbers

    costs = numbers.cost_by_currency
    handled = numbers.deliveries if isinstance(numbers, HandledNumbers) else None
    return {
        heading: name,
        "EVENTS": f"{numbers.count:,}",
        "COST": wording.sums(costs),
        "AVG COST": wording.money(numbers.cost_average, next(iter(costs), None)) if len(costs) < 2 else "",
        "AVG LATENCY": wording.duration(numbers.latency_average_ms),
        "P50": wording.duration(numbers.latency_p50_ms),
        "P95": wording.duration(numbers.latency_p95_ms),
        "P99": wording.duration(numbers.latency_p99_ms),
        **({name.upper(): f"{getattr(handled, name):,}" for name in _OF_HANDLED} if handled else {}),
        "FIRST (UTC)": wording.moment(numbers.first_time),
        "LAST (UTC)": wording.moment(numbers.last_time),
    }


def _bucket(start: datetime | None, grain: Grain) -> str:
    return wording.moment(start)[: 16 if grain == "hour" else 10]


def _deliveries_table(heading: str, deliveries: Sequence[DeliveryStatistics], without: Sequence[str]) -> Table:
    """Return how many deliveries of each are in each state and how long handlers ran, with a total."""
    from rich.table import Table

    columns = [name for name in _COUNTS if name not in without]
    times = [name for name in _TIMES if name not in without]
    table = Table(box=None, pad_edge=False, show_footer=len(deliveries) > 1, footer_style="bold")
    table.add_column(heading, "total", no_wrap=True)
    for name in columns:
        total = f"{sum(getattr(one, name) for one in deliveries):,}"
        table.add_column(name.upper(), total, justify="right", no_wrap=True)
    for name in times:
        table.add_column(name.split("_")[1].upper(), justify="right", no_wrap=True)
    for one in deliveries:
        numbers = (f"{getattr(one, name):,}" for name in columns)
        table.add_row(one.subscriber, *numbers, *(wording.duration(getattr(one, name)) for name in times))
    return table
