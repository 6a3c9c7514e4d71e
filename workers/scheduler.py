"""The scheduler: one thread that publishes what was scheduled when it is due, and keeps the timetable.

Every worker process has one, and every archiver, so that any process that lives releases what is due;
Redis holds what waits, and lets each event out once. The thread knows from the last answer when the next
one is due. Others schedule too: in a worker the receiver, which asks Redis about other things once a second, is told
when the next one is due, and says so; elsewhere the thread asks at least once a tick.
"""

from __future__ import annotations

import logging
import math
import random
import threading
import time
from collections.abc import Callable
from typing import Any

import dramatiq
from dramatiq.broker import Broker
from dramatiq.middleware import Middleware

from events.errors import EventBusError, ScriptFailed, Unavailable
from events.scheduled import PUT_OFF_S, Released, ScheduledEvents
from workers.timetable import Timetable

MAX_RELEASED = 200
TICK_S = 0.7
TOLD_TICK_S = 5.0
"""How often to ask where nobody says what is due, and where somebody does."""
TOLD_FOR_S = 2.0
"""Whoever has said nothing for so long says no more: a receiver that drains."""
SPREAD_S = 0.1
"""All processes learn when the next event is due; each asks within this time of it, at a moment of its own."""
OUTAGE_S = 1.0
LAST_WORDS_S = 2.0

log = logging.getLogger("eventbus.scheduler")


class Scheduler:
    """Releases what is due, until it is stopped.

    Args:
        timetable: cron schedules to run too.
    """

    def __init__(self, scheduled: ScheduledEvents, timetable: Timetable | None = None) -> None:
        self._scheduled = scheduled
        self._timetable = timetable
        self._trouble = ""
        self._wake = threading.Condition()
        self._stopping = False
        self._told_until = 0.0
        self._due_at = math.inf
        if timetable is not None:
            timetable.rested = self._look_now
        self._thread = threading.Thread(target=self._run, name="eventbus-scheduler", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread; what is due from now on is others', or waits. A second stop does nothing."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        deadline = time.monotonic() + LAST_WORDS_S
        if self._thread.is_alive():
            self._thread.join(LAST_WORDS_S)
        if self._timetable is not None:
            self._timetable.stop(deadline)

    def announce(self, due_s: float | None) -> None:
        """Hear from somebody who asks once a second in how many seconds the next event is due; None: none is."""
        with self._wake:
            self._told_until = time.monotonic() + TOLD_FOR_S
            due_at = math.inf if due_s is None else time.monotonic() + due_s + random.uniform(0, SPREAD_S)
            self._due_at = due_at if self._due_at > -math.inf else self._due_at
            self._wake.notify()

    def _look_now(self) -> None:
        """Look at once: a schedule has said when its next slot is."""
        with self._wake:
            self._due_at = -math.inf
            self._wake.notify()

    def _wait(self, wait_s: float) -> bool:
        """Wait so long, or until something is due, or nobody says what is due; False when it is to end."""
        began = time.monotonic()
        with self._wake:
            while not self._stopping:
                untold = max(self._told_until, began + TICK_S)
                left = min(began + wait_s, untold, self._due_at) - time.monotonic()
                if left <= 0:
                    break
                self._wake.wait(left)
            self._due_at = math.inf
            return not self._stopping

    def _run(self) -> None:
        wait_s = random.uniform(0, SPREAD_S)
        while self._wait(wait_s):
            wait_s = self._release()
            try:
                if self._timetable is not None:
                    wait_s = min(wait_s, max(0.0, self._timetable.tend()))
            except Exception:
                log.exception("Tending the schedules failed, and goes on.")

    def _release(self) -> float:
        """Publish what is due; return seconds until the next look."""
        try:
            released = self._scheduled.release(MAX_RELEASED)
        except Exception as error:
            self._say(error)
            return OUTAGE_S
        if self._trouble:
            self._trouble = ""
            log.info("Scheduled events are released again.")
        report(released)
        if released.wait_s == 0.0:
            return 0.0
        until_due_s = TOLD_TICK_S if released.wait_s is None else min(released.wait_s, TOLD_TICK_S)
        return until_due_s + random.uniform(0, SPREAD_S)

    def _say(self, error: Exception) -> None:
        """Log what keeps events from being released, once."""
        trouble = f"{type(error).__name__}: {error}"
        if trouble != self._trouble:
            if isinstance(error, Unavailable | ScriptFailed):
                log.warning("Releasing scheduled events waits: %s", error)
            elif isinstance(error, EventBusError):
                log.error("Releasing scheduled events waits: %s", error)
            else:
                log.exception("Releasing scheduled events failed, and goes on.")
        self._trouble = trouble


class Schedulers(Middleware):
    """Gives every worker that boots a scheduler, and ends it when the worker has drained.

    Args:
        make: called at boot with the worker's broker.
    """

    def __init__(self, make: Callable[[Any], Scheduler]) -> None:
        self._make = make
        self._scheduler: Scheduler | None = None

    def after_worker_boot(self, broker: Broker, worker: dramatiq.Worker) -> None:
        self._scheduler = self._make(broker)
        broker.engine.receiver.announce = self._scheduler.announce  # type: ignore[attr-defined]
        self._scheduler.start()

    def before_worker_shutdown(self, broker: Broker, worker: dramatiq.Worker) -> None:
        if self._scheduler is not None:
            self._scheduler.stop()


def report(released: Released) -> None:
    """Log what was due and could not be published."""
    for event_id, reason in released.dropped:
        log.error("The scheduled event %r is dropped: %s", event_id, reason)
    for event_id, reason in released.put_off:
        log.error("The scheduled event %r is put off for %d s: %s", event_id, PUT_OFF_S, reason)
