"""Levers: what faults change inside the processes of a run: clocks, the room on the disk, the application's code.

A small file that the driver writes and every process maps. How long a delivery has been idle is asked of the server's
own clock, which nothing here can move; what scripts call the time is a line of their text, and moves.
"""

from __future__ import annotations

import datetime as real
import mmap
import os
import sqlite3
import struct
import time
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import event
from sqlalchemy.pool import Pool

VARIABLE = "CHAOS_LEVERS"
CLOCKED = (
    "events.event", "events.due", "store.inbox", "store.outbox", "store.outgoing", "workers.archiver",
    "workers.relay", "workers.cron",
)  # fmt: skip
"""Modules of the bus that ask their machine for the time of day."""
TIME_IN_SCRIPTS = "return tonumber(t[1]) * 1000000 + tonumber(t[2])"
AHEAD = "clock:ahead"
"""The key, after the namespace's prefix, of the microseconds by which scripts are ahead of the server's time."""
MOST_PAGES = 1 << 30
_LAYOUT = struct.Struct("<d?B")


class Positions(NamedTuple):
    """Where the levers are.

    Attributes:
        ahead_s: of processes' time of day. is_disk_full: SQLite gets no new page.
        release: of the application, for processes that start.
    """

    ahead_s: float = 0.0
    is_disk_full: bool = False
    release: int = 1


class Levers:
    """The driver's hand on the levers of one run."""

    def __init__(self, path: Path) -> None:
        self.at = Positions()
        path.write_bytes(_LAYOUT.pack(*self.at))
        self._memory = _mapped(path, writes=True)

    def pull(self, **changed: Any) -> None:
        """Set levers by name; the others stay."""
        self.at = self.at._replace(**changed)
        _LAYOUT.pack_into(self._memory, 0, *self.at)


def positions() -> Positions:
    """Read the levers of the run that this process belongs to; as at first, where it belongs to none."""
    path = os.environ.get(VARIABLE)
    return Positions(*_LAYOUT.unpack_from(_memory(path))) if path else Positions()


def obey() -> None:
    """Make this process obey the levers from now on; call it when the bus is imported and not yet used."""
    if VARIABLE in os.environ:
        _move_clocks()
        _move_scripts()
        event.listen(Pool, "checkout", _limit_pages)


def _move_clocks() -> None:
    time_of_day = time.time
    time.time = lambda: time_of_day() + positions().ahead_s
    for name in CLOCKED:
        module: Any = import_module(name)
        if getattr(module, "datetime", None) is real.datetime:
            module.datetime = _Datetime


def _move_scripts() -> None:
    from events import scripts

    sources: Callable[[], dict[str, str]] = scripts.sources
    moved = f"{TIME_IN_SCRIPTS} + tonumber(redis.call('GET', ns .. '{AHEAD}') or '0')"
    for text in sources().values():
        if TIME_IN_SCRIPTS not in text:
            raise LookupError(f"Scripts no longer read the time by {TIME_IN_SCRIPTS!r}: say here how they do.")
    scripts.sources = lambda: {name: text.replace(TIME_IN_SCRIPTS, moved) for name, text in sources().items()}


def _limit_pages(connection: Any, _record: object, _proxy: object) -> None:
    if isinstance(connection, sqlite3.Connection):
        connection.execute(f"PRAGMA max_page_count={1 if positions().is_disk_full else MOST_PAGES}")


class _Kind(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, real.datetime)

    def __getattr__(cls, name: str) -> Any:
        return getattr(real.datetime, name)


class _Datetime(metaclass=_Kind):
    """`datetime.datetime` for a module whose `now` is ahead; what it makes are ordinary ones."""

    def __new__(cls, *arguments: Any, **named: Any) -> Any:
        return real.datetime(*arguments, **named)

    @staticmethod
    def now(zone: real.tzinfo | None = None) -> real.datetime:
        return real.datetime.now(zone) + real.timedelta(seconds=positions().ahead_s)


def _mapped(path: Path, *, writes: bool = False) -> mmap.mmap:
    with open(path, "r+b" if writes else "rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_WRITE if writes else mmap.ACCESS_READ)


@cache
def _memory(path: str) -> mmap.mmap:
    return _mapped(Path(path))
