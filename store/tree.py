"""A causation tree as a value: an event, what it caused, and what that amounts to. Computed without recursion."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from typing import NamedTuple

from store.tables import microseconds

_MICROS = 1_000_000
DEFAULT_CURRENCY = "USD"


class TreeEvent(NamedTuple):
    """An event as trees hold it: without its payload, so that 10,000 of them fit into a few megabytes.

    A tuple, because one is made in a fifth of the time of a frozen dataclass.

    Attributes:
        position: its place in history.
        event_id: its id. project_id: whose it is. actor: who did it.
        type: its type's name.
        causation_id: its direct cause; None for a root.
        timestamp: when it happened, aware, UTC.
        cost_micros: what it cost, in millionths of `currency`; None when it names no cost.
        currency: of its cost; None means USD.
        latency_us: how long it took, in microseconds; None when it does not say.
        waiting: its deliveries that have not ended, as far as archived.
        dead: its deliveries that were given up and not made again, as far as archived.
    """

    position: int
    event_id: str
    project_id: str
    type: str
    actor: str
    causation_id: str | None
    timestamp: datetime
    cost_micros: int | None
    currency: str | None
    latency_us: int | None
    waiting: int = 0
    dead: int = 0

    def with_deliveries(self, waiting: int, dead: int) -> TreeEvent:
        """Return the event with these numbers; `dataclasses.replace` takes several times as long."""
        return TreeEvent(*self[:-2], waiting, dead)

    @property
    def cost(self) -> float | None:
        """What it cost, in its currency."""
        return None if self.cost_micros is None else self.cost_micros / _MICROS

    @property
    def latency_ms(self) -> float | None:
        """How long it took, in milliseconds."""
        return None if self.latency_us is None else self.latency_us / 1000

    @property
    def end_us(self) -> int:
        """The end of what it says of itself: its timestamp and its latency after it, microseconds since 1970."""
        return microseconds(self.timestamp) + (self.latency_us or 0)


@dataclass(frozen=True, slots=True)
class MissingLink:
    """An event that names a cause which is not there: named wrongly, of another system, set aside, or lost.

    Attributes:
        event_id: the event's. position: its place in history.
        causation_id: the cause that neither history nor the store has.
    """

    event_id: str
    position: int
    causation_id: str


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class CausationTree:
    """One event and everything it set off; each number is of the whole of it, the event itself included.

    Attributes:
        event: the event at its place, with the numbers of its own.
        children: the trees of what it caused directly, in history order.
        count: events.
        costs_micros: what they cost, in millionths, by currency in alphabetical order; empty when none has a cost.
        latency_us: how long they took, in microseconds, had they come one by one.
        end_us: the latest `end_us` of them.
        slowest: the child whose tree ends last, and after the event itself; None when none does.
        waiting: deliveries that have not ended, as far as archived.
        dead: deliveries that were given up and not made again, as far as archived.
        missing: only of the tree that was asked for: events, the one asked for or some that name it as their
            root, that belong above or into this tree, but whose cause is not there; oldest first, at most
            `store.causation.MAX_MISSING`. Those of them that it does not hold are not counted.
    """

    event: TreeEvent
    children: tuple[CausationTree, ...]
    count: int
    costs_micros: Mapping[str, int]
    latency_us: int
    end_us: int
    slowest: CausationTree | None
    waiting: int
    dead: int
    missing: tuple[MissingLink, ...] = ()

    @property
    def cost_micros(self) -> int:
        """What the events cost together, in millionths, whatever the currencies."""
        return sum(self.costs_micros.values())

    @property
    def cost_total(self) -> float:
        """What the events cost together, whatever the currencies."""
        return self.cost_micros / _MICROS

    @property
    def cost_by_currency(self) -> dict[str, float]:
        """What the events cost together, in each currency."""
        return {currency: micros / _MICROS for currency, micros in self.costs_micros.items()}

    @property
    def latency_total_ms(self) -> float:
        """How long the events took together, in milliseconds, had they come one by one."""
        return self.latency_us / 1000

    @property
    def elapsed_us(self) -> int:
        """Microseconds from the event's timestamp to the end of the last of what it set off."""
        return self.end_us - microseconds(self.event.timestamp)

    @property
    def critical_path(self) -> list[CausationTree]:
        """The trees from this one down to the event that ends last: what would have to be faster."""
        path = [self]
        while (slowest := path[-1].slowest) is not None:
            path.append(slowest)
        return path

    def walk(self) -> Iterator[tuple[int, CausationTree]]:
        """Iterate over (level, tree), a parent before its children, in the order to print; this one is level 0."""
        pending = [(0, self)]
        while pending:
            level, tree = pending.pop()
            yield level, tree
            pending += [(level + 1, child) for child in reversed(tree.children)]


def build(root_id: str, known: Mapping[str, TreeEvent], missing: Sequence[MissingLink] = ()) -> CausationTree:
    """Arrange events under a root; without recursion, because a chain may be thousands deep.

    Args:
        known: the root and its descendants, by event id. The root's own cause is ignored.
        missing: of the tree.
    """
    root, caused = known[root_id], dict[str, list[TreeEvent]]()
    for event in sorted(known.values(), key=attrgetter("position")):
        if event.causation_id is not None and event is not root:
            caused.setdefault(event.causation_id, []).append(event)
    order = [root]
    for event in order:  # grows while it is walked: parents before children
        order += caused.get(event.event_id, ())
    trees: dict[str, CausationTree] = {}
    for event in reversed(order):
        children = tuple([trees.pop(child.event_id) for child in caused.get(event.event_id, ())])
        trees[event.event_id] = _rolled_up(event, children, tuple(missing) if event is root else ())
    return trees[root.event_id]


def _rolled_up(
    event: TreeEvent, children: tuple[CausationTree, ...], missing: tuple[MissingLink, ...]
) -> CausationTree:
    count, latency_us, waiting, dead = 1, event.latency_us or 0, event.waiting, event.dead
    slowest, end_us = None, event.end_us
    for child in children:
        count += child.count
        latency_us += child.latency_us
        waiting += child.waiting
        dead += child.dead
        if child.end_us > end_us:  # of equals, the first in history
            slowest, end_us = child, child.end_us
    costs_micros = _costs(event, children)
    return CausationTree(event, children, count, costs_micros, latency_us, end_us, slowest, waiting, dead, missing)


def _costs(event: TreeEvent, children: tuple[CausationTree, ...]) -> Mapping[str, int]:
    if event.cost_micros is None and len(children) == 1:
        return children[0].costs_micros  # shared: a long chain of events without costs keeps one
    sums: dict[str, int] = {}
    if event.cost_micros is not None:
        sums[event.currency or DEFAULT_CURRENCY] = event.cost_micros
    for child in children:
        for currency, micros in child.costs_micros.items():
            sums[currency] = sums.get(currency, 0) + micros
    return dict(sorted(sums.items())) if len(sums) > 1 else sums
