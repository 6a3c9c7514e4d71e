"""Consuming inside an application: a Dramatiq worker and an archiver in this process's threads.

A new broker and worker for every start, because a second worker on one broker would hand
deliveries to the stopped one. Installs no signal handler.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import dramatiq

from events.settings import Settings
from events.stream import HistoryStream
from events.subscriptions import Subscription
from store.archive import Archive
from workers.archiver import Archiver
from workers.assembly import Stores, make_broker
from workers.broker import BootFailed
from workers.schedules import Schedule

WORKER_TIMEOUT_MS = 250
LAST_ARCHIVE_S = 5.0
LAST_WORDS_MS = 1000


class Servers(Stores, Protocol):
    """The connections a worker and its archiver need; `events.backend.Backend` provides them."""

    @property
    def history(self) -> HistoryStream: ...
    @property
    def archive(self) -> Archive: ...
    def close(self) -> None: ...


class Consuming:
    """One run of a worker, from `start` to `stop`. Both block; call them off the event loop.

    Args:
        servers: closed at the end.
        schedules: cron schedules to run too.
        loop: where async handlers run; None makes a loop in a thread.
        archive: run an archiver too.
        keep_waiting: asked at the start while servers cannot be reached; False makes `start` raise.
    """

    def __init__(
        self,
        settings: Settings,
        servers: Servers,
        subscriptions: Sequence[Subscription],
        *,
        threads: int,
        schedules: Sequence[Schedule] = (),
        loop: asyncio.AbstractEventLoop | None = None,
        archive: bool = False,
        keep_waiting: Callable[[], bool] = lambda: False,
    ) -> None:
        self._settings = settings
        self._servers = servers
        self._broker = make_broker(
            settings,
            lambda: servers,
            subscriptions,
            schedules=schedules,
            loop=loop,
            keep_waiting=lambda: keep_waiting() and not self._is_unwanted,
        )
        self._worker = dramatiq.Worker(
            self._broker,
            queues=None,
            worker_threads=_worker_threads(threads, subscriptions),
            worker_timeout=WORKER_TIMEOUT_MS,
        )
        self._lock = threading.Lock()
        self._runs = False
        self._is_unwanted = False
        self._archives = archive
        self._archiver: Archiver | None = None
        self._archiver_thread: threading.Thread | None = None

    def start(self) -> None:
        """Declare the subscribers and start handling.

        Raises:
            EventBusError: why it cannot start; nothing runs then.
        """
        with self._lock:
            self._boot()
            self._runs = True
            if self._archives:
                self._archiver = Archiver(self._servers.history, self._servers.archive, self._settings)
                self._archiver_thread = threading.Thread(
                    target=self._archiver.run, name="eventbus-archiver", daemon=True
                )
                self._archiver_thread.start()
            if self._is_unwanted:
                self._stop(0.0)

    @property
    def reads(self) -> bool:
        """Whether every subscriber's queue is read."""
        return self._broker.engine.receiver.reads

    @property
    def handled(self) -> int:
        """How many attempts have run here and ended, however they did."""
        return self._broker.engine.handled

    @property
    def hangs(self) -> str:
        """What handlers hold that cannot be interrupted, "Every thread"; empty when nothing: else only a new process
        helps."""
        return self._broker.engine.hangs

    def stop(self, grace_s: float) -> None:
        """Drain, settle, archive what is left, and close the connections.

        A start that is still going on is let end first, and undone; a second stop does nothing.
        """
        self._is_unwanted = True
        with self._lock:
            self._stop(grace_s)

    def retire(self) -> None:
        """Stop, and let what runs end first: it has as long as its time limit gives it.

        A handler that outlives its limit by a lease hangs, and is left behind.
        """
        limits = [subscription.options.time_limit for subscription in self._broker.subscriptions.values()]
        self.stop(max(limits, default=0.0) + self._settings.lease_s)

    def hurry(self, grace_s: float) -> None:
        """Let a `stop` or `retire` that goes on wait that many seconds from now, and no longer; from any thread."""
        self._broker.engine.hurry(grace_s)

    def _boot(self) -> None:
        try:
            self._broker.emit_after("process_boot")
            self._worker.start()
        except BootFailed as error:
            self._servers.close()
            raise error.__cause__ or error from None
        except BaseException:
            self._servers.close()
            raise

    def _stop(self, grace_s: float) -> None:
        if not self._runs:
            return
        self._runs = False
        self._broker.grace_s = grace_s
        self._worker.stop(timeout=LAST_WORDS_MS)  # the drain before it has taken the grace
        self._broker.close()
        if self._archiver is not None and self._archiver_thread is not None:
            self._archiver.stop()
            self._archiver_thread.join(LAST_ARCHIVE_S)
            self._archiver.finish(time.monotonic() + LAST_ARCHIVE_S)
        self._servers.close()


def _worker_threads(threads: int, subscriptions: Sequence[Subscription]) -> int:
    """One thread more than plain handlers, where async ones need a thread to be started from."""
    return threads + 1 if any(subscription.is_async for subscription in subscriptions) else threads
