"""Publishing on a real Valkey: once each, in order, refused by name, and safe to repeat whatever fails."""

from __future__ import annotations

import asyncio
import multiprocessing
import random
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import events.backend
from events.bus import EventBus
from events.connection import connect
from events.context import handling
from events.encoding import encode
from events.errors import (
    EventBusError,
    EventIdConflict,
    EventTooLarge,
    HistoryReset,
    InvalidEvent,
    InvalidSubscription,
    RedisUnavailable,
    ScriptFailed,
    TooManyRoutes,
)
from events.event import Event
from events.frame import Frame, parse_frame
from events.keys import Keys
from events.publisher import Receipt
from events.records import RecordedEvent
from events.settings import Settings
from events.subscriber import CallbackSubscriber, EventSubscriber
from tests.fault_proxy import FaultProxy
from tests.servers import migrate
from tests.valkey_servers import ValkeyServer, free_port
from tests.waiting import wait_until

MakeBus = Callable[..., EventBus]


@pytest.fixture
def settings(redis_url: str, namespace: str, tmp_path: Path) -> Settings:
    """Settings of an empty namespace and a migrated SQLite file."""
    url = f"sqlite:///{tmp_path / 'store.db'}"
    migrate(url)
    return Settings(
        redis_url=redis_url, database_url=url, namespace=namespace, reset_wait_s=0.3, timeout_s=3, lease_s=2
    )


@pytest.fixture
def make_bus(settings: Settings) -> Iterator[MakeBus]:
    """Make buses that are closed at the end."""
    made: list[EventBus] = []

    def make(**changes: Any) -> EventBus:
        made.append(EventBus(settings.with_(**changes)))
        return made[-1]

    yield make
    for bus in made:
        bus.close()


@pytest.fixture
def bus(make_bus: MakeBus) -> EventBus:
    return make_bus()


@pytest.fixture
def proxy(valkey_server: ValkeyServer, redis_url: str) -> Iterator[FaultProxy]:
    with FaultProxy("127.0.0.1", valkey_server.port) as proxy:
        yield proxy


class Nobody(EventSubscriber):
    """Subscribes; nothing runs it."""

    def handle_event(self, event: Event) -> None:
        raise AssertionError("Nobody consumes in this test.")


def make_event(number: int = 0, **fields: Any) -> Event:
    return Event(**({"project_id": "P", "type": "WORK", "actor": "test", "payload": {"n": number}} | fields))


def history(bus: EventBus) -> list[RecordedEvent]:
    found: list[RecordedEvent] = []
    page = bus.backend.history.after(0, 100_000)
    while not page.complete:
        found += page.events
        page = bus.backend.history.after(page.last_position, 100_000)
    return found + list(page.events)


def ids(bus: EventBus) -> list[str]:
    return [recorded.event.event_id for recorded in history(bus)]


def waiting(bus: EventBus, subscriber: str) -> list[Frame]:
    """Return what waits for a subscriber, in its window and in its lanes."""
    client, keys = bus.backend.client, Keys(bus.settings.namespace)
    raw = [fields[b"f"] for _, fields in client.xrange(keys("queue", subscriber))]
    for lane in client.zrange(keys("lanes", subscriber), 0, -1):
        raw += client.lrange(keys("lane", subscriber, lane.decode()), 0, -1)
    return [parse_frame(frame) for frame in raw]


def script_calls(bus: EventBus) -> int:
    found = bus.backend.client.info("commandstats")
    return int(found.get("cmdstat_evalsha", {}).get("calls", 0))


@asynccontextmanager
async def consuming(bus: EventBus) -> AsyncIterator[None]:
    await bus.start_consuming()
    try:
        yield
    finally:
        await bus.stop_consuming(grace_s=5)


async def until(predicate: Callable[[], object], what: str) -> None:
    await asyncio.to_thread(wait_until, predicate, 15, what)


# once each


def test_an_event_is_in_history_and_in_the_queue_of_each_subscriber_of_its_type(bus: EventBus) -> None:
    for name, types in [("A", ["WORK"]), ("B", ["WORK", "PLAY"]), ("All", ["*"]), ("C", ["PLAY"])]:
        bus.subscribe(CallbackSubscriber(name, lambda event: None), types)

    event_id = bus.publish_sync(event := make_event(1, metadata={"cost": 1}))

    [recorded] = history(bus)
    assert event_id == event.event_id == recorded.event.event_id
    assert recorded.deliveries == ("A", "All", "B")
    assert (recorded.depth, recorded.origin, recorded.event.correlation_id) == (0, "publish", event_id)
    assert [[frame.body for frame in waiting(bus, name)] for name in ("A", "B", "All", "C")] == [
        [encode(event)]
    ] * 3 + [[]]


