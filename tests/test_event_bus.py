"""The bus as its users write it: every snippet of the design, in one process and on a fleet of two workers."""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from events.bus import EventBus
from events.errors import (
    EventBusError,
    EventIdConflict,
    EventNotFound,
    InvalidFilter,
    InvalidSubscription,
    RedisUnavailable,
)
from events.event import Event
from events.factory import EventBusFactory, EventBusManager
from events.records import RecordedEvent
from events.settings import Settings
from events.subscriber import CallbackSubscriber, EventSubscriber
from events.types import EventType
from store.blackboard import BlackboardFactory
from store.persistence import EventPersistence
from tests.servers import migrate
from tests.valkey_servers import free_port
from tests.waiting import wait_until

ROOT = Path(__file__).parent.parent
SERVERS = ("REDIS_URL", "DATABASE_URL")
FLEET = """
import sys
from workers.supervisor import Supervisor
sys.exit(Supervisor(2, ["--app", "examples.event_bus_usage:bus", "--archive"], grace_s=10).run())
"""


@pytest.fixture
def settings(redis_url: str, namespace: str, tmp_path: Path) -> Settings:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    migrate(url)
    return Settings(redis_url=redis_url, database_url=url, namespace=namespace, timeout_s=3, lease_s=2)


@pytest.fixture
def bus(settings: Settings) -> Iterator[EventBus]:
    bus = EventBus(settings)
    yield bus
    bus.close()


