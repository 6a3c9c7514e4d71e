"""Chains and trees on a screen, with what each step and the whole of it cost and took."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

from console import wording
from console.printing import event_object, print_fitting

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from events.records import RecordedEvent
    from store.tree import CausationTree


def chain_object(chain: Sequence[RecordedEvent]) -> dict[str, Any]:
    """Return a chain as JSON shows it, with its totals."""
    return {
        "event_id": chain[-1].event.event_id,
        "root_id": chain[0].event.event_id,
        "events": [event_object(recorded) for recorded in chain],
        "cost_total": round(sum(recorded.event.cost or 0 for recorded in chain), 6),
        "latency_total_ms": round(sum(recorded.event.latency_ms or 0 for recorded in chain), 3),
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
        event.type.value,
        event.actor,
        wording.money(event.cost, event.metadata.get("currency")),
        wording.duration(event.latency_ms),
        event.event_id,
    )


def plural_events(count: int) -> str:
    return wording.plural(count, "event")


def totals(tree: CausationTree) -> dict[str, Any]:
    """Return what a tree amounts to."""
    return {"count": tree.count, "cost_total": tree.cost_total, "latency_total_ms": tree.latency_total_ms}


def print_tree(out: Console, tree: CausationTree, marked: str | None = None) -> None:
    """Print a causation tree: an event a line, below it what it caused, each with cost and latency.

    Args:
        marked: the id of an event to point at.
    """
    from rich.text import Text

    for guides, node in _lines(tree):
        event = node.recorded.event
        line = Text().append(guides, style="dim")
        line.append_text(_label(node))
        if event.event_id == marked:
            line.append("  <- this event", style="bold")
        out.print(line, soft_wrap=True)
    summary = [plural_events(tree.count), wording.money(tree.cost_total or None)]
    summary.append(f"{wording.duration(tree.latency_total_ms)} of work" if tree.latency_us else "")
    out.print(Text(", ".join(filter(None, summary)), style="bold"), soft_wrap=True)


def _label(node: CausationTree) -> Text:
    from rich.text import Text

    event = node.recorded.event
    measures = [wording.money(event.cost, event.metadata.get("currency")), wording.duration(event.latency_ms)]
    label = Text().append(event.type.value, style="cyan")
    label.append(f"  {event.actor}")
    shown = ", ".join(filter(None, measures))
    if shown:
        label.append(f"  {shown}", style="green")
    if len(node.children) > 1:  # where a tree forks, its branches add up
        sums = [wording.money(node.cost_total or None), wording.duration(node.latency_total_ms or None)]
        together = ", ".join(filter(None, sums))
        label.append(f"  [with the {node.count - 1} below: {together}]" if together else "")
    return label


def _lines(tree: CausationTree) -> Iterator[tuple[str, CausationTree]]:
    """Iterate over a tree's lines with their guides; without recursion, a chain may be thousands deep."""
    pending = [("", "", tree)]
    while pending:
        own, below, node = pending.pop()
        yield own, node
        last = len(node.children) - 1
        for number in range(last, -1, -1):
            corner, guide = ("└─ ", "   ") if number == last else ("├─ ", "│  ")
            pending.append((below + corner, below + guide, node.children[number]))
