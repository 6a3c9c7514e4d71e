"""Samples: what processes and servers use, taken now and then, kept in arrays: a soak is not to grow itself."""

from __future__ import annotations

import contextlib
import os
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import redis
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from tests.chaos.stage import Stage

KINDS = ("worker", "archiver", "application", "publisher", "fleet")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
CONNECTIONS = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()"""
SIZE = "SELECT pg_database_size(current_database())"


class Measure(NamedTuple):
    """What is measured, of whom: `rss` of `worker`."""

    of: str
    what: str


@dataclass
class Track:
    """One measure of one incarnation: of a process from its start to its end.

    Attributes:
        at: monotonic seconds. values: as many.
    """

    at: array[float] = field(default_factory=lambda: array("d"))
    values: array[float] = field(default_factory=lambda: array("d"))


class Samples:
    """All samples of a soak, by measure and incarnation."""

    def __init__(self) -> None:
        self._tracks: dict[Measure, dict[int, Track]] = {}

    def add(self, measure: Measure, incarnation: int, at: float, value: float) -> None:
        """Keep one."""
        track = self._tracks.setdefault(measure, {}).setdefault(incarnation, Track())
        track.at.append(at)
        track.values.append(value)

    def __iter__(self) -> Iterator[tuple[Measure, list[Track]]]:
        for measure, incarnations in self._tracks.items():
            yield measure, list(incarnations.values())


def take(stage: Stage, samples: Samples, at: float) -> None:
    """Sample everything once; who is away, or dies meanwhile, is left out."""
    pids = {kind: stage.cast.pids(kind) for kind in KINDS}
    for kind, some in pids.items():
        for pid in some:
            with contextlib.suppress(OSError):
                for what, value in used_by(pid).items():
                    samples.add(Measure(kind, what), pid, at, value)
    with contextlib.suppress(redis.RedisError, AssertionError):
        server = stage.valkey.pid
        samples.add(Measure("redis", "memory"), server, at, float(stage.redis.info("memory")["used_memory"]))
        samples.add(Measure("redis", "keys"), server, at, float(stage.redis.dbsize()))
    look = _of_postgres if stage.postgres is not None else _of_sqlite
    with contextlib.suppress(SQLAlchemyError, OSError):
        connections, size = look(stage, [pid for some in pids.values() for pid in some])
        samples.add(Measure("sql", "connections"), 0, at, connections)
        samples.add(Measure("sql", "size"), 0, at, size)


def used_by(pid: int) -> dict[str, float]:
    """Return a process's resident memory in bytes, its open file descriptors and its threads.

    Raises:
        OSError: it is gone.
    """
    process = Path("/proc", str(pid))
    return {
        "memory": int((process / "statm").read_text().split()[1]) * PAGE_BYTES,
        "descriptors": len(list((process / "fd").iterdir())),
        "threads": len(list((process / "task").iterdir())),
    }


def _of_postgres(stage: Stage, _pids: list[int]) -> tuple[float, float]:
    with stage.engine.connect() as connection:
        connections, size = (float(connection.execute(text(sql)).scalar_one()) for sql in (CONNECTIONS, SIZE))
        return connections, size


def _of_sqlite(stage: Stage, pids: list[int]) -> tuple[float, float]:
    """An SQLite has no connections to count, but each holds its file open."""
    database = stage.folder / "store.db"
    files = [database, database.with_name("store.db-wal")]
    return opened(database, pids), sum(file.stat().st_size for file in files if file.exists())


def opened(file: Path, pids: list[int]) -> int:
    """How often processes have a file open."""
    count = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for descriptor in Path("/proc", str(pid), "fd").iterdir():
                with contextlib.suppress(OSError):
                    count += os.readlink(descriptor) == str(file)
    return count
