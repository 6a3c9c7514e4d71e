"""Schedules: which cron calls which factory, and what becomes of slots that were missed.

Values and their checks; running them is `workers.timetable`.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from events.errors import InvalidSchedule
from events.event import Event
from events.schemas import Schemas
from workers.cron import Cron

MISSED = ("last", "all", "skip")
MAX_MISSED = 1000
GRACE = timedelta(seconds=60)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9._-]{0,99}\Z")

Made = Event | Iterable[Event] | None
Factory = Callable[[datetime], Made | Awaitable[Made] | AsyncIterator[Event]]


@dataclass(frozen=True, slots=True)
class Schedule:
    """A cron, and the factory that makes the events of its slots.

    Attributes:
        name: names its cursor in Redis, so that restarts and other processes go on where it was.
        cron: when. timezone: an IANA name; whose clock the cron means.
        missed: what becomes of slots that nobody was there for: `last` fires the latest one, `all` fires
            each in order (of more than `MAX_MISSED` the last ones), `skip` fires none that is over `GRACE` late.
        factory: called with the slot, an aware datetime in the cron's timezone.
        schemas: what the payloads of its events are held against.
    """

    name: str
    cron: Cron
    timezone: str
    missed: str
    factory: Factory
    schemas: Schemas = field(default_factory=Schemas)

    def due(self, cursor: datetime, now: datetime) -> list[datetime]:
        """Return the slots to fire, oldest first: after the cursor, up to now, and kept by the policy.

        One more than `MAX_MISSED` tells that there are more; that one is not to be fired.
        """
        if self.missed == "last":
            return self.cron.latest(cursor, now, 1)
        after = max(cursor, now - GRACE) if self.missed == "skip" else cursor
        return self.cron.latest(after, now, MAX_MISSED + 1)


def make_schedule(
    cron: str, factory: object, name: str | None, timezone: str, missed: str, schemas: Schemas | None = None
) -> Schedule:
    """Make a schedule of what was asked for.

    Raises:
        InvalidSchedule: naming what is wrong.
    """
    if not callable(factory):
        raise InvalidSchedule(f"A schedule's factory must be callable with a datetime, not {factory!r:.80}.")
    if name is None:
        name = getattr(factory, "__name__", "")
    if not isinstance(name, str) or not _NAME.match(name):
        raise InvalidSchedule(
            "A schedule's name must be a letter or underscore and up to 99 of A-Z a-z 0-9 . _ -, "
            f"not {name!r:.150}: give name=... (without one it is the factory's)."
        )
    if missed not in MISSED:
        raise InvalidSchedule(f"missed must be 'last', 'all' or 'skip', not {missed!r:.80}.")
    return Schedule(name, Cron(cron, timezone), timezone, missed, factory, schemas or Schemas())
