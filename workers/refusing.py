"""Refusing: what becomes of a delivery that no handler of this process can take."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from events.deliveries import Settlement
from events.frame import Lease
from workers.about import about
from workers.attempt import dead, hand_back

PUT_OFF_US = 5_000_000
SAY_AGAIN_S = 60.0

log = logging.getLogger("eventbus.worker")


class Refusing:
    """Settles such deliveries, from one thread: the unreadable as dead letters, the others later and elsewhere.

    Args:
        settle: called with each settlement.
    """

    def __init__(self, settle: Callable[[Settlement], None]) -> None:
        self._settle = settle
        self._said_at = 0.0

    def refuse(self, lease: Lease) -> None:
        """Settle a delivery; what is put off is said once in `SAY_AGAIN_S`."""
        if lease.fault is not None:
            self._settle(dead(lease, lease.fault))
            log.error(
                "A delivery of %s cannot be read and becomes a dead letter: %s", lease.subscriber, lease.fault,
                extra=about(lease),
            )  # fmt: skip
            return
        self._settle(hand_back(lease, delay_us=PUT_OFF_US))
        if time.monotonic() - self._said_at > SAY_AGAIN_S:
            self._said_at = time.monotonic()
            log.warning(
                "A delivery of %s is put off: no handler here takes the type %r. It waits for a process that does.",
                lease.subscriber, lease.frame.type, extra=about(lease),
            )  # fmt: skip
