"""The fleet's workers and what waits for them, as tables and as JSON. JSON's field names are promised."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from console import wording
from console.printing import print_fitting

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from events.beats import Run
    from events.inspection import Queue
    from events.roster import Lag, Worker

SHOWN_RUNS = 3


def worker_object(worker: Worker) -> dict[str, Any]:
    """Return a worker process as JSON shows it."""
    said = worker.said
    return {
        "consumer": worker.consumer,
        "host": said.host,
        "pid": said.pid,
        "alive": worker.is_alive,
        "draining": said.draining,
        "started_at": worker.started_at,
        "seen_at": worker.seen_at,
        "silent_s": round(worker.silent_s, 3),
        "threads": said.threads,
        "concurrency": said.concurrency,
        "subscribers": dict(said.subscribers),
        "running": said.running,
        "busy": [
            {
                "subscriber": run.subscriber,
                "event_id": run.event_id,
                "type": run.type,
                "attempt": run.attempt,
                "since": worker.before(run.for_s),
            }
            for run in said.busy
        ],
    }


def lag_object(lag: Lag) -> dict[str, Any]:
    """Return what a subscriber has before it as JSON shows it."""
    queue = lag.queue
    return {
        "unsettled": queue.unsettled,
        "lag": lag.lag,
        "ready": queue.ready,
        "waiting": queue.waiting,
        "is_lower_bound": queue.is_bounded,
        "running": queue.running,
        "delayed": queue.delayed,
        "dead": queue.dead,
        "oldest_s": None if queue.oldest_s is None else round(queue.oldest_s, 3),
        "oldest_is_lower_bound": queue.oldest_is_bounded,
        "workers": lag.workers,
        "capacity": lag.capacity,
        "paused": queue.is_paused,
    }


def print_workers(out: Console, workers: Sequence[Worker]) -> None:
    """Print a table of worker processes."""
    if not workers:
        print("There are no workers. Start one with `eventbus worker --app ...` or `eventbus dev`.", file=sys.stderr)
        return
    print_fitting(out, _workers_table(workers), _workers_table(workers, narrow=True))


def print_lags(out: Console, lags: Sequence[Lag]) -> None:
    """Print a table of subscribers."""
    if not lags:
        print("Nobody is subscribed.", file=sys.stderr)
        return
    print_fitting(out, _lags_table(lags))


def _workers_table(workers: Sequence[Worker], *, narrow: bool = False) -> Table:
    """Return a table of worker processes; the narrow one has neither moments nor events' ids."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    headings = ["HOST", "PID", "STATE", "SEEN", "UP FOR", "RUNNING", "BUSY WITH", "FOR"]
    if narrow:
        headings.remove("SEEN")
    for heading in headings:
        table.add_column(heading, justify="right" if heading in ("PID", "RUNNING", "FOR") else "left", no_wrap=True)
    for worker in workers:
        said = worker.said
        seen = [] if narrow else [wording.moment(worker.seen_at)]
        runs = said.busy[:SHOWN_RUNS]
        more = said.running - len(runs)
        busy = [_run(run, narrow) for run in runs] + ([f"and {more:,} more"] if more > 0 and runs else [])
        times = [wording.duration((run.for_s + (0 if worker.is_alive else worker.silent_s)) * 1000) for run in runs]
        table.add_row(
            said.host or worker.consumer, str(said.pid or ""), _state(worker), *seen, _up_for(worker),
            f"{said.running:,}", "\n".join(busy), "\n".join(times),
            style=None if worker.is_alive else "red",
        )  # fmt: skip
    return table


def _state(worker: Worker) -> str:
    if not worker.is_alive:
        return f"silent for {wording.duration(worker.silent_s * 1000)}"
    return "draining" if worker.said.draining else "alive"


def _up_for(worker: Worker) -> str:
    """Write how long the process has lived; its own clock may differ from the server's by a little."""
    said = worker.said
    lived_s = worker.seen_at.timestamp() - said.started_at
    return wording.duration(max(0.0, lived_s) * 1000) if said.started_at else ""


def _run(run: Run, narrow: bool) -> str:
    words = [run.subscriber, run.type, *([] if narrow else [run.event_id])]
    return " ".join(filter(None, words)) + (f" (attempt {run.attempt})" if run.attempt > 1 else "")


def _age(queue: Queue) -> str:
    """Write how old the oldest unsettled event is, at least."""
    if queue.oldest_s is None:
        return wording.duration(None)
    return f"{wording.duration(queue.oldest_s * 1000)}{'+' if queue.oldest_is_bounded else ''}"


def _lags_table(lags: Sequence[Lag]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("SUBSCRIBER", "LAG", "OLDEST", "RUNNING", "DELAYED", "DEAD", "WORKERS", "CAPACITY", ""):
        table.add_column(heading, justify="left" if heading in ("SUBSCRIBER", "") else "right", no_wrap=True)
    for lag in lags:
        queue = lag.queue
        table.add_row(
            queue.subscriber, f"{lag.lag:,}{'+' if queue.is_bounded else ''}", _age(queue),
            f"{queue.running:,}", f"{queue.delayed:,}", f"{queue.dead:,}", f"{lag.workers:,}", f"{lag.capacity:,}",
            "paused" if queue.is_paused else "",
        )  # fmt: skip
    return table
