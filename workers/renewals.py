"""Renewals: one worker process takes another's place, and the place is never empty.

    serving ──SIGHUP, or it is full──> serving, and a successor boots
                                         ├── ready ───────────────────────> the successor serves, the old one retires
                                         ├── ended, or not ready in time ──> serving as before; a reload ends here
                                         ├── another SIGHUP ──────────────> serving, and another successor boots
                                         └── the old one died ────────────> the successor has the place

One place at a time, the next when the old process has ended, or after the grace while its handlers still run:
so there is one process more than places, and more than that only as long as handlers outlive the grace.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from workers.child import Child
from workers.exits import RET_OK, wording
from workers.orders import KILL_AFTER_S
from workers.slot import Slot

log = logging.getLogger("eventbus.supervisor")


@dataclass(slots=True)
class _Renewal:
    """A slot whose process is replaced; `old` is set once its successor has its place."""

    slot: Slot
    successor: Child
    old: Child | None = None
    wait_until: float = 0.0


class Renewals:
    """Replaces the processes of some slots: all of them on a reload, one that is full by itself.

    Args:
        start: starts a process for a slot; None when it cannot.
        grace_s: seconds a process gets to drain.
        ready_within_s: seconds a successor gets to become ready.

    Attributes:
        leaving: processes that have lost their place, or never got one, and have not ended.
    """

    def __init__(
        self,
        slots: Sequence[Slot],
        start: Callable[[Slot], Child | None],
        grace_s: float,
        ready_within_s: float,
    ) -> None:
        self.leaving: list[Child] = []
        self._slots = slots
        self._start = start
        self._grace_s = grace_s
        self._ready_within_s = ready_within_s
        self._renewal: _Renewal | None = None
        self._reload_asked_at: float | None = None

    def reload(self) -> None:
        """Replace every process that was started before now. Asked again meanwhile, "now" is the last time."""
        self._reload_asked_at = time.monotonic()
        log.info("Reloading %d worker processes, one after another.", len(self._slots))

    def step(self) -> None:
        """Do what can be done now, without waiting."""
        self._bury()
        renewal = self._renewal
        if renewal is None:
            self._begin()
        elif renewal.old is None:
            self._await_successor(renewal)
        elif renewal.old not in self.leaving or time.monotonic() > renewal.wait_until:
            self._renewal = None

    def inherit(self, slot: Slot) -> bool:
        """Give a slot whose process has died to the successor that boots for it, if there is one."""
        renewal = self._renewal
        if renewal is None or renewal.slot is not slot or renewal.old is not None:
            return False
        slot.child, self._renewal = renewal.successor, None
        return True

    def abandon(self) -> None:
        """Begin nothing more; a successor that boots leaves."""
        if self._renewal is not None and self._renewal.old is None:
            self._drop(self._renewal.successor)
        self._renewal = self._reload_asked_at = None

    def _begin(self) -> None:
        slot = self._outdated() or self._full()
        if slot is not None:
            successor = self._start(slot)
            if successor is not None:
                self._renewal = _Renewal(slot, successor)
            else:
                self._fail(slot, time.monotonic(), "cannot be started")
        elif self._reload_asked_at is not None and all(each.child and each.child.is_ready for each in self._slots):
            self._reload_asked_at = None
            log.info("Reloaded: every worker process is a new one.")

    def _outdated(self) -> Slot | None:
        """Return the next slot that the reload has not reached."""
        asked_at = self._reload_asked_at
        if asked_at is None:
            return None
        return next((slot for slot in self._slots if slot.child and slot.child.started_at < asked_at), None)

    def _full(self) -> Slot | None:
        """Return a slot whose process wants to be replaced."""
        now = time.monotonic()
        return next((slot for slot in self._slots if slot.child and slot.child.is_full and now >= slot.start_at), None)

    def _await_successor(self, renewal: _Renewal) -> None:
        slot, successor = renewal.slot, renewal.successor
        successor.listen()
        code = successor.code
        if code is not None:
            successor.bury()
            self._fail(slot, successor.started_at, f"{wording(code)} before it was ready")
        elif successor.is_ready:
            self._hand_over(renewal)
        elif successor.started_at < (self._reload_asked_at or 0.0):
            self._drop(successor)
            self._renewal = None
        elif time.monotonic() - successor.started_at > self._ready_within_s:
            self._drop(successor)
            self._fail(slot, successor.started_at, f"was not ready after {self._ready_within_s:g} s")

    def _hand_over(self, renewal: _Renewal) -> None:
        slot, old = renewal.slot, renewal.slot.child
        assert old is not None
        slot.child = renewal.successor
        slot.clear()
        old.retire()
        self.leaving.append(old)
        renewal.old, renewal.wait_until = old, time.monotonic() + self._grace_s
        log.info("Worker process %d: %d takes over from %d, which retires.", slot.number, slot.child.pid, old.pid)

    def _fail(self, slot: Slot, started_at: float, why: str) -> None:
        """The slot keeps its process. A reload ends, unless it was asked for again since; a full one is tried again."""
        self._renewal = None
        wait_s = slot.put_off()
        asked_at = self._reload_asked_at
        if asked_at is None:
            log.error("Worker process %d goes on: its successor %s. Tried again in %.1f s.", slot.number, why, wait_s)
        elif started_at >= asked_at:
            self._reload_asked_at = None
            new = sum(1 for each in self._slots if each.child and each.child.started_at >= asked_at)
            log.error(
                "The reload ends: the new worker process %d %s. %d of %d processes are new, the others go on as they "
                "are. Correct the application and send SIGHUP again.",
                slot.number, why, new, len(self._slots),
            )  # fmt: skip

    def _drop(self, successor: Child) -> None:
        successor.terminate(self._grace_s + KILL_AFTER_S)
        self.leaving.append(successor)

    def _bury(self) -> None:
        for child in list(self.leaving):
            code = child.code
            if code is None:
                if time.monotonic() > child.kill_at:
                    child.kill()
                continue
            child.bury()
            self.leaving.remove(child)
            if code != RET_OK and child.is_ready:
                log.warning("Process %d %s instead of retiring; what it held runs elsewhere.", child.pid, wording(code))
