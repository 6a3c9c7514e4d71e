"""Which faults there are, and the script of a run: which are done, in which order, told by its seed."""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import psycopg2
import redis

from tests.chaos.harm import Spared, database, links, processes, servers

if TYPE_CHECKING:
    from tests.chaos.stage import Stage

BOTH = ("sqlite", "postgres")


@dataclass(frozen=True)
class Fault:
    """One kind.

    Attributes:
        weight: how often, compared with others; 0: only where it is asked for by name. harm: what it does, and undoes.
        silences: whether everybody's leases may run out of it. loses: whether Redis forgets what it has acknowledged.
        databases: where it can be done.
    """

    weight: int
    harm: Callable[[Stage, random.Random], None]
    silences: bool = False
    loses: bool = False
    databases: tuple[str, ...] = BOTH


FAULTS: dict[str, Fault] = {
    "kill": Fault(6, processes.kill),
    "freeze": Fault(3, processes.freeze),
    "drop replies": Fault(4, links.drop_replies, silences=True),
    "cut": Fault(3, links.cut, silences=True),
    "stall": Fault(2, links.stall, silences=True),
    "refuse": Fault(2, links.refuse, silences=True),
    "kill clients": Fault(2, links.kill_clients, silences=True),
    "pause clients": Fault(1, servers.pause_clients, silences=True),
    "flush scripts": Fault(2, servers.flush_scripts),
    "kill valkey": Fault(1, servers.kill_valkey, silences=True),
    "memory full": Fault(1, servers.fill_memory, silences=True),
    "read only": Fault(1, servers.read_only, silences=True),
    "fail over": Fault(1, servers.fail_over, silences=True),
    "fail over behind": Fault(1, servers.fail_over_behind, silences=True, loses=True),
    "flush": Fault(1, servers.flush, silences=True, loses=True),
    "poison": Fault(1, servers.poison),
    "deadly": Fault(1, processes.publish_deadly),
    "deploy": Fault(1, processes.deploy),
    "release": Fault(1, processes.release),
    "clock": Fault(1, processes.jump_clocks),
    "end database": Fault(1, database.end_database, databases=("postgres",)),
    "terminate": Fault(1, database.terminate, databases=("postgres",)),
    "deadlock": Fault(1, database.deadlock, databases=("postgres",)),
    "disk full": Fault(1, database.fill_disk, databases=("sqlite",)),
    "kill worker": Fault(0, partial(processes.kill, kinds=("worker",))),
    "freeze worker": Fault(0, processes.freeze_worker),
    "kill archiver": Fault(0, partial(processes.kill, kinds=("archiver",))),
}


@dataclass(frozen=True)
class Step:
    """One fault of a run's script.

    Attributes:
        number: its place. rng: gives its numbers, the same whichever other steps are done. pause_s: peace after it.
    """

    number: int
    name: str
    rng: random.Random
    pause_s: float


def script(seed: int, database: str, only: Sequence[str] = ()) -> Iterator[Step]:
    """Iterate over the faults of a seed, of those kinds only if any are given; it has no end."""
    rng = random.Random(seed * 7919 + 1)
    names = [name for name in only or FAULTS if database in FAULTS[name].databases]
    if not names:
        raise ValueError(f"None of {', '.join(only)} can be done to {database}: choose another database, or fault.")
    weights = [FAULTS[name].weight or bool(only) for name in names]
    for number in itertools.count():
        name = rng.choices(names, weights)[0]
        own = random.Random(f"{seed}:{number}")
        yield Step(number, name, own, own.uniform(0.1, 1.5))


def suffer(stage: Stage, step: Step) -> bool:
    """Do a fault to a stage, and return whether it was done to its end.

    A server that is not there, or does not answer in time, is left alone until it heals.
    """
    with contextlib.suppress(Spared, redis.RedisError, psycopg2.Error, TimeoutError, AssertionError):
        FAULTS[step.name].harm(stage, step.rng)
        return True
    return False
