"""Whether Redis and the store agree on who is subscribed and what operators have set.

They differ when a command or a start was cut short between the two, or a store was restored from a backup.
Redis is what holds; the store is what a Redis that lost its data learns from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from console.checks import Report
    from events.standing import Limit, Standing
    from store.registry import Subscribed


def compare(report: Report, rows: Sequence[Subscribed], found: Sequence[Standing]) -> None:
    """Add a finding for each subscriber on whom they differ.

    Args:
        rows: as the store has them. found: as Redis has them, read after that.
    """
    kept = {row.subscriber: row for row in rows}
    for one in found:
        name = one.queue.subscriber
        row = kept.pop(name, None)
        if row is None:
            _forgotten(report, one)
        elif one.queue.state != "dropping":
            _steering(report, one, row)
    for name in kept:
        report.add(
            "warning", f"subscriber {name}",
            "The database remembers it and Redis does not know it: a Redis that lost its data would route it events.",
            f"If it is wanted, start a worker that declares it; else `eventbus subscriptions drop {name}`.",
        )  # fmt: skip


def _forgotten(report: Report, one: Standing) -> None:
    if one.queue.types:
        report.add(
            "warning", f"subscriber {one.queue.subscriber}",
            "The database does not remember it: a Redis that lost its data would route it nothing.",
            "Start a worker that declares it.",
        )  # fmt: skip


def _steering(report: Report, one: Standing, row: Subscribed) -> None:
    holds = {
        "paused": "1" if one.queue.is_paused else None,
        "set_concurrency": _text(one.concurrency),
        "set_rate": _text(one.rate),
    }
    kept = {name: row.steering.get(name) for name in holds}
    differing = [name for name in holds if _value(holds[name]) != _value(kept[name])]
    if differing:
        said = ", ".join(
            f"{_word(name)} {_shown(holds[name])} (remembered: {_shown(kept[name])})" for name in differing
        )
        report.add(
            "warning", f"subscriber {one.queue.subscriber}",
            f"What operators have set is not what the database remembers: {said}.",
            "Pause, resume or set it again: both places have it then.",
        )  # fmt: skip


def _text(limit: Limit) -> str | None:
    if not limit.is_set:
        return None
    return "" if limit.set is None else f"{limit.set:g}"


def _value(text: str | None) -> float | str | None:
    return float(text) if text else text


def _word(field: str) -> str:
    return field.removeprefix("set_")


def _shown(text: str | None) -> str:
    return {None: "not set", "": "none", "1": "1"}.get(text, str(text))