def test_the_same_event_published_twice_is_stored_and_delivered_once(bus: EventBus) -> None:
    bus.subscribe(Nobody(), ["WORK"])
    event = make_event()

    async def publish_three_times() -> None:
        assert await bus.publish(event) == event.event_id
        assert await bus.publish(event) == event.event_id
        again = await bus.publish_many([event, make_event(event_id=event.event_id, metadata={"cost": 9})])
        assert again == [Receipt(event.event_id, history(bus)[0].position, False)] * 2

    asyncio.run(publish_three_times())

    assert ids(bus) == [event.event_id]
    assert len(waiting(bus, "Nobody")) == 1


def test_the_same_event_twice_in_one_batch_is_one_event(bus: EventBus) -> None:
    event = make_event()

    first, second = bus.publish_many_sync([event, event])

    assert isinstance(first, Receipt) and isinstance(second, Receipt)
    assert (first.is_new, second.is_new, first.position) == (True, False, second.position)
    assert ids(bus) == [event.event_id]


def test_the_same_id_with_another_body_is_refused_by_name_and_its_neighbours_go_through(bus: EventBus) -> None:
    bus.publish_sync(make_event(0, event_id="EV-taken"))

    answers = bus.publish_many_sync([make_event(1), make_event(2, event_id="EV-taken"), make_event(3)])

    assert isinstance(answers[1], EventIdConflict)
    assert "'EV-taken'" in str(answers[1]) and f"position {history(bus)[0].position}" in str(answers[1])
    assert [type(answer) for answer in answers] == [Receipt, EventIdConflict, Receipt]
    assert [recorded.event.payload["n"] for recorded in history(bus)] == [0, 1, 3]
    with pytest.raises(EventIdConflict, match="EV-taken"):
        bus.publish_sync(make_event(2, event_id="EV-taken"))


def test_one_id_for_two_events_of_a_batch_is_refused_for_the_second(bus: EventBus) -> None:
    first, second = bus.publish_many_sync([make_event(1, event_id="EV-1"), make_event(2, event_id="EV-1")])

    assert isinstance(first, Receipt)
    assert isinstance(second, EventIdConflict) and "in the same batch" in str(second)
    assert ids(bus) == ["EV-1"]


def test_within_one_delivery_the_first_body_stays(bus: EventBus) -> None:
    publisher = bus.backend.publisher
    [first] = publisher.publish_many([make_event(1, event_id="EV-1")], "7:Agent:0")

    [again] = publisher.publish_many([make_event(2, event_id="EV-1")], "7:Agent:0")
    [other] = publisher.publish_many([make_event(2, event_id="EV-1")], "7:Agent:1")

    assert isinstance(first, Receipt)
    assert again == Receipt("EV-1", first.position, False)
    assert isinstance(other, EventIdConflict)
    assert history(bus)[0].event.payload == {"n": 1}


# order and batches


def test_publish_many_answers_each_event_in_order(bus: EventBus) -> None:
    events = [make_event(number) for number in range(1200)]

    answers = asyncio.run(bus.publish_many(events))

    assert [answer.event_id for answer in answers if isinstance(answer, Receipt)] == [e.event_id for e in events]
    positions = [answer.position for answer in answers if isinstance(answer, Receipt)]
    assert positions == sorted(set(positions)) == [recorded.position for recorded in history(bus)]
    assert asyncio.run(bus.publish_many([])) == []


def test_two_hundred_tasks_share_script_calls_and_keep_their_order(bus: EventBus) -> None:
    events = [make_event(number) for number in range(200)]
    bus.publish_sync(make_event())
    before = script_calls(bus)

    async def publish_at_once() -> list[str]:
        return await asyncio.gather(*(bus.publish(event) for event in events))

    assert asyncio.run(publish_at_once()) == [event.event_id for event in events]
    assert ids(bus)[1:] == [event.event_id for event in events]
    assert script_calls(bus) - before < 100


def test_eight_threads_share_the_bus_and_each_keeps_its_order(bus: EventBus) -> None:
    def publish_fifty(thread: int) -> list[str]:
        return [bus.publish_sync(make_event(number, actor=f"thread-{thread}")) for number in range(50)]

    with ThreadPoolExecutor(8) as pool:
        published = list(pool.map(publish_fifty, range(8)))

    recorded = history(bus)
    assert len(recorded) == 400
    for thread, event_ids in enumerate(published):
        assert [r.event.event_id for r in recorded if r.event.actor == f"thread-{thread}"] == event_ids


