"""A causation tree on a screen and as JSON: an event a line, below it what it caused, and what that amounts to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from console import wording
from console.printing import plain

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from store.tree import CausationTree, MissingLink, TreeEvent

Measure = Literal["both", "cost", "latency"]
Node = tuple[int, str, "CausationTree"]

# Guides take at most three eighths of the screen: deeper levels are told by their number.
_GUIDE = 3
_MOST_MISSING = 5


@dataclass(frozen=True, slots=True)
class Shown:
    """How much of a tree is shown.

    Attributes:
        depth: levels below the first; None shows all.
        limit: events; None shows all.
        measure: costs, times, or both.
        marked: id of an event to point at.
        positions: whether each line ends with its event's position, where there is room.
    """

    depth: int | None = None
    limit: int | None = None
    measure: Measure = "both"
    marked: str | None = None
    positions: bool = False


EVERYTHING = Shown()


def print_tree(out: Console, tree: CausationTree, shown: Shown = EVERYTHING) -> int:
    """Print a tree, its totals, and which causes are missing; return how many of its events were left out."""
    from rich.text import Text

    critical = {node.event.position for node in tree.critical_path} if shown.measure == "latency" else set()
    count = 0
    for level, guides, node in _cut(_lines(tree, _room(out)), shown):
        line = Text().append(guides, style="dim")
        line.append_text(_label(node, shown, hides=level == shown.depth, critical=node.event.position in critical))
        _print_line(out, line, f"{node.event.position}" if shown.positions else "")
        count += 1
    out.print(Text(", ".join(_summary(tree, shown)), style="bold"), soft_wrap=True)
    for sentence in missing_sentences(tree):
        out.print(Text(sentence, style="yellow"), soft_wrap=True)
    return tree.count - count


def tree_objects(tree: CausationTree, shown: Shown = EVERYTHING) -> Iterator[dict[str, Any]]:
    """Iterate over a tree's events as JSON shows them, a parent before its children."""
    critical = {node.event.position for node in tree.critical_path}
    for level, _, node in _cut(((level, "", node) for level, node in tree.walk()), shown):
        found = {"level": level, **_event_object(node.event), **totals(node)}
        found |= {"elapsed_ms": node.elapsed_us / 1000, "waiting_total": node.waiting, "dead_total": node.dead}
        found["critical"] = node.event.position in critical
        yield found | ({"missing": list(tree.missing)} if node is tree else {})


def totals(tree: CausationTree) -> dict[str, Any]:
    """Return what a tree amounts to."""
    return {
        "count": tree.count,
        "cost_total": tree.cost_total,
        "cost_by_currency": tree.cost_by_currency,
        "latency_total_ms": tree.latency_total_ms,
    }


def missing_sentences(tree: CausationTree) -> Iterator[str]:
    """Say which causes are missing, the first few of them."""
    for link in tree.missing[:_MOST_MISSING]:
        yield missing_sentence(link)
    if (more := len(tree.missing) - _MOST_MISSING) > 0:
        yield f"So it is with {wording.plural(more, 'more event')}: `--json` lists them."


def missing_sentence(link: MissingLink) -> str:
    """Say which cause is missing, and where."""
    return (
        f"{plain(link.event_id)} (position {link.position}) names the cause {plain(link.causation_id)}, which is "
        "neither in history nor in the store."
    )


def _event_object(event: TreeEvent) -> dict[str, Any]:
    return {
        "position": event.position,
        "event_id": event.event_id,
        "project_id": event.project_id,
        "type": event.type,
        "actor": event.actor,
        "causation_id": event.causation_id,
        "timestamp": event.timestamp,
        "cost": event.cost,
        "currency": event.currency,
        "latency_ms": event.latency_ms,
        "waiting": event.waiting,
        "dead": event.dead,
    }


def _print_line(out: Console, line: Text, position: str) -> None:
    """Print a line; on a terminal it is cut where the screen ends, and the position is shown if there is room."""
    room = out.width - line.cell_len
    if position and (room >= len(position) + 2 or not out.is_terminal):
        line.append(f"  {position}", style="dim")
    if out.is_terminal:
        line.truncate(out.width, overflow="ellipsis")
    out.print(line, soft_wrap=True)


