"""The publisher of a soak: so many events, so many a second; how far it has come is in a file of eight bytes.

python -m tests.soak.publisher FOLDER SEED EVENTS PER_SECOND

What was published and not noted is published again under the same ids when it is started again. Done, it waits to be
ended. After an outage it goes on at its rate, and does not make up for what it has missed.
"""

from __future__ import annotations

import os
import signal
import struct
import sys
import time
from pathlib import Path

from events.bus import EventBus
from events.errors import EventBusError
from tests.soak.app import tick

BATCHES_PER_S = 10
MOST = 500
_NUMBER = struct.Struct("<q")


class Progress:
    """How many events were acknowledged, for all processes of a soak."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "progress"

    @property
    def count(self) -> int:
        return _NUMBER.unpack(self._path.read_bytes())[0] if self._path.exists() else 0

    def note(self, count: int) -> None:
        """Write a count, in one step."""
        file = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            os.pwrite(file, _NUMBER.pack(count), 0)
        finally:
            os.close(file)


class Publisher:
    """Publishes events, each until it is acknowledged."""

    def __init__(self, bus: EventBus, progress: Progress, seed: int) -> None:
        self._bus = bus
        self._progress = progress
        self._seed = seed
        self.stopping = False

    def run(self, events: int, per_second: float) -> None:
        """Publish from where it was noted last; return when all are acknowledged, or `stopping` is set."""
        size = min(MOST, max(1, round(per_second / BATCHES_PER_S)))
        due = time.monotonic()
        while not self.stopping and (first := self._progress.count) < events:
            until = min(first + size, events)
            if not self._publish(first, until):
                time.sleep(0.05)
                continue
            self._progress.note(until)
            due = max(due + (until - first) / per_second, time.monotonic() - 1.0)
            time.sleep(max(0.0, due - time.monotonic()))

    def wait(self) -> None:
        """Wait until `stopping` is set."""
        while not self.stopping:
            time.sleep(0.1)

    def _publish(self, first: int, until: int) -> bool:
        try:
            answers = self._bus.publish_many_sync([tick(self._seed, number) for number in range(first, until)])
        except EventBusError as error:
            print(f"Published again: {error}", flush=True)
            return False
        return not any(isinstance(answer, Exception) for answer in answers)


def _main(folder: str, seed: str, events: str, per_second: str) -> None:
    from tests.soak.app import bus

    publisher = Publisher(bus, Progress(Path(folder)), int(seed))
    signal.signal(signal.SIGTERM, lambda *_: setattr(publisher, "stopping", True))
    publisher.run(int(events), float(per_second))
    publisher.wait()
    bus.close()


if __name__ == "__main__":
    _main(*sys.argv[1:])