@pytest.fixture
def environment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Say the settings through the environment, to this process and its children."""
    assert settings.redis_url and settings.database_url
    monkeypatch.setenv("REDIS_URL", settings.redis_url)
    monkeypatch.setenv("DATABASE_URL", settings.database_url)
    monkeypatch.setenv("EVENTBUS_NAMESPACE", settings.namespace)
    monkeypatch.setenv("EVENTBUS_LEASE_S", "2")
    return settings


@pytest.fixture
def usage(environment: Settings) -> Iterator[ModuleType]:
    """The example, imported anew under this environment."""
    sys.modules.pop("examples.event_bus_usage", None)
    module = importlib.import_module("examples.event_bus_usage")
    yield module
    module.bus.close()
    default = sys.modules.get("events.default")
    if default is not None and default._bus is not None:
        default._bus.close()
        default._bus = None


@pytest.fixture
def fleet(environment: Settings, tmp_path: Path) -> Iterator[Callable[[], None]]:
    """Start a supervisor with two worker processes; it is drained at the end."""
    started: list[subprocess.Popen[bytes]] = []
    log = tmp_path / "fleet.log"

    def start() -> None:
        with open(log, "ab") as out:
            started.append(
                subprocess.Popen(
                    [sys.executable, "-c", FLEET], cwd=ROOT, stdout=out, stderr=out, start_new_session=True
                )
            )
        wait_until(lambda: log.read_text().count("Ready:") == 2, 30, "two workers")

    yield start
    for process in started:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, log.read_text()


def run_example(*arguments: str, **environment: str) -> str:
    """Run the example as its first line says, without any server configured unless given."""
    clean = {name: value for name, value in os.environ.items() if name not in SERVERS}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=clean | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout


# the example


@pytest.mark.parametrize("arguments", [["-m", "examples.event_bus_usage"], ["examples/event_bus_usage.py"]], ids=str)
def test_the_example_runs_without_any_server(arguments: list[str], tmp_path: Path) -> None:
    told = run_example(*arguments, EVENTBUS_HOME=str(tmp_path / "home"))

    assert "SHOT_PLANNED by ShotDirector" in told
    assert "In the last 24 hours: 6 scenes and shots." in told
    assert "In the store: 9 events that cost 0.16." in told


@pytest.mark.parametrize("where", ["one process", "fleet of two"])
@pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")
def test_every_snippet_works(where: str, usage: ModuleType, request: pytest.FixtureRequest) -> None:
    consume = where == "one process"
    if not consume:
        request.getfixturevalue("fleet")()

    asyncio.run(_ask_everything(usage, consume))


async def _ask_everything(usage: ModuleType, consume: bool) -> None:
    bus: EventBus = usage.bus
    if consume:
        await bus.start_consuming()
    root = await usage.create_project("PROJ-1")
    shots = await asyncio.wait_for(usage.wait_for_shots("PROJ-1", 3), 30)

    chain = usage.explain(shots[0].event_id)
    assert [event.type for event in chain] == ["PROJECT_CREATED", "SCENE_WRITTEN", "SHOT_PLANNED"]
    assert (chain[0].event_id, chain[-1]) == (root, shots[0])
    assert {event.correlation_id for event in chain} == {root}
    with pytest.raises(EventNotFound, match="EV-unknown"):
        bus.get_causation_chain("EV-unknown")

    approved = await asyncio.to_thread(usage.approve, "PROJ-1")
    assert [event.type for event in bus.get_causation_chain(approved)] == ["USER_APPROVED"]
    assert len(await usage.last_day("PROJ-1")) == 6
    whole = await usage.read_in_two_sittings("PROJ-1")
    assert whole == await bus.replay_events(project_id="PROJ-1")
    told = [event.type.value for event in whole]
    assert told == [*sorted(told[:-1], key=_STEPS.index), "USER_APPROVED"]

    statistics = await usage.look_into_the_store("PROJ-1")
    assert statistics["total_events"] == 9
    assert statistics["total_cost"] == pytest.approx(0.16)
    assert statistics["by_type"]["SHOT_PLANNED"]["average_latency_ms"] == pytest.approx(40)
    await usage.for_the_length_of_a_block()

    archive = bus.backend.archive
    await asyncio.to_thread(wait_until, lambda: archive.highest_position() >= _last(bus), 20, "the archive")
    assert await bus.replay_events(project_id="PROJ-1", event_types=["SHOT_PLANNED"]) == shots
    await bus.stop_consuming()
    await bus.disconnect()


_STEPS = ["PROJECT_CREATED", "SCENE_WRITTEN", "SHOT_PLANNED"]


def _last(bus: EventBus) -> int:
    return bus.backend.history.after(0, 100_000).last_position


# the snippets one by one, in one process


class SceneWriter(EventSubscriber):
    """An agent as the seed writes it."""

    def __init__(self) -> None:
        self.handled: list[Event] = []

    async def handle_event(self, event: Event) -> Event | None:
        self.handled.append(event)
        return event.caused(EventType.SHOT_PLANNED) if event.type == EventType.SCENE_WRITTEN else None


def scene(number: int = 0, **fields: Any) -> Event:
    return Event(
        **({"project_id": "P", "type": EventType.SCENE_WRITTEN, "actor": "me", "payload": {"n": number}} | fields)
    )


def test_publish_subscribe_consume_stop_disconnect(environment: Settings) -> None:
    async def scenario() -> None:
        agent = SceneWriter()
        bus = await EventBusFactory.create()
        bus.subscribe(agent, [EventType.SCENE_WRITTEN])
        await bus.start_consuming()
        event = scene()
        event_id = await bus.publish(event)
        await asyncio.to_thread(wait_until, lambda: agent.handled, 15, "the handler")
        await bus.stop_consuming()
        await bus.disconnect()
        assert event_id == event.event_id
        assert [handled.event_id for handled in agent.handled] == [event_id]
        assert agent.handled[0].correlation_id == event_id

    asyncio.run(scenario())


def test_stopping_archives_what_is_left_and_statistics_agree(environment: Settings) -> None:
    async def scenario() -> None:
        agent = SceneWriter()
        async with EventBusManager(subscribers=[(agent, [EventType.SCENE_WRITTEN, EventType.SHOT_PLANNED])]) as bus:
            await bus.publish_many([scene(number, metadata={"cost": 0.5, "latency_ms": 10}) for number in range(20)])
            await asyncio.to_thread(wait_until, lambda: len(agent.handled) == 40, 20, "all handlers")
        with BlackboardFactory.create() as blackboard:
            assert blackboard.archive.highest_position() > 0
            found = await EventPersistence(blackboard).get_event_statistics("P")
        assert (found["total_events"], found["total_cost"]) == (40, 10.0)
        assert found["by_type"]["SCENE_WRITTEN"]["average_latency_ms"] == 10

    asyncio.run(scenario())


def test_the_archive_has_everything_after_a_stop_without_redis(environment: Settings) -> None:
    async def scenario() -> list[str]:
        agent = SceneWriter()
        async with EventBusManager(environment, [(agent, [EventType.SCENE_WRITTEN], {"max_attempts": 2})]) as bus:
            assert bus.subscriptions[0].options.max_attempts == 2
            published = [await bus.publish(scene(number)) for number in range(5)]
            await asyncio.to_thread(wait_until, lambda: len(agent.handled) == 5, 15, "all handlers")
        return published

    published = asyncio.run(scenario())
    with BlackboardFactory.create(environment) as blackboard:
        blackboard.tail = None  # reads SQL only
        stored = [recorded.event.event_id for recorded in blackboard.replay.iterate(_everything())]

    assert [event_id for event_id in stored if event_id in published] == published
    assert len(stored) == 10


def _everything() -> Any:
    from store.filter import EventFilter

    return EventFilter()


def test_replay_of_the_last_day_takes_a_naive_utcnow(bus: EventBus) -> None:
    old = scene(1, timestamp=datetime.now(UTC) - timedelta(hours=25))
    bus.publish_many_sync([old, scene(2), scene(3, type=EventType.QA_REPORT), scene(4, project_id="OTHER")])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        start, end = datetime.utcnow() - timedelta(hours=24), datetime.utcnow() + timedelta(minutes=1)

    async def replay(**filters: Any) -> list[Any]:
        return [event.payload["n"] for event in await bus.replay_events(**filters)]

    assert asyncio.run(replay(project_id="P", start_time=start, end_time=end)) == [2, 3]
    assert asyncio.run(replay(project_id="P", start_time=start, event_types=[EventType.SCENE_WRITTEN])) == [2]
    assert asyncio.run(replay(end_time=start)) == [1]
    assert asyncio.run(replay(actor="nobody")) == []
    assert asyncio.run(replay(event_types=[])) == asyncio.run(replay(event_types=["*"])) == [1, 2, 3, 4]
    assert asyncio.run(replay()) == [1, 2, 3, 4]


def test_a_question_that_contradicts_itself_is_refused_not_answered_with_nothing(bus: EventBus) -> None:
    now = datetime.now(UTC)

    with pytest.raises(InvalidFilter, match="event_types must be a list of event types, not 'QA_REPORT'"):
        asyncio.run(bus.replay_events(event_types="QA_REPORT"))
    with pytest.raises(InvalidFilter, match="reversed"):
        asyncio.run(bus.replay_events(start_time=now, end_time=now - timedelta(hours=1)))


def test_iterating_gives_positions_and_resumes_after_one(bus: EventBus) -> None:
    bus.publish_many_sync([scene(number) for number in range(1200)])

    async def collect(after: int = 0, limit: int | None = None) -> list[RecordedEvent]:
        found: list[RecordedEvent] = []
        async for event in bus.iter_events(after=after, project_id="P"):
            found.append(event)
            if limit is not None and len(found) == limit:
                break
        return found

    head = asyncio.run(collect(limit=700))
    tail = asyncio.run(collect(after=head[-1].position))

    assert [recorded.payload["n"] for recorded in head + tail] == list(range(1200))
    assert head[0].type is EventType.SCENE_WRITTEN and head[0].position > 0


def test_a_chain_is_there_as_soon_as_its_events_are_published(bus: EventBus) -> None:
    root = scene(1)
    child = root.caused(EventType.SHOT_PLANNED, actor="Director")
    grandchild = child.caused("MY_OWN_TYPE", actor="Director")
    bus.publish_many_sync([root, child, grandchild])

    assert [event.event_id for event in bus.get_causation_chain(grandchild.event_id)] == [
        root.event_id, child.event_id, grandchild.event_id,
    ]  # fmt: skip
    assert [event.event_id for event in bus.get_causation_chain(root.event_id)] == [root.event_id]
    with pytest.raises(LookupError):
        bus.get_causation_chain("EV-nothing")


def test_a_tree_and_the_children_of_an_event_are_there_as_soon_as_they_are_published(bus: EventBus) -> None:
    root = scene(1)
    shots = [root.caused(EventType.SHOT_PLANNED, actor="Director", cost=0.25, latency_ms=10) for _ in range(3)]
    image = shots[1].caused(EventType.IMAGE_GENERATED, actor="Painter", cost=1.5, metadata={"currency": "EUR"})
    bus.publish_many_sync([root, *shots, image])

    async def ask() -> tuple[Any, Any, Any]:
        tree = await bus.get_causation_tree(root.event_id)
        part = await bus.get_causation_tree(shots[1].event_id)
        return tree, part, await bus.get_causation_children(root.event_id)

    tree, part, children = asyncio.run(ask())

    assert (tree.count, tree.cost_by_currency, tree.latency_us) == (5, {"EUR": 1.5, "USD": 0.75}, 30_000)
    assert (part.count, part.cost_by_currency, part.missing) == (2, {"EUR": 1.5, "USD": 0.25}, ())
    assert children == [event.model_copy(update={"correlation_id": root.event_id}) for event in shots]
    with pytest.raises(LookupError):
        asyncio.run(bus.get_causation_tree("EV-nothing"))
    with pytest.raises(LookupError):
        asyncio.run(bus.get_causation_children("EV-nothing"))


def test_replay_finds_what_is_at_a_path_of_payload_and_metadata(bus: EventBus) -> None:
    bus.publish_many_sync([scene(n, metadata={"tags": ["draft", {"by": n % 2}]}) for n in range(6)])

    async def numbers(**asked: Any) -> list[Any]:
        found = [event.payload["n"] for event in await bus.replay_events(**asked)]
        assert [event.payload["n"] async for event in bus.iter_events(**asked)] == found
        return found

    assert asyncio.run(numbers(metadata={"tags.1.by": 1})) == [1, 3, 5]
    assert asyncio.run(numbers(metadata={"tags.1.by": 1, "tags.0": "draft"}, payload={"n": 3})) == [3]
    assert asyncio.run(numbers(payload={"n": True})) == []
    with pytest.raises(InvalidFilter, match="asked for a text, a number"):
        asyncio.run(numbers(payload={"n": [3]}))


def test_persisting_keeps_an_event_that_nobody_receives(bus: EventBus, environment: Settings) -> None:
    bus.subscribe(SceneWriter(), ["*"])
    published = bus.publish_sync(scene(1))

    async def scenario() -> list[Event]:
        with BlackboardFactory.create() as blackboard:
            persistence = EventPersistence(blackboard)
            note = scene(2, metadata={"cost": 0.25})
            assert await persistence.persist_event(note) == note.event_id
            assert await persistence.persist_event(note) == note.event_id
            with pytest.raises(EventIdConflict):
                await persistence.persist_event(scene(3, event_id=note.event_id))
            assert (await persistence.get_event_statistics("P"))["total_events"] == 2
            return await persistence.get_events(project_id="P")

    found = asyncio.run(scenario())

    assert {event.event_id for event in found} >= {published}
    assert sorted(event.payload["n"] for event in found) == [1, 2]
    page = bus.backend.history.after(0, 100)
    assert [recorded.event.event_id for recorded in page.events] == [published]


def test_a_bus_shares_the_settings_of_a_blackboard(settings: Settings) -> None:
    async def scenario() -> str:
        with BlackboardFactory.create(settings) as blackboard:
            bus = await EventBusFactory.create(blackboard=blackboard)
            assert bus.settings is settings
            event_id = await bus.publish(scene())
            await bus.disconnect()
            return event_id

    assert asyncio.run(scenario()).startswith("EV-")


def test_a_decorated_function_stays_callable_and_has_its_options(bus: EventBus) -> None:
    @bus.subscriber("ScriptWriter", [EventType.PROJECT_CREATED], max_attempts=5, time_limit=600, ordering="project")
    async def write(event: Event) -> Event:
        return event.caused(EventType.SCENE_WRITTEN, actor="ScriptWriter", payload={"n": 1}, cost=0.05)

    [subscription] = bus.subscriptions
    made = asyncio.run(write(scene()))

    assert (subscription.name, subscription.types, subscription.is_async) == (
        "ScriptWriter",
        ("PROJECT_CREATED",),
        True,
    )
    assert (subscription.options.max_attempts, subscription.options.time_limit) == (5, 600)
    assert subscription.options.ordering == "project"
    assert made.cost == 0.05


def test_publish_of_the_package_uses_the_environment(environment: Settings) -> None:
    script = """