def test_one_refused_event_fails_only_its_own_caller(bus: EventBus) -> None:
    bus.publish_sync(make_event(0, event_id="EV-taken"))

    async def publish_at_once() -> list[str | BaseException]:
        events = [make_event(n, **({"event_id": "EV-taken"} if n == 50 else {})) for n in range(100)]
        return await asyncio.gather(*(bus.publish(event) for event in events), return_exceptions=True)

    answers = asyncio.run(publish_at_once())

    assert [number for number, answer in enumerate(answers) if not isinstance(answer, str)] == [50]
    assert isinstance(answers[50], EventIdConflict)
    assert len(history(bus)) == 100


@pytest.mark.parametrize("fault", [{"type": "OTHER"}, {"project_id": None}, {"causation_id": 5}])
def test_an_event_that_cannot_be_sent_is_refused_and_its_neighbours_go_through(
    bus: EventBus, fault: dict[str, object]
) -> None:
    bad = make_event(2).model_copy(update=fault)

    answers = bus.publish_many_sync([make_event(1), bad, make_event(3)])

    assert [type(answer) for answer in answers] == [Receipt, InvalidEvent, Receipt]
    assert [recorded.event.payload["n"] for recorded in history(bus)] == [1, 3]


def test_five_thousand_events_of_mixed_size_arrive_whole_and_in_order(bus: EventBus) -> None:
    chance = random.Random(7)
    sizes = [chance.choice([10, 100, 100, 1000, 1000, 20_000]) for _ in range(5000)]
    sizes[1234] = 900_000
    events = [make_event(number, payload={"text": "x" * size}) for number, size in enumerate(sizes)]

    answers = bus.publish_many_sync(events)

    assert all(isinstance(answer, Receipt) and answer.is_new for answer in answers)
    assert [len(recorded.event.payload["text"]) for recorded in history(bus)] == sizes


def test_an_event_over_the_limit_is_refused_with_its_size_and_its_neighbours_go_through(make_bus: MakeBus) -> None:
    bus = make_bus(max_event_bytes=2000)
    large = make_event(payload={"text": "ä" * 1000})

    answers = bus.publish_many_sync([make_event(1), large, make_event(3)])

    assert [type(answer) for answer in answers] == [Receipt, EventTooLarge, Receipt]
    for part in (str(len(encode(large))), "limit of 2000", "EVENTBUS_MAX_EVENT_BYTES", large.event_id):
        assert part in str(answers[1])
    assert [recorded.event.payload["n"] for recorded in history(bus)] == [1, 3]
    with pytest.raises(EventTooLarge):
        asyncio.run(bus.publish(large))


def test_an_event_of_exactly_the_limit_is_published(make_bus: MakeBus) -> None:
    event = make_event(payload={"text": "x" * 1000})

    bus = make_bus(max_event_bytes=len(encode(event)))

    assert bus.publish_sync(event) == event.event_id


def test_what_is_not_an_event_is_a_type_error_and_nothing_is_published(bus: EventBus) -> None:
    with pytest.raises(TypeError, match="publish takes an Event, not a dict"):
        bus.publish_many_sync([make_event(), {"type": "WORK"}])  # type: ignore[list-item]

    assert history(bus) == []


def test_synchronous_publish_works_on_the_thread_of_a_running_loop(bus: EventBus) -> None:
    async def mixed() -> list[str]:
        pending = asyncio.ensure_future(bus.publish(make_event(1)))
        await asyncio.sleep(0)
        return [bus.publish_sync(make_event(2)), await pending, bus.publish_sync(make_event(3))]

    second, first, third = asyncio.run(mixed())

    assert ids(bus) == [first, second, third]


def test_one_bus_serves_one_event_loop_after_another(bus: EventBus) -> None:
    published = [asyncio.run(bus.publish(make_event(number))) for number in range(3)]

    assert ids(bus) == published


# causes


def test_root_and_depth_follow_the_causes(bus: EventBus) -> None:
    root = make_event(1)
    child = make_event(2, causation_id=root.event_id)
    grandchild = make_event(3, causation_id=child.event_id)
    orphan = make_event(4, causation_id="EV-unknown")
    own_root = make_event(5, causation_id=root.event_id, correlation_id="EV-mine")

    bus.publish_many_sync([root, child, grandchild, orphan, own_root])

    assert [(r.depth, r.event.correlation_id) for r in history(bus)] == [
        (0, root.event_id), (1, root.event_id), (2, root.event_id), (1, "EV-unknown"), (1, "EV-mine"),
    ]  # fmt: skip


