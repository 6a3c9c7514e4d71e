"""`eventbus bench`: measures this bus on the servers that the environment names."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from console.confirming import Yes, confirm
from console.options import Json
from console.printing import console, print_json

if TYPE_CHECKING:
    from rich.table import Table

    from console.bench.works import Figures
    from events.settings import Settings

Taken = dict[str, list["Figures"]]
_FIGURES = (
    "per_s", "publisher_us", "worker_us", "archiver_us", "reader_us", "server_us", "commands", "bytes", "p50_ms",
    "p99_ms",
)  # fmt: skip


def command(
    count: Annotated[int, typer.Option("--events", min=100, metavar="N", help="Events in each turn.")] = 5000,
    rounds: Annotated[int, typer.Option("--rounds", min=1, metavar="N", help="Turns of each measurement.")] = 3,
    processes: Annotated[int, typer.Option("--processes", min=1, metavar="N", help="Worker processes.")] = 2,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Measure this bus on your own servers.

    Publishing, handling, archiving and replaying, in a namespace of its own, which it removes from both servers
    afterwards; without REDIS_URL or DATABASE_URL it measures an embedded server or an SQLite file in a directory of
    its own. Events have some 300 bytes, handlers do nothing. Of each measurement it shows the median of all rounds:
    events a second, and what an event costs: microseconds of CPU of each side, commands and bytes of the Redis server.
    The server's figures are those of everybody who uses it meanwhile.

    \b
    Examples:
      eventbus bench
      eventbus bench --events 20000 --rounds 5 --json
    """
    from events.settings import Settings

    settings = Settings.from_env()
    if named := _named(settings):
        confirm(f"Load {named} with {count:,} events at a time?", yes, otherwise="--yes")
    taken = _measure(settings, count, rounds, processes)
    if as_json:
        print_json({"events": count, "rounds": rounds, "processes": processes, "turns": taken})
    else:
        console().print(_table(taken))


def _named(settings: Settings) -> str:
    from events.settings import without_password

    urls = [url for url in (settings.redis_url, settings.database_url) if url]
    return " and ".join(without_password(url) for url in urls)


def _measure(settings: Settings, count: int, rounds: int, processes: int) -> Taken:
    from console.bench.ground import ground
    from console.bench.works import WORKS

    taken: Taken = {work.title: [] for work in WORKS}
    with ground(settings, 150 * processes + 4 * rounds * count) as at:
        at.backend.registry.require_current()
        at.start_workers(processes)
        for number in range(rounds):
            for work in WORKS:
                print(f"round {number + 1} of {rounds}: {work.title}", file=sys.stderr, flush=True)
                taken[work.title].append(work.run(at, max(1, int(work.share * count))))
    return taken


def _table(taken: Taken) -> Table:
    from rich.table import Table

    medians = {title: _medians(turns) for title, turns in taken.items()}
    figures = [name for name in _FIGURES if any(name in row for row in medians.values())]
    table = Table(box=None, pad_edge=False)
    table.add_column("", no_wrap=True)
    for name in figures:
        table.add_column(name.upper().replace("_", " ").replace("PER S", "EVENTS/S"), justify="right")
    for title, row in medians.items():
        table.add_row(title, *(_shown(row[name]) if name in row else "" for name in figures))
    return table


def _medians(turns: Sequence[Figures]) -> Figures:
    return {name: statistics.median(turn[name] for turn in turns) for name in turns[0]}


def _shown(figure: float) -> str:
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.2f}" if figure < 10 else f"{figure:.1f}"
