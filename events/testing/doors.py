"""The doors through which a handler's effects leave it: publishes, commits, and its end. At one of them it is killed.

    handler ──before──> publish ──after──> ... ──before──> commit ──after──> ... ──end──> settled

An attempt is killed by an exception, raised at the door. Afterwards it is dead: whatever door it comes to next,
in an `except` or a `finally`, raises again, and what it returns is not settled. Doors are counted only inside
attempts, which a context variable marks: tasks, `asyncio.to_thread` and SQLAlchemy's greenlets inherit it.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from sqlalchemy import Connection, Engine, event

from events.bus import EventBus
from events.event import Event

LOGS = ("eventbus.worker", "dramatiq.worker.WorkerThread")
OWN = tuple(str(Path(__file__).parents[2] / house) for house in ("events", "store", "workers"))
_BETWEEN = ("/sqlalchemy/", "/contextlib.py", "/asyncio/", "/concurrent/", "/threading.py", "/dramatiq/")
_BELOW = ("/events/testing/watch.py", "/asyncio/events.py")
_NO_FILE = ("<frozen", "<sqlalchemy")


class Killed(BaseException):
    """Ends a handler at a door, as SIGKILL would end its process. Not an `Exception`: no handler should catch it."""


@dataclass(frozen=True, slots=True)
class Point:
    """A place at which a handler can be killed.

    Attributes:
        when: `before`, `after` or `at`. what: which publish or commit, counted from 1 in each run, or the end.
        where: file and line of the handler that led there; empty when nobody could tell.
    """

    when: str
    what: str
    where: str = ""

    def __str__(self) -> str:
        return f"{self.when} {self.what}" + (f", {self.where}" if self.where else "")


@dataclass(slots=True, eq=False)
class Attempt:
    """One run of a handler. `goes_on`: it has returned something that is still to be awaited."""

    subscriber: str
    is_dead: bool = False
    goes_on: bool = False


_attempt: ContextVar[Attempt | None] = ContextVar("eventbus_testing_attempt", default=None)


class Doors:
    """Counts the doors that attempts come to, and kills one attempt at one of them.

    Args:
        kill_at: the number of that point, from 0; None kills nobody.
        engines: whose commits are doors; empty means those of all.

    Attributes:
        passed: every point that was come to, in that order. killed_at: the one at which somebody was killed.
    """

    def __init__(self, kill_at: int | None = None, engines: Collection[Engine] = ()) -> None:
        self.passed: list[Point] = []
        self.killed_at: Point | None = None
        self._kill_at = kill_at
        self._pools = {id(engine.pool) for engine in engines}
        self._counts: dict[str, int] = {}
        self._lock = threading.Lock()

    @contextmanager
    def attempt(self, subscriber: str) -> Iterator[Attempt]:
        """Mark what runs inside as one attempt; its end is a door too, and none for one that is dead."""
        one = Attempt(subscriber)
        token = _attempt.set(one)
        try:
            yield one
        finally:
            _attempt.reset(token)
            if one.is_dead:
                raise Killed(f"{subscriber} was killed {self.killed_at}")
        if not one.goes_on:
            self._come_to(one, Point("at", "the end of the handler, before that is settled"))

    @contextmanager
    def open(self) -> Iterator[None]:
        """Watch the publishes of every bus and the commits of every engine, as long as the block lasts."""
        submit, here = EventBus._submit, EventBus._submit_here
        doors = self

        def through(bus: EventBus, events: list[Event], *due: Any) -> Future[Any]:
            with doors._around("publish", _named(events)):
                done: Future[Any] = Future()
                done.set_result(submit(bus, events, *due).result())
            return done

        def through_here(bus: EventBus, events: list[Event], *due: Any) -> Any:
            after = doors._before("publish", _named(events))
            answered = here(bus, events, *due)
            return answered if after is None else asyncio.ensure_future(_then(answered, after))

        logs, quiet = [logging.getLogger(name) for name in LOGS], _without_kills
        for log in logs:
            log.addFilter(quiet)
        event.listen(Engine, "commit", self._commit)
        EventBus._submit, EventBus._submit_here = through, through_here  # type: ignore[method-assign, assignment]
        try:
            yield
        finally:
            EventBus._submit, EventBus._submit_here = submit, here  # type: ignore[method-assign]
            event.remove(Engine, "commit", self._commit)
            for log in logs:
                log.removeFilter(quiet)

    def _commit(self, connection: Connection) -> None:
        """SQLAlchemy is about to commit. Nobody tells that it has: who is to die after it, commits here and dies."""
        engine = connection.engine
        if self._pools and id(engine.pool) not in self._pools:
            return
        with self._around("commit", f"to {Path(engine.url.database or engine.dialect.name).name}") as kills_after:
            if kills_after:
                engine.dialect.do_commit(connection.connection)

    @contextmanager
    def _around(self, kind: str, detail: str) -> Iterator[bool]:
        """Pass the door before, and after the block the one after it; tell whether the latter one kills."""
        after = self._before(kind, detail)
        yield after is not None and len(self.passed) == self._kill_at
        if after is not None:
            after()

    def _before(self, kind: str, detail: str) -> Callable[[], None] | None:
        """Pass the door before something; return what passes the one after it, None outside of attempts."""
        one = _attempt.get()
        if one is None:
            return None
        with self._lock:
            number = self._counts[kind] = self._counts.get(kind, 0) + 1
        what, where = f"{kind} {number} ({detail})", _where(sys._getframe(1))
        self._come_to(one, Point("before", what, where))
        return lambda: self._come_to(one, Point("after", what, where))

    def _come_to(self, one: Attempt, point: Point) -> None:
        with self._lock:
            if not one.is_dead:
                self.passed.append(point)
                one.is_dead = len(self.passed) - 1 == self._kill_at
                if one.is_dead:
                    self.killed_at = point
        if one.is_dead:
            raise Killed(f"{one.subscriber} was killed {self.killed_at}")


async def _then(answered: Any, after: Callable[[], None]) -> Any:
    answers = await answered
    after()
    return answers


def _named(events: list[Event]) -> str:
    kinds = list(dict.fromkeys(one.type.value for one in events))
    return f"of {', '.join(kinds[:3])}{' and others' if len(kinds) > 3 else ''}"


def _where(frame: FrameType | None) -> str:
    """Return the innermost line that is the handler's, not this project's nor a library's in between; empty if none is.

    Below the watched handler, and below a task's first step, there is nothing of its.
    """
    while frame is not None:
        name = frame.f_code.co_filename
        if name.endswith(_BELOW):
            return ""
        if not name.startswith(OWN) and not any(part in name for part in _BETWEEN) and not name.startswith(_NO_FILE):
            return f"{Path(name).name}:{frame.f_lineno} in {frame.f_code.co_name}"
        frame = frame.f_back
    return ""


def _without_kills(record: logging.LogRecord) -> bool:
    """Keep out of the log what was killed on purpose."""
    return not (isinstance(record.exc_info, tuple) and isinstance(record.exc_info[1], Killed))
