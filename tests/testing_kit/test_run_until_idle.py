"""`TestBus`: what is published is handled until nothing moves, time is skipped, and failures are the test's."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
import traceback
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

import events.default
from events.bus import EventBus
from events.errors import (
    Discard,
    EventBusError,
    EventNotFound,
    HandlersFailed,
    InvalidSettings,
    InvalidSubscription,
    NotIdle,
)
from events.event import Event
from events.joining import Joined
from events.namespace import Namespace
from events.resting import Rest, hasten, look
from events.settings import Settings
from events.steering import steer
from events.subscriber import EventSubscriber
from events.testing import TestBus
from store import inbox, outbox
from tests.waiting import wait_until

ROOT = Path(__file__).parent.parent.parent
DAY_S = 86_400.0


def project(title: str = "The Fox") -> Event:
    return Event(project_id="P", type="PROJECT_CREATED", actor="User", payload={"title": title})


class ScriptWriter(EventSubscriber):
    async def handle_event(self, event: Event) -> list[Event]:
        return [event.caused("SCENE_WRITTEN", payload={"scene": n}, cost=0.05) for n in (1, 2)]


class Painter(EventSubscriber):
    def handle_event(self, event: Event) -> Event:
        return event.caused("IMAGE_GENERATED", payload=event.payload, cost=0.04)


# running


def test_a_plain_test_sees_what_its_agents_caused_and_what_it_cost(event_bus_kit: TestBus) -> None:
    event_bus_kit.subscribe(ScriptWriter(), ["PROJECT_CREATED"])
    event_bus_kit.subscribe(Painter(), ["SCENE_WRITTEN"])
    root, other = project(), project("The Hen")

    event_bus_kit.publish_many_sync([root, other])
    event_bus_kit.run_until_idle_sync()

    caused = event_bus_kit.caused_by(root)
    assert [(one.type, one.payload["scene"]) for one in caused[:2]] == [("SCENE_WRITTEN", 1), ("SCENE_WRITTEN", 2)]
    assert sorted(one.type for one in caused[2:]) == ["IMAGE_GENERATED"] * 2
    assert event_bus_kit.caused_by(caused[-1].event_id) == []
    assert len(event_bus_kit.events("IMAGE_GENERATED")) == 4
    assert event_bus_kit.costs(root) == {"USD": 0.18}
    assert event_bus_kit.costs() == {"USD": 0.36}
    assert event_bus_kit.tree(root).count == 5
    assert [(one.subscriber, one.state, one.attempts, one.errors) for one in event_bus_kit.deliveries()] == [
        ("ScriptWriter", "done", 1, ()), ("ScriptWriter", "done", 1, ()), *[("Painter", "done", 1, ())] * 4,
    ]  # fmt: skip
    assert event_bus_kit.deliveries("ScriptWriter")[0].event == event_bus_kit.events()[0]
    with pytest.raises(EventNotFound):
        event_bus_kit.caused_by("EV-nobody")


def test_an_async_test_runs_its_handlers_on_its_own_loop() -> None:
    loops = set()

    async def run() -> list[str]:
        async with TestBus() as bus:

            @bus.subscriber("Writer", ["PROJECT_CREATED"])
            async def write(event: Event) -> Event:
                loops.add(asyncio.get_running_loop())
                return event.caused("SCENE_WRITTEN")

            for _ in range(3):  # as often as one likes, on one bus
                await bus.publish(project())
                await bus.run_until_idle()
            loops.add(asyncio.get_running_loop())
            return [one.type.value for one in bus.events("SCENE_WRITTEN")]

    assert asyncio.run(run()) == ["SCENE_WRITTEN"] * 3
    assert len(loops) == 1


def test_one_bus_may_be_run_from_one_loop_after_another(event_bus_kit: TestBus) -> None:
    event_bus_kit.subscribe(ScriptWriter(), ["PROJECT_CREATED"])

    async def run() -> None:
        await event_bus_kit.publish(project())
        await event_bus_kit.run_until_idle()

    asyncio.run(run())
    asyncio.run(run())
    event_bus_kit.publish_sync(project())
    event_bus_kit.run_until_idle_sync()

    assert [one.state for one in event_bus_kit.deliveries()] == ["done"] * 3


def test_nothing_is_handled_before_the_first_run(event_bus_kit: TestBus) -> None:
    event_bus_kit.subscribe(ScriptWriter(), ["PROJECT_CREATED"])
    event_bus_kit.publish_sync(project())

    assert look(event_bus_kit.backend.namespace).moving == 1
    event_bus_kit.run_until_idle_sync()
    assert look(event_bus_kit.backend.namespace) == Rest(0, None, False)


def test_what_the_outbox_holds_is_published_and_handled_too(event_bus_kit: TestBus) -> None:
    engine = create_engine(event_bus_kit.database_url)

    @event_bus_kit.subscriber("Billing", ["SHOT_APPROVED"])
    def bill(event: Event) -> None:
        with Session(engine) as session, session.begin():
            if inbox.once(session):
                outbox.add(session, event.caused("SHOT_BILLED"))

    event_bus_kit.subscribe(Painter(), ["SHOT_BILLED"])
    with Session(engine) as session, session.begin():
        outbox.add(session, Event(project_id="P", type="SHOT_APPROVED", actor="User"))
    event_bus_kit.run_until_idle_sync()
    engine.dispose()

    assert [one.type for one in event_bus_kit.events()] == ["SHOT_APPROVED", "SHOT_BILLED", "IMAGE_GENERATED"]


def test_a_new_subscriber_is_filled_with_history_before_the_bus_is_idle(event_bus_kit: TestBus) -> None:
    event_bus_kit.publish_many_sync([project() for _ in range(5)])
    event_bus_kit.subscribe(ScriptWriter(), ["PROJECT_CREATED"], start="beginning")

    event_bus_kit.run_until_idle_sync()

    assert [one.state for one in event_bus_kit.deliveries("ScriptWriter")] == ["done"] * 5


def test_what_is_being_filled_or_runs_is_not_at_rest(event_bus_kit: TestBus) -> None:
    event_bus_kit.publish_sync(project())
    event_bus_kit.subscribe(ScriptWriter(), ["PROJECT_CREATED"], start="beginning")
    event_bus_kit.publish_sync(Event(project_id="P", type="OTHER", actor="User"))  # declares it; nobody fills
    assert look(event_bus_kit.backend.namespace).moving == 1
    slept = []

    async def sleep(event: Event) -> None:
        await asyncio.sleep(1)  # long enough for all else to have ended
        slept.append(event)

    event_bus_kit.subscriber("Sleeper", ["OTHER"], start="beginning")(sleep)
    event_bus_kit.run_until_idle_sync()
    assert len(slept) == 1


def test_what_waits_for_a_decision_stays_and_is_shown_as_waiting(event_bus_kit: TestBus) -> None:
    event_bus_kit.subscribe(Painter(), ["SCENE_WRITTEN"])

    @event_bus_kit.subscriber("Careful", ["SHOT"], ordering="project", on_dead="block", max_attempts=1)
    def fail(event: Event) -> None:
        raise ValueError("no")

    event_bus_kit.publish_sync(Event(project_id="P", type="OTHER", actor="User"))  # declares the subscribers
    steer(event_bus_kit.backend.namespace, "Painter", paused=True)
    for kind in ("SCENE_WRITTEN", "SHOT", "SHOT"):
        event_bus_kit.publish_sync(Event(project_id="P", type=kind, actor="User"))
    event_bus_kit.run_until_idle_sync(allow_dead="Careful")

    states = [(one.subscriber, one.state) for one in event_bus_kit.deliveries()]
    assert states == [("Painter", "waiting"), ("Careful", "dead"), ("Careful", "waiting")]
    assert [one.subscriber for one in event_bus_kit.deliveries(state="waiting")] == ["Painter", "Careful"]


# time


def test_retries_are_skipped_to_and_their_errors_are_kept(event_bus_kit: TestBus) -> None:
    tries = []

    @event_bus_kit.subscriber("Writer", ["PROJECT_CREATED"], min_backoff=3600, max_backoff=DAY_S, jitter=0)
    async def write(event: Event) -> None:
        tries.append(time.monotonic())
        if len(tries) < 4:
            raise ValueError(f"not yet, {len(tries)}")

    event_bus_kit.publish_sync(project())
    event_bus_kit.run_until_idle_sync()

    (delivery,) = event_bus_kit.deliveries()
    assert (delivery.state, delivery.attempts) == ("done", 4)
    assert delivery.errors == tuple(f"ValueError: not yet, {n}" for n in (1, 2, 3))
    assert event_bus_kit.skipped_s == pytest.approx(3600 * (1 + 4 + 16), abs=60)


def test_what_is_scheduled_comes_in_the_order_of_its_moments_and_before_a_later_retry(event_bus_kit: TestBus) -> None:
    seen = []

    @event_bus_kit.subscriber("Watcher", ["*"], min_backoff=2 * DAY_S, max_backoff=2 * DAY_S, jitter=0)
    def watch(event: Event) -> None:
        seen.append(event.payload["title"])
        if seen == ["now"]:
            raise ValueError("again in two days")

    event_bus_kit.publish_sync(project("now"))
    event_bus_kit.publish_sync(project("in a year"), at=datetime.now(UTC) + timedelta(days=365))
    event_bus_kit.publish_sync(project("in a day"), delay=timedelta(days=1))
    event_bus_kit.run_until_idle_sync()

    assert seen == ["now", "in a day", "now", "in a year"]


def test_time_is_skipped_only_so_far_as_a_test_wants(event_bus_kit: TestBus) -> None:
    seen = []

    @event_bus_kit.subscriber("Heartbeat", ["BEAT"])
    async def beat(event: Event) -> None:
        seen.append(event)
        await event_bus_kit.publish(event.caused("BEAT"), delay=60)

    event_bus_kit.publish_sync(Event(project_id="P", type="BEAT", actor="User"))
    event_bus_kit.run_until_idle_sync(skip_s=0)
    assert len(seen) == 1
    event_bus_kit.run_until_idle_sync(skip_s=150)
    assert len(seen) == 3
    event_bus_kit.run_until_idle_sync(skip_s=61)
    assert len(seen) == 4


def test_a_join_goes_when_all_is_there_and_at_its_time_out_when_something_is_not(event_bus_kit: TestBus) -> None:
    joins: list[tuple[str, int]] = []
    event_bus_kit.subscribe(ScriptWriter(), ["PROJECT_CREATED"])
    event_bus_kit.subscribe(Painter(), ["SCENE_WRITTEN"])

    @event_bus_kit.join("Editor", after=["PROJECT_CREATED"], of=["IMAGE_GENERATED"], timeout=3600)
    async def cut(event: Event, joined: Joined) -> None:
        joins.append((joined.why, len(joined.events)))

    event_bus_kit.publish_sync(project())
    event_bus_kit.run_until_idle_sync()
    assert joins == [("complete", 2)]
    assert event_bus_kit.skipped_s == 0

    steer(event_bus_kit.backend.namespace, "Painter", paused=True)
    event_bus_kit.publish_sync(project())
    event_bus_kit.run_until_idle_sync()
    assert joins[1:] == [("timeout", 0)]
    assert 3500 < event_bus_kit.skipped_s < 3700


def test_a_rate_is_not_waited_for(event_bus_kit: TestBus) -> None:
    event_bus_kit.subscribe(Painter(), ["SCENE_WRITTEN"], rate_limit=0.01)
    event_bus_kit.publish_many_sync([Event(project_id="P", type="SCENE_WRITTEN", actor="User") for _ in range(6)])

    event_bus_kit.run_until_idle_sync()

    assert [one.state for one in event_bus_kit.deliveries()] == ["done"] * 6
    assert event_bus_kit.skipped_s > 400


def test_due_times_keep_their_order_and_distances(event_bus_kit: TestBus) -> None:
    namespace = event_bus_kit.backend.namespace
    for delay in (100, 10, 40):
        event_bus_kit.publish_sync(project(), delay=delay)

    def dues() -> list[float]:
        found: list[tuple[bytes, float]] = namespace.client.zrange(namespace.keys("scheduled"), 0, -1, withscores=True)  # type: ignore[assignment]
        return [due for _, due in found]

    before = dues()
    assert hasten(namespace, 7.5) == 3
    assert [one - other for one, other in zip(before, dues(), strict=True)] == [7_500_000.0] * 3
    due_s = look(namespace).due_s
    assert due_s is not None
    assert due_s <= 2.5


# failures


def test_a_dead_letter_is_raised_from_the_handlers_own_exception(event_bus_kit: TestBus) -> None:
    @event_bus_kit.subscriber("Writer", ["PROJECT_CREATED"])
    async def write(event: Event) -> None:
        raise KeyError(event.payload["title"])

    root = project()
    event_bus_kit.publish_sync(root)
    with pytest.raises(HandlersFailed) as caught:
        event_bus_kit.run_until_idle_sync()

    failure = f"Writer gave up PROJECT_CREATED {root.event_id} after 5 attempts: KeyError: 'The Fox'"
    assert caught.value.failures == (failure,)
    assert str(caught.value).startswith(f"One delivery became a dead letter:\n  {failure}\nA test that wants this says")
    cause = caught.value.__cause__
    assert isinstance(cause, KeyError)
    assert traceback.extract_tb(cause.__traceback__)[0].name == "write"
    event_bus_kit.run_until_idle_sync()  # it is told once
    assert [letter.reason for letter in event_bus_kit.dead_letters()] == ["KeyError: 'The Fox'"]


def test_a_test_says_which_failures_it_expects(event_bus_kit: TestBus) -> None:
    @event_bus_kit.subscriber("Writer", ["PROJECT_CREATED"], max_attempts=1)
    def write(event: Event) -> None:
        raise {"value": ValueError, "key": KeyError, "not wanted": Discard}[str(event.payload["title"])]()

    def run(*titles: str, **expected: object) -> None:
        event_bus_kit.publish_many_sync([project(title) for title in titles])
        event_bus_kit.run_until_idle_sync(**expected)  # type: ignore[arg-type]

    event_bus_kit.subscribe(Painter(), ["SHOT_PLANNED"])

    run("value", raises=ValueError)
    run("value", "key", raises=(ValueError, KeyError))
    run("value", "key", allow_dead=True)
    run("value", allow_dead="Writer")
    run("key", allow_dead=["Painter", "Writer"])
    run("not wanted")
    with pytest.raises(HandlersFailed, match="2 deliveries became dead letters"):
        run("value", "key", allow_dead="Painter")
    with pytest.raises(HandlersFailed, match="KeyError") as caught:
        run("value", "key", raises=ValueError)
    assert len(caught.value.failures) == 1
    with pytest.raises(HandlersFailed, match="No delivery became a dead letter because of ValueError or KeyError"):
        run(raises=(ValueError, KeyError))
    assert [one.state for one in event_bus_kit.deliveries()].count("discarded") == 1


def test_a_name_that_nobody_has_is_refused_where_it_would_make_a_test_that_cannot_fail(event_bus_kit: TestBus) -> None:
    event_bus_kit.subscribe(Painter(), ["SHOT_PLANNED"])

    with pytest.raises(InvalidSubscription, match="No subscriber is named 'Panter': those of this bus are Painter"):
        event_bus_kit.run_until_idle_sync(allow_dead=["Painter", "Panter"])
    with pytest.raises(InvalidSubscription, match="No subscriber is named 'Panter'"):
        event_bus_kit.deliveries("Panter")
    assert event_bus_kit.deliveries("Painter") == []


def test_what_nobody_hears_is_listed(event_bus_kit: TestBus) -> None:
    event_bus_kit.subscribe(Painter(), ["SHOT_PLANNED"])
    kinds = ("SHOT_PLANNED", "SHOT_PLANED")
    event_bus_kit.publish_many_sync([Event(project_id="P", type=kind, actor="User") for kind in kinds])
    event_bus_kit.run_until_idle_sync()

    assert [event.type.value for event in event_bus_kit.unheard()] == ["SHOT_PLANED", "IMAGE_GENERATED"]


def test_a_bus_that_is_closed_says_so_whatever_it_is_asked() -> None:
    with TestBus() as bus:
        bus.publish_sync(project())
        bus.run_until_idle_sync()

    for asked in (bus.run_until_idle_sync, bus.events, bus.dead_letters, lambda: bus.publish_sync(project())):
        with pytest.raises(EventBusError, match="This test's bus is closed"):
            asked()  # type: ignore[operator]
    namespace = bus.backend.namespace
    wait_until(lambda: not namespace.client.keys(f"{namespace.keys.prefix}*"), 30, "the end of what it held")


def test_what_is_no_bus_or_no_setting_is_named() -> None:
    with pytest.raises(
        InvalidSettings, match="TestBus takes the application's EventBus, or 'module:attribute' of it, not 42"
    ):
        TestBus(42)
    with pytest.raises(InvalidSettings, match="TestBus knows no setting 'max_bytes'"):
        TestBus(max_bytes=3)


def test_what_does_not_come_to_rest_is_named(event_bus_kit: TestBus) -> None:
    @event_bus_kit.subscriber("Echo", ["PING"])
    async def echo(event: Event) -> Event:
        return event.caused("PING")

    @event_bus_kit.subscriber("Slow", ["SCENE_WRITTEN"])
    async def wait(event: Event) -> None:
        await asyncio.sleep(600)

    slow = Event(project_id="P", type="SCENE_WRITTEN", actor="User")
    event_bus_kit.publish_many_sync([slow, Event(project_id="P", type="PING", actor="User")])
    with pytest.raises(NotIdle) as caught:
        event_bus_kit.run_until_idle_sync(deadline_s=3)

    said = str(caught.value)
    assert said.startswith("The bus is not idle after 3 s. Slow has run for ")
    assert f" s with SCENE_WRITTEN {slow.event_id}. " in said
    assert "Slow has deliveries: 1 running." in said
    assert "events were published meanwhile: " in said
    assert " PING." in said


def test_a_handler_cannot_wait_until_its_own_bus_is_idle(event_bus_kit: TestBus) -> None:
    @event_bus_kit.subscriber("Writer", ["PROJECT_CREATED"], max_attempts=1)
    def write(event: Event) -> None:
        event_bus_kit.run_until_idle_sync()

    event_bus_kit.publish_sync(project())
    with pytest.raises(HandlersFailed, match="called from inside a handler") as caught:
        event_bus_kit.run_until_idle_sync()
    assert isinstance(caught.value.__cause__, EventBusError)


def test_a_run_that_is_cancelled_ends_and_another_one_goes_on(event_bus_kit: TestBus) -> None:
    gate = asyncio.Event()

    @event_bus_kit.subscriber("Writer", ["PROJECT_CREATED"])
    async def write(event: Event) -> None:
        await gate.wait()

    async def run() -> None:
        await event_bus_kit.publish(project())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(event_bus_kit.run_until_idle(), 1)
        gate.set()
        await event_bus_kit.run_until_idle()

    asyncio.run(run())
    assert [one.state for one in event_bus_kit.deliveries()] == ["done"]


# the application, and what is around a test


def test_an_applications_subscribers_run_on_the_tests_servers_and_it_has_its_own_again_afterwards(
    tmp_path: Path,
) -> None:
    elsewhere = Settings(redis_url="redis://127.0.0.1:1", home=str(tmp_path))
    app = EventBus(elsewhere)

    @app.subscriber("Writer", ["PROJECT_CREATED"])
    async def write(event: Event) -> None:
        await app.publish(event.caused("SCENE_WRITTEN"))

    with TestBus(app) as bus:
        app.publish_sync(project())
        bus.run_until_idle_sync()
        assert [one.type for one in bus.events()] == ["PROJECT_CREATED", "SCENE_WRITTEN"]
    with TestBus(app) as bus:
        bus.publish_sync(project())
        bus.run_until_idle_sync()
        assert [one.type for one in bus.events()] == ["PROJECT_CREATED", "SCENE_WRITTEN"]

    assert app.settings == elsewhere
    assert app.backend.redis_url() == "redis://127.0.0.1:1"


def test_an_application_traces_as_before_when_the_test_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "get_tracer_provider", TracerProvider)
    app = EventBus(Settings(redis_url="redis://127.0.0.1:1", home=str(tmp_path), tracing="opentelemetry"))
    traced = app._tracing
    assert traced is not None

    with TestBus(app):
        assert app._tracing is not traced

    assert app._tracing is traced


def test_an_application_that_consumes_by_itself_is_stopped_at_the_end() -> None:
    app, handled = EventBus(Settings(redis_url="redis://127.0.0.1:1")), []

    @app.subscriber("Writer", ["PROJECT_CREATED"])
    async def write(event: Event) -> None:
        handled.append(event)

    async def run() -> None:
        async with TestBus(app) as bus:
            await app.start_consuming()
            await app.publish(project())
            await bus.run_until_idle()

    asyncio.run(run())
    assert len(handled) == 1
    assert not [one.name for one in threading.enumerate() if one.name == "eventbus-archiver"]


def test_more_may_be_subscribed_between_runs(event_bus_kit: TestBus) -> None:
    event_bus_kit.subscribe(ScriptWriter(), ["PROJECT_CREATED"])
    event_bus_kit.publish_sync(project())
    event_bus_kit.run_until_idle_sync()
    event_bus_kit.subscribe(Painter(), ["SCENE_WRITTEN"])
    event_bus_kit.publish_sync(project())
    event_bus_kit.run_until_idle_sync()

    assert len(event_bus_kit.events("SCENE_WRITTEN")) == 4
    assert len(event_bus_kit.events("IMAGE_GENERATED")) == 2


def test_a_bus_made_from_the_environment_is_on_the_servers_of_the_fixture(event_bus_kit: TestBus) -> None:
    other, event = EventBus(), project()
    other.publish_sync(event)
    other.close()

    assert [one.event_id for one in event_bus_kit.events()] == [event.event_id]


def test_the_module_level_publish_goes_to_the_bus_that_is_open() -> None:
    event = project()
    with TestBus() as bus:
        events.default.publish(event)
        assert [one.event_id for one in bus.events()] == [event.event_id]


def test_buses_see_nothing_of_each_other_and_leave_nothing() -> None:
    default = events.default.lend(None)
    events.default.lend(default)
    with TestBus() as one, TestBus() as other:
        one.publish_sync(project())
        assert other.events() == []
        assert events.default.default_bus() is other
    assert one.database is not None
    database, keys, settings = one.database, one.backend.namespace.keys, one.settings

    backend = TestBus()
    wait_until(lambda: not backend.backend.client.keys(f"{keys.prefix}*"), 30, "the keys to go")
    backend.close()
    wait_until(lambda: not database.exists(), 30, "the database to go")
    assert settings.namespace.startswith("test-")
    assert events.default.lend(default) is default


def test_importing_it_needs_no_pytest_and_starts_nothing(tmp_path: Path) -> None:
    code = """
import sys, threading, os
sys.modules["pytest"] = None
import events.testing
assert threading.enumerate() == [threading.main_thread()]
assert os.listdir(".") == []
print("imported")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, text=True,
        capture_output=True, timeout=60,
    )  # fmt: skip
    assert done.stdout == "imported\n", done.stderr


def test_scripts_of_the_kit_answer_for_a_namespace_that_nobody_has_used(event_bus_kit: TestBus) -> None:
    namespace: Namespace = event_bus_kit.backend.namespace

    assert look(namespace) == Rest(0, None, False)
    assert hasten(namespace, 10) == 0
