"""The event bus in use: a small content pipeline, and every question that can be asked about it.

    python -m examples.event_bus_usage

It needs no server: without REDIS_URL and DATABASE_URL a real Valkey and an SQLite file are used, kept in
`.eventbus` (EVENTBUS_HOME). To run the agents in worker processes instead, give them this file:

    eventbus worker --app examples.event_bus_usage:bus
    python -m examples.event_bus_usage --fleet
"""

from __future__ import annotations

import asyncio
import sys
import warnings
from datetime import datetime, timedelta

from events import Event, EventBus, EventSubscriber, EventType, publish
from events.errors import EventNotFound
from events.factory import EventBusFactory, EventBusManager
from store.blackboard import BlackboardFactory
from store.persistence import EventPersistence

# The agents. ----------------------------------------------------------------------------------------------

bus = EventBus()  # connects on first use, settings from the environment


@bus.subscriber("ScriptWriter", [EventType.PROJECT_CREATED], max_attempts=5, time_limit=600, ordering="project")
async def write(event: Event) -> list[Event]:
    """What a handler returns is published exactly once, with this event as its cause."""
    scenes = event.payload["brief"].split(". ")
    return [event.caused(EventType.SCENE_WRITTEN, payload={"scene": scene}, cost=0.05) for scene in scenes]


class ShotDirector(EventSubscriber):
    """An agent with a state of its own is a class. Its handler may be plain: it then runs in a thread."""

    def handle_event(self, event: Event) -> Event:
        return event.caused(EventType.SHOT_PLANNED, payload={"shot": event.payload["scene"].upper()}, latency_ms=40)


bus.subscribe(ShotDirector(), [EventType.SCENE_WRITTEN])


# The application. -----------------------------------------------------------------------------------------


async def create_project(project_id: str) -> str:
    """Publish: when it returns, the event is in history and in the queue of every subscriber."""
    bus = await EventBusFactory.create()
    event = Event(
        project_id=project_id,
        type=EventType.PROJECT_CREATED,
        actor="User",
        payload={"brief": "A fox sees grapes. It cannot reach them. It calls them sour"},
        metadata={"cost": 0.01},
    )
    event_id = await bus.publish(event)
    await bus.publish(event)  # safe to repeat: the same event is stored and delivered once
    await bus.disconnect()
    return event_id


def approve(project_id: str) -> str:
    """Publish from code that has no event loop, a pipeline step for example."""
    return publish(Event(project_id=project_id, type=EventType.USER_APPROVED, actor="User"))


async def wait_for_shots(project_id: str, count: int) -> list[Event]:
    """Read history until the agents have done their work, here or in another process."""
    while True:
        shots = await bus.replay_events(project_id=project_id, event_types=[EventType.SHOT_PLANNED])
        if len(shots) >= count:
            return shots
        await asyncio.sleep(0.05)


def explain(event_id: str) -> list[Event]:
    """Ask why something happened: the events from the root to this one, oldest first."""
    chain = bus.get_causation_chain(event_id)
    for depth, event in enumerate(chain):
        print(f"  {'  ' * depth}{event.type.value} by {event.actor}")
    return chain


async def last_day(project_id: str) -> list[Event]:
    """Replay a project's last 24 hours. Every filter is optional; a naive time is read as UTC."""
    return await bus.replay_events(
        project_id=project_id,
        start_time=datetime.utcnow() - timedelta(hours=24),
        end_time=datetime.utcnow() + timedelta(minutes=1),
        event_types=[EventType.SCENE_WRITTEN, EventType.SHOT_PLANNED],
    )


async def read_in_two_sittings(project_id: str) -> list[Event]:
    """Iterate over a history of any length, a page in memory at a time, and resume at a position."""
    events, position = [], 0
    async for event in bus.iter_events(after=position, project_id=project_id):
        events.append(event.event)
        position = event.position
        if len(events) == 3:
            break
    async for event in bus.iter_events(after=position, project_id=project_id):
        events.append(event.event)
    return events


async def look_into_the_store(project_id: str) -> dict[str, object]:
    """Keep an event without publishing it, read events, and count what they cost."""
    with BlackboardFactory.create() as blackboard:
        persistence = EventPersistence(blackboard)
        note = Event(project_id=project_id, type=EventType.QA_REPORT, actor="Auditor", payload={"verdict": "good"})
        await persistence.persist_event(note)
        [kept] = await persistence.get_events(project_id=project_id, event_types=[EventType.QA_REPORT])
        assert kept.event_id == note.event_id
        return await persistence.get_event_statistics(project_id)


async def for_the_length_of_a_block() -> str:
    """Let a manager connect and disconnect; given subscribers, it consumes as well."""
    async with EventBusManager() as bus:
        return await bus.publish(Event(project_id="ANOTHER", type="GREETING", actor="User"))  # a type of one's own


async def main(consume: bool = True, project_id: str | None = None) -> None:
    """Run it all.

    Args:
        consume: run the agents in this process; otherwise workers do.
    """
    project_id = project_id or f"PROJ-{datetime.now():%H%M%S%f}"
    if consume:
        await bus.start_consuming()  # async handlers run on this loop, plain ones in threads

    root = await create_project(project_id)
    shots = await wait_for_shots(project_id, 3)
    print("Why is there a shot?")
    explain(shots[0].event_id)
    try:
        bus.get_causation_chain("EV-unknown")
    except EventNotFound as error:
        print(f"And EV-unknown? {error}")

    await asyncio.to_thread(approve, project_id)
    print(f"In the last 24 hours: {len(await last_day(project_id))} scenes and shots.")
    print(f"In history: {', '.join(event.type.value for event in await read_in_two_sittings(project_id))}.")
    statistics = await look_into_the_store(project_id)
    print(f"In the store: {statistics['total_events']} events that cost {statistics['total_cost']:.2f}.")
    await for_the_length_of_a_block()
    assert bus.get_causation_chain(shots[0].event_id)[0].event_id == root

    await bus.stop_consuming()  # does nothing when it does not consume; routes stay
    await bus.disconnect()


if __name__ == "__main__":
    warnings.filterwarnings("ignore", "datetime.datetime.utcnow", DeprecationWarning)  # the naive time is meant
    asyncio.run(main(consume="--fleet" not in sys.argv))
