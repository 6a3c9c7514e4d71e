"""The timetable: fires the slots of a process's cron schedules, beside any number of others that do too.

    wait for the slot ──> read the cursor ──> due slots, by policy ──> factory ──> publish and move the cursor
         ▲                                                              │ fails        │ somebody else did
         └────────────── next slot ── or a backoff <────────────────────┴──────────────┘

Each schedule is looked after in a thread that lives as long as something of it is due, so that a factory
that hangs holds up nothing but its own schedule. The factory may be called by several processes for one
slot; what one of them publishes counts. A slot whose factory fails, or whose events are refused, is tried
again after a backoff for as long as the schedule's policy for missed slots keeps it.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import random
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from events.errors import EventBusError, EventTooLarge, InvalidSchedule, ScriptFailed, Unavailable
from events.event import Event
from events.publisher import event_arguments
from events.scripts import Argument
from events.slots import Plan, Slots
from workers.attempt import MAX_RETURNED_BYTES, MAX_RETURNED_EVENTS, outputs
from workers.derived import derived
from workers.schedules import MAX_MISSED, Schedule
from workers.steps import collected

SPREAD_S = 0.2
"""Processes look at a slot within this time of it, each at a moment of its own: so most find it fired."""
LONGEST_SLEEP_S = 60.0
"""The server's clock may be set; what was computed from it is looked at again."""
FACTORY_S = 60.0
FIRST_BACKOFF_S = 1.0
LONGEST_BACKOFF_S = 60.0

log = logging.getLogger("eventbus.scheduler")


@dataclass(eq=False, slots=True)
class _Run:
    """A schedule in this process. The times are monotonic seconds."""

    schedule: Schedule
    begins: bool = True
    wake_at: float = 0.0
    started_at: float = 0.0
    thread: threading.Thread | None = None
    is_over: bool = True
    backoff_s: float = FIRST_BACKOFF_S
    trouble: str = ""
    hang_told: bool = False
    stands_by: bool = False

    @property
    def is_busy(self) -> bool:
        return not self.is_over and self.thread is not None and self.thread.is_alive()


