"""Dramatiq with its queue prefetch raised for speed, by its environment variable."""

from __future__ import annotations

from benchmarks.peers import dramatiq

LABEL = "Dramatiq, prefetch tuned"
PROMISE = dramatiq.PROMISE
PACKAGES = dramatiq.PACKAGES
PREFETCH = 512
publish_one, publish_bulk = dramatiq.publish_one, dramatiq.publish_bulk


def workers(python: str, url: str, processes: int) -> list[list[str]]:
    return [
        ["env", f"dramatiq_queue_prefetch={PREFETCH}", *command] for command in dramatiq.workers(python, url, processes)
    ]
