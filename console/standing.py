"""How subscribers stand, in words and as JSON."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from console import wording
from console.printing import print_fitting

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from events.standing import Limit, Standing

_COLUMNS = ("SUBSCRIBER", "STATE", "READY", "RUNNING", "WAITING", "RETRIES", "DEAD", "OLDEST", "WORKERS", "REMARKS")
_MORE = ("ORDERING", "CONCURRENCY", "RATE")
IDLE_S = 86_400.0
"""A subscriber to which nothing came for so long is idle, unless somebody asks about another time."""


def as_object(found: Standing, idle_s: float = IDLE_S) -> dict[str, Any]:
    """Return a subscriber as JSON shows it."""
    queue = found.queue
    return {
        "subscriber": queue.subscriber,
        "state": state(found),
        "paused": queue.is_paused,
        "filled_to": found.filled_to,
        "types": queue.types,
        "undeclared_types": found.undeclared,
        "ordering": queue.ordering or None,
        "concurrency": _limit_object(found.concurrency),
        "rate": _limit_object(found.rate),
        "ready": queue.ready,
        "running": queue.running,
        "waiting": queue.waiting,
        "waiting_is_a_lower_bound": queue.is_bounded,
        "delayed": queue.delayed,
        "parked": found.parked,
        "dead": queue.dead,
        "oldest_s": queue.oldest_s,
        "quiet_s": found.quiet_s,
        "workers": found.workers,
        "idle": found.is_idle(idle_s),
        "orphaned": found.is_orphaned,
    }


def state(found: Standing) -> str:
    """Return the one word for what holds a subscriber back, or `live`."""
    if found.queue.state == "dropping":
        return "dropping"
    if found.queue.is_paused:
        return "paused"
    return "back-filling" if found.queue.state == "backfill" else "live"


def remarks(found: Standing, idle_s: float) -> list[str]:
    """Return what somebody should know of a subscriber, in words."""
    said = []
    if found.queue.state == "backfill":
        said.append(f"back-filled up to {_moment(found.filled_to or 0)}")
    if found.queue.state == "dropping":
        said.append("half dropped: repeat the drop")
    if found.is_orphaned:
        said.append("orphaned: no live worker takes it")
    if found.is_idle(idle_s):
        quiet = "ever" if found.quiet_s is None else f"for {wording.duration(found.quiet_s * 1000)}"
        said.append(f"idle: nothing came {quiet}")
    if found.undeclared:
        said.append(f"routed, but not in any worker's code: {', '.join(found.undeclared)}")
    return said


def print_list(out: Console, found: Sequence[Standing], idle_s: float) -> None:
    """Print a table of subscribers; on a narrow terminal without their limits."""
    if not found:
        print("Nobody is subscribed.", file=sys.stderr)
        return
    print_fitting(out, _table(found, idle_s, with_limits=True), _table(found, idle_s, with_limits=False))


def print_one(out: Console, found: Standing, idle_s: float) -> None:
    """Print everything of one subscriber."""
    queue = found.queue
    waiting = f"{queue.waiting:,}{'+' if queue.is_bounded else ''}"
    lines = {
        "subscriber": queue.subscriber,
        "state": state(found),
        "types": ", ".join(queue.types) or "none",
        "ordering": queue.ordering or "none",
        "concurrency": limit(found.concurrency),
        "rate": limit(found.rate, " a second"),
        "deliveries": f"{queue.ready:,} ready, {queue.running:,} running, {waiting} waiting, {queue.delayed:,} to be "
        f"retried, {found.parked:,} parked in joins",
        "dead letters": f"{queue.dead:,}",
        "oldest": "nothing waits" if queue.oldest_s is None else wording.duration(queue.oldest_s * 1000),
        "workers": ", ".join(found.workers) or "none",
    }
    for name, text in lines.items():
        out.print(f"{name:<14}{text}", soft_wrap=True)
    for remark in remarks(found, idle_s):
        out.print(f"{'':<14}{remark}", soft_wrap=True)


def limit(found: Limit, unit: str = "") -> str:
    """Write a limit: `5`, `none`, `2 (code: 5)`."""
    text = _number(found.holds, unit)
    return f"{text} (code: {_number(found.declared, unit)})" if found.is_set else text


def _table(found: Sequence[Standing], idle_s: float, *, with_limits: bool) -> Table:
    from rich.table import Table

    columns = [*_COLUMNS[:2], *(_MORE if with_limits else ()), *_COLUMNS[2:]]
    table = Table(box=None, pad_edge=False)
    for name in columns:
        is_number = name in _COLUMNS[2:-1]
        table.add_column(name, justify="right" if is_number else "left", no_wrap=True)
    for one in found:
        queue = one.queue
        limits = (queue.ordering or "none", limit(one.concurrency), limit(one.rate)) if with_limits else ()
        table.add_row(
            queue.subscriber, state(one), *limits, f"{queue.ready:,}", f"{queue.running:,}",
            f"{queue.waiting + one.parked:,}{'+' if queue.is_bounded else ''}", f"{queue.delayed:,}", f"{queue.dead:,}",
            "" if queue.oldest_s is None else wording.duration(queue.oldest_s * 1000), str(len(one.workers)),
            "; ".join(remarks(one, idle_s)),
        )  # fmt: skip
    return table


def _limit_object(found: Limit) -> dict[str, Any]:
    return {"holds": found.holds, "declared": found.declared, "is_set": found.is_set}


def _number(value: float | None, unit: str) -> str:
    return "none" if value is None else f"{value:g}{unit}"


def _moment(position: int) -> str:
    return "the beginning" if position == 0 else wording.moment(datetime.fromtimestamp(position / 1e6, UTC))
