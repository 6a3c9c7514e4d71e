"""FastStream's batch subscriber: a list of events a call."""

from __future__ import annotations

from benchmarks.peers import faststream

LABEL = "FastStream, batches"
PROMISE = faststream.PROMISE
PACKAGES = faststream.PACKAGES
prepare = faststream.prepare
publish_bulk = faststream.publish_bulk


def workers(python: str, url: str, processes: int) -> list[list[str]]:
    return faststream.workers(python, url, processes, batch=100)
