"""Faults: each is done to a running stage by name, with numbers from the seed, and undone by `heal`."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import redis

if TYPE_CHECKING:
    from tests.chaos.stage import Stage

Fault = Callable[["Stage", random.Random], None]
KINDS = ("worker", "worker", "worker", "archiver", "application", "publisher", "fleet")


def _some_pid(stage: Stage, rng: random.Random, kinds: tuple[str, ...] = KINDS) -> int | None:
    pids = stage.cast.pids(rng.choice(kinds))
    return rng.choice(pids) if pids else None


def _signal(pid: int | None, number: signal.Signals) -> None:
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def kill(stage: Stage, rng: random.Random) -> None:
    """SIGKILL a process of any kind."""
    _signal(_some_pid(stage, rng), signal.SIGKILL)


def freeze(stage: Stage, rng: random.Random) -> None:
    """SIGSTOP a process for longer than a lease, then SIGCONT."""
    pid = _some_pid(stage, rng, KINDS[:-1])
    _signal(pid, signal.SIGSTOP)
    stage.play(stage.lease_s * rng.uniform(1.2, 2.0))
    _signal(pid, signal.SIGCONT)


def drop_replies(stage: Stage, rng: random.Random) -> None:
    """Lose replies of commands that ran."""
    stage.proxy.drop_replies(rng.randint(1, 20), matching=rng.choice([b"", b"EVALSHA", b"XREADGROUP"]))
    stage.play(rng.uniform(0.2, 1.0))
    stage.proxy.drop_replies(0)


def cut(stage: Stage, rng: random.Random) -> None:
    """Cut every connection to Redis."""
    stage.proxy.cut()


def stall(stage: Stage, rng: random.Random) -> None:
    """Hold back all bytes to and from Redis."""
    stage.proxy.stall(True)
    stage.play(rng.uniform(0.2, stage.lease_s * 1.5))
    stage.proxy.stall(False)


def refuse(stage: Stage, rng: random.Random) -> None:
    """Cut and refuse connections to Redis."""
    stage.proxy.refuse(True)
    stage.proxy.cut()
    stage.play(rng.uniform(0.2, stage.lease_s * 1.5))
    stage.proxy.refuse(False)


def pause_clients(stage: Stage, rng: random.Random) -> None:
    """CLIENT PAUSE."""
    stage.redis.client_pause(rng.randint(100, 2000))


def kill_clients(stage: Stage, rng: random.Random) -> None:
    """CLIENT KILL of every normal client."""
    stage.redis.client_kill_filter(_type="normal", skipme=True)


def flush_scripts(stage: Stage, rng: random.Random) -> None:
    """SCRIPT FLUSH."""
    stage.redis.script_flush()


def kill_valkey(stage: Stage, rng: random.Random) -> None:
    """SIGKILL Valkey, and start it from its AOF."""
    stage.valkey.kill()
    stage.play(rng.uniform(0.1, 1.0))
    stage.valkey.restart()


def fill_memory(stage: Stage, rng: random.Random) -> None:
    """Answer writes with OOM."""
    stage.redis.config_set("maxmemory", 1_000_000)
    stage.play(rng.uniform(0.3, 1.5))
    stage.redis.config_set("maxmemory", 0)


def read_only(stage: Stage, rng: random.Random) -> None:
    """Make Valkey a replica of nobody that answers, as in a failover: READONLY."""
    stage.redis.replicaof("127.0.0.1", "1")
    stage.play(rng.uniform(0.3, 1.5))
    stage.redis.replicaof("NO", "ONE")


def deploy(stage: Stage, rng: random.Random) -> None:
    """SIGHUP the supervisor: every worker process is replaced, one after another."""
    for pid in stage.cast.pids("fleet"):
        _signal(pid, signal.SIGHUP)


def poison(stage: Stage, rng: random.Random) -> None:
    """Write entries that nobody can read into a queue."""
    queue = stage.keys("queue", rng.choice(["Painter", "Listener", "Director"]))
    for body in (b"\xff\xfe", b"not a frame", b"1\t2"):
        stage.poisoned += 1
        stage.redis.xadd(queue, {"f": body})


def end_database(stage: Stage, rng: random.Random) -> None:
    """Crash PostgreSQL and start it again; SQLite has no server."""
    if stage.postgres is None:
        return
    stage.postgres.pause()
    stage.play(rng.uniform(0.2, 2.0))
    stage.postgres.resume()


FAULTS: dict[str, tuple[int, Fault]] = {
    "kill": (6, kill),
    "freeze": (3, freeze),
    "drop replies": (4, drop_replies),
    "cut": (3, cut),
    "stall": (2, stall),
    "refuse": (2, refuse),
    "pause clients": (1, pause_clients),
    "kill clients": (2, kill_clients),
    "flush scripts": (2, flush_scripts),
    "kill valkey": (1, kill_valkey),
    "memory full": (1, fill_memory),
    "read only": (1, read_only),
    "deploy": (1, deploy),
    "poison": (1, poison),
    "end database": (1, end_database),
}
"""Name, how often compared with others, and the fault."""


def choose(rng: random.Random, only: list[str]) -> str:
    """Return the next fault's name."""
    names = only or list(FAULTS)
    return rng.choices(names, [FAULTS[name][0] for name in names])[0]


def suffer(stage: Stage, name: str, rng: random.Random) -> None:
    """Do a fault to a stage; a server that is not there yet is left alone."""
    with contextlib.suppress(redis.RedisError):
        FAULTS[name][1](stage, rng)
    time.sleep(0)
