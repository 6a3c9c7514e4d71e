"""The live feed by itself, on a history that the test moves: what a whole web process would need luck to show."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from console.web.live import feed as feeds
from console.web.live.feed import Feed
from events.event import Event
from events.records import RecordedEvent
from store.filter import EventFilter
from store.replay import Page

WAIT_S = 30


class Past:
    """A history in memory, with the promises of `Replay.page`."""

    def __init__(self) -> None:
        self.events: list[RecordedEvent] = []
        self.trouble: Exception | None = None

    def publish(self, kind: str = "QA_REPORT", **payload: Any) -> int:
        event = Event(type=kind, project_id="film", actor="t", payload=payload)
        self.events.append(RecordedEvent(self.clock() + 1, event))
        return self.clock()

    def clock(self) -> int:
        return self.events[-1].position if self.events else 1

    def page(self, wanted: EventFilter, after: int, limit: int, *, size_bytes: int) -> Page:
        if self.trouble is not None:
            raise self.trouble
        found = [each for each in self.events if each.position > after and wanted.matches(each.event)]
        return Page(tuple(found[:limit]), max(self.clock(), after), True)


def at_once() -> tuple[Past, Feed]:
    past = Past()

    async def read(ask: Callable[[], Any]) -> Any:
        await asyncio.sleep(0)
        return ask()

    return past, Feed(lambda: past, past.clock, read, read)  # type: ignore[arg-type, return-value]


def test_what_is_published_while_the_first_follower_begins_comes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "HEARTBEAT_S", 3600.0)
    past = Past()
    begins = asyncio.Event()

    async def read(ask: Callable[[], Any]) -> Any:
        if ask == past.clock:  # the feed looks where history ends after its follower has found nothing
            await begins.wait()
        return ask()

    feed = Feed(lambda: past, past.clock, read, read)  # type: ignore[arg-type, return-value]

    async def run() -> list[int]:
        async def first() -> list[int]:
            async for _, items in feed.follow(past.clock(), EventFilter()):
                return [item.position for item in items]
            return []

        follower = asyncio.create_task(first())
        for _ in range(10):
            await asyncio.sleep(0)
        position = past.publish()
        begins.set()
        assert await asyncio.wait_for(follower, WAIT_S) == [position]
        return [position]

    assert asyncio.run(run())


def test_a_follower_of_what_never_comes_is_told_its_cursor_on_a_busy_bus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "HEARTBEAT_S", 0.5)
    monkeypatch.setattr(feeds, "POLL_S", 0.01)
    past, feed = at_once()

    async def run() -> tuple[int, list[Any]]:
        async def busy() -> None:
            while True:
                past.publish()
                await asyncio.sleep(0.01)

        publishing = asyncio.create_task(busy())
        try:
            async with asyncio.timeout(WAIT_S):
                async for found in feed.follow(1, EventFilter(types=("ERROR_DETECTED",))):
                    return found
        finally:
            publishing.cancel()
        raise AssertionError("the feed has ended")

    cursor, items = asyncio.run(run())
    assert not items and cursor > 2, "it has come further, and is told so"


def test_a_failure_that_nobody_expected_does_not_end_the_feed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "OUTAGE_S", 0.01)
    monkeypatch.setattr(feeds, "POLL_S", 0.01)
    past, feed = at_once()

    async def run() -> None:
        follower = feed.follow(past.clock(), EventFilter())
        first = asyncio.ensure_future(anext(follower))  # type: ignore[arg-type, var-annotated]
        async with asyncio.timeout(WAIT_S):
            while feed._floor < 0:
                await asyncio.sleep(0)
            past.trouble = RuntimeError("a bug")
            await asyncio.sleep(0.1)
            past.trouble = None
            position = past.publish()
            cursor, _ = await first
        assert cursor == position

    asyncio.run(run())


@pytest.mark.parametrize("is_in_ring", [True, False])
def test_a_follower_is_given_so_many_bytes_at_a_time_or_one_event(
    monkeypatch: pytest.MonkeyPatch, is_in_ring: bool
) -> None:
    monkeypatch.setattr(feeds, "POLL_S", 0.01)
    monkeypatch.setattr(feeds, "MOST_BYTES", 10 * feeds.CHUNK_BYTES if is_in_ring else 1)
    past, feed = at_once()
    sizes = (100, 100, feeds.CHUNK_BYTES * 2, 100, feeds.CHUNK_BYTES // 2, feeds.CHUNK_BYTES // 2, 100)

    async def run() -> list[list[int]]:
        found: list[list[int]] = []
        async with asyncio.timeout(WAIT_S):
            follower = feed.follow(past.clock(), EventFilter())
            first = asyncio.ensure_future(anext(follower))  # type: ignore[arg-type, var-annotated]
            while feed._floor < 0:
                await asyncio.sleep(0)
            for size in sizes:
                past.publish(text="x" * size)
            found.append([len(item.json) for item in (await first)[1]])
            while sum(map(len, found)) < len(sizes):
                found.append([len(item.json) for item in (await anext(follower))[1]])  # type: ignore[arg-type]
        return found

    found = asyncio.run(run())
    assert all(len(step) == 1 or sum(step) <= feeds.CHUNK_BYTES for step in found)
    assert [size // 1000 for step in found for size in step] == [len(item) // 1000 for item in jsons(past)]


def jsons(past: Past) -> list[bytes]:
    return [feeds.Item(recorded).json for recorded in past.events]


def test_a_filter_by_path_looks_into_what_the_ring_keeps_as_text_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "POLL_S", 0.01)
    past, feed = at_once()
    wanted = EventFilter(payload={"scene.number": 3})

    async def run() -> list[int]:
        follower = feed.follow(past.clock(), wanted)
        first = asyncio.ensure_future(anext(follower))  # type: ignore[arg-type, var-annotated]
        async with asyncio.timeout(WAIT_S):
            while feed._floor < 0:
                await asyncio.sleep(0)
            past.publish(scene={"number": 2})
            position = past.publish(scene={"number": 3})
            _, items = await first
        assert [item.position for item in items] == [position]
        return [position]

    assert asyncio.run(run())


def test_who_follows_from_now_on_waits_for_no_question(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "POLL_S", 0.01)
    past = Past()

    async def vital(ask: Callable[[], Any]) -> Any:
        return ask()

    async def never(ask: Callable[[], Any]) -> Any:
        await asyncio.Event().wait()

    feed = Feed(lambda: past, past.clock, vital, never)  # type: ignore[arg-type, return-value]

    async def run() -> tuple[int, list[int]]:
        async with asyncio.timeout(WAIT_S):
            after = await feed.now()
            position = past.publish()
            async for _, items in feed.follow(after, EventFilter()):
                return position, [item.position for item in items]
        raise AssertionError("the feed has ended")

    position, got = asyncio.run(run())
    assert got == [position]
