"""Back-fills this process's new subscribers with history: reads it from SQL and Redis, and delivers it.

A thread of every worker that does nothing until the receiver hears that one of its subscribers is being
back-filled. Then it reads on from the cursor, a page at a time, while few enough deliveries wait. Every
process does so; who comes second finds the cursor moved, and reads on from there. What a process that is
killed had read and not delivered, another one reads again.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import dramatiq
from dramatiq.broker import Broker
from dramatiq.middleware import Middleware

from events.backfill import ENOUGH, Place, fill, look
from events.errors import EventBusError, Unavailable
from events.namespace import Namespace
from store.registry import Registry
from store.replay import EventFilter, Replay

PAGE = 200
TICK_S = 0.5
LATER_S = 0.1
OUTAGE_S = 1.0
LAST_WORDS_S = 2.0

log = logging.getLogger("eventbus.backfill")


class Backfiller:
    """Fills subscribers until it is stopped.

    Args:
        registry: says of whom it remembers a back-fill, and is told when that has ended.
        names: this process's subscribers.
        filling: tells which of them are being back-filled, as far as this process has heard.
        page: most events to read at once.
    """

    def __init__(
        self,
        namespace: Namespace,
        registry: Registry,
        replay: Replay,
        names: Iterable[str],
        filling: Callable[[], Iterable[str]],
        *,
        page: int = PAGE,
    ) -> None:
        self._namespace = namespace
        self._registry = registry
        self._replay = replay
        self._names = frozenset(names)
        self._filling = filling
        self._page = page
        self._places: dict[str, Place] = {}
        self._has_asked = False
        self._owed: set[str] = set()
        self._troubles: dict[str, str] = {}
        self._wait_until: dict[str, float] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="eventbus-backfill", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread; other processes, or the next start, go on from the cursor."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(LAST_WORDS_S)

    def step(self, name: str) -> float:
        """Fill one page of a subscriber; return seconds until the next step makes sense.

        Raises:
            EventBusError: nothing is lost; step again.
        """
        place = self._places.pop(name, None)
        if place is None or place.verdict == "stale" or place.waiting >= ENOUGH:
            place = look(self._namespace, name)
        if not place.is_filling:
            return self._end(name, place)
        if place.waiting >= ENOUGH:
            return LATER_S
        if not place.types:
            return TICK_S  # all were removed: for those that are declared again it goes on from here
        page = self._replay.page(EventFilter(types=place.wanted), place.cursor, self._page)
        place = fill(self._namespace, name, place, page.last, page.events, is_end=page.complete)
        if not place.is_filling:
            return self._end(name, place)
        self._places[name] = place
        return 0.0

    def _run(self) -> None:
        wait_s = 0.0
        while not self._stop.wait(wait_s):
            wait_s = self._tried("", self._ask)
            for name in sorted(self._names.intersection(self._filling()) | self._owed):
                wait_s = min(wait_s, self._tried(name, functools.partial(self.step, name)))

    def _ask(self) -> float:
        """Ask the store, once, of whom it remembers a back-fill."""
        if not self._has_asked:
            self._owed |= self._from_registry()
            self._has_asked = True
        return TICK_S

    def _tried(self, name: str, step: Callable[[], float]) -> float:
        """Take a step; return seconds until the next. What keeps one subscriber from being filled is its own."""
        wait_s = self._wait_until.get(name, 0.0) - time.monotonic()
        if wait_s > 0.0 or self._stop.is_set():
            return wait_s
        try:
            wait_s = step()
        except Exception as error:
            self._places.pop(name, None)
            self._wait_until[name] = time.monotonic() + OUTAGE_S
            if not self._stop.is_set():
                self._say(name, error)
            return OUTAGE_S
        if self._troubles.pop(name, None):
            log.info("Back-filling%s goes on.", name and f" {name}")
        return wait_s

    def _from_registry(self) -> set[str]:
        """Return of whom the store remembers a back-fill: one may have ended without its being told."""
        return {row.subscriber for row in self._registry.all() if "cursor" in row.steering} & self._names

    def _end(self, name: str, place: Place) -> float:
        """Have the store forget where a back-fill began that has ended: from there it would begin again."""
        if place.verdict == "live":
            log.info("%s has all of history, and is live.", name)
        if place.verdict in ("live", "done"):
            self._owed.add(name)
            with self._registry.held(name) as row:
                row.steering.pop("state", None)
                row.steering.pop("cursor", None)
                row.removed = row.is_new
            self._owed.discard(name)
        return TICK_S

    def _say(self, name: str, error: Exception) -> None:
        """Log what keeps a subscriber from being filled, once; an outage, which keeps all, once for all."""
        trouble = f"{type(error).__name__}: {error}"
        if trouble != self._troubles.get(name):
            if isinstance(error, Unavailable):
                if trouble not in self._troubles.values():
                    log.warning("Back-filling waits: %s", error)
            elif isinstance(error, EventBusError):
                log.error("Back-filling%s waits: %s", name and f" {name}", error)
            else:
                log.exception("Back-filling%s failed, and is tried again.", name and f" {name}")
        self._troubles[name] = trouble


class Backfills(Middleware):
    """Gives every worker that boots a filler, and ends it when the worker stops.

    Args:
        make: called at boot with the worker's broker.
    """

    def __init__(self, make: Callable[[Any], Backfiller]) -> None:
        self._make = make
        self._filler: Backfiller | None = None

    def after_worker_boot(self, broker: Broker, worker: dramatiq.Worker) -> None:
        self._filler = self._make(broker)
        self._filler.start()

    def before_worker_shutdown(self, broker: Broker, worker: dramatiq.Worker) -> None:
        if self._filler is not None:
            self._filler.stop()