class Timetable:
    """Fires what is due of some schedules, whenever it is tended.

    Args:
        loop: where async factories run.
        max_event_bytes: largest encoded event.

    Attributes:
        rested: called, from a schedule's thread, when it has fired what was due: only then does `tend` know when the
            next slot comes.
    """

    def __init__(
        self,
        slots: Slots,
        schedules: Iterable[Schedule],
        loop: asyncio.AbstractEventLoop,
        max_event_bytes: int,
    ) -> None:
        self._slots = slots
        self._loop = loop
        self._max_event_bytes = max_event_bytes
        self._runs = [_Run(schedule) for schedule in schedules]
        self._stopping = False
        self.rested: Callable[[], None] = lambda: None

    def tend(self) -> float:
        """Start what has come due; return seconds until the next time that something does."""
        now = time.monotonic()
        for run in self._runs:
            if run.is_busy:
                self._look_at(run, now)
            elif now >= run.wake_at:
                run.started_at, run.hang_told, run.is_over = now, False, False
                run.thread = threading.Thread(
                    target=self._keep, args=(run,), name=f"eventbus-schedule-{run.schedule.name}", daemon=True
                )
                run.thread.start()
        return min((run.wake_at - now for run in self._runs if not run.is_busy), default=LONGEST_SLEEP_S)

    def stop(self, deadline: float) -> None:
        """Begin nothing more; wait for what is being fired, until the deadline (monotonic seconds)."""
        self._stopping = True
        for run in self._runs:
            if run.thread is not None:
                run.thread.join(max(0.0, deadline - time.monotonic()))

    def _look_at(self, run: _Run, now: float) -> None:
        if now - run.started_at > FACTORY_S and not run.hang_told:
            run.hang_told = True
            log.error(
                "The schedule %r has been at it for over %g s: its factory hangs, or Redis does. It waits for that; "
                "others go on.", run.schedule.name, FACTORY_S,
            )  # fmt: skip

    # in the schedule's thread

    def _keep(self, run: _Run) -> None:
        """Fire what is due of one schedule, then say when to look again."""
        try:
            self._try(run)
        finally:
            run.is_over = True
            self.rested()

    def _try(self, run: _Run) -> None:
        try:
            run.wake_at = time.monotonic() + self._fire_due(run)
        except BaseException as error:
            run.wake_at = time.monotonic() + run.backoff_s
            if not isinstance(error, Unavailable | ScriptFailed):  # an outage is not the factory's
                run.backoff_s = min(run.backoff_s * 2, LONGEST_BACKOFF_S)
            self._say(run, error)
            return
        if run.trouble:
            log.info("The schedule %r goes on.", run.schedule.name)
        run.backoff_s, run.trouble = FIRST_BACKOFF_S, ""

    def _fire_due(self, run: _Run) -> float:
        """Fire until nothing is due; return seconds until the next slot."""
        schedule = run.schedule
        while not self._stopping:
            plan = self._slots.plan(
                schedule.name, schedule.cron.text, schedule.timezone, schedule.missed, begins=run.begins
            )
            run.begins = False
            self._tell(run, stands_by=plan.wait_s > 0.0)
            if run.stands_by:
                return min(plan.wait_s + random.uniform(0, SPREAD_S), LONGEST_SLEEP_S)
            due = schedule.due(plan.cursor, plan.now)
            if len(due) > MAX_MISSED:
                log.warning(
                    "The schedule %r has missed more than %d slots; those before %s are passed over.",
                    schedule.name, MAX_MISSED, due[1].isoformat(),
                )  # fmt: skip
                del due[0]
            if not due:
                return self._next(schedule, plan)
            self._fire(schedule, plan.cursor, due)
        return LONGEST_SLEEP_S

    def _fire(self, schedule: Schedule, cursor: datetime, due: list[datetime]) -> None:
        """Fire slots in their order, until somebody else is found to have."""
        for slot in due:
            events = self._made(schedule, slot)
            if self._stopping or not self._slots.fire(
                schedule.name, cursor, slot, events, schedule.cron.text, schedule.timezone
            ):
                return
            log.debug("The schedule %r has fired %s.", schedule.name, slot.isoformat())
            cursor = slot

    def _made(self, schedule: Schedule, slot: datetime) -> list[list[Argument]]:
        """Return the arguments of the slot's events."""
        events = outputs(self._call(schedule, slot), f"The factory of the schedule {schedule.name!r}")
        at = slot.astimezone(UTC)
        events = derived(events, ["schedule", schedule.name, at.isoformat()], f"{int(at.timestamp()) * 1000:012x}")
        checked = schedule.schemas.checked
        arguments = [event_arguments(checked(event), self._max_event_bytes) for event in events]
        size_bytes = sum(len(fields[-1]) for fields in arguments if isinstance(fields[-1], bytes))
        if len(events) > MAX_RETURNED_EVENTS or size_bytes > MAX_RETURNED_BYTES:
            raise EventTooLarge(
                [
                    f"One slot may have {MAX_RETURNED_EVENTS} events of {MAX_RETURNED_BYTES} bytes together; "
                    f"that of {schedule.name!r} made {len(events)} of {size_bytes} bytes: make one that others split."
                ]
            )
        return arguments

    def _call(self, schedule: Schedule, slot: datetime) -> object:
        result = schedule.factory(slot)
        if not (hasattr(result, "__await__") or hasattr(result, "__aiter__")):
            return list(result) if isinstance(result, Iterable) and not isinstance(result, Event) else result
        future = asyncio.run_coroutine_threadsafe(collected(result), self._loop)
        try:
            return future.result(FACTORY_S)
        except concurrent.futures.TimeoutError:
            if future.done():
                raise  # the factory's own
            future.cancel()
            raise InvalidSchedule(
                f"The factory of the schedule {schedule.name!r} took longer than {FACTORY_S:g} s and was cancelled."
            ) from None

    def _next(self, schedule: Schedule, plan: Plan) -> float:
        """Return seconds until this process looks at the next slot."""
        slot = schedule.cron.after(max(plan.cursor, plan.now))
        if slot is None:
            return LONGEST_SLEEP_S
        wait_s = (slot.astimezone(UTC) - plan.now).total_seconds()
        return min(wait_s + random.uniform(0, SPREAD_S), LONGEST_SLEEP_S)

    def _tell(self, run: _Run, *, stands_by: bool) -> None:
        """Log, once, that another release's declaration of the schedule holds, or holds no more."""
        if stands_by and not run.stands_by:
            log.warning(
                "The schedule %r stands by in this process: processes that started later declare another cron or "
                "timezone than %r, %s. It goes on here when none of them is left.",
                run.schedule.name, run.schedule.cron.text, run.schedule.timezone,
            )  # fmt: skip
        elif run.stands_by and not stands_by:
            log.info("The schedule %r goes on in this process.", run.schedule.name)
        run.stands_by = stands_by

    def _say(self, run: _Run, error: BaseException) -> None:
        """Log what went wrong, once."""
        trouble = f"{type(error).__name__}: {error}"
        if trouble != run.trouble:
            level, traceback = (logging.WARNING, None) if isinstance(error, EventBusError) else (logging.ERROR, error)
            log.log(level, "The schedule %r waits, and tries again: %s", run.schedule.name, trouble, exc_info=traceback)
        run.trouble = trouble
