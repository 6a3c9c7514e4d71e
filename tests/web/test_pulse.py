"""The pulse by itself: one sample for all who ask, no more of them than their share, and no failure that ends it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic_core import to_json

from console.web.live import pulse as pulses
from console.web.live.points import KEPT, MOST_DRAWN, drawn
from console.web.live.pulse import Look, Pulse, Sample
from events.beats import Beat
from events.errors import RedisUnavailable
from events.inspection import Backlog, Queue
from events.roster import Worker
from events.standing import Limit, Standing

WAIT_S = 30


class Bus:
    """A bus that is looked at: counts, takes its time, and fails as it is told."""

    def __init__(self, took_s: float = 0.0) -> None:
        self.count = 0
        self.took_s = took_s
        self.trouble: Exception | None = None

    def take(self) -> Sample:
        self.count += 1
        time.sleep(self.took_s)
        if self.trouble is not None:
            raise self.trouble
        return Sample(datetime.now(UTC), self.count, 0, 0, {}, {}, (), (), Backlog(0, 0, 0, 0, False, None, 0, None))


def running(bus: Bus, scene: Callable[[Pulse], Awaitable[Any]]) -> Any:
    """Play a scene with a pulse that runs."""

    async def read(ask: Callable[[], Any]) -> Any:
        return await asyncio.to_thread(ask)

    async def run() -> Any:
        pulse = Pulse(bus.take, read)
        task = asyncio.create_task(pulse.run())
        try:
            async with asyncio.timeout(WAIT_S):
                return await scene(pulse)
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    return asyncio.run(run())


def test_all_who_ask_share_one_sample_and_no_more_are_taken_than_their_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulses, "WATCHED_S", 0.01)
    bus = Bus(took_s=0.1)

    async def scene(pulse: Pulse) -> list[Look]:
        found = await asyncio.gather(*(pulse.look() for _ in range(50)))
        while time.monotonic() < asked_until:
            await asyncio.sleep(0.02)
            found.append(await pulse.look())
        return found

    asked_until = time.monotonic() + 1.0
    found = running(bus, scene)

    assert len(set(map(id, found[:50]))) == 1 and found[0].whole is found[1].whole and found[0].whole_json
    assert bus.count == 1, "a tenth of a second is its share of two"


@pytest.mark.parametrize("trouble", [RuntimeError("secret of the code"), RedisUnavailable("Redis is away.")])
def test_no_failure_ends_it(monkeypatch: pytest.MonkeyPatch, trouble: Exception) -> None:
    monkeypatch.setattr(pulses, "WATCHED_S", 0.01)
    monkeypatch.setattr(pulses, "UNWATCHED_S", 0.05)
    bus = Bus()
    bus.trouble = trouble

    async def scene(pulse: Pulse) -> tuple[Look, Look]:
        failed = await pulse.look()
        bus.trouble = None
        while (await pulse.look()).sample is None:
            await asyncio.sleep(0.01)
        return failed, await pulse.look()

    failed, mended = running(bus, scene)

    told = failed.whole["trouble"]
    assert told == (str(trouble) if isinstance(trouble, RedisUnavailable) else "The bus cannot be looked at; the web "
                    "process's log says why.")  # fmt: skip
    assert failed.whole["attention"] == [] and mended.whole["trouble"] == "" and mended.whole["published"] == bus.count


def test_after_failures_it_looks_less_often_however_many_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulses, "WATCHED_S", 0.1)
    monkeypatch.setattr(pulses, "UNWATCHED_S", 3600.0)
    bus = Bus()
    bus.trouble = RuntimeError("a bug")

    async def scene(pulse: Pulse) -> None:
        while time.monotonic() < until:
            await pulse.look()
            await asyncio.sleep(0.01)

    until = time.monotonic() + 2.0
    running(bus, scene)

    assert bus.count <= 6, "0.1, 0.2, 0.4, 0.8, 1.6 s between them"


def queue(name: str, ready: int, oldest_s: float | None) -> Queue:
    return Queue(name, (), "live", "", False, None, ready, 0, 0, False, 0, 0, oldest_s, False)


def sample(*queues: Queue, workers: int = 0) -> Sample:
    """A look at a bus with these subscribers and so many live workers."""
    none = Limit(None, None, False)
    stand = tuple(Standing(one, None, 0, none, none, None, (), ()) for one in queues)
    fleet = tuple(Worker(f"worker-{n}", datetime.now(UTC), 0.0, Beat()) for n in range(workers))
    backlog = Backlog(0, 0, 0, 0, False, None, 0, None)
    return Sample(datetime.now(UTC), 0, 0, 0, {}, {}, stand, fleet, backlog)


def test_lag_and_oldest_age_of_each_subscriber_and_the_workers_are_told_for_every_look() -> None:
    first = sample(queue("Writer", 3, 4.26), queue("Editor", 0, None), workers=2)
    second = sample(queue("Writer", 0, None), queue("Editor", 7, 1.0), workers=1)

    told = Look(second, (first.point, second.point), "").whole

    points = [dict(zip(told["point"], point, strict=True)) for point in told["points"]]
    assert [(point["workers"], point["waiting"], point["oldest_s"]) for point in points] == [(2, 3, 4.3), (1, 7, 1.0)]
    assert told["busiest"] == {
        "Editor": {"lag": [0, 7], "oldest_s": [None, 1.0]},
        "Writer": {"lag": [3, 0], "oldest_s": [4.3, None]},
    }


def test_of_thousands_of_subscribers_the_busiest_are_kept_in_little_memory() -> None:
    quiet = [queue(f"agent-{n:04}-{'x' * 80}", 0, None) for n in range(3000)]
    loud = [queue(f"loud-{n:04}-{'x' * 80}", n + 1, 1234.5) for n in range(MOST_DRAWN)]
    point = sample(*quiet, *loud).point

    assert list(point.busiest) == [one.subscriber for one in reversed(loud)]
    assert len(to_json(drawn([point] * KEPT))) < 250_000, "a stream begins with it"


def test_a_subscriber_that_was_not_among_the_busiest_has_no_value_for_that_look() -> None:
    loud = [queue(f"loud-{n}", 5, 1.0) for n in range(MOST_DRAWN)]
    before, now = sample(queue("late", 1, 0.5), *loud), sample(queue("late", 9, 2.5), *loud)

    assert drawn([before.point, now.point])["busiest"]["late"] == {"lag": [None, 9], "oldest_s": [None, 2.5]}
