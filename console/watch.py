"""The bus sampled once a second, and what a second brought: for whoever watches on a terminal."""

from __future__ import annotations

import threading
import time
from collections import deque
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from console.roster import worker_object
from console.standing import as_object
from console.web.live.attention import attention
from console.web.live.pulse import Sample, take
from events.errors import EventBusError

if TYPE_CHECKING:
    from events.backend import Backend

EVERY_S = 1.0
OVER_S = 5.0
KEPT = 60


class View(NamedTuple):
    """How the bus stands and goes.

    Attributes:
        sample: the last one; None before there is any. trouble: why there is no newer one; empty when nothing keeps it.
        events_per_s, settled_per_s, failures_per_s: over the last `OVER_S` seconds; None before there are two samples.
        history: events of each of the last seconds, oldest first.
    """

    sample: Sample | None
    trouble: str
    events_per_s: float | None
    settled_per_s: float | None
    failures_per_s: float | None
    history: tuple[float, ...]


class Watch:
    """Samples, from `start` on in a thread of its own, so that a server that is slow holds up no key."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._samples: deque[tuple[float, Sample]] = deque(maxlen=KEPT + 1)
        self._trouble = ""
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="eventbus-watch", daemon=True)
        self.count = 0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Sample no more; waits a moment for a sample under way."""
        self._stopped.set()
        self._thread.join(EVERY_S)

    def look(self) -> None:
        """Take a sample.

        Raises:
            EventBusError: a server cannot be reached.
        """
        self._samples.append((time.monotonic(), take(self._backend)))

    @property
    def view(self) -> View:
        """What has been seen so far."""
        samples = list(self._samples)
        if len(samples) < 2:
            return View(samples[-1][1] if samples else None, self._trouble, None, None, None, ())
        at, last = samples[-1]
        earlier = [one for one in samples[:-1] if one[0] <= at - OVER_S] or samples[:1]
        since, first = earlier[-1]
        span_s = max(at - since, 1e-3)
        history = tuple(
            max(0, new.published - old.published) / max(later - before, 1e-3)
            for (before, old), (later, new) in pairwise(samples)
        )
        published, settled, failed = (
            max(0, getattr(last, name) - getattr(first, name)) / span_s for name in ("published", "settled", "failures")
        )
        return View(last, self._trouble, published, settled, failed, history)

    def _run(self) -> None:
        while not self._stopped.is_set():
            started = time.monotonic()
            try:
                self.look()
                self._trouble = ""
            except EventBusError as error:
                self._trouble = str(error)
            except Exception:
                if not self._stopped.is_set():  # else the servers' connections were closed under it
                    raise
            self.count += 1
            self._stopped.wait(max(0.0, EVERY_S - (time.monotonic() - started)))


def view_object(view: View, namespace: str) -> dict[str, Any]:
    """Return a view as JSON shows it; its field names are promised."""
    sample = view.sample
    told: dict[str, Any] = {
        "namespace": namespace,
        "trouble": view.trouble or None,
        "events_per_s": view.events_per_s,
        "settled_per_s": view.settled_per_s,
        "failures_per_s": view.failures_per_s,
    }
    if sample is None:
        return told
    return told | {
        "at": sample.at,
        "events": sample.published,
        "spent": sample.spent,
        "spent_today": sample.spent_today,
        "archive": sample.backlog,
        "subscribers": [as_object(one) for one in sample.subscribers],
        "workers": [worker_object(worker) for worker in sample.workers],
        "attention": [finding["says"] for finding in attention(sample.subscribers, sample.workers, sample.backlog)],
    }
