"""Running until idle: waits while anything moves, archives when nothing does, and skips to what is due next.

    something moves ──> wait
    nothing does ──> relay the outbox ──> something was published: again
                                      ──> nothing was: skip to what is due first ──> again
                                          nothing waits for its time: archive ──> idle

Composition: it drives what a worker's and an archiver's threads do by themselves, by the same scripts.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import Counter

from events.backend import Backend
from events.deliveries import Deliveries
from events.errors import NotIdle
from events.inspection import Inspection, Queue
from events.resting import Rest, hasten, look
from events.scheduled import ScheduledEvents
from events.testing.watch import Watch
from workers.archiver import STREAMS, Archiver
from workers.scheduler import MAX_RELEASED, report

FIRST_PAUSE_S = 0.0005
LONGEST_PAUSE_S = 0.02
MAX_PROMOTED = 200
MAX_NAMED = 5


class Runner:
    """Brings one namespace to rest, as often as it is asked; used by one thread at a time.

    Args:
        backend: connections to it. watch: of the handlers that run in it.

    Attributes:
        skipped_s: how much time was skipped so far, seconds.
    """

    def __init__(self, backend: Backend, watch: Watch) -> None:
        settings = backend.settings
        self._namespace = backend.namespace
        self._backend = backend
        self._watch = watch
        self._archiver = Archiver(backend.history, backend.archive, settings)
        self._scheduled = ScheduledEvents(self._namespace, settings.max_routes)
        self._tending = Deliveries(self._namespace, f"testing-{secrets.token_hex(4)}", settings.max_routes)
        self._inspection = Inspection(self._namespace)
        self._cancelled = threading.Event()
        self.skipped_s = 0.0

    def cancel(self) -> None:
        """Make a run that goes on return soon; from any thread."""
        self._cancelled.set()

    def run(self, *, deadline_s: float, skip_s: float) -> None:
        """Return when nothing moves, and nothing is due within what may be skipped.

        Args:
            deadline_s: real seconds. skip_s: most seconds to skip.

        Raises:
            NotIdle: the deadline has passed.
            Unavailable, ScriptFailed: a server cannot be used.
        """
        self._cancelled.clear()
        started = time.monotonic()
        began = self._backend.history.clock_and_archived()[0]
        pause_s = FIRST_PAUSE_S
        while not self._cancelled.is_set():
            rest = look(self._namespace)
            if rest.moving:
                self._cancelled.wait(pause_s)
                pause_s = min(pause_s * 1.5, LONGEST_PAUSE_S)
            elif self._archiver.relay():
                pause_s = FIRST_PAUSE_S
            elif rest.due_s is not None and rest.due_s <= skip_s:
                skip_s -= self._skip(rest.due_s)
                pause_s = FIRST_PAUSE_S
            elif not self._archive(rest):
                return
            if time.monotonic() - started > deadline_s:
                raise NotIdle(self._why(deadline_s, began))

    def _archive(self, rest: Rest) -> bool:
        """Archive what there is; tell whether there was something."""
        return rest.is_behind and any([self._archiver.step(stream).entries for stream in STREAMS])

    def _skip(self, seconds: float) -> float:
        """Let so much time pass for all that waits, and bring what is due."""
        hasten(self._namespace, seconds)
        self.skipped_s += seconds
        self._tending.promote(dict.fromkeys(self._inspection.subscribers(), 0), MAX_PROMOTED, "")
        report(self._scheduled.release(MAX_RELEASED))
        return seconds

    def _why(self, deadline_s: float, began: int) -> str:
        queues = [self._says(queue) for queue in self._inspection.queues()]
        sentences = [f"The bus is not idle after {deadline_s:g} s."]
        sentences += [f"{call}." for call in self._watch.running()[:MAX_NAMED]]
        sentences += [f"{said}." for said in queues if said][:MAX_NAMED]
        if count := self._scheduled.agenda().count:
            sentences.append(f"{count} events are scheduled.")
        kinds = Counter(recorded.event.type.value for recorded in self._backend.replay.iterate(after=began))
        if kinds:
            most = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(MAX_NAMED))
            sentences.append(f"{kinds.total()} events were published meanwhile: {most}.")
        sentences.append(
            "If handlers set each other off without end, let run_until_idle skip no more than you need (skip_s=60); "
            "if they are slow, give it a later deadline (deadline_s=)."
        )
        return " ".join(sentences)

    def _says(self, queue: Queue) -> str:
        if not queue.unsettled:
            return ""
        counts = {
            "running": queue.running,
            "ready": queue.ready,
            "waiting": queue.waiting,
            "to be retried": queue.delayed,
        }
        parts = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
        paused = " (it is paused)" if queue.is_paused else ""
        return f"{queue.subscriber}{paused} has deliveries: {parts}"
