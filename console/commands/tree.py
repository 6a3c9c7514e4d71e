"""`eventbus tree`: everything that an event set off, and what it amounts to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from console.exits import Mistake, complain
from console.options import JsonLines, no_more
from console.printing import console, print_json

if TYPE_CHECKING:
    from console.tree import Measure

LINES = 500


def command(
    event: Annotated[str, typer.Argument(metavar="EVENT", help="An event's id, or its position.")],
    depth: Annotated[
        int | None,
        typer.Option("--depth", "-d", min=0, metavar="N", help="Show N levels below it.", show_default="all"),
    ] = None,
    cost: Annotated[bool, typer.Option("--cost", help="Show costs alone.")] = False,
    latency: Annotated[bool, typer.Option("--latency", help="Show times alone, and mark the critical path.")] = False,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            "-n",
            callback=no_more,
            min=1,
            metavar="N",
            help="Show at most so many events.",
            show_default=f"{LINES}, with --json all",
        ),
    ] = None,
    as_json: JsonLines = False,
) -> None:
    """Show everything that an event set off, and what it cost.

    An event a line, below it what it caused, in history order. Totals are of everything below, also of what
    --depth and --limit leave out. Deliveries that wait or are dead are told as far as archived. The critical path
    leads to the event that ends last. Causes that are neither in history nor in the store are named.

    \b
    Examples:
      eventbus tree EV-...
      eventbus tree EV-... --depth 2 --cost
      eventbus tree 1767225600000000 --latency
      eventbus tree EV-... --json > tree.jsonl
    """
    from console.named import event_id_of
    from console.opening import reading
    from console.tree import Shown, print_tree, tree_objects

    if cost and latency:
        raise Mistake("--cost and --latency leave out each other: give one of them, or none for both measures.")
    with reading() as backend:
        event_id = event_id_of(backend, event)
        tree = backend.blackboard.causation.tree(event_id)
    if as_json:
        shown = 0
        for found in tree_objects(tree, Shown(depth, limit)):
            print_json(found)
            shown += 1
        hidden = tree.count - shown
    else:
        measure: Measure = "cost" if cost else "latency" if latency else "both"
        hidden = print_tree(console(), tree, Shown(depth, limit or LINES, measure, positions=True))
    if hidden:
        complain(
            f"{hidden:,} of {tree.count:,} events are not shown: --limit {tree.count} without --depth shows all of "
            f"them, `eventbus tree` with another event's id or position a part."
        )
