"""One run of a seed, its replay from data, and the shortest history that still fails."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from events.errors import EventBusError
from tests.model.moves import Moves
from tests.model.oracle import Violation
from tests.model.scene import CAST, Stage
from tests.model.world import Operation, World

Texts = dict[str, str] | None


@dataclass(frozen=True)
class Failure:
    """A history that breaks a promise.

    Attributes:
        seed: what chose it. stage: who played. operations: what happened, as data.
        reason: the promise that broke.
    """

    seed: int
    stage: Stage
    operations: tuple[Operation, ...]
    reason: str

    def __str__(self) -> str:
        title = f"seed {self.seed}, {self.stage}, {len(self.operations)} operations, then:"
        lines = [
            f"{number:4}  {operation[0]} {', '.join(map(_shown, operation[1:]))}"
            for number, operation in enumerate(self.operations, 1)
        ]
        return "\n".join([title, *lines, f"      {self.reason}"])


def run(client: Any, seed: int, steps: int, texts: Texts = None) -> Failure | None:
    """Play `steps` operations and drain; return what failed, if anything did."""
    random = Random(seed)
    stage = Stage(tuple(random.sample(list(CAST), random.randint(2, 6))), seed % 2 == 1)
    operations: list[Operation] = []

    def play(world: World) -> None:
        moves = Moves(world, random)
        for _ in range(steps):
            operations.append(moves.next())
            world.apply(operations[-1])

    reason = _attempt(client, texts, stage, play)
    return Failure(seed, stage, tuple(operations), reason) if reason else None


def replay(client: Any, failure: Failure, operations: Sequence[Operation], texts: Texts = None) -> Failure | None:
    """Play given operations and drain; return what failed, if anything did."""
    done: list[Operation] = []

    def play(world: World) -> None:
        for operation in operations:
            done.append(operation)
            world.apply(operation)

    reason = _attempt(client, texts, failure.stage, play)
    return Failure(failure.seed, failure.stage, tuple(done), reason) if reason else None


def shrink(client: Any, failure: Failure, texts: Texts = None, budget_s: float = 30.0) -> Failure:
    """Drop operations, then parts of operations, as long as something still fails.

    Source: delta debugging (Zeller and Hildebrandt, 2002), without the test of complements.
    """
    deadline = time.monotonic() + budget_s
    size, before = max(1, len(failure.operations) // 2), -1
    while time.monotonic() < deadline and not (size == 1 and before == len(failure.operations)):
        before = len(failure.operations)
        failure = _without(client, failure, texts, size, deadline)
        size = max(1, size // 2)
    return _thinner(client, failure, texts, deadline)


def _without(client: Any, failure: Failure, texts: Texts, size: int, deadline: float) -> Failure:
    at = 0
    while at < len(failure.operations) and time.monotonic() < deadline:
        fewer = failure.operations[:at] + failure.operations[at + size :]
        shorter = replay(client, failure, fewer, texts)
        failure, at = (shorter, at) if shorter else (failure, at + size)
    return failure


def _thinner(client: Any, failure: Failure, texts: Texts, deadline: float) -> Failure:
    """Drop single events, items, subscribers from the tuples that operations carry."""
    at = 0
    while at < len(failure.operations):
        for fewer in _thinned(failure.operations[at]):
            shorter = None
            if time.monotonic() < deadline:
                operations = (*failure.operations[:at], fewer, *failure.operations[at + 1 :])
                shorter = replay(client, failure, operations, texts)
            if shorter:
                failure = shorter
                break
        else:
            at += 1
    return failure


def _thinned(operation: Operation) -> Iterator[Operation]:
    for place, argument in enumerate(operation):
        if isinstance(argument, tuple) and not hasattr(argument, "_fields") and len(argument) > 1:
            for n in range(len(argument)):
                yield (*operation[:place], argument[:n] + argument[n + 1 :], *operation[place + 1 :])


def _attempt(client: Any, texts: Texts, stage: Stage, play: Any) -> str:
    world = World(client, stage, texts)
    try:
        play(world)
        world.drain()
    except (Violation, EventBusError) as error:
        return str(error)
    finally:
        world.erase()
    return ""


def _shown(argument: Any) -> str:
    if isinstance(argument, tuple) and not hasattr(argument, "_fields"):
        return "(" + ", ".join(map(_shown, argument)) + ")"
    return str(argument)
