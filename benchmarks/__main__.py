"""`python -m benchmarks [NAME ...] [--rounds N] [--json]`: alternate contestants round by round, print medians."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from benchmarks import contestant
from benchmarks.contestant import Absent, Contestant
from benchmarks.server import Server
from benchmarks.works import WORKS, Figures, Work

Results = dict[str, list[Figures]]


def main() -> None:
    """Measure what the arguments name."""
    arguments = _parser().parse_args()
    names = {work.name for work in WORKS}
    if unknown := [name for name in arguments.name if name not in names]:
        sys.exit(f"There is no work {', '.join(map(repr, unknown))}; there are: {', '.join(sorted(names))}.")
    takers = _contestants(arguments.with_, dict(pair.split("=", 1) for pair in arguments.python))
    chosen = [work for work in WORKS if not arguments.name or work.name in arguments.name]
    found = {work.name: measure(work, takers, arguments.rounds) for work in chosen}
    if arguments.json:
        print(json.dumps({"machine": machine(), "rounds": arguments.rounds, "works": found}, indent=1))
        return
    out = Console()
    out.print(machine())
    for taker in takers:
        packages = ", ".join(f"{package} {version}" for package, version in taker.versions.items())
        out.print(f"{taker.module.LABEL}: {packages}; {taker.module.PROMISE}")
    for work in chosen:
        out.print(table(work, found[work.name], {taker.name: taker.module.LABEL for taker in takers}))


def measure(work: Work, contestants: Sequence[Contestant], rounds: int) -> Results:
    """Let contestants take turns, the order turned round each time, so that a slow moment hits all alike."""
    found: Results = {}
    takers = [taker for taker in contestants if taker.can(work.needs)]
    for number in range(rounds):
        for taker in takers if number % 2 == 0 else reversed(takers):
            print(f"{work.name} {number + 1}/{rounds} {taker.module.LABEL}", file=sys.stderr, flush=True)
            found.setdefault(taker.name, []).append(work.run(taker))
    return found


def table(work: Work, found: Results, labels: dict[str, str]) -> Table:
    """Return medians, and how much of the first contestant's rate each has."""
    medians = {
        name: {figure: statistics.median(turn[figure] for turn in turns) for figure in turns[0]}
        for name, turns in found.items()
    }
    figures = list(dict.fromkeys(figure for row in medians.values() for figure in row))
    shown = Table(title=work.title, title_justify="left")
    shown.add_column("")
    for figure in figures:
        shown.add_column(figure.replace("_", " "), justify="right")
    first = next(iter(medians.values()), {})
    if "per_s" in figures:
        shown.add_column("of the first", justify="right")
    for name, row in medians.items():
        cells = [f"{row[figure]:,.0f}" if row[figure] >= 100 else f"{row[figure]:,.2f}" for figure in figures]
        ratio = [f"{row['per_s'] / first['per_s']:.2f}"] if "per_s" in figures else []
        shown.add_row(labels[name], *cells, *ratio)
    return shown


def machine() -> str:
    """Say on what all of this was measured."""
    with Server() as server:
        version = server.client.info("server").get("valkey_version", "?")
    place = f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}"
    return f"{place}, Python {platform.python_version()}, Valkey {version}"


def _contestants(names: Sequence[str] | None, pythons: dict[str, str]) -> list[Contestant]:
    found = []
    for name in names or contestant.NAMES:
        try:
            found.append(contestant.load(name, pythons.get(name, sys.executable)))
        except Absent as absent:
            if names:
                sys.exit(str(absent))
            print(absent, file=sys.stderr)
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", nargs="*", help=f"works: {', '.join(work.name for work in WORKS)}; all without")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each contestant (default 5)")
    parser.add_argument("--with", dest="with_", nargs="+", metavar="CONTESTANT", help="only these")
    parser.add_argument(
        "--python", action="append", default=[], metavar="NAME=PATH", help="another interpreter for a contestant"
    )
    parser.add_argument("--json", action="store_true", help="print every turn's figures as JSON")
    return parser


if __name__ == "__main__":
    main()
