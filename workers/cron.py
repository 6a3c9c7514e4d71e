"""Cron texts: the moments that one names, in a timezone.

Reading the text is cronsim's (https://github.com/cuu508/cronsim, BSD), which does as Debian's cron does.
Minute, hour, day of month, month, day of week; a sixth field before them is seconds. Where a timezone's
clock jumps, a text of five fields whose minute and hour do not begin with `*` (`30 2 * * *`) names each of
its times once a day: one that does not exist is the first moment after the gap, of two with one name it is
the first. Other texts (`*/15 * * * *`) follow the time that passes: nothing in the gap, and the repeated
hour twice.

What a cron names is a fixed set of moments: from wherever one looks, the next one is the same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import takewhile
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from events.errors import InvalidSchedule

_NARROWEST = timedelta(minutes=1)
_WIDEN = 8


class Cron:
    """The moments that a cron text names.

    Args:
        text: for example `0 3 * * *`.
        timezone: an IANA name, for example `Europe/Riga`.

    Raises:
        InvalidSchedule: the text or the timezone cannot be read, or no moment is ever named.
    """

    def __init__(self, text: str, timezone: str) -> None:
        if not isinstance(text, str):
            raise InvalidSchedule(f"A cron text must be a string like '0 3 * * *', not {text!r:.80}.")
        self.text = text
        self._zone = _zone(timezone)
        try:
            found = self.after(datetime.now(UTC))
        except (CronSimError, AssertionError, ValueError) as error:
            raise InvalidSchedule(
                f"The cron text {text!r:.120} cannot be read ({str(error) or type(error).__name__}): write minute hour "
                "day-of-month month day-of-week, like '0 3 * * *'; a sixth field before them is seconds."
            ) from None
        if found is None:
            raise InvalidSchedule(f"The cron text {text!r:.120} names no moment of the next 50 years.")

    def after(self, moment: datetime) -> datetime | None:
        """Return the first moment later than this one, in the cron's timezone; None in 50 years."""
        return next(self._from(moment), None)

    def latest(self, after: datetime, until: datetime, most: int) -> list[datetime]:
        """Return the last moments of `after < moment <= until`, at most so many, oldest first.

        A long stretch is not walked through: it is looked at from its end, in widening windows.
        """
        window = _NARROWEST
        while True:
            start = max(after, until - window)
            found = deque(takewhile(lambda slot: slot.astimezone(UTC) <= until, self._from(start)), most)
            if len(found) == most or start == after:
                return list(found)
            window *= _WIDEN

    def _from(self, moment: datetime) -> Iterator[datetime]:
        # cronsim may name a moment again, or one before: where the clock goes back it looks at names only.
        last = moment.astimezone(UTC)
        for slot in CronSim(self.text, moment.astimezone(self._zone)):
            if slot.astimezone(UTC) > last:
                last = slot.astimezone(UTC)
                yield slot


def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (LookupError, OSError, TypeError, ValueError):
        raise InvalidSchedule(
            f"The timezone {name!r:.80} is not known: write an IANA name like 'Europe/Riga', and see that the "
            "system or the package tzdata has it."
        ) from None
