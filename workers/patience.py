"""Patience with Redis: what reads from it is repeated as long as the process lives, whatever it answers."""

from __future__ import annotations

import logging
from collections.abc import Callable

from events.errors import EventBusError, RedisUnavailable, ScriptFailed

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 1.0

log = logging.getLogger("eventbus.receiver")


def repeat(step: Callable[[], None], reopen: Callable[[], None], pause: Callable[[float], bool]) -> None:
    """Repeat a step until it is over; one that fails is said, and repeated after a pause that grows.

    Args:
        reopen: called when Redis has lost what the step reads.
        pause: waits for so many seconds, 0 included; returns whether it is over.
    """
    pause_s = 0.0
    while not pause(pause_s):
        try:
            step()
            if pause_s > FIRST_PAUSE_S:
                log.info("Redis answers again.")
            pause_s = 0.0
            continue
        except RedisUnavailable as error:
            log.warning("Reading waits for Redis: %s", error)
        except ScriptFailed as error:
            log.warning("%s", error)
            if error.code == "NOGROUP":
                reopen()
        except EventBusError as error:
            log.error("%s", error)
        except Exception:
            log.exception("Reading failed, and goes on.")
        pause_s = min(2 * pause_s or FIRST_PAUSE_S, LONGEST_PAUSE_S)
