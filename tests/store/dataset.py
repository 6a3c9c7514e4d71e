"""A large history from a seed, and how long questions about it take: 1,000,000 events by hand, fewer in the suite.

    python -m tests.store.dataset --events 1000000 --database-url postgresql://localhost/empty

A few dozen projects are under way at a time, each a tree of causes with costs in two currencies; among them one chain,
`DEEP`, and one tree, `WIDE`, both spread over the whole of it. Ninety days, so that PostgreSQL has four partitions.
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, text

from events.event import Event
from events.records import RecordedEvent
from events.types import named
from store.archive import Archive
from store.causation import Causation
from store.engine import open_engine, writing
from store.filter import EventFilter
from store.migrate import upgrade
from store.replay import Replay
from store.statistics import Statistics

BEGIN = datetime(2030, 1, 15, tzinfo=UTC)
SPAN = timedelta(days=90)
CHAIN, TREE = 100, 10_000
NAMESPACE = "measured"
_BATCH = 5000
_TYPES = ("PROJECT_CREATED", "SCENE_WRITTEN", "SHOT_PLANNED", "IMAGE_GENERATED", "QA_REPORT", "IMAGE_EDITED")
_OPEN, _PROJECT = 30, 400


@dataclass(slots=True)
class Project:
    """A project that grows: the event ids and depths that may be causes."""

    name: str
    root: str = ""
    events: list[tuple[str, int]] = field(default_factory=list)


def history(size: int, seed: int = 1) -> Iterator[RecordedEvent]:
    """Iterate over a history: the same for the same size and seed.

    Args:
        size: at least ten times `TREE`.
    """
    chance = random.Random(seed)
    deep, wide = Project("DEEP"), Project("WIDE")
    names = (f"P-{number:06d}" for number in itertools.count())
    ordinary = [Project(next(names)) for _ in range(_OPEN)]
    step = SPAN // size
    for n in range(size):
        if n % (size // CHAIN) == 1 and len(deep.events) < CHAIN:
            yield _grown(deep, n, step, chance, lambda project: project.events[-1])
        elif n % (size // TREE) == 2 and len(wide.events) < TREE:
            yield _grown(wide, n, step, chance, lambda project: chance.choice(project.events[-500:]))
        else:
            place = chance.randrange(_OPEN)
            if len(ordinary[place].events) >= _PROJECT:
                ordinary[place] = Project(next(names))
            yield _grown(ordinary[place], n, step, chance, lambda project: chance.choice(project.events[-20:]))


def fill(engine: Engine, events: Iterator[RecordedEvent]) -> float:
    """Archive a history; return the seconds of this process's CPU that it took, and its making."""
    start = time.process_time()
    while batch := list(itertools.islice(events, _BATCH)):
        with Archive(engine, NAMESPACE).writer("history") as writer:
            assert writer is not None
            writer.append_events(batch)
            writer.advance(batch[-1].position, f"{batch[-1].position}-0")
    if engine.dialect.name == "postgresql":
        with writing(engine) as connection:
            connection.execute(text("ANALYZE"))
    return time.process_time() - start


def measure(engine: Engine, size: int) -> dict[str, tuple[Any, float]]:
    """Ask what operators ask; return each question's answer and the milliseconds it took, the median of three times."""
    replay, causation = Replay(engine, NAMESPACE, None), Causation(engine, NAMESPACE, None)
    statistics = Statistics(engine, NAMESPACE, None)
    middle = _position(size // 2, SPAN // size)
    hour = EventFilter(start_time=BEGIN + SPAN / 2, end_time=BEGIN + SPAN / 2 + timedelta(hours=1))
    last, first = f"EV-{(CHAIN - 1) * (size // CHAIN) + 1:09d}", f"EV-{2:09d}"
    return {
        f"a chain of {CHAIN}": _timed(lambda: causation.chain(last)),
        "a page of 500": _timed(lambda: replay.page(after=middle, limit=500)),
        "a page of one project": _timed(lambda: replay.page(EventFilter(project_id="WIDE"), limit=500)),
        "a page of one hour": _timed(lambda: replay.page(hour, limit=500)),
        "a page by payload": _timed(lambda: replay.page(EventFilter(payload={"scene.number": 3}), limit=500)),
        f"a tree of {TREE:,}": _timed(lambda: causation.tree(first)),
        "a project's statistics": _timed(lambda: statistics.project("WIDE")),
        "a project's days": _timed(lambda: statistics.series("WIDE")),
        "everybody's statistics": _timed(lambda: statistics.project()),
    }


def _grown(
    project: Project, n: int, step: timedelta, chance: random.Random, pick: Callable[[Project], tuple[str, int]]
) -> RecordedEvent:
    event_id = f"EV-{n:09d}"
    cause, depth = pick(project) if project.events else (None, -1)
    project.root = project.root or event_id
    project.events.append((event_id, depth + 1))
    metadata: dict[str, Any] = {"latency_ms": chance.randrange(1, 60_000)}
    if chance.random() < 0.5:
        metadata |= {"cost": chance.randrange(1, 100_000) / 1_000_000, "currency": chance.choice(["USD", "EUR"])}
    event = Event.model_construct(
        event_id=event_id,
        project_id=project.name,
        type=named(_TYPES[min(depth + 1, len(_TYPES) - 1)]),
        actor=f"Agent-{chance.randrange(12)}",
        causation_id=cause,
        correlation_id=project.root,
        timestamp=BEGIN + n * step,
        payload={"scene": {"number": chance.randrange(100), "text": "It was a dark and stormy night. " * 4}},
        blackboard_pointer=None,
        metadata=metadata,
    )
    return RecordedEvent(_position(n, step), event, depth + 1, ("Painter",) if project.name == "WIDE" else ())


def _position(n: int, step: timedelta) -> int:
    return (BEGIN - datetime(1970, 1, 1, tzinfo=UTC) + n * step) // timedelta(microseconds=1)


def _timed(ask: Callable[[], Any]) -> tuple[Any, float]:
    took = []
    for _ in range(3):
        start = time.perf_counter()
        answer = ask()
        took.append((time.perf_counter() - start) * 1000)
    return answer, sorted(took)[1]


def main() -> None:
    """Fill an empty database, and print how long questions take."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--events", type=int, default=1_000_000, help="at least 100,000")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--database-url", default=f"sqlite:///{Path('dataset.db').absolute()}")
    given = options.parse_args()
    engine = open_engine(given.database_url)
    upgrade(engine)
    spent = fill(engine, history(given.events, given.seed))
    print(f"{given.events:,} events stored with {spent:.0f} s of CPU on this side", file=sys.stderr)
    for question, (_, took_ms) in measure(engine, given.events).items():
        print(f"{question}: {took_ms:.1f} ms")


if __name__ == "__main__":
    main()