@pytest.mark.parametrize("is_async", [True, False])
def test_what_a_handler_publishes_itself_carries_its_cause_and_its_delivery(bus: EventBus, is_async: bool) -> None:
    seen: list[str] = []

    async def agent_async(event: Event) -> Event:
        now = handling.get()
        assert now is not None
        seen.append(now.delivery)
        await bus.publish(Event(type="PUBLISHED"))
        return Event(type="RETURNED")

    def agent_plain(event: Event) -> Event:
        now = handling.get()
        assert now is not None
        seen.append(now.delivery)
        bus.publish_sync(Event(type="PUBLISHED"))
        return Event(type="RETURNED")

    async def scenario() -> tuple[str, list[RecordedEvent]]:
        bus.subscribe(CallbackSubscriber("Agent", agent_async if is_async else agent_plain), ["WORK"])
        async with consuming(bus):
            event_id = await bus.publish(make_event(project_id="PROJ-7", correlation_id="EV-root"))
            await until(lambda: len(history(bus)) == 3, "the handler's events")
        return event_id, history(bus)

    event_id, recorded = asyncio.run(scenario())

    work, published, returned = recorded
    assert (published.event.type, returned.event.type) == ("PUBLISHED", "RETURNED")
    for made in (published, returned):
        event = made.event
        assert (event.causation_id, event.correlation_id) == (event_id, "EV-root")
        assert (event.project_id, event.actor, made.depth) == ("PROJ-7", "Agent", 1)
        assert made.origin == f"{work.position}:Agent:0" == seen[0]
    assert handling.get() is None


def test_a_task_that_a_handler_starts_publishes_for_the_same_delivery(bus: EventBus) -> None:
    async def agent(event: Event) -> None:
        await asyncio.gather(
            *(asyncio.create_task(bus.publish(Event(type="PART", payload={"n": n}))) for n in range(3))
        )

    async def scenario() -> None:
        bus.subscribe(CallbackSubscriber("Agent", agent), ["WORK"])
        async with consuming(bus):
            await bus.publish(make_event())
            await until(lambda: len(history(bus)) == 4, "the parts")

    asyncio.run(scenario())

    work, *parts = history(bus)
    assert {part.origin for part in parts} == {f"{work.position}:Agent:0"}
    assert {part.event.causation_id for part in parts} == {work.event.event_id}


# replies that are lost, servers that are down


@pytest.mark.parametrize("losses", [1, 3])
def test_a_publish_whose_reply_is_lost_is_sent_again_and_nothing_is_doubled(
    make_bus: MakeBus, proxy: FaultProxy, losses: int
) -> None:
    bus = make_bus(redis_url=proxy.url)
    bus.subscribe(Nobody(), ["WORK"])
    bus.publish_sync(make_event(0))
    proxy.drop_replies(losses, matching=b"EVALSHA")

    published = asyncio.run(_publish_all(bus, [make_event(number) for number in range(1, 21)]))

    assert proxy.dropped == losses
    assert ids(bus)[1:] == published
    assert len(waiting(bus, "Nobody")) == 21


def test_a_batch_whose_reply_is_lost_arrives_once(make_bus: MakeBus, proxy: FaultProxy) -> None:
    bus = make_bus(redis_url=proxy.url)
    bus.publish_sync(make_event(0))
    proxy.drop_replies(2, matching=b"EVALSHA")

    answers = bus.publish_many_sync([make_event(number) for number in range(1, 1001)])

    assert proxy.dropped == 2
    assert all(isinstance(answer, Receipt) for answer in answers)
    assert [recorded.event.payload["n"] for recorded in history(bus)] == list(range(1001))


def test_a_batch_that_is_given_up_between_two_calls_leaves_no_reply_for_others_to_read(bus: EventBus) -> None:
    publisher = bus.backend.publisher
    bus.publish_sync(make_event(0))

    class Broken(list):  # type: ignore[type-arg]
        def __iter__(self) -> Any:
            yield from (make_event(number) for number in range(1, 600))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        publisher.publish_many(Broken([None] * 1000))
    event = make_event(7000)
    (answer,) = publisher.publish_many([event])

    assert isinstance(answer, Receipt) and answer.event_id == event.event_id and answer.is_new
    assert bus.backend.history.clock() == answer.position, "it is the reply to this one"
    assert bus.backend.client.ping() is True


def test_connections_cut_between_publishes_are_made_again(make_bus: MakeBus, proxy: FaultProxy) -> None:
    bus = make_bus(redis_url=proxy.url)
    for number in range(5):
        bus.publish_sync(make_event(number))
        proxy.cut()

    assert [recorded.event.payload["n"] for recorded in history(make_bus())] == list(range(5))


