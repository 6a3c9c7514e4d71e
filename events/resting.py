"""Whether a namespace is at rest, and bringing forward what waits for its time. For tests, never for operation.

    moves ──handled, settled──> waits for its time ──hasten──> due ──promote, release──> moves
                                nothing waits: at rest

One look is one script: while it is made nothing is between two places.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from events.namespace import Namespace


@dataclass(frozen=True, slots=True)
class Rest:
    """What keeps a namespace from being at rest, at one moment.

    Attributes:
        moving: deliveries that are ready or leased, and subscribers that are being back-filled.
        due_s: seconds until the first retry, scheduled event, time-out of a join or rate is due; None when none waits.
        is_behind: history or outcomes have something that is not archived.
    """

    moving: int
    due_s: float | None
    is_behind: bool


def look(namespace: Namespace) -> Rest:
    """Return what still moves or waits for its time.

    Raises:
        RedisUnavailable, ScriptFailed.
    """
    moving, due_us, is_behind = namespace.scripts.call("waits", [""])
    return Rest(moving, None if due_us < 0 else due_us / 1e6, bool(is_behind))


def hasten(namespace: Namespace, seconds: float) -> int:
    """Take so much time off every due time, as if it had passed; return how many there were.

    Raises:
        RedisUnavailable: it may or may not have happened. ScriptFailed, HistoryReset: nothing was written.
    """
    return int(namespace.call("hasten", math.ceil(seconds * 1e6)))