from events import Event, publish
print(publish(Event(project_id="P", type="HELLO", actor="step")))
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr

    bus = EventBus(environment)
    try:
        [event] = asyncio.run(bus.replay_events())
    finally:
        bus.close()
    assert event.event_id == done.stdout.strip()


# starting and stopping


def test_a_bus_without_subscribers_does_not_start(bus: EventBus) -> None:
    with pytest.raises(EventBusError, match="no subscribers: call subscribe before start_consuming"):
        asyncio.run(bus.start_consuming())


def test_starting_twice_and_subscribing_meanwhile_are_refused_and_a_bus_starts_again(bus: EventBus) -> None:
    agent = SceneWriter()
    bus.subscribe(agent, [EventType.SCENE_WRITTEN])

    async def scenario() -> None:
        for number in (1, 2):
            await bus.start_consuming()
            with pytest.raises(EventBusError, match="consuming already"):
                await bus.start_consuming()
            with pytest.raises(InvalidSubscription, match="cannot subscribe while the bus consumes"):
                bus.subscribe(CallbackSubscriber("Late", print), ["WORK"])
            await bus.publish(scene(number))
            await asyncio.to_thread(wait_until, lambda n=number: len(agent.handled) == n, 15, "the handler")
            await bus.stop_consuming()
            await bus.stop_consuming()

    asyncio.run(scenario())
    assert [event.payload["n"] for event in agent.handled] == [1, 2]


