"""The publisher: follows a plan until it is told to stop, tries again whatever goes wrong, and notes what was answered.

python -m tests.chaos.publisher SEED FIRST PER_SECOND
"""

from __future__ import annotations

import asyncio
import itertools
import signal
import sys
import time
from collections.abc import Iterator

from sqlalchemy.orm import Session

from store import outbox
from tests.chaos.app import bus, engine
from tests.chaos.journal import note
from tests.chaos.plan import Brief, briefs

MOST = 20


def batches(plan: Iterator[Brief]) -> Iterator[tuple[str, list[Brief]]]:
    """Iterate over what is published together, and how."""
    for way, group in itertools.groupby(plan, key=lambda brief: brief.way):
        while some := list(itertools.islice(group, MOST if way == "many" else 1)):
            yield way, some


class Publisher:
    """Publishes briefs, each until it is acknowledged; every second of the single ones by the asynchronous edge."""

    def __init__(self) -> None:
        self.stopping = False
        self._loop = asyncio.new_event_loop()
        signal.signal(signal.SIGTERM, self._stop)

    def run(self, seed: int, first: int, per_second: float) -> None:
        """Publish from the plan's `first` brief on."""
        for way, some in batches(itertools.islice(briefs(seed), first, None)):
            while not self._try(way, some):
                if self.stopping:
                    return
                time.sleep(0.05)
            for brief in some:
                note("acknowledged", event=brief.event_id, number=brief.number, way=way)
            if self.stopping:
                return
            time.sleep(len(some) / per_second)

    def _try(self, way: str, some: list[Brief]) -> bool:
        try:
            if way == "outbox":
                with Session(engine()) as session, session.begin():
                    outbox.add(session, some[0].event)
            elif way == "delayed":
                bus.publish_sync(some[0].event, delay=0.3)
            elif way == "single" and some[0].number % 2:
                self._loop.run_until_complete(bus.publish(some[0].event))
            elif way == "single":
                bus.publish_sync(some[0].event)
            else:
                return all(
                    not isinstance(answer, Exception) for answer in bus.publish_many_sync([b.event for b in some])
                )
        except Exception as error:
            note("refused", event=some[0].event_id, error=f"{type(error).__name__}: {error}")
            return False
        return True

    def _stop(self, *_: object) -> None:
        self.stopping = True


if __name__ == "__main__":
    Publisher().run(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
