"""Publishing later, as users write it: delays, moments, cancelling, and schedules in one process."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

import events
from events.bus import EventBus
from events.due import Scheduled, microseconds, read_due
from events.errors import EventBusError, EventIdConflict, EventTooLarge, InvalidSchedule
from events.event import Event
from events.keys import Keys
from events.scheduled import ScheduledEvents
from events.settings import Settings
from events.slots import Slots
from store.engine import open_engine
from store.migrate import upgrade
from tests.servers import migrate
from tests.valkey_servers import ValkeyServer
from tests.waiting import wait_until
from workers.assembly import make_scheduler
from workers.schedules import make_schedule
from workers.timetable import Timetable


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


def event(event_id: str = "e1", **fields: Any) -> Event:
    return Event(**{"event_id": event_id, "project_id": "P", "type": "WORK", "actor": "tester", **fields})


def due_of(bus: EventBus, event_id: str) -> datetime | None:
    scheduled = ScheduledEvents(bus.backend.namespace, 100)
    return next((waiting.due for waiting in scheduled if waiting.event_id == event_id), None)


def history(bus: EventBus) -> list[str]:
    return [recorded.event.event_id for recorded in bus.backend.history.after(0, 1000).events]


@contextmanager
def scheduler(bus: EventBus) -> Iterator[None]:
    scheduler = make_scheduler(bus.settings, bus.backend.namespace)
    scheduler.start()
    try:
        yield
    finally:
        scheduler.stop()


def is_near(moment: datetime | None, expected: datetime) -> bool:
    return moment is not None and abs(moment - expected) < timedelta(minutes=1)


# delay and at


def test_every_way_to_publish_takes_a_delay_or_a_moment(bus: EventBus, monkeypatch: pytest.MonkeyPatch) -> None:
    now = datetime.now(UTC)
    monkeypatch.setattr("events.default.default_bus", lambda: bus)

    async def publish() -> list[Any]:
        return [
            await bus.publish(event("a"), delay=3600),
            await bus.publish(event("b"), at=now + timedelta(hours=2)),
            *await bus.publish_many([event("c"), event("d")], delay=timedelta(hours=3)),
        ]

    first, second, *many = asyncio.run(publish())
    assert [first, second, bus.publish_sync(event("e"), delay=0.5 * 3600)] == ["a", "b", "e"]
    assert all(isinstance(answer, Scheduled) for answer in bus.publish_many_sync([event("f")], delay=60))
    assert events.publish(event("g"), at=now + timedelta(days=1)) == "g"

    assert [(answer.event_id, answer.is_new) for answer in many] == [("c", True), ("d", True)]
    assert history(bus) == []
    hours = {"a": 1, "b": 2, "c": 3, "d": 3, "e": 0.5, "f": 1 / 60, "g": 24}
    assert all(is_near(due_of(bus, name), now + timedelta(hours=delay)) for name, delay in hours.items())


def test_a_naive_moment_is_utc_and_an_aware_one_is_itself(bus: EventBus) -> None:
    later = (datetime.now(UTC) + timedelta(hours=5)).replace(microsecond=123456)

    bus.publish_sync(event("naive"), at=later.replace(tzinfo=None))
    bus.publish_sync(event("aware"), at=later.astimezone(timezone(timedelta(hours=9))))

    assert due_of(bus, "naive") == due_of(bus, "aware") == later


def test_a_past_moment_and_no_delay_publish_at_once(bus: EventBus) -> None:
    bus.publish_sync(event("past"), at=datetime(1969, 7, 20, tzinfo=UTC))
    bus.publish_sync(event("now"), delay=0)

    assert history(bus) == ["past", "now"]


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"delay": 1, "at": datetime(2030, 1, 1)}, "either delay or at, not both"),
        ({"delay": -1}, "delay must be from 0 seconds to ten years .* not -1"),
        ({"delay": timedelta(seconds=-1)}, "delay must be from 0 seconds"),
        ({"delay": float("nan")}, "delay must be seconds or a timedelta, not nan"),
        ({"delay": float("inf")}, "to ten years"),
        ({"delay": timedelta(days=3654)}, "to ten years"),
        ({"delay": "1h"}, "must be seconds or a timedelta, not '1h'"),
        ({"delay": True}, "must be seconds or a timedelta, not True"),
        ({"at": "2030-01-01"}, "at must be a datetime, not '2030-01-01'"),
        ({"at": datetime(2099, 1, 1)}, "at most ten years .* from now, not 2099-01-01"),
        ({"at": datetime.max.replace(tzinfo=timezone(timedelta(hours=-3)))}, "a moment that UTC can tell"),
    ],
)
def test_a_delay_or_moment_that_cannot_be_is_refused_at_once(
    bus: EventBus, asked: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InvalidSchedule, match=sentence):
        bus.publish_sync(event(), **asked)
    with pytest.raises(InvalidSchedule, match=sentence):
        asyncio.run(bus.publish(event(), **asked))


def test_a_delay_of_ten_years_and_of_a_microsecond_are_delays() -> None:
    assert read_due(timedelta(days=3653), None) is not None
    assert read_due(1e-9, None) == read_due(timedelta(microseconds=1), None)
    assert read_due(None, None) is None


def test_what_cannot_be_published_cannot_be_scheduled(bus: EventBus) -> None:
    bus.publish_sync(event())

    with pytest.raises(EventIdConflict):
        bus.publish_sync(event(payload={"n": 2}), delay=60)
    with pytest.raises(EventTooLarge):
        bus.publish_sync(event("big", payload={"text": "x" * 2_000_000}), delay=60)
    assert bus.publish_sync(event(), delay=60) == "e1", "it is in history: nothing is left to do"
    assert due_of(bus, "e1") is None


def test_two_thousand_tasks_that_schedule_share_script_calls(bus: EventBus) -> None:
    async def scenario() -> list[str]:
        return await asyncio.gather(*(bus.publish(event(f"e{n}"), delay=60 + n) for n in range(2000)))

    bus.publish_sync(event("first"))
    before = bus.backend.client.info("commandstats")["cmdstat_evalsha"]["calls"]
    ids = asyncio.run(scenario())

    calls = bus.backend.client.info("commandstats")["cmdstat_evalsha"]["calls"] - before
    assert ids == [f"e{n}" for n in range(2000)]
    assert [waiting.event_id for waiting in ScheduledEvents(bus.backend.namespace, 100)] == ids
    assert calls < 200


def test_cancelling_tells_whether_there_was_something_to_cancel(bus: EventBus) -> None:
    bus.publish_sync(event(), delay=60)
    bus.publish_sync(event("published"))

    assert [bus.cancel(name) for name in ("e1", "e1", "published", "unknown")] == [True, False, False, False]
    assert bus.publish_sync(event(payload={"n": 2}), delay=60) == "e1", "its id is free again"


def test_what_a_handler_schedules_has_its_cause_and_context(bus: EventBus) -> None:
    got: list[Event] = []

    @bus.subscriber("Poller", ["WORK"])
    async def poll(event: Event) -> None:
        await bus.publish(Event(event_id="again", type="DONE"), delay=0.2)

    @bus.subscriber("Reader", ["DONE"])
    async def read(event: Event) -> None:
        got.append(event)

    async def scenario() -> None:
        await bus.start_consuming()
        await bus.publish(event())
        await asyncio.to_thread(wait_until, lambda: got, 20, "the scheduled event")
        await bus.stop_consuming()

    asyncio.run(scenario())
    (done,) = got
    assert (done.project_id, done.actor, done.causation_id, done.correlation_id) == ("P", "Poller", "e1", "e1")
    (recorded,) = [recorded for recorded in _recorded(bus) if recorded.event.event_id == "again"]
    assert recorded.depth == 1 and recorded.origin.endswith(":Poller:0")


def _recorded(bus: EventBus) -> list[Any]:
    async def collect() -> list[Any]:
        return [recorded async for recorded in bus.iter_events()]

    return asyncio.run(collect())


# the scheduler


def test_a_scheduler_publishes_what_is_due_and_survives_an_outage(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    with ValkeyServer(aof=True) as server:
        bus = EventBus(Settings(redis_url=server.url, database_url=f"sqlite:///{tmp_path}/none.db", timeout_s=2))
        upgrade(open_engine(f"sqlite:///{tmp_path}/none.db"))
        bus.publish_sync(event("soon"), delay=0.1)
        with caplog.at_level(logging.INFO, "eventbus.scheduler"), scheduler(bus):
            wait_until(lambda: history(bus) == ["soon"], 20, "the first event")
            bus.publish_sync(event("later"), delay=1)
            server.kill()
            wait_until(lambda: "waits" in caplog.text, 20, "the outage to be noticed")
            server.restart()
            wait_until(lambda: history(bus) == ["soon", "later"], 20, "the second event")
        bus.close()

    assert caplog.text.count("Releasing scheduled events waits") == 1
    assert caplog.text.count("released again") == 1


def test_what_cannot_be_published_is_named_once_in_the_log(bus: EventBus, caplog: pytest.LogCaptureFixture) -> None:
    keys, client = Keys(bus.settings.namespace), bus.backend.client
    bus.publish_sync(event("put off"), delay=3600)
    client.sadd(keys("routes", "WORK"), *(f"S{n}" for n in range(101)))
    client.zadd(keys("scheduled"), {"put off": 1, "by hand": 1})

    with scheduler(bus):
        wait_until(lambda: "is put off" in caplog.text and "is dropped" in caplog.text, 20, "both lines")

    assert "The scheduled event 'put off' is put off for 60 s: The type 'WORK' has 101 subscribers" in caplog.text
    assert "The scheduled event 'by hand' is dropped" in caplog.text


def test_a_full_server_keeps_what_is_due_until_it_has_room(bus: EventBus, caplog: pytest.LogCaptureFixture) -> None:
    keys, client = Keys(bus.settings.namespace), bus.backend.client
    bus.publish_sync(event(), delay=3600)
    client.zadd(keys("scheduled"), {"e1": 1})
    client.config_set("maxmemory", 1)

    with scheduler(bus):
        wait_until(lambda: "maxmemory" in caplog.text, 20, "the refusal")
        assert history(bus) == []
        client.config_set("maxmemory", 0)
        wait_until(lambda: history(bus) == ["e1"], 20, "the event")


# schedules


class Clockwork:
    """Timetables of several processes for the same schedules, in this one; tended by hand."""

    def __init__(self, bus: EventBus, count: int = 3) -> None:
        self.bus = bus
        self.slots = Slots(bus.backend.namespace, 100)
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.count = count
        self.tables: list[Timetable] = []

    def missed(self, minutes: int, name: str = "nightly") -> datetime:
        """Nobody ran the schedule for so long."""
        cursor = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=minutes)
        self.slots.plan(name, "* * * * *", "UTC", "all", begins=True)
        self.bus.backend.client.hset(self.bus.backend.namespace.keys("slots", name), "cursor", microseconds(cursor))
        return cursor

    def run(self, factory: Any, missed: str = "all", name: str = "nightly", cron: str = "* * * * *") -> None:
        schedule = make_schedule(cron, factory, name, "UTC", missed)
        for _ in range(self.count):
            self.tables.append(Timetable(self.slots, [schedule], self.loop, 1_048_576))

    def tend(self, until: Callable[[], object], what: str) -> None:
        def tended() -> object:
            for table in self.tables:
                table.tend()
            return until()

        wait_until(tended, 30, what)

    def close(self) -> None:
        for table in self.tables:
            table.stop(0.0)
        if self.loop.is_closed():
            return
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5)
        self.loop.close()


@pytest.fixture
def clockwork(bus: EventBus) -> Iterator[Clockwork]:
    clockwork = Clockwork(bus)
    yield clockwork
    clockwork.close()


def made(slot: datetime, **fields: Any) -> Event:
    return Event(project_id="P", type="TICK", actor="clock", payload={"slot": slot.isoformat()}, **fields)


def ticks(bus: EventBus) -> list[str]:
    return [r.event.payload["slot"] for r in bus.backend.history.after(0, 1000).events if r.event.type == "TICK"]


def test_three_processes_fire_every_missed_slot_once_and_in_order(bus: EventBus, clockwork: Clockwork) -> None:
    cursor = clockwork.missed(30)
    clockwork.run(lambda slot: [made(slot), made(slot)])

    expected = [(cursor + timedelta(minutes=n)).isoformat() for n in range(1, 31) for _ in range(2)]
    clockwork.tend(lambda: len(ticks(bus)) >= 60, "thirty slots")

    assert ticks(bus)[:60] == expected
    ids = history(bus)
    assert len(set(ids)) == len(ids)


def test_processes_of_an_older_release_stand_by(
    bus: EventBus, clockwork: Clockwork, caplog: pytest.LogCaptureFixture
) -> None:
    clockwork.run(made, cron="* * * * * *")
    clockwork.tend(lambda: ticks(bus), "the old release to fire")

    clockwork.run(made, cron="0 0 1 1 *")
    clockwork.tend(
        lambda: caplog.text.count("stands by in this process") == 3, "three processes to hear of the new one"
    )
    fired = ticks(bus)
    for table in clockwork.tables:
        assert table.tend() > 0.3

    assert ticks(bus) == fired
    assert clockwork.slots.all()[0].cron == "0 0 1 1 *"


def test_async_factories_run_on_the_loop_and_none_publishes_nothing(bus: EventBus, clockwork: Clockwork) -> None:
    cursor = clockwork.missed(2)

    async def factory(slot: datetime) -> Event | None:
        await asyncio.sleep(0)
        assert asyncio.get_running_loop() is clockwork.loop
        return None if slot == cursor + timedelta(minutes=1) else made(slot)

    clockwork.run(factory)
    clockwork.tend(lambda: ticks(bus), "the second slot")

    assert ticks(bus)[0] == (cursor + timedelta(minutes=2)).isoformat()


def test_the_last_policy_fires_the_latest_missed_slot_alone(bus: EventBus, clockwork: Clockwork) -> None:
    cursor = clockwork.missed(30)
    clockwork.run(made, missed="last")

    clockwork.tend(lambda: ticks(bus), "a slot")

    assert ticks(bus)[0] >= (cursor + timedelta(minutes=30)).isoformat()


def test_the_skip_policy_leaves_what_was_missed(bus: EventBus, clockwork: Clockwork) -> None:
    clockwork.missed(30)
    called: list[datetime] = []
    clockwork.run(called.append, missed="skip", cron=f"{(datetime.now(UTC) - timedelta(minutes=9)).minute} * * * *")

    clockwork.tend(lambda: clockwork.tables[0].tend() > 1, "the next slot to be awaited")

    assert called == [] and ticks(bus) == []


def test_a_factory_that_fails_is_called_again_and_its_slot_is_not_lost(
    bus: EventBus, clockwork: Clockwork, caplog: pytest.LogCaptureFixture
) -> None:
    cursor = clockwork.missed(1)
    calls: list[datetime] = []

    def factory(slot: datetime) -> Event:
        calls.append(slot)
        if len(calls) < 3:
            raise RuntimeError("no database")
        return made(slot)

    clockwork.run(factory)
    clockwork.tend(lambda: ticks(bus), "the slot")

    assert ticks(bus)[0] == (cursor + timedelta(minutes=1)).isoformat()
    assert calls[0] == calls[1] == cursor + timedelta(minutes=1)
    assert "The schedule 'nightly' waits, and tries again: RuntimeError: no database" in caplog.text


@pytest.mark.parametrize("result", [3, [3], {"a": 1}, "text"])
def test_a_factory_that_returns_no_events_is_named(
    bus: EventBus, clockwork: Clockwork, caplog: pytest.LogCaptureFixture, result: Any
) -> None:
    clockwork.missed(1)
    clockwork.run(lambda slot: result)

    clockwork.tend(lambda: "must return" in caplog.text, "the log")

    assert "The factory of the schedule 'nightly' must return" in caplog.text
    assert history(bus) == []


def test_a_factory_that_hangs_or_exits_holds_up_nobody_else(bus: EventBus, clockwork: Clockwork) -> None:
    for name in ("hangs", "exits", "nightly"):
        clockwork.missed(1, name)
    ends = threading.Event()

    def hang(slot: datetime) -> None:
        ends.wait()

    def leave(slot: datetime) -> None:
        raise SystemExit(3)

    clockwork.run(hang, name="hangs")
    clockwork.run(leave, name="exits")
    clockwork.run(made)
    clockwork.tend(lambda: ticks(bus), "the schedule that works")
    ends.set()


def test_nothing_is_fired_after_the_timetable_was_stopped(bus: EventBus, clockwork: Clockwork) -> None:
    clockwork.missed(1)
    begun, ends = threading.Event(), threading.Event()

    def factory(slot: datetime) -> Event:
        begun.set()
        ends.wait()
        return made(slot)

    clockwork.count = 1
    clockwork.run(factory)
    clockwork.tend(begun.is_set, "the factory to be called")
    clockwork.close()
    ends.set()
    wait_until(lambda: not any("nightly" in thread.name for thread in threading.enumerate()), 20, "its end")

    assert ticks(bus) == []


def test_ids_of_a_slot_are_derived_and_chosen_ones_stay(bus: EventBus, clockwork: Clockwork) -> None:
    clockwork.missed(1)

    def factory(slot: datetime) -> list[Event]:
        first = made(slot)
        return [first, made(slot, causation_id=first.event_id), made(slot, event_id=f"EV-mine-{slot:%H%M}")]

    clockwork.run(factory)
    clockwork.tend(lambda: len(ticks(bus)) >= 3, "the slot")

    first, second, third = _recorded(bus)[:3]
    slot = datetime.fromisoformat(first.event.payload["slot"])
    assert first.event.event_id.startswith(f"EV-{int(slot.timestamp()) * 1000:012x}")
    assert second.event.causation_id == first.event.event_id and second.depth == 1
    assert third.event.event_id == f"EV-mine-{slot:%H%M}"
    assert first.origin == f"schedule:nightly:{slot:%Y-%m-%dT%H:%M:%SZ}"


def test_a_bus_runs_its_schedules_while_it_consumes_and_needs_no_subscriber_for_that(bus: EventBus) -> None:
    @bus.every("* * * * * *", timezone="Europe/Riga")
    async def tick(slot: datetime) -> Event:
        return made(slot)

    async def scenario() -> None:
        await bus.start_consuming()
        with pytest.raises(InvalidSchedule, match="the bus consumes; call stop_consuming first"):
            bus.every("* * * * *", made)
        await asyncio.to_thread(wait_until, lambda: len(ticks(bus)) >= 2, 30, "two seconds")
        await bus.stop_consuming()

    asyncio.run(scenario())
    seen = ticks(bus)
    assert seen == sorted(set(seen)) and all(datetime.fromisoformat(slot).utcoffset() for slot in seen)
    assert [schedule.name for schedule in bus.schedules] == ["tick"]


def test_a_schedule_of_every_second_fires_second_after_second_and_not_the_latest_now_and_then(bus: EventBus) -> None:
    bus.every("* * * * * *", made, name="clock", missed="last")
    bus.subscriber("Listener", ["OTHER"])(lambda event: None)  # a receiver, which tells when scheduled events are due

    def a_row_of_four() -> bool:
        slots = [int(datetime.fromisoformat(slot).timestamp()) for slot in ticks(bus)]
        return any(slots[at] - slots[at - 3] == 3 for at in range(3, len(slots)))

    async def scenario() -> None:
        await bus.start_consuming()
        await asyncio.to_thread(wait_until, a_row_of_four, 30, "four seconds in a row")
        await bus.stop_consuming()

    asyncio.run(scenario())


def test_every_decorates_and_refuses_what_it_cannot_run(bus: EventBus) -> None:
    assert bus.every("0 3 * * *", made, name="nightly") is made
    assert bus.every("*/5 * * * *", missed="skip")(made) is made

    with pytest.raises(InvalidSchedule, match="'made' cannot be added: there is one already"):
        bus.every("0 4 * * *", made)
    with pytest.raises(InvalidSchedule, match="Bad hour"):
        bus.every("0 24 * * *", made, name="never")
    with pytest.raises(EventBusError, match="no subscribers"):
        asyncio.run(EventBus(bus.settings).start_consuming())
    assert [schedule.name for schedule in bus.schedules] == ["nightly", "made"]
