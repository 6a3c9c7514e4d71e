"""What a run has found: kept as JSON, shown as medians."""

from __future__ import annotations

import json
import os
import platform
import statistics
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks.server import Server

Figures = dict[str, float]
Results = dict[str, list[Figures]]
"""Every turn's figures, by contestant; the first one is what the others are compared with."""


@dataclass(slots=True)
class Run:
    """A run of many works.

    Attributes:
        machine: on what it was measured. contestants: label, promise and versions of each, by name.
        titles: of the works. works: the turns of each.
    """

    machine: str
    contestants: dict[str, dict[str, Any]] = field(default_factory=dict)
    titles: dict[str, str] = field(default_factory=dict)
    works: dict[str, Results] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Run:
        """Return the run that a file holds."""
        return cls(**json.loads(path.read_text()))

    def written(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return asdict(self)

    def save(self, path: Path | None) -> None:
        """Write it to the file, if there is to be one; what is there is whole at every moment."""
        if path:
            beside = path.with_suffix(".part")
            beside.write_text(json.dumps(self.written(), indent=1) + "\n")
            beside.replace(path)

    def medians(self, work: str) -> dict[str, Figures]:
        """Return the median of each figure of each contestant that has taken a turn."""
        return medians(self.works[work])


def medians(found: Results) -> dict[str, Figures]:
    """Return the median of each figure, of those that have taken a turn."""
    return {
        name: {figure: statistics.median(turn[figure] for turn in turns) for figure in turns[0]}
        for name, turns in found.items()
        if turns
    }


def table(run: Run, work: str) -> Table:
    """Return medians, and how much of the first contestant's rate each has."""
    rows = run.medians(work)
    figures = list(dict.fromkeys(figure for row in rows.values() for figure in row))
    shown = Table(title=run.titles[work], title_justify="left")
    shown.add_column("")
    for figure in figures:
        shown.add_column(figure.replace("_", " "), justify="right")
    first = next(iter(rows.values()), {})
    if "per_s" in figures:
        shown.add_column("of the first", justify="right")
    for name, row in rows.items():
        ratio = [f"{row['per_s'] / first['per_s']:.2f}"] if "per_s" in figures else []
        shown.add_row(run.contestants[name]["label"], *(number(row[figure]) for figure in figures), *ratio)
    return shown


def number(figure: float) -> str:
    """Return a figure as tables show it."""
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:,.2f}"


def machine() -> str:
    """Say on what all of this was measured."""
    with Server() as server:
        version = server.client.info("server").get("valkey_version", "?")
    place = f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}"
    return f"{place}, Python {platform.python_version()}, Valkey {version}"