def test_a_server_that_lost_its_scripts_gets_them_again(bus: EventBus) -> None:
    bus.publish_sync(make_event(1))
    bus.backend.client.script_flush()

    bus.publish_sync(make_event(2))

    assert [recorded.event.payload["n"] for recorded in history(bus)] == [1, 2]


def test_redis_down_is_an_error_with_its_url_and_publishing_works_again_when_it_returns(
    bus: EventBus, valkey_server: ValkeyServer
) -> None:
    bus.subscribe(Nobody(), ["WORK"])
    event = make_event(2)
    bus.publish_sync(make_event(1))
    valkey_server.client().execute_command("WAITAOF", 1, 0, 5000)
    valkey_server.kill()

    with pytest.raises(RedisUnavailable, match=f"redis://127.0.0.1:{valkey_server.port}/0 cannot be reached"):
        asyncio.run(bus.publish(event))
    valkey_server.restart()
    asyncio.run(bus.publish(event))

    assert [recorded.event.payload["n"] for recorded in history(bus)] == [1, 2]
    assert len(waiting(bus, "Nobody")) == 2


def test_the_error_for_an_unreachable_redis_hides_its_password(make_bus: MakeBus) -> None:
    port = free_port()
    bus = make_bus(redis_url=f"redis://worker:s3cret@127.0.0.1:{port}/0")

    with pytest.raises(RedisUnavailable) as caught:
        bus.publish_sync(make_event())

    assert f"127.0.0.1:{port}" in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_the_error_for_a_wrong_password_hides_it(make_bus: MakeBus, valkey_server: ValkeyServer) -> None:
    bus = make_bus(redis_url=f"redis://nobody:s3cret@127.0.0.1:{valkey_server.port}/0")

    with pytest.raises(EventBusError) as caught:
        bus.publish_sync(make_event())

    assert str(valkey_server.port) in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_a_server_without_memory_refuses_whole_events_and_takes_them_when_it_has_some(bus: EventBus) -> None:
    bus.subscribe(Nobody(), ["WORK"])
    bus.publish_sync(make_event(1))
    bus.backend.client.config_set("maxmemory", 1)

    with pytest.raises(ScriptFailed) as caught:
        bus.publish_sync(event := make_event(2))
    bus.backend.client.config_set("maxmemory", 0)
    bus.publish_sync(event)

    assert caught.value.code == "OOM"
    assert [recorded.event.payload["n"] for recorded in history(bus)] == [1, 2]
    assert len(waiting(bus, "Nobody")) == 2


def test_a_server_that_refuses_a_connection_by_a_reply_is_the_answer_of_each_event(
    bus: EventBus, make_bus: MakeBus
) -> None:
    admin = bus.backend.client
    admin.execute_command("ACL SETUSER visitor on >secret ~* &* +@all")
    try:
        url = bus.settings.redis_url.replace("redis://", "redis://visitor:secret@").removesuffix("/0") + "/1"
        visitor = make_bus(redis_url=url)
        visitor.publish_sync(make_event(1))
        admin.execute_command("ACL SETUSER visitor -select")  # which a connection to database 1 begins with
        visitor.backend.client.connection_pool.disconnect()

        answers = visitor.backend.publisher.publish_many([make_event(2), make_event(3)])

        assert [type(answer) for answer in answers] == [ScriptFailed, ScriptFailed]
    finally:
        admin.execute_command("ACL DELUSER visitor")


def test_a_key_of_a_wrong_type_refuses_the_event_before_anything_is_written(bus: EventBus) -> None:
    bus.subscribe(Nobody(), ["WORK"])
    bus.publish_sync(make_event(1))
    client, keys = bus.backend.client, Keys(bus.settings.namespace)
    client.delete(keys("lanes", "Nobody"))
    client.set(keys("lanes", "Nobody"), "written by hand")

    with pytest.raises(ScriptFailed) as caught:
        bus.publish_sync(make_event(2))

    assert caught.value.code == "WRONGTYPE"
    assert [recorded.event.payload["n"] for recorded in history(bus)] == [1]


