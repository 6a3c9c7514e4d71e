"""`python -m benchmarks.limits [NAME ...] [--rounds N] [--events N] [--json]`: ours and raw in turns, their medians."""

from __future__ import annotations

import argparse
import json
import statistics
import sys

from rich.console import Console
from rich.table import Table

from benchmarks.limits import questions, rows, starts, waiting
from benchmarks.limits.limit import Limit, Turns
from benchmarks.results import machine, number

LIMITS: tuple[Limit, ...] = (*rows.LIMITS, *questions.LIMITS, *waiting.LIMITS, *starts.LIMITS)


def main() -> None:
    """Measure what the arguments name."""
    names = {limit.name for limit in LIMITS}
    parser = argparse.ArgumentParser(prog="python -m benchmarks.limits", description=__doc__)
    parser.add_argument("name", nargs="*", help=f"limits: {', '.join(sorted(names))}; all without")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each side (default 5)")
    parser.add_argument("--events", type=int, default=20_000, help="events in a turn (default 20000)")
    parser.add_argument("--json", action="store_true", help="print every turn as JSON")
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.name if name not in names]:
        sys.exit(f"There is no limit {', '.join(map(repr, unknown))}; there are: {', '.join(sorted(names))}.")
    found: dict[str, Turns] = {}
    for limit in LIMITS:
        if not arguments.name or limit.name in arguments.name:
            print(limit.name, file=sys.stderr, flush=True)
            found[limit.name] = limit.measure(arguments.rounds, arguments.events)
    if arguments.json:
        print(json.dumps({"machine": machine(), "rounds": arguments.rounds, "limits": found}, indent=1))
        return
    out = Console()
    out.print(machine())
    for limit in LIMITS:
        if limit.name in found:
            out.print(table(limit, found[limit.name]))


def table(limit: Limit, turns: Turns) -> Table:
    """Return the median of each side, and what ours is of the raw one's."""
    shown = Table(title=f"{limit.title} ({limit.unit})", title_justify="left")
    for heading in ("", "median", "least", "most", "ours / this"):
        shown.add_column(heading, justify="left" if not heading else "right")
    ours = statistics.median(next(iter(turns.values())))
    for side, figures in turns.items():
        median = statistics.median(figures)
        cells = [median, min(figures), max(figures)]
        shown.add_row(side, *(number(cell) for cell in cells), f"{ours / median:.2f}" if median else "")
    return shown


if __name__ == "__main__":
    main()
