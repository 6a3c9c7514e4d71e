"""What is played on a stage: an application, its agents, and who publishes for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos import journal
from tests.chaos.app import EFFECTS
from tests.chaos.cast import PYTHON

AGENTS = ("Director", "Painter", "Keeper", "Biller", "Doomed", "Editor", "Listener", "Herald", "Victim", "Prober")
OF_RELEASES = (("Herald", "IMAGE"), ("Herald", "CUT"), ("Doomed", "BRIEF"), ("Listener", "CUT"))
"""Subscriptions that not every release has."""
PER_SECOND = 60.0


@dataclass(frozen=True)
class Piece:
    """One piece.

    Attributes:
        app: `module:attribute` of its bus. agents: names of its subscribers. tables: SQL that makes its own table.
        publisher: returns the publisher's command, at each of its starts; takes the stage's folder and the seed.
        settings: in which a run differs from the defaults.
        of_releases: its subscriptions, as agent and type, that not every release has.
        is_proxied: whether its processes reach Redis by way of the proxy; else only faults that need none are felt.
    """

    app: str
    agents: tuple[str, ...]
    tables: str
    publisher: Callable[[Path, int], list[str]]
    settings: Mapping[str, Any]
    of_releases: tuple[tuple[str, str], ...] = ()
    is_proxied: bool = True


def _publisher(folder: Path, seed: int) -> list[str]:
    """Publish from the first brief of the plan that was not acknowledged."""
    acknowledged = (line["number"] for line in journal.read(folder / "journal") if line["word"] == "acknowledged")
    first = max(acknowledged, default=-1) + 1
    return [PYTHON, "-m", "tests.chaos.publisher", str(seed), str(first), str(PER_SECOND)]


CHAOS = Piece(
    "tests.chaos.app:bus", AGENTS, EFFECTS, _publisher,
    {"lease_s": 2.0, "timeout_s": 3.0, "history_margin_s": 0.0}, OF_RELEASES,
)  # fmt: skip
