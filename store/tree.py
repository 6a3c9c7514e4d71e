"""A causation tree as a value: an event, what it caused, and what that cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from events.records import RecordedEvent

_MICROS = 1_000_000


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class CausationTree:
    """One event and everything it set off.

    Attributes:
        recorded: the event at its place.
        children: the trees of what it caused directly, in history order.
        count: events in this tree, its root included.
        cost_micros: what they cost together, in millionths; events without a cost count nothing.
        latency_us: how long they took together, in microseconds.
    """

    recorded: RecordedEvent
    children: tuple[CausationTree, ...]
    count: int
    cost_micros: int
    latency_us: int

    @property
    def cost_total(self) -> float:
        """What the events of this tree cost together."""
        return self.cost_micros / _MICROS

    @property
    def latency_total_ms(self) -> float:
        """How long the events of this tree took together, in milliseconds, had they come one by one."""
        return self.latency_us / 1000

    def walk(self) -> Iterator[tuple[int, CausationTree]]:
        """Iterate over (level, tree), a parent before its children, in the order to print; the root is level 0."""
        pending = [(0, self)]
        while pending:
            level, tree = pending.pop()
            yield level, tree
            pending += [(level + 1, child) for child in reversed(tree.children)]


def build(root_id: str, known: Mapping[str, RecordedEvent]) -> CausationTree:
    """Arrange events under a root; without recursion, because a chain may be thousands deep.

    Args:
        known: the root and its descendants, by event id. The root's own cause is ignored.
    """
    caused: dict[str, list[str]] = {}
    for recorded in sorted(known.values(), key=lambda recorded: recorded.position):
        event = recorded.event
        if event.causation_id is not None and event.event_id != root_id:
            caused.setdefault(event.causation_id, []).append(event.event_id)
    order = [root_id]
    for event_id in order:  # grows while it is walked: parents before children
        order += caused.get(event_id, ())
    trees: dict[str, CausationTree] = {}
    for event_id in reversed(order):
        trees[event_id] = _node(known[event_id], tuple(trees[child] for child in caused.get(event_id, ())))
    return trees[root_id]


def _node(recorded: RecordedEvent, children: tuple[CausationTree, ...]) -> CausationTree:
    return CausationTree(
        recorded,
        children,
        1 + sum(child.count for child in children),
        round((recorded.event.cost or 0) * _MICROS) + sum(child.cost_micros for child in children),
        round((recorded.event.latency_ms or 0) * 1000) + sum(child.latency_us for child in children),
    )
