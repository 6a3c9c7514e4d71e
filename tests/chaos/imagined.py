"""Evidence of a run that never was: empty but for what is given, so that a rule can be seen to fail."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.chaos.cast import Exit, Signalled
from tests.chaos.check import RULES
from tests.chaos.evidence import Evidence
from tests.chaos.unfinished import Unfinished


def broken(rule: str, *, stage: dict[str, Any] | None = None, **found: Any) -> list[str]:
    """Return what a rule says of it; pids of the journal's lines are below 10."""
    evidence = Evidence.__new__(Evidence)
    lists = ("journal", "events", "outcomes", "deliveries", "effects", "places", "letters")
    nothing: dict[str, Any] = {name: [] for name in lists}
    nothing |= {name: {} for name in ("acknowledged", "of", "lost", "state")}
    nothing |= {"blamed": set(), "rejected": set(), "stored": Counter(), "unfinished": Unfinished()}
    nothing |= {"caused": defaultdict(list), "_lost_of": defaultdict(list), "ahead_of_monotonic_s": 0.0}
    lines = found.get("journal", [])
    nothing["lines_of"] = {pid: [line for line in lines if line["pid"] == pid] for pid in range(10)}
    told: dict[str, Any] = {name: [] for name in ("losses", "suffered", "deadly", "probes", "silent", "held_up")}
    told |= {"lease_s": 2.0, "seed": 1, "poisoned": 0} | cast_with() | (stage or {})
    vars(evidence).update(nothing | found, stage=SimpleNamespace(**told))
    return list(RULES[rule](evidence))


def cast_with(*signalled: Signalled) -> dict[str, Any]:
    """A stage's processes, to whom these signals were sent."""
    return {"cast": SimpleNamespace(signalled=list(signalled))}


def cast_of(folder: Path, *exits: Exit, signalled: tuple[Signalled, ...] = (), log: str = "") -> dict[str, Any]:
    """A stage whose processes have ended like that, and whose supervisor has said so."""
    (folder / "fleet.log").write_text(log)
    return {"cast": SimpleNamespace(folder=folder, exits=list(exits), roles={}, signalled=list(signalled))}
