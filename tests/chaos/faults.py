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

PROCESSES, LINKS, REDIS, DATABASE = (frozenset((part,)) for part in ("processes", "links", "redis", "database"))
BESIDE = 0.2
"""Of the steps so many have a second fault beside them, of other parts."""
BOTH = ("sqlite", "postgres")


@dataclass(frozen=True)
class Fault:
    """One kind.

    Attributes:
        weight: how often, compared with others; 0: only where it is asked for by name. parts: what it harms, or asks
            something of meanwhile. harm: what it does, and undoes.
        silences: whether everybody's leases may run out of it. loses: whether Redis forgets what it has acknowledged.
        databases: where it can be done.
    """

    weight: int
    parts: frozenset[str]
    harm: Callable[[Stage, random.Random], None]
    silences: bool = False
    loses: bool = False
    databases: tuple[str, ...] = BOTH


FAULTS: dict[str, Fault] = {
    "kill": Fault(6, PROCESSES, processes.kill),
    "freeze": Fault(3, PROCESSES, processes.freeze),
    "freeze supervisor": Fault(1, PROCESSES, processes.freeze_supervisor),
    "drop replies": Fault(4, LINKS, links.drop_replies, silences=True),
    "cut": Fault(3, LINKS, links.cut, silences=True),
    "stall": Fault(2, LINKS, links.stall, silences=True),
    "refuse": Fault(2, LINKS, links.refuse, silences=True),
    "tear": Fault(2, LINKS, links.tear, silences=True),
    "slow": Fault(2, LINKS, links.slow, silences=True),
    "kill clients": Fault(2, REDIS, links.kill_clients, silences=True),
    "pause clients": Fault(1, REDIS, servers.pause_clients, silences=True),
    "flush scripts": Fault(2, REDIS, servers.flush_scripts),
    "kill valkey": Fault(1, REDIS, servers.kill_valkey, silences=True),
    "freeze valkey": Fault(1, REDIS, servers.freeze_valkey, silences=True),
    "memory full": Fault(1, REDIS, servers.fill_memory, silences=True),
    "read only": Fault(1, REDIS, servers.read_only, silences=True),
    "fail over": Fault(1, REDIS | LINKS, servers.fail_over, silences=True),
    "fail over behind": Fault(1, REDIS | LINKS, servers.fail_over_behind, silences=True, loses=True),
    "flush": Fault(1, REDIS, servers.flush, silences=True, loses=True),
    "poison": Fault(1, REDIS, servers.poison),
    "deadly": Fault(1, PROCESSES | REDIS, processes.publish_deadly),
    "deploy": Fault(1, PROCESSES, processes.deploy),
    "release": Fault(1, PROCESSES, processes.release),
    "clock": Fault(1, REDIS, processes.jump_clocks),
    "end database": Fault(1, DATABASE, database.end_database, databases=("postgres",)),
    "freeze database": Fault(1, DATABASE, database.freeze_database, databases=("postgres",)),
    "terminate": Fault(1, DATABASE, database.terminate, databases=("postgres",)),
    "deadlock": Fault(1, DATABASE, database.deadlock, databases=("postgres",)),
    "disk full": Fault(1, DATABASE, database.fill_disk, databases=("sqlite",)),
    "cut database": Fault(0, DATABASE, database.cut_database, databases=("postgres",)),
    "stall database": Fault(0, DATABASE, database.stall_database, databases=("postgres",)),
    "kill worker": Fault(0, PROCESSES, partial(processes.kill, kinds=("worker",))),
    "freeze worker": Fault(0, PROCESSES, processes.freeze_worker),
    "kill archiver": Fault(0, PROCESSES, partial(processes.kill, kinds=("archiver",))),
}


@dataclass(frozen=True)
class Step:
    """One fault of a run's script.

    Attributes:
        number: its place. rng: gives its numbers, the same whichever other steps are done. pause_s: peace after it.
        beside: another, of other parts, that comes while it lasts.
    """

    number: int
    name: str
    rng: random.Random
    pause_s: float
    beside: Step | None = None


def script(seed: int, database: str, only: Sequence[str] = ()) -> Iterator[Step]:
    """Iterate over the faults of a seed, of those kinds only if any are given; it has no end."""
    rng = random.Random(seed * 7919 + 1)
    asked = only or [name for name, fault in FAULTS.items() if fault.weight]
    names = [name for name in asked if database in FAULTS[name].databases]
    if not names:
        raise ValueError(f"None of {', '.join(only)} can be done to {database}: choose another database, or fault.")
    weights = [FAULTS[name].weight or bool(only) for name in names]
    for number in itertools.count():
        name = rng.choices(names, weights)[0]
        own = random.Random(f"{seed}:{number}")
        yield Step(number, name, own, own.uniform(0.1, 1.5), _beside(seed, number, name, names))


def _beside(seed: int, number: int, name: str, names: Sequence[str]) -> Step | None:
    rng = random.Random(f"{seed}:{number}:beside")
    others = [one for one in names if not FAULTS[one].parts & FAULTS[name].parts]
    return Step(number, rng.choice(others), rng, 0.0) if others and rng.random() < BESIDE else None


def suffer(stage: Stage, step: Step) -> bool:
    """Do a fault to a stage, and return whether it was done to its end.

    A server that is not there, or does not answer in time, is left alone until it heals.
    """
    with contextlib.suppress(Spared, redis.RedisError, psycopg2.Error, TimeoutError, AssertionError):
        FAULTS[step.name].harm(stage, step.rng)
        return True
    return False