def test_a_cancelled_publish_breaks_nothing(bus: EventBus) -> None:
    async def scenario() -> list[str]:
        tasks = [asyncio.create_task(bus.publish(make_event(number))) for number in range(100)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert [number for number, answer in enumerate(answers) if isinstance(answer, asyncio.CancelledError)] == [
            *range(0, 100, 2)
        ]
        return [await bus.publish(make_event(100))]

    [last] = asyncio.run(asyncio.wait_for(scenario(), 20))

    assert [recorded.event.payload["n"] for recorded in history(bus)] == list(range(101))
    assert ids(bus)[-1] == last


def test_a_publish_that_timed_out_on_a_stalled_server_may_be_repeated(make_bus: MakeBus, proxy: FaultProxy) -> None:
    bus = make_bus(redis_url=proxy.url)
    event = make_event(1)
    bus.publish_sync(make_event(0))

    async def scenario() -> None:
        proxy.stall(True)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(bus.publish(event), 0.2)
        proxy.stall(False)
        await bus.publish(event)
        await bus.publish(make_event(2))

    asyncio.run(scenario())

    assert [recorded.event.payload["n"] for recorded in history(bus)] == [0, 1, 2]


# a Redis that lost everything


def test_a_publisher_does_not_publish_into_a_namespace_whose_routes_are_gone(
    bus: EventBus, make_bus: MakeBus, settings: Settings
) -> None:
    handled: list[int] = []
    worker = make_bus()
    worker.subscribe(CallbackSubscriber("Agent", lambda event: handled.append(event.payload["n"])), ["WORK"])
    worker.publish_sync(make_event(1))
    bus.publish_sync(make_event(2))
    bus.backend.client.flushall()

    with pytest.raises(HistoryReset, match=r"within 0.3 s. Nothing was published. Start a worker"):
        bus.publish_sync(make_event(3))
    assert bus.backend.client.exists(Keys(settings.namespace)("history")) == 0

    async def start_a_worker_and_go_on() -> None:
        async with consuming(worker):
            await bus.publish(make_event(4))
            await until(lambda: handled == [4], "the event published after the reset")

    asyncio.run(start_a_worker_and_go_on())
    assert [recorded.deliveries for recorded in history(bus)] == [("Agent",)]


def test_a_publisher_waits_for_the_worker_that_restores_the_namespace(make_bus: MakeBus) -> None:
    handled: list[int] = []
    bus, worker = make_bus(reset_wait_s=30), make_bus()
    worker.subscribe(CallbackSubscriber("Agent", lambda event: handled.append(event.payload["n"])), ["WORK"])
    worker.publish_sync(make_event(1))
    bus.publish_sync(make_event(2))
    bus.backend.client.flushall()

    async def publish_first() -> None:
        published = asyncio.create_task(bus.publish(make_event(3)))
        await asyncio.sleep(0)
        async with consuming(worker):
            await asyncio.wait_for(published, 20)
            await until(lambda: handled == [3], "the event that waited")

    asyncio.run(publish_first())


def test_the_first_publisher_of_a_new_namespace_begins_it(bus: EventBus, settings: Settings) -> None:
    assert bus.backend.client.exists(Keys(settings.namespace)("meta")) == 0

    bus.publish_sync(make_event())

    assert bus.backend.client.hget(Keys(settings.namespace)("meta"), "format") == b"1"


# subscribing


@pytest.mark.parametrize(
    ("agent", "types", "options", "says"),
    [
        (object(), ["WORK"], {}, "object has no handle_event method"),
        (CallbackSubscriber("1st", print), ["WORK"], {}, "A subscriber's name must be a letter or underscore"),
        (CallbackSubscriber("a b", print), ["WORK"], {}, "not 'a b'"),
        (CallbackSubscriber("Queue.DQ", print), ["WORK"], {}, "not ending in .DQ or .XQ"),
        (CallbackSubscriber("x" * 101, print), ["WORK"], {}, "A subscriber's name"),
        (CallbackSubscriber(7, print), ["WORK"], {}, "not 7"),  # type: ignore[arg-type]
        (Nobody(), [], {}, "at least one event type"),
        (Nobody(), "WORK", {}, "types must be a list of event types, not 'WORK'"),
        (Nobody(), None, {}, "types must be a list of event types, not None"),
        (Nobody(), ["NOT GOOD"], {}, "'NOT GOOD' cannot name an event type"),
        (Nobody(), ["WORK"], {"retries": 3}, "'Nobody' has the option 'retries'; known are ordering, on_dead,"),
        (Nobody(), ["WORK"], {"ordering": "colour"}, "ordering must be None, 'project', 'correlation' or 'order_key'"),
        (Nobody(), ["WORK"], {"on_dead": "panic"}, "on_dead must be 'skip' or 'block'"),
        (Nobody(), ["WORK"], {"max_attempts": 0}, "max_attempts must be a whole number of at least 1, not 0"),
        (Nobody(), ["WORK"], {"concurrency": 1.5}, "concurrency must be a whole number"),
        (Nobody(), ["WORK"], {"time_limit": "600"}, "time_limit must be seconds"),
        (Nobody(), ["WORK"], {"min_backoff": float("nan")}, "min_backoff must be seconds"),
    ],
)
def test_a_subscription_that_cannot_be_is_refused_by_name(
    bus: EventBus, agent: Any, types: Any, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(InvalidSubscription) as caught:
        bus.subscribe(agent, types, **options)

    assert says in str(caught.value)
    assert bus.subscriptions == ()


def test_a_subscriber_may_be_any_object_with_a_handler(bus: EventBus) -> None:
    class Plain:
        def handle_event(self, event: Event) -> None: ...

    bus.subscribe(Plain(), (kind for kind in ["WORK", "WORK", "PLAY"]), time_limit=600, max_attempts=2)

    [subscription] = bus.subscriptions
    assert (subscription.name, subscription.types) == ("Plain", ("WORK", "PLAY"))
    assert (subscription.options.time_limit, subscription.options.max_attempts) == (600, 2)


def test_subscribing_again_adds_types_and_another_handler_is_refused(bus: EventBus) -> None:
    agent = Nobody()
    bus.subscribe(agent, ["WORK"])
    bus.subscribe(agent, ["PLAY"])

    with pytest.raises(InvalidSubscription, match="'Nobody' is subscribed already"):
        bus.subscribe(CallbackSubscriber("Nobody", print), ["WORK"])
    with pytest.raises(InvalidSubscription, match="other options"):
        bus.subscribe(agent, ["WORK"], concurrency=1)

    assert [subscription.types for subscription in bus.subscriptions] == [("WORK", "PLAY")]


def test_unsubscribe_removes_routes_and_what_waits_stays(bus: EventBus) -> None:
    agent = Nobody()
    bus.subscribe(agent, ["WORK", "PLAY"])
    bus.publish_many_sync([make_event(1), make_event(2, type="PLAY")])

    bus.unsubscribe(agent, ["WORK"])
    bus.publish_many_sync([make_event(3), make_event(4, type="PLAY")])
    bus.unsubscribe("Nobody")
    bus.publish_many_sync([make_event(5), make_event(6, type="PLAY")])

    assert [recorded.deliveries for recorded in history(bus)] == [("Nobody",)] * 2 + [(), ("Nobody",), (), ()]
    assert len(waiting(bus, "Nobody")) == 3
    assert bus.subscriptions == ()
    assert bus.backend.registry.all() == []


def test_unsubscribing_one_type_before_the_first_publish_keeps_the_others(bus: EventBus) -> None:
    agent = Nobody()
    bus.subscribe(agent, ["WORK", "PLAY"])

    bus.unsubscribe(agent, ["WORK"])
    bus.publish_many_sync([make_event(1), make_event(2, type="PLAY")])

    assert [recorded.deliveries for recorded in history(bus)] == [(), ("Nobody",)]


def test_unsubscribe_refuses_a_string_for_its_types(bus: EventBus) -> None:
    with pytest.raises(InvalidSubscription, match="must be a list of event types"):
        bus.unsubscribe("Nobody", "WORK")


def test_stopping_and_disconnecting_keep_the_routes(make_bus: MakeBus) -> None:
    handled: list[int] = []

    async def consume_and_go() -> None:
        bus = make_bus()
        bus.subscribe(CallbackSubscriber("Agent", lambda event: handled.append(event.payload["n"])), ["WORK"])
        async with consuming(bus):
            await bus.publish(make_event(1))
            await until(lambda: handled == [1], "the first event")
        await bus.disconnect()

    asyncio.run(consume_and_go())
    later = make_bus()
    later.publish_sync(make_event(2))

    assert history(later)[-1].deliveries == ("Agent",)
    assert len(waiting(later, "Agent")) == 1


def test_the_hundred_and_first_subscriber_of_a_type_is_refused(make_bus: MakeBus) -> None:
    bus, other = make_bus(), make_bus()
    for number in range(100):
        bus.subscribe(CallbackSubscriber(f"Agent{number}", print), ["WORK"])
    bus.publish_sync(make_event(1))
    other.subscribe(CallbackSubscriber("OneTooMany", print), ["WORK"])

    with pytest.raises(TooManyRoutes, match=r"'OneTooMany' would be subscriber 101 of 'WORK', over the limit of 100"):
        other.publish_sync(make_event(2))
    bus.publish_sync(make_event(3))

    assert [len(recorded.deliveries) for recorded in history(bus)] == [100, 100]
    assert len(bus.backend.registry.all()) == 100  # or a Redis restored from it would refuse every such event


def test_an_event_with_more_routes_than_its_publisher_allows_is_refused(make_bus: MakeBus) -> None:
    bus = make_bus()
    for number in range(3):
        bus.subscribe(CallbackSubscriber(f"Agent{number}", print), ["WORK"])
    bus.publish_sync(make_event(1))

    answers = make_bus(max_routes=2).publish_many_sync([make_event(2), make_event(3, type="PLAY")])

    assert isinstance(answers[0], TooManyRoutes) and isinstance(answers[1], Receipt)
    assert "'WORK' has 3 subscribers, over the limit of 2 (EVENTBUS_MAX_ROUTES)" in str(answers[0])


# the ends of a bus


def test_a_disconnected_bus_says_so(bus: EventBus) -> None:
    async def disconnect_and_publish() -> None:
        await bus.publish(make_event())
        await bus.disconnect()
        await bus.disconnect()
        with pytest.raises(EventBusError, match="The bus is disconnected; make a new one to publish"):
            await bus.publish(make_event())

    asyncio.run(disconnect_and_publish())


def test_disconnecting_sends_what_was_submitted(bus: EventBus, make_bus: MakeBus) -> None:
    async def submit_and_leave() -> None:
        pending = [asyncio.ensure_future(bus.publish(make_event(number))) for number in range(50)]
        await asyncio.sleep(0)
        await bus.disconnect()
        await asyncio.gather(*pending)

    asyncio.run(submit_and_leave())

    assert len(history(make_bus())) == 50


# forks


def _told(child: Any, answers: Any) -> Any:
    """Return what the child sent, after it ended; one that hangs is killed."""
    if not answers.poll(20):
        child.kill()
        raise AssertionError("The child did not publish.")
    told = answers.recv()
    child.join(20)
    assert child.exitcode == 0
    return told


def _publish_in_child(bus: EventBus, answers: Any, numbers: range) -> None:
    connection = bus.backend.client.client_id()  # on this thread first: the sender's may have a dead thread's identity
    published = [bus.publish_sync(make_event(number, actor="child")) for number in numbers]
    answers.send((published, connection))
    bus.close()


def test_a_forked_child_publishes_over_a_connection_of_its_own(bus: EventBus) -> None:
    bus.subscribe(Nobody(), ["WORK"])
    bus.publish_sync(make_event(0))
    fork = multiprocessing.get_context("fork")
    children = []
    for first in (100, 200):
        ours, theirs = fork.Pipe(duplex=False)
        child = fork.Process(target=_publish_in_child, args=(bus, theirs, range(first, first + 50)), daemon=True)
        child.start()
        children.append((child, ours))

    by_parent = [bus.publish_sync(make_event(number)) for number in range(50)]
    told = [_told(child, answers) for child, answers in children]
    by_parent.append(bus.publish_sync(make_event(999)))

    connections = {bus.backend.client.client_id(), *(client_id for _, client_id in told)}
    assert len(connections) == 3
    assert set(ids(bus)[1:]) == {*by_parent, *(event_id for published, _ in told for event_id in published)}
    assert len(history(bus)) == 152


def test_a_fork_while_other_threads_publish_leaves_a_child_that_can(bus: EventBus) -> None:
    stop = threading.Event()

    def keep_publishing() -> None:
        while not stop.is_set():
            bus.publish_sync(make_event())

    publishers = [threading.Thread(target=keep_publishing) for _ in range(2)]
    for publisher in publishers:
        publisher.start()
    fork = multiprocessing.get_context("fork")
    try:
        for number in range(5):
            ours, theirs = fork.Pipe(duplex=False)
            child = fork.Process(target=_publish_in_child, args=(bus, theirs, range(number, number + 1)), daemon=True)
            child.start()
            _told(child, ours)
    finally:
        stop.set()
        for publisher in publishers:
            publisher.join()

    assert len([recorded for recorded in history(bus) if recorded.event.actor == "child"]) == 5


def test_a_fork_in_the_middle_of_the_first_connection_leaves_a_child_that_can_publish(
    bus: EventBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    connecting, forked = threading.Event(), threading.Event()

    def connect_slowly(*arguments: Any) -> Any:
        connecting.set()
        forked.wait(0.5)  # a fork that does not wait for this connection happens now
        return connect(*arguments)

    monkeypatch.setattr(events.backend, "connect", connect_slowly)
    publisher = threading.Thread(target=bus.publish_sync, args=(make_event(actor="parent"),))
    publisher.start()
    assert connecting.wait(10)
    fork = multiprocessing.get_context("fork")
    ours, theirs = fork.Pipe(duplex=False)
    child = fork.Process(target=_publish_in_child, args=(bus, theirs, range(1)), daemon=True)
    child.start()
    forked.set()
    publisher.join()

    _told(child, ours)
    assert sorted(recorded.event.actor for recorded in history(bus)) == ["child", "parent"]


async def _publish_all(bus: EventBus, events: list[Event]) -> list[str]:
    return [await bus.publish(event) for event in events]
