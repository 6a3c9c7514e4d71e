"""`python -m benchmarks [NAME ...] [--rounds N] [--json] [--save FILE]`: contestants in turns, and their medians.

With `--save` every turn is written to a file as soon as it is over; a run that finds the file goes on where the last
one stopped, so a table of many hours can be made in pieces, on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from benchmarks import contestant
from benchmarks.contestant import Absent, Contestant
from benchmarks.results import Results, Run, machine, table
from benchmarks.works import WORKS, Work


def main() -> None:
    """Measure what the arguments name."""
    arguments = _parser().parse_args()
    names = {work.name for work in WORKS}
    if unknown := [name for name in arguments.name if name not in names]:
        sys.exit(f"There is no work {', '.join(map(repr, unknown))}; there are: {', '.join(sorted(names))}.")
    takers = _contestants(arguments.with_, dict(pair.split("=", 1) for pair in arguments.python))
    chosen = [work for work in WORKS if not arguments.name or work.name in arguments.name]
    run = _begun(arguments.save)
    run.contestants |= {
        taker.name: {
            "label": taker.module.LABEL, "promise": taker.module.PROMISE, "versions": dict(taker.versions)
        }
        for taker in takers
    }  # fmt: skip
    for work in chosen:
        run.titles[work.name] = work.title
        measure(work, takers, arguments.rounds, run.works.setdefault(work.name, {}), lambda: run.save(arguments.save))
    if arguments.json:
        print(json.dumps(run.written(), indent=1))
        return
    out = Console()
    out.print(run.machine)
    for taker in takers:
        packages = ", ".join(f"{package} {version}" for package, version in taker.versions.items())
        out.print(f"{taker.module.LABEL}: {packages}; {taker.module.PROMISE}")
    for work in chosen:
        out.print(table(run, work.name))


def measure(
    work: Work, contestants: Sequence[Contestant], rounds: int, found: Results, note: Callable[[], None]
) -> None:
    """Let contestants take turns, the order turned round each time, so that a slow moment hits all alike.

    A turn that fails is said and left out of the medians.

    Args:
        found: the turns so far, added to. note: called after each.
    """
    takers = [taker for taker in contestants if taker.can(work.needs)]
    for number in range(rounds):
        for taker in takers if number % 2 == 0 else reversed(takers):
            turns = found.setdefault(taker.name, [])
            if len(turns) > number:
                continue
            print(f"{work.name} {number + 1}/{rounds} {taker.module.LABEL}", file=sys.stderr, flush=True)
            try:
                turns.append(work.run(taker))
            except RuntimeError as error:
                print(f"This turn counts as none: {error}", file=sys.stderr, flush=True)
            else:
                note()


def _begun(path: Path | None) -> Run:
    return Run.read(path) if path and path.exists() else Run(machine())


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
    parser.add_argument("--save", type=Path, metavar="FILE", help="keep every turn in this file, and go on from it")
    return parser


if __name__ == "__main__":
    main()
