"""The events of a round: some 300 bytes of JSON each, numbered, of a few projects."""

from __future__ import annotations

from typing import Any

BYTES = 300
PROJECTS = 10
_TEXT = "A quiet harbour at dawn; the keeper climbs the stair and lights the lamp. " * 4


def body(n: int) -> dict[str, Any]:
    """Return event number n as peers publish it: what our events carry in all their fields together."""
    fields: dict[str, Any] = {"project": project(n), "type": "SHOT_PLANNED", "actor": "ShotDirector", "n": n}
    return fields | {"text": _TEXT[: BYTES - 83 - len(str(n))]}


def project(n: int) -> str:
    """Return the project of event number n."""
    return f"P-{n % PROJECTS}"
