"""A payload over the event limit: published with one call, handled with one more."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from events.bus import EventBus
from events.errors import EventTooLarge
from events.event import Event
from events.settings import Settings
from tests.servers import migrate
from tests.waiting import wait_until


@pytest.fixture
def settings(redis_url: str, namespace: str, tmp_path: Path) -> Settings:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    migrate(url)
    return Settings(redis_url=redis_url, database_url=url, namespace=namespace, max_event_bytes=2000, timeout_s=10)


def test_a_large_payload_is_published_handled_and_returned(settings: Settings) -> None:
    text = "the fox " * 5000
    handled: list[tuple[str | None, object]] = []
    bus = EventBus(settings)

    @bus.subscriber("Writer", ["PROJECT_CREATED"])
    async def write(event: Event) -> Event:
        handled.append((event.blackboard_pointer, await bus.payload_of(event)))
        return bus.blackboard.offload(event.caused("SCENE_WRITTEN", payload={"text": text.upper()}))

    @bus.subscriber("Reader", ["SCENE_WRITTEN"])
    def read(event: Event) -> None:
        handled.append((event.actor, bus.blackboard.payload_of(event)))

    async def run() -> str:
        event = Event(project_id="P-1", type="PROJECT_CREATED", actor="me", payload={"text": text})
        with pytest.raises(EventTooLarge, match="over the limit of 2000"):
            await bus.publish(event)
        await bus.start_consuming()
        event_id = await bus.publish_large(event)
        assert await bus.publish_large(event) == event_id, "publishing again is harmless"
        await asyncio.to_thread(wait_until, lambda: len(handled) == 2, 30)
        await bus.disconnect()
        return event_id

    event_id = asyncio.run(run())

    assert handled == [(f"bb:P-1/payloads/{event_id}@1", {"text": text}), ("Writer", {"text": text.upper()})]


def test_a_small_one_is_published_as_it_is(settings: Settings) -> None:
    bus = EventBus(settings)
    small = Event(project_id="P-1", type="PROJECT_CREATED", actor="me", payload={"n": 1})

    async def run() -> list[Event]:
        await bus.publish_large(small)
        return await bus.replay_events()

    (found,) = asyncio.run(run())
    assert found.payload == {"n": 1} and found.blackboard_pointer is None
    bus.close()
