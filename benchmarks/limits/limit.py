"""What a limit is: sides that do the same work in turns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

Turns = dict[str, list[float]]
Sides = dict[str, Callable[[], float]]
"""By name, ours first; each call does the work once and returns the figure."""


@dataclass(frozen=True, slots=True)
class Limit:
    """Something to measure.

    Attributes:
        name: as the command line names it. title: over its table. unit: of the figures.
        sides: opens what the sides need, for that many events.
    """

    name: str
    title: str
    unit: str
    sides: Callable[[int], AbstractContextManager[Sides]]

    def measure(self, rounds: int, events: int) -> Turns:
        """Let the sides take turns, the order turned round each time, after one turn of each that does not count."""
        with self.sides(events) as sides:
            found: Turns = {side: [] for side in sides}
            for take in sides.values():
                take()
            for number in range(rounds):
                for side in _in_order(list(sides), number):
                    found[side].append(sides[side]())
        return found


def _in_order(names: list[str], number: int) -> Iterator[str]:
    yield from names if number % 2 == 0 else reversed(names)
