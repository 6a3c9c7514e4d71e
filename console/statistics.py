"""Statistics as tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from console import wording
from console.printing import print_fitting

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from store.statistics import DeliveryStatistics, ProjectStatistics, TypeStatistics


def print_statistics(out: Console, found: ProjectStatistics, deliveries: Sequence[DeliveryStatistics]) -> None:
    """Print a table of types with a total, and one of subscribers."""
    if not found.types:
        of = "" if found.project_id is None else f" of project {found.project_id!r}"
        out.print(f"There are no events{of}.", soft_wrap=True)
    else:
        print_fitting(out, types_table(found), types_table(found, narrow=True))
    if deliveries:
        of_all = "" if found.project_id is None else " of all projects"
        out.print(f"\nDeliveries{of_all}, as far as archived", soft_wrap=True, style="bold")
        print_fitting(out, deliveries_table(deliveries))


def types_table(found: ProjectStatistics, *, narrow: bool = False) -> Table:
    """Return the numbers of each type, and in the footer of all together; the narrow table has no moments."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_footer=True, footer_style="bold")
    headings = ("TYPE", "EVENTS", "COST", "AVG COST", "AVG LATENCY", "P95 LATENCY", "FIRST (UTC)", "LAST (UTC)")
    shown = len(headings) - 2 if narrow else len(headings)
    for heading, footer in zip(headings[:shown], _row("total", found.total), strict=False):
        left = heading == "TYPE" or heading.endswith("(UTC)")
        table.add_column(heading, footer, justify="left" if left else "right", no_wrap=True)
    for one in found.types:
        table.add_row(*_row(one.type, one)[:shown])
    return table


def deliveries_table(deliveries: Sequence[DeliveryStatistics]) -> Table:
    """Return how many deliveries of each subscriber are in each state, with a total."""
    from rich.table import Table

    columns = ("waiting", "done", "dead", "discarded", "dropped", "attempts")
    table = Table(box=None, pad_edge=False, show_footer=len(deliveries) > 1, footer_style="bold")
    table.add_column("SUBSCRIBER", "total", no_wrap=True)
    for name in columns:
        table.add_column(
            name.upper(), f"{sum(getattr(one, name) for one in deliveries):,}", justify="right", no_wrap=True
        )
    for one in deliveries:
        table.add_row(one.subscriber, *(f"{getattr(one, name):,}" for name in columns))
    return table


def _row(name: str, one: TypeStatistics) -> tuple[str, ...]:
    sole = next(iter(one.cost_by_currency)) if len(one.cost_by_currency) == 1 else None
    return (
        name,
        f"{one.count:,}",
        wording.sums(one.cost_by_currency),
        wording.money(one.cost_average, sole) if len(one.cost_by_currency) < 2 else "",
        wording.duration(one.latency_average_ms),
        wording.duration(one.latency_p95_ms),
        wording.moment(one.first_time),
        wording.moment(one.last_time),
    )
