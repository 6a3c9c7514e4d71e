"""The lease keeper: one thread that proves, three times a lease, that this process lives.

A handler that holds the interpreter lock for longer than a lease silences this thread as well;
its deliveries then go to others, and fencing refuses what it returns.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from events.deliveries import Deliveries
from events.errors import EventBusError
from events.frame import Lease
from workers.held import Held

log = logging.getLogger("eventbus.leases")


class LeaseKeeper:
    """Renews everything held.

    Args:
        lost: called with each lease that another worker has taken over.
        give_up: called before each renewal; drops from what is held the deliveries whose handlers hang.
    """

    def __init__(
        self,
        deliveries: Deliveries,
        held: Held,
        lease_s: float,
        lost: Callable[[Lease], None],
        give_up: Callable[[], None],
    ) -> None:
        self._deliveries = deliveries
        self._held = held
        self._interval_s = lease_s / 3
        self._lost = lost
        self._give_up = give_up
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="eventbus-leases", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(5)

    def _run(self) -> None:
        wait_s = self._interval_s
        while not self._stop.wait(wait_s):
            wait_s = self._interval_s
            try:
                self._give_up()
            except Exception:
                log.exception("Letting go of what hangs failed; leases are renewed all the same.")
            try:
                self._renew()
            except EventBusError as error:
                log.warning("%d leases could not be renewed: %s", len(self._held), error)
                wait_s = min(self._interval_s, 0.5)
            except Exception:
                log.exception("Renewing failed, and goes on.")

    def _renew(self) -> None:
        leases = self._held.all()
        if leases:
            for lease in self._deliveries.renew(leases):
                self._lost(lease)
