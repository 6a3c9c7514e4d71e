"""Chains on a screen, with what each step and the whole of it cost and took."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from console import wording
from console.printing import event_object, plain, print_fitting

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from events.records import RecordedEvent


def chain_object(chain: Sequence[RecordedEvent]) -> dict[str, Any]:
    """Return a chain as JSON shows it, with its totals, and with where it ends too early."""
    from store.causation import missing_link

    return {
        "event_id": chain[-1].event.event_id,
        "root_id": chain[0].event.event_id,
        "events": [event_object(recorded) for recorded in chain],
        "cost_total": round(sum(recorded.event.cost or 0 for recorded in chain), 6),
        "latency_total_ms": round(sum(recorded.event.latency_ms or 0 for recorded in chain), 3),
        "missing": missing_link(chain),
    }


def print_chain(out: Console, chain: Sequence[RecordedEvent]) -> None:
    """Print a chain as a table, oldest first, with a row of totals."""
    print_fitting(out, *(chain_table(chain, left_out) for left_out in ((), ("TIME (UTC)",), ("TIME (UTC)", "EVENT"))))


def chain_table(chain: Sequence[RecordedEvent], left_out: Sequence[str] = ()) -> Table:
    """Return a chain as a table, without the columns that are left out."""
    from rich.table import Table

    found = chain_object(chain)
    table = Table(box=None, pad_edge=False, show_footer=len(chain) > 1, footer_style="bold")
    footers = {
        "#": "",
        "TIME (UTC)": "",
        "TYPE": plural_events(len(chain)),
        "ACTOR": "",
        "COST": wording.money(found["cost_total"] or None),
        "LATENCY": wording.duration(found["latency_total_ms"] or None),
        "EVENT": "",
    }
    for heading, footer in footers.items():
        if heading not in left_out:
            justify: Literal["left", "right"] = "right" if heading in ("#", "COST", "LATENCY") else "left"
            table.add_column(heading, footer, justify=justify, no_wrap=True)
    for number, recorded in enumerate(chain):
        cells = zip(footers, _cells(number, recorded), strict=True)
        table.add_row(*(text for heading, text in cells if heading not in left_out))
    return table


def _cells(number: int, recorded: RecordedEvent) -> tuple[str, ...]:
    event = recorded.event
    return (
        str(number),
        wording.moment(event.timestamp),
        plain(event.type.value),
        plain(event.actor),
        plain(wording.money(event.cost, event.metadata.get("currency"))),
        wording.duration(event.latency_ms),
        plain(event.event_id),
    )


def plural_events(count: int) -> str:
    return wording.plural(count, "event")
