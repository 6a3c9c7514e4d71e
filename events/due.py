"""When an event is to be published: after a delay, or at a moment; and the answer to scheduling it.

Values and their checks; keeping what waits is `events.scheduled`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from events.errors import InvalidSchedule
from events.shown import shown

MAX_AHEAD = timedelta(days=3653)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Due:
    """When to publish, as the script reads it: `+<microseconds>` from now, or `<microseconds>` since 1970."""

    text: str


@dataclass(frozen=True, slots=True)
class Scheduled:
    """An acknowledged scheduling.

    Attributes:
        event_id: the event's id.
        due: when it will be published, by the server's clock, in UTC.
        is_new: False when it was scheduled already; `due` is the earlier of the two moments then.
    """

    event_id: str
    due: datetime
    is_new: bool


def read_due(delay: object, at: object) -> Due | None:
    """Return when to publish; None is at once.

    Args:
        delay: seconds or a timedelta, counted by the server's clock from when it gets the event.
        at: a datetime; a naive one is UTC. A past one is at once.

    Raises:
        InvalidSchedule: both are given, the delay is negative or no number, or the moment is over ten
            years away.
    """
    if delay is not None and at is not None:
        raise InvalidSchedule(f"Give either delay or at, not both (delay={shown(delay)}, at={shown(at)}).")
    if at is not None:
        return Due(str(_moment_us(at)))
    delay_us = 0 if delay is None else _delay_us(delay)
    return Due(f"+{delay_us}") if delay_us else None


def moment(microseconds: int) -> datetime:
    """Return a moment that Redis counts in microseconds since 1970."""
    return _EPOCH + timedelta(microseconds=microseconds)


def microseconds(moment: datetime) -> int:
    """Return an aware moment as Redis counts it: whole microseconds since 1970."""
    return (moment - _EPOCH) // _MICROSECOND


def _delay_us(delay: object) -> int:
    seconds = delay.total_seconds() if isinstance(delay, timedelta) else delay
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or seconds != seconds:
        raise InvalidSchedule(f"delay must be seconds or a timedelta, not {shown(delay)}.")
    if not 0 <= seconds <= MAX_AHEAD.total_seconds():
        raise InvalidSchedule(f"delay must be from 0 seconds to ten years ({MAX_AHEAD.days} days), not {shown(delay)}.")
    return math.ceil(seconds * 1e6)


def _moment_us(at: object) -> int:
    if not isinstance(at, datetime):
        raise InvalidSchedule(f"at must be a datetime, not {shown(at)}.")
    try:
        aware = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except OverflowError:
        raise InvalidSchedule(f"at must be a moment that UTC can tell, not {at.isoformat()}.") from None
    if aware - datetime.now(UTC) > MAX_AHEAD:
        raise InvalidSchedule(f"at must be at most ten years ({MAX_AHEAD.days} days) from now, not {at.isoformat()}.")
    return microseconds(aware)