def test_a_bus_cannot_be_stopped_from_inside_a_handler(bus: EventBus) -> None:
    refused: list[str] = []

    async def stop_myself(event: Event) -> None:
        try:
            await bus.stop_consuming()
        except EventBusError as error:
            refused.append(str(error))

    async def scenario() -> None:
        bus.subscribe(CallbackSubscriber("Suicidal", stop_myself), [EventType.SCENE_WRITTEN])
        await bus.start_consuming()
        await bus.publish(scene())
        await asyncio.to_thread(wait_until, lambda: refused, 15, "the refusal")
        await bus.stop_consuming()

    asyncio.run(scenario())
    assert "from inside a handler" in refused[0]


def test_a_start_that_fails_says_why_and_may_be_repeated(settings: Settings) -> None:
    port = free_port()
    bus = EventBus(settings.with_(redis_url=f"redis://:s3cret@127.0.0.1:{port}/0"))
    bus.subscribe(SceneWriter(), [EventType.SCENE_WRITTEN])

    for _ in range(2):
        with pytest.raises(RedisUnavailable) as caught:
            asyncio.run(bus.start_consuming())
        assert str(port) in str(caught.value) and "s3cret" not in str(caught.value)
    bus.close()


def test_the_factory_refuses_a_redis_that_is_not_there(settings: Settings) -> None:
    port = free_port()

    with pytest.raises(RedisUnavailable, match=f"127.0.0.1:{port}"):
        asyncio.run(EventBusFactory.create(settings.with_(redis_url=f"redis://127.0.0.1:{port}/0")))


def test_a_manager_disconnects_when_its_block_fails(settings: Settings) -> None:
    async def scenario() -> EventBus:
        kept: list[EventBus] = []
        with pytest.raises(ZeroDivisionError):
            async with EventBusManager(settings, [(SceneWriter(), [EventType.SCENE_WRITTEN])]) as bus:
                kept.append(bus)
                raise ZeroDivisionError
        return kept[0]

    bus = asyncio.run(scenario())
    with pytest.raises(EventBusError, match="disconnected"):
        bus.publish_sync(scene())
