"""`python -m benchmarks.flat [STATE ...] [--rounds N] [--waiting N] [--history N] [--json]`: costs in states that grew.

All states are filled first, each on a server of its own (some 8 GB of memory with the defaults, ten minutes), and then
measured in turns. Every round publishes, lets two worker processes handle, and ends them again, so each state keeps
its size. Costs are of an event published and of a delivery handled, in microseconds of CPU; in brackets, what they are
of those of the state that they are compared with.
"""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import ExitStack

from rich.console import Console
from rich.table import Table

from benchmarks.flat.states import STATES, Filled, State, filled
from benchmarks.results import Figures, Results, machine, medians


def main() -> None:
    """Measure what the arguments name."""
    arguments = _parser().parse_args()
    if unknown := [name for name in arguments.state if name not in STATES]:
        sys.exit(f"There is no state {', '.join(map(repr, unknown))}; there are: {', '.join(STATES)}.")
    chosen = [STATES[name] for name in arguments.state or STATES]
    chosen += [STATES[state.base] for state in chosen if STATES[state.base] not in chosen]
    chosen = [state.scaled(arguments.waiting, arguments.history) for state in dict.fromkeys(chosen)]
    found = measure(chosen, arguments.rounds)
    if arguments.json:
        print(json.dumps({"machine": machine(), "rounds": arguments.rounds, "states": found}, indent=1))
        return
    out = Console()
    out.print(machine())
    out.print(table(chosen, medians(found)))


def measure(states: list[State], rounds: int) -> Results:
    """Fill all states, then let them take turns, the order turned round each time."""
    found: Results = {state.name: [] for state in states}
    with ExitStack() as open_ones:
        grown: list[Filled] = []
        for state in states:
            _say(f"filling: {state.title}")
            grown.append(open_ones.enter_context(filled(state, rounds)))
        for number in range(rounds):
            for one in grown if number % 2 == 0 else reversed(grown):
                _say(f"{number + 1}/{rounds} {one.state.title}")
                found[one.state.name].append(one.measure())
    return found


def table(states: list[State], costs: dict[str, Figures]) -> Table:
    """Return what everything costs in each state, and what that is of its base."""
    figures = list(next(iter(costs.values())))
    shown = Table(title="Flat curves: CPU microseconds of an event and of a delivery", title_justify="left")
    shown.add_column("")
    for figure in figures:
        shown.add_column(figure.replace("_", " "), justify="right")
    for state in states:
        ours, base = costs[state.name], costs[state.base]
        cells = [f"{ours[figure]:.1f} ({ours[figure] / base[figure]:.2f})" for figure in figures]
        shown.add_row(state.title, *cells)
    return shown


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.flat", description=__doc__)
    parser.add_argument("state", nargs="*", help=f"states: {', '.join(STATES)}; all without")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each state (default 5)")
    parser.add_argument("--waiting", type=int, default=1_000_000, help="deliveries that wait (default 1000000)")
    parser.add_argument("--history", type=int, default=10_000_000, help="events in history (default 10000000)")
    parser.add_argument("--json", action="store_true", help="print every turn as JSON")
    return parser


if __name__ == "__main__":
    main()