def _label(node: CausationTree, shown: Shown, *, hides: bool, critical: bool) -> Text:
    from rich.text import Text

    event = node.event
    label = Text().append("* " if critical else "", style="bold yellow")
    label.append(plain(event.type), style="cyan").append(f"  {plain(event.actor)}")
    costs, latency = wording.money(event.cost, event.currency and plain(event.currency)), event.latency_ms
    if measures := _measures(shown.measure, costs, wording.duration(latency)):
        label.append(f"  {measures}", style="green")
    if unfinished := _unfinished(event.waiting, event.dead):
        label.append(f"  {unfinished}", style="red" if event.dead else "yellow")
    # Where a tree forks its branches add up, and where it is cut nobody sees them.
    if len(node.children) > 1 or (hides and node.children):
        together = ", ".join(filter(None, _together(node, shown.measure)))
        label.append(f"  [with {node.count - 1:,} below{together and f': {together}'}]" if together or hides else "")
    if event.event_id == shown.marked:
        label.append("  <- this event", style="bold")
    return label


def _measures(measure: Measure, costs: str, times: str) -> str:
    return ", ".join(filter(None, ("" if measure == "latency" else costs, "" if measure == "cost" else times)))


def _together(node: CausationTree, measure: Measure) -> list[str]:
    """Say what a tree amounts to; with times alone also how long it was from its event to its end."""
    spans = f"{wording.duration(node.elapsed_us / 1000)} to its end" if measure == "latency" and node.elapsed_us else ""
    work = wording.duration(node.latency_total_ms or None)
    if measure == "latency" and work:
        work = f"{work} of work"
    dead, waiting = node.dead - node.event.dead, node.waiting - node.event.waiting
    return [_measures(measure, _costs(node), spans), _measures(measure, "", work), _unfinished(waiting, dead)]


def _summary(tree: CausationTree, shown: Shown) -> Iterator[str]:
    yield wording.plural(tree.count, "event")
    if costs := _measures(shown.measure, _costs(tree), ""):
        yield costs
    if shown.measure != "cost" and tree.latency_us:
        yield f"{wording.duration(tree.latency_total_ms)} of work"
    if shown.measure == "latency":
        steps = wording.plural(len(tree.critical_path), "event")
        yield f"{wording.duration(tree.elapsed_us / 1000)} to its end, by the path of {steps} marked *"
    if unfinished := _unfinished(tree.waiting, tree.dead):
        yield f"{unfinished} (as far as archived)"


def _costs(tree: CausationTree) -> str:
    return wording.sums({plain(name): amount for name, amount in tree.cost_by_currency.items() if amount})


def _unfinished(waiting: int, dead: int) -> str:
    return ", ".join(filter(None, (f"{waiting:,} waiting" if waiting else "", f"{dead:,} dead" if dead else "")))


def _cut(lines: Iterator[Node], shown: Shown) -> Iterator[Node]:
    """Iterate over the lines that are shown."""
    count = 0
    for level, guides, node in lines:
        if shown.depth is not None and level > shown.depth:
            continue
        if count == shown.limit:
            return
        count += 1
        yield level, guides, node


def _room(out: Console) -> int:
    return max(out.width * 3 // 8 // _GUIDE, 4)


def _lines(tree: CausationTree, room: int) -> Iterator[Node]:
    """Iterate over a tree's lines with their guides; without recursion, a chain may be thousands deep.

    Args:
        room: the most levels of guides that are drawn.
    """
    pending = [(0, "", "", tree)]
    while pending:
        level, own, below, node = pending.pop()
        yield level, _fitting(own, level, room), node
        last = len(node.children) - 1
        kept = below[-room * _GUIDE :]
        for number in range(last, -1, -1):
            corner, guide = ("└─ ", "   ") if number == last else ("├─ ", "│  ")
            pending.append((level + 1, kept + corner, kept + guide, node.children[number]))


def _fitting(guides: str, level: int, room: int) -> str:
    """Return the guides of a line; of one that is too deep the last ones, after the number of its level."""
    if level <= room:
        return guides
    number = f"…{level} "
    return number + guides[-(room * _GUIDE) :][len(number) :]
