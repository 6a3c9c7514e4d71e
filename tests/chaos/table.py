"""The table of docs/reliability.md: each fault alone, then all together, over several seeds and both databases."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.faults import FAULTS
from tests.chaos.run import Run, Verdict
from tests.chaos.tally import Tally
from tests.fleet.fleet import ROOT

PAGE = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- the table begins -->", "<!-- the table ends -->"
HEAD = (
    "| fault | injected | acknowledged | lost | doubled effects | worst recovery | runs |",
    "| --- | ---: | ---: | ---: | ---: | ---: | --- |",
)
ALL = "all, at random"


@dataclass
class Line:
    """One fault's runs, added up."""

    name: str
    tally: Tally = field(default_factory=Tally)
    runs: int = 0
    broken: int = 0

    def add(self, verdict: Verdict) -> None:
        """Add a run."""
        self.tally.add(verdict.tally)
        self.runs += 1
        self.broken += bool(verdict.violations)

    def __str__(self) -> str:
        tally = self.tally
        injected = tally.faults.total() if self.name == ALL else tally.faults[self.name]
        lost = f"{tally.lost - tally.allowed}" + (f" (and {tally.allowed} that Redis forgot)" if tally.allowed else "")
        runs = f"{self.runs}, " + (f"{self.broken} BROKEN" if self.broken else "clean")
        return (
            f"| {self.name} | {injected:,} | {tally.acknowledged.total():,} | {lost} | {tally.doubled} | "
            f"{tally.recovery_s:.1f} s | {runs} |"
        )


def runs_for(seeds: Sequence[int], minutes: float, databases: Sequence[str]) -> Iterator[tuple[str, Run]]:
    """Iterate over the rows' runs: of the row for all faults eight times as long as of the others."""
    for name, fault in FAULTS.items():
        for database in fault.databases:
            if fault.weight and database in databases:
                yield from ((name, Run(seed, minutes, database, (name,))) for seed in seeds)
    for database in databases:
        yield from ((ALL, Run(seed, minutes * 8, database)) for seed in seeds)


def make(
    runs: Iterator[tuple[str, Run]],
    perform: Callable[[Run], Verdict],
    page: Path = PAGE,
    say: Callable[[str], None] = print,
) -> bool:
    """Do the runs, write their table into the page after each, and return whether all were clean."""
    lines: dict[str, Line] = {}
    for name, run in runs:
        verdict = perform(run)
        lines.setdefault(name, Line(name)).add(verdict)
        say(f"{run.command}: {'broken' if verdict.violations else 'clean'}")
        if verdict.violations:
            say(verdict.screen)
        _write(page, list(lines.values()))
    return not any(line.broken for line in lines.values())


def _write(page: Path, lines: list[Line]) -> None:
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    rows = "\n".join([*HEAD, *map(str, lines)])
    page.write_text(f"{before}{BEGIN}\n\n{rows}\n\n{END}{after}")
