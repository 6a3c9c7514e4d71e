"""The scripts of time, on Valkey and on Debian's Redis: what is scheduled, what comes out, and when it does not.

Time is ours: an event is made due by its score. No test waits for it.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from events.due import Due, Scheduled, microseconds
from events.errors import (
    EventBusError,
    EventIdConflict,
    HistoryReset,
    MalformedEntry,
    ScriptFailed,
    TooManyRoutes,
)
from events.event import Event
from events.namespace import Namespace, Remembered
from events.publisher import Receipt, event_arguments
from events.scheduled import Released, ScheduledEvents
from events.slots import Slots
from tests.model.test_scripts import MIB, Bench, event
from tests.valkey_servers import ValkeyServer

HOUR = Due("+3600000000")
TWO_HOURS = Due("+7200000000")
LONG_AGO = Due("-1")


class Desk(Bench):
    """A bench whose events may wait."""

    def __init__(self, client: Any, name: str) -> None:
        super().__init__(client, name)
        self.scheduled = ScheduledEvents(self.namespace, 100)
        self.slots = Slots(self.namespace, 100)

    def schedule(self, *events: Event, due: Due = HOUR, origin: str = "publish") -> list[Any]:
        return self.publisher.publish_many(events, origin, [due] * len(events))

    def comes_due(self, *ids: str) -> None:
        """The hour of these events comes, in this order."""
        for n, event_id in enumerate(ids):
            assert self.client.zscore(self.keys("scheduled"), event_id) is not None
            self.client.zadd(self.keys("scheduled"), {event_id: 1 + n})

    def release(self, most: int = 100) -> Released:
        return self.scheduled.release(most)

    def waiting(self) -> list[str]:
        """Ids in the order of their due times; each has its envelope, and there are no others."""
        ids = [event_id.decode() for event_id in self.client.zrange(self.keys("scheduled"), 0, -1)]
        assert sorted(ids) == sorted(key.decode() for key in self.client.hkeys(self.keys("envelopes")))
        return ids

    def published(self) -> list[str]:
        """Ids in history, in order."""
        return [record.event.event_id for record in self.records()]

    def records(self) -> list[Any]:
        from events.stream import read_event

        return [read_event(entry_id, fields) for entry_id, fields in self.history()]

    def now(self) -> datetime:
        seconds, micros = self.client.time()
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds, microseconds=micros)


@pytest.fixture
def client(either_server: ValkeyServer) -> Iterator[redis.Redis]:
    with either_server.client() as client:
        yield client
        client.config_set("maxmemory", 0)
        client.flushall()


@pytest.fixture
def desk(client: redis.Redis) -> Desk:
    return Desk(client, f"test-{secrets.token_hex(6)}")


# schedule


def test_a_scheduled_event_is_in_no_history_and_no_queue_before_it_is_due(desk: Desk) -> None:
    desk.declare("S")
    before = desk.now()

    (answer,) = desk.schedule(event())

    assert isinstance(answer, Scheduled) and answer.is_new and answer.event_id == "e1"
    assert timedelta(hours=1) <= answer.due - before < timedelta(hours=1, minutes=1)
    assert desk.waiting() == ["e1"]
    assert desk.release().published == 0
    assert desk.published() == [] and desk.read("S") == []


def test_what_is_due_is_published_in_the_order_of_due_times_and_leaves_the_schedule_in_the_same_step(
    desk: Desk,
) -> None:
    desk.declare("S")
    desk.schedule(event("e1"), event("e2"), event("e3"), event("later"))
    desk.comes_due("e3", "e1", "e2")

    released = desk.release()

    assert (released.published, released.dropped, released.put_off) == (3, (), ())
    assert released.wait_s is not None and 3500 < released.wait_s <= 3600
    assert desk.published() == ["e3", "e1", "e2"]
    assert [lease.event_id for lease in desk.read("S", 10)] == ["e3", "e1", "e2"]
    assert desk.waiting() == ["later"]


def test_a_release_publishes_no_more_than_it_is_asked_to_and_says_that_there_is_more_at_once(desk: Desk) -> None:
    desk.schedule(*(event(f"e{n}") for n in range(5)))
    desk.comes_due(*(f"e{n}" for n in range(5)))

    first, second, third = desk.release(2), desk.release(2), desk.release(2)

    assert [(r.published, r.wait_s) for r in (first, second, third)] == [(2, 0.0), (2, 0.0), (1, None)]
    assert desk.published() == ["e0", "e1", "e2", "e3", "e4"]


def test_what_is_too_much_for_one_step_is_left_for_the_next(desk: Desk) -> None:
    body = {"text": "x" * (5 * MIB)}
    desk.declare("S")
    desk.schedule(*(event(f"e{n}", payload=body) for n in range(8)))
    desk.comes_due(*(f"e{n}" for n in range(8)))

    first = desk.release()

    assert 0 < first.published < 8 and first.wait_s == 0.0
    assert desk.release().published == 8 - first.published
    assert desk.published() == [f"e{n}" for n in range(8)]


@pytest.mark.parametrize("payload", [{"text": " é\U0001f600 \x01\t\n"}, {"n": 1234567890123456, "x": 0.1, "l": []}, {}])
def test_a_body_arrives_as_it_was_scheduled(desk: Desk, payload: dict[str, Any]) -> None:
    desk.declare("S")
    desk.schedule(event(payload=payload, metadata={"order_key": "a\tb\nc", "priority": -3}))
    desk.comes_due("e1")

    desk.release()

    (lease,) = desk.read("S")
    assert lease.event.payload == payload
    assert lease.event.metadata == {"order_key": "a\tb\nc", "priority": -3}


def test_a_body_may_be_any_bytes(desk: Desk) -> None:
    body = bytes(range(256)) + b"\n\t\n"
    arguments = [*event_arguments(event(), MIB)[:-1], body]
    desk.namespace.call("schedule", 100, "publish", "+1000000000", *arguments)
    desk.comes_due("e1")

    desk.release()

    assert desk.history()[0][1][b"e"] == body


def test_scheduling_the_same_event_again_keeps_the_earlier_moment(desk: Desk) -> None:
    (first,) = desk.schedule(event(), due=TWO_HOURS)
    (later,) = desk.schedule(event(), due=Due("+9000000000"))
    (earlier, again) = desk.schedule(event(), event(), due=HOUR)

    assert later == Scheduled("e1", first.due, False)
    assert earlier.due < first.due and not earlier.is_new
    assert again == earlier
    assert desk.waiting() == ["e1"]


def test_an_event_that_history_has_is_not_scheduled(desk: Desk) -> None:
    (published,) = desk.publish(event())

    (known, other) = desk.schedule(event(), event(payload={"n": 2}))

    assert known == Receipt("e1", published.position, False)
    assert isinstance(other, EventIdConflict) and f"at position {published.position}" in str(other)
    assert desk.waiting() == []


def test_the_id_of_a_scheduled_event_is_taken_for_other_contents_now_and_later(desk: Desk) -> None:
    desk.schedule(event())

    (later,) = desk.schedule(event(payload={"n": 2}))
    (now,) = desk.publish(event(payload={"n": 3}))
    (first, second) = desk.schedule(event("e2"), event("e2", payload={"n": 4}))

    assert isinstance(later, EventIdConflict) and "taken by an event with another content that is scheduled" in str(
        later
    )
    assert isinstance(now, EventIdConflict)
    assert isinstance(first, Scheduled) and isinstance(second, EventIdConflict)
    assert desk.waiting() == ["e1", "e2"] and desk.published() == []


def test_publishing_a_scheduled_event_now_takes_it_off_the_schedule(desk: Desk) -> None:
    desk.declare("S")
    desk.schedule(event())

    (receipt,) = desk.publish(event())

    assert receipt.is_new
    assert desk.waiting() == []
    assert desk.release().published == 0
    assert desk.published() == ["e1"] and len(desk.read("S", 10)) == 1


def test_a_moment_that_is_past_publishes_at_once(desk: Desk) -> None:
    desk.declare("S")
    desk.schedule(event("waits"))

    (past, brought_forward) = desk.schedule(event(), event("waits"), due=LONG_AGO)

    assert isinstance(past, Receipt) and past.is_new and isinstance(brought_forward, Receipt)
    assert desk.waiting() == []
    assert desk.published() == ["e1", "waits"] and len(desk.read("S", 10)) == 2


def test_one_call_may_schedule_and_publish_the_same_event_and_it_is_published_once(desk: Desk) -> None:
    answers = desk.publisher.publish_many([event(), event()], "publish", [HOUR, LONG_AGO])

    assert [type(answer) for answer in answers] == [Scheduled, Receipt]
    assert desk.waiting() == [] and desk.published() == ["e1"]


def test_within_one_delivery_the_first_body_stays(desk: Desk) -> None:
    desk.schedule(event(payload={"n": 1}), origin="7:S:0")

    (second,) = desk.schedule(event(payload={"n": 2}), origin="7:S:0")
    (stranger,) = desk.schedule(event(payload={"n": 3}), origin="8:S:0")
    desk.comes_due("e1")
    desk.release()

    assert isinstance(second, Scheduled) and not second.is_new
    assert isinstance(stranger, EventIdConflict)
    (record,) = desk.records()
    assert record.event.payload == {"n": 1} and record.origin == "7:S:0"


def test_root_and_depth_are_those_of_the_moment_of_scheduling_when_redis_has_forgotten_the_cause(desk: Desk) -> None:
    desk.publish(event("root"), event("child", causation_id="root"))
    desk.schedule(event("late", causation_id="child"), event("later", causation_id="late"))
    desk.client.delete(desk.keys("id", "child"), desk.keys("id", "root"))
    desk.comes_due("late", "later")

    desk.release()

    assert [(r.event.correlation_id, r.depth) for r in desk.records()[2:]] == [("root", 2), ("root", 3)]


def test_two_events_of_one_forgotten_cause_keep_what_each_knew_of_it(desk: Desk) -> None:
    desk.schedule(event("early", causation_id="child"))
    desk.publish(event("root"), event("child", causation_id="root"))
    desk.schedule(event("late", causation_id="child"))
    desk.client.delete(desk.keys("id", "child"), desk.keys("id", "root"))
    desk.comes_due("early", "late")

    desk.release()

    assert [(r.event.correlation_id, r.depth) for r in desk.records()[2:]] == [("child", 1), ("root", 2)]


def test_a_type_with_too_many_subscribers_is_refused_when_it_is_scheduled(desk: Desk) -> None:
    desk.client.sadd(desk.keys("routes", "A"), *(f"S{n}" for n in range(101)))

    (refused, scheduled) = desk.schedule(event(), event("e2", "B"))

    assert isinstance(refused, TooManyRoutes) and isinstance(scheduled, Scheduled)
    assert desk.waiting() == ["e2"]


# release


def test_releasing_from_two_processes_publishes_each_event_once(desk: Desk) -> None:
    desk.declare("S")
    desk.schedule(event())
    desk.comes_due("e1")

    assert [desk.release().published, desk.release().published] == [1, 0]
    assert len(desk.read("S", 10)) == 1


def test_what_got_too_many_subscribers_meanwhile_is_put_off_and_holds_up_nobody(desk: Desk) -> None:
    desk.schedule(event(), event("e2", "B"))
    desk.client.sadd(desk.keys("routes", "A"), *(f"S{n}" for n in range(101)))
    desk.comes_due("e1", "e2")

    released = desk.release()

    ((event_id, reason),) = released.put_off
    assert event_id == "e1" and isinstance(reason, TooManyRoutes) and "'A' has 101 subscribers" in str(reason)
    assert released.wait_s is not None and 50 < released.wait_s <= 60
    assert desk.published() == ["e2"] and desk.waiting() == ["e1"]


def test_a_key_of_a_wrong_type_puts_off_the_events_of_its_subscriber_alone(desk: Desk) -> None:
    desk.declare("S")
    desk.declare("T", "B")
    desk.schedule(event(), event("e2", "B"), event("e3"))
    desk.client.delete(desk.keys("queue", "S"))
    desk.client.set(desk.keys("queue", "S"), "by hand")
    desk.comes_due("e1", "e2", "e3")

    released = desk.release()

    assert [event_id for event_id, _ in released.put_off] == ["e1", "e3"]
    assert "WRONGTYPE" in str(released.put_off[0][1])
    assert desk.published() == ["e2"] and desk.waiting() == ["e1", "e3"]
    desk.client.delete(desk.keys("queue", "S"))
    desk.declare("S")
    desk.comes_due("e1", "e3")
    assert desk.release().published == 2


def test_an_id_that_was_taken_behind_the_schedules_back_is_dropped_by_name(desk: Desk) -> None:
    desk.publish(event(payload={"n": 2}))
    taken = desk.client.get(desk.keys("id", "e1"))
    desk.client.delete(desk.keys("id", "e1"))
    desk.schedule(event(), event("e2"))
    desk.client.set(desk.keys("id", "e1"), taken)
    desk.comes_due("e1", "e2")

    released = desk.release()

    ((event_id, reason),) = released.dropped
    assert event_id == "e1" and isinstance(reason, EventIdConflict)
    assert desk.published() == ["e1", "e2"] and desk.waiting() == []


def test_an_event_that_redis_published_and_lost_from_the_schedule_is_only_removed(desk: Desk) -> None:
    desk.schedule(event(), event("e2"))
    desk.comes_due("e1", "e2")
    (_, envelope) = desk.client.hmget(desk.keys("envelopes"), "e2", "e1")
    desk.release()
    desk.client.zadd(desk.keys("scheduled"), {"e1": 1})
    desk.client.hset(desk.keys("envelopes"), "e1", envelope)

    released = desk.release()

    assert (released.published, released.dropped, released.wait_s) == (0, (), None)
    assert desk.published() == ["e1", "e2"] and desk.waiting() == []


@pytest.mark.parametrize(
    "envelope", [None, b"", b"nonsense", b"a\tb\t1\tc\n{}", b"publish\te9\t0\t\te9" + b"\t" * 7 + b"\n"]
)
def test_what_is_no_envelope_is_dropped_by_name_and_holds_up_nobody(desk: Desk, envelope: bytes | None) -> None:
    desk.schedule(event())
    desk.client.zadd(desk.keys("scheduled"), {"by hand": 1})
    if envelope is not None:
        desk.client.hset(desk.keys("envelopes"), "by hand", envelope)
    desk.comes_due("e1")

    released = desk.release()

    ((event_id, reason),) = released.dropped
    assert event_id == "by hand" and isinstance(reason, MalformedEntry)
    assert desk.published() == ["e1"] and desk.waiting() == []


# wrong types, full servers, epochs


@pytest.mark.parametrize("name", ["scheduled", "envelopes", "history"])
@pytest.mark.parametrize("call", ["schedule", "release", "cancel"])
def test_a_key_of_a_wrong_type_is_an_error_before_anything_is_written(desk: Desk, name: str, call: str) -> None:
    desk.declare("S")
    desk.schedule(event("e1"), event("e2"))
    desk.comes_due("e1")
    desk.client.delete(desk.keys(name))
    desk.client.set(desk.keys(name), "by hand")
    before = desk.everything()
    if call == "release" and name != "scheduled":
        desk.client.delete(desk.keys(name))
        desk.client.rpush(desk.keys(name), "by hand")
        before = desk.everything()

    def act() -> None:
        if call == "schedule":
            (answer,) = desk.schedule(event("e3"))
            if isinstance(answer, EventBusError):
                raise answer
        elif call == "release":
            desk.release()
        else:
            desk.scheduled.cancel(["e1", "e2"])

    if call == "cancel" and name == "history":
        act()
        return
    with pytest.raises(ScriptFailed, match="WRONGTYPE"):
        act()
    assert desk.everything() == before


def test_a_full_server_refuses_to_schedule_and_to_release_and_loses_nothing(desk: Desk) -> None:
    desk.declare("S")
    desk.schedule(event("e1"), event("e2"), event("e3"))
    desk.comes_due("e1", "e2")
    before = desk.everything()
    desk.client.config_set("maxmemory", 1)

    with pytest.raises(ScriptFailed) as refused:
        desk.release()
    (answer,) = desk.schedule(event("e4"))
    was_full = desk.everything()
    cancelled = desk.scheduled.cancel(["e3"])

    assert refused.value.code == "OOM"
    assert isinstance(answer, ScriptFailed) and answer.code == "OOM"
    assert was_full == before
    assert cancelled == [True]
    desk.client.config_set("maxmemory", 0)
    assert desk.release().published == 2
    assert desk.published() == ["e1", "e2"] and desk.waiting() == []


def test_a_replica_releases_nothing(desk: Desk) -> None:
    desk.schedule(event())
    desk.comes_due("e1")
    desk.client.replicaof("127.0.0.1", "1")
    try:
        with pytest.raises(ScriptFailed) as refused:
            desk.release()
    finally:
        desk.client.replicaof("NO", "ONE")

    assert refused.value.code == "READONLY"
    assert desk.release().published == 1


def test_nothing_is_scheduled_released_cancelled_or_fired_under_another_epoch(desk: Desk) -> None:
    desk.schedule(event())
    desk.comes_due("e1")
    plan = desk.slots.plan("nightly", "0 3 * * *", "UTC", "last", begins=True)
    desk.client.hset(desk.keys("meta"), "epoch", "another")
    before = desk.everything()
    foreign = desk.namespace.scripts
    arguments = event_arguments(event("e2"), MIB)

    replies = [
        foreign.call("schedule", ["e1", 100, "publish", "+1000", *arguments]),
        foreign.call("release", ["e1", 100, 10, 1]),
        foreign.call("cancel", ["e1", "e1"]),
        foreign.call("plan", ["e1", "other", "* * * * *", "UTC", "last", 1]),
        foreign.call("slot", ["e1", 100, "nightly", microseconds(plan.cursor), microseconds(plan.now), "o"]),
    ]

    assert replies == [b"EPOCH"] * 5
    assert desk.everything() == before


def test_a_wiped_server_has_lost_what_was_scheduled_and_does_not_pretend(desk: Desk) -> None:
    desk.schedule(event())
    desk.client.flushall()
    stranger = Namespace(desk.client, desk.namespace.keys.namespace, lambda: Remembered(5, ()), reset_wait_s=0)

    with pytest.raises(HistoryReset):
        ScheduledEvents(stranger, 100).release(10)
    assert desk.release() == Released(0, None, (), ())


# cancel and agenda


def test_cancelling_large_events_takes_several_calls_and_answers_for_each(desk: Desk) -> None:
    ids = [f"e{n}" for n in range(20)]
    for event_id in ids:
        desk.schedule(event(event_id, payload={"text": "x" * 900_000}))

    assert len(desk.namespace.call("cancel", *ids)) == 9

    assert desk.scheduled.cancel([*ids, "unknown"]) == [False] * 9 + [True] * 11 + [False]


def test_a_cancelled_event_is_gone_and_its_id_is_free(desk: Desk) -> None:
    desk.schedule(event(), event("e2"))

    assert desk.scheduled.cancel(["e1", "e1", "unknown"]) == [True, False, False]
    assert desk.waiting() == ["e2"]
    (other,) = desk.schedule(event(payload={"n": 2}))
    assert isinstance(other, Scheduled) and other.is_new
    desk.comes_due("e1", "e2")
    desk.release()
    assert desk.scheduled.cancel(["e1"]) == [False], "what is published cannot be cancelled"


def test_the_agenda_shows_all_that_waits_page_by_page_the_next_due_first(desk: Desk) -> None:
    ids = [f"e{n:04}" for n in range(1203)]
    for start in range(0, len(ids), 400):
        desk.schedule(*(event(i, project=f"p{i}") for i in ids[start : start + 400]))
    desk.client.zadd(desk.keys("scheduled"), dict.fromkeys(ids, 9_000_000_000_000_000))
    desk.comes_due("e0900")

    shown = list(desk.scheduled)

    assert [waiting.event_id for waiting in shown] == ["e0900", *(i for i in ids if i != "e0900")]
    assert (shown[1].type, shown[1].project_id, shown[1].causation_id, shown[1].origin) == (
        "A",
        "pe0000",
        "",
        "publish",
    )
    assert desk.scheduled.know(["e0001", "unknown"]) == [True, False]


def test_the_agenda_shows_large_events_a_few_at_a_time(desk: Desk) -> None:
    ids = [f"e{n}" for n in range(9)]
    desk.schedule(*(event(i, payload={"text": "x" * (9 * MIB)}) for i in ids))

    page = desk.namespace.scripts.call("agenda", ["", 0, "", 500])

    assert 0 < len(page) < 9
    assert [waiting.event_id for waiting in desk.scheduled] == ids


def test_the_agenda_leaves_out_nothing_that_stays_when_the_last_one_shown_is_cancelled(desk: Desk) -> None:
    ids = [f"e{n:04}" for n in range(1000)]
    desk.schedule(*map(event, ids))
    desk.client.zadd(desk.keys("scheduled"), dict.fromkeys(ids, 9_000_000_000_000_000))

    shown: list[str] = []
    for waiting in desk.scheduled:
        shown.append(waiting.event_id)
        desk.scheduled.cancel([waiting.event_id])

    assert sorted(set(shown)) == ids


# slots


NIGHTLY = "0 3 * * *"


def fire(desk: Desk, cursor: datetime, slot: datetime, *events: Event, cron: str = NIGHTLY) -> bool:
    return desk.slots.fire("nightly", cursor, slot, [event_arguments(e, MIB) for e in events], cron, "UTC")


def plan(desk: Desk, cron: str = NIGHTLY, begins: bool = True, missed: str = "last") -> Any:
    return desk.slots.plan("nightly", cron, "UTC", missed, begins=begins)


def rewind(desk: Desk, by: timedelta, name: str = "nightly") -> datetime:
    """Nobody ran the schedule for so long."""
    cursor = desk.now() - by
    desk.client.hset(desk.keys("slots", name), "cursor", microseconds(cursor))
    return cursor


def test_a_schedule_begins_when_it_is_planned_first_and_goes_on_where_it_was(desk: Desk) -> None:
    first = plan(desk)
    again = plan(desk)

    assert first.cursor == first.now and abs(first.now - desk.now()) < timedelta(minutes=1)
    assert again.cursor == first.cursor and again.now > first.now
    (shown,) = desk.slots.all()
    assert (shown.name, shown.cron, shown.timezone, shown.missed) == ("nightly", "0 3 * * *", "UTC", "last")
    assert (shown.cursor, shown.last) == (first.cursor, None)


def test_a_schedule_that_a_starting_process_declares_anew_begins_anew(desk: Desk) -> None:
    plan(desk)
    long_ago = rewind(desk, timedelta(days=3))

    assert plan(desk, "5 4 * * *", begins=False).cursor == long_ago, "a running process changes nothing"
    changed = plan(desk, "5 4 * * *")

    assert changed.cursor == changed.now
    assert desk.slots.all()[0].cron == "5 4 * * *"
    long_ago = rewind(desk, timedelta(days=3))
    assert plan(desk, "5 4 * * *", missed="all").cursor == long_ago, "the policy is for what was missed already"
    assert desk.slots.all()[0].missed == "all"


def test_of_two_releases_the_one_that_started_last_fires_and_the_other_waits_until_it_is_gone(desk: Desk) -> None:
    plan(desk)
    plan(desk, "5 4 * * *")
    cursor = rewind(desk, timedelta(minutes=10))
    slot = cursor + timedelta(minutes=5)

    assert 80 < plan(desk, begins=False).wait_s <= 90, "a process of the old release that still runs"
    assert 80 < plan(desk, begins=True).wait_s <= 90, "or is started again"
    assert not fire(desk, cursor, slot, event())
    assert plan(desk, "5 4 * * *", begins=False).wait_s == 0 and desk.slots.all()[0].cursor == cursor
    assert fire(desk, cursor, slot, event(), cron="5 4 * * *")
    assert desk.published() == ["e1"]

    seen = desk.now() - timedelta(seconds=91)
    desk.client.hset(desk.keys("slots", "nightly"), "seen", microseconds(seen))
    back = plan(desk, begins=False)
    assert (back.cursor, back.wait_s) == (seen, 0), "it goes on from where the other was seen last"
    assert plan(desk, "5 4 * * *", begins=False).wait_s > 80
    assert plan(desk, "6 6 * * *", begins=True).wait_s == 0, "and a third one begins at once"


def test_a_process_that_plans_or_fires_keeps_its_declaration(desk: Desk) -> None:
    plan(desk)
    slots = desk.keys("slots", "nightly")
    for does in ("plan", "fire"):
        cursor = rewind(desk, timedelta(minutes=10))
        desk.client.hset(slots, "seen", microseconds(desk.now() - timedelta(seconds=80)))
        if does == "plan":
            plan(desk, begins=False)
        else:
            assert fire(desk, cursor, cursor + timedelta(minutes=1))
        assert plan(desk, "5 4 * * *", begins=False).wait_s > 80


def test_a_schedule_goes_on_after_the_servers_clock_was_ahead(desk: Desk) -> None:
    plan(desk)
    a_little = rewind(desk, timedelta(seconds=-50))
    assert plan(desk, begins=False).cursor == a_little, "two servers' clocks differ, and its slots were fired"
    rewind(desk, timedelta(days=-365))

    found = plan(desk, begins=False)
    assert found.cursor == found.now == desk.slots.all()[0].cursor
    rewind(desk, timedelta(days=-365))
    changed = plan(desk, "5 4 * * *")
    assert changed.cursor == changed.now


def test_a_slot_is_fired_once_with_its_events_and_the_cursor_in_one_step(desk: Desk) -> None:
    desk.declare("S")
    plan(desk)
    cursor = rewind(desk, timedelta(minutes=10))
    slot = (cursor + timedelta(minutes=5)).replace(microsecond=0)

    assert fire(desk, cursor, slot, event(), event("e2", causation_id="e1"))
    assert not fire(desk, cursor, slot, event(), event("e2")), "another process, a moment later"

    assert [(r.event.event_id, r.depth, r.origin) for r in desk.records()] == [
        ("e1", 0, f"schedule:nightly:{slot:%Y-%m-%dT%H:%M:%SZ}"),
        ("e2", 1, f"schedule:nightly:{slot:%Y-%m-%dT%H:%M:%SZ}"),
    ]
    assert len(desk.read("S", 10)) == 2
    (shown,) = desk.slots.all()
    assert shown.cursor == shown.last == slot


def test_nobody_passes_over_a_slot_that_another_process_has_not_fired(desk: Desk) -> None:
    plan(desk)
    cursor = rewind(desk, timedelta(minutes=10))
    first, second, third = (cursor + timedelta(minutes=n) for n in (1, 2, 3))
    assert fire(desk, cursor, first, event("e1"))

    assert not fire(desk, cursor, third, event("e3")), "it read the cursor before the first was fired"
    assert fire(desk, first, second, event("e2"))
    assert not fire(desk, second, second, event("e2"))
    assert not fire(desk, second, first, event("e1"))
    assert desk.published() == ["e1", "e2"]


def test_a_slot_that_is_still_to_come_is_not_fired(desk: Desk) -> None:
    planned = plan(desk)

    assert not fire(desk, planned.cursor, desk.now() + timedelta(minutes=1), event())
    assert desk.published() == []


def test_a_slot_of_which_one_event_is_refused_publishes_none_and_stays(desk: Desk) -> None:
    plan(desk)
    cursor = rewind(desk, timedelta(minutes=10))
    desk.publish(event("taken"))
    before = desk.everything()

    with pytest.raises(EventIdConflict):
        fire(desk, cursor, cursor + timedelta(minutes=1), event("e1"), event("taken", payload={"n": 2}))

    assert desk.everything() == before


def test_two_processes_whose_factories_differ_do_not_conflict_after_redis_went_back(desk: Desk) -> None:
    plan(desk)
    cursor = rewind(desk, timedelta(minutes=10))
    slot = cursor + timedelta(minutes=1)
    fire(desk, cursor, slot, event(payload={"made by": "one"}))
    desk.client.hset(desk.keys("slots", "nightly"), "cursor", microseconds(cursor))

    assert fire(desk, cursor, slot, event(payload={"made by": "two"}))

    assert [r.event.payload for r in desk.records()] == [{"made by": "one"}]


def test_a_full_server_fires_no_slot_and_keeps_it(desk: Desk) -> None:
    plan(desk)
    cursor = rewind(desk, timedelta(minutes=10))
    slot = cursor + timedelta(minutes=1)
    before = desk.everything()
    desk.client.config_set("maxmemory", 1)

    with pytest.raises(ScriptFailed) as refused:
        fire(desk, cursor, slot, event())

    assert refused.value.code == "OOM" and desk.everything() == before
    desk.client.config_set("maxmemory", 0)
    assert fire(desk, cursor, slot, event())


def test_a_slot_may_have_no_events(desk: Desk) -> None:
    plan(desk)
    cursor = rewind(desk, timedelta(minutes=10))

    assert fire(desk, cursor, cursor + timedelta(minutes=1))
    assert desk.published() == [] and desk.slots.all()[0].last == cursor + timedelta(minutes=1)


def test_a_forgotten_schedule_is_shown_no_more_and_begins_anew(desk: Desk) -> None:
    plan(desk)
    rewind(desk, timedelta(days=3))

    assert desk.slots.forget("nightly") and not desk.slots.forget("nightly")
    assert desk.slots.all() == []
    anew = plan(desk, begins=False)
    assert anew.cursor == anew.now


@pytest.mark.parametrize("name", ["slots", "schedules"])
def test_a_schedules_key_of_a_wrong_type_is_an_error_before_anything_is_written(desk: Desk, name: str) -> None:
    key = desk.keys("slots", "nightly") if name == "slots" else desk.keys("schedules")
    desk.client.set(key, "by hand")
    before = desk.everything()

    with pytest.raises(ScriptFailed, match="WRONGTYPE"):
        plan(desk)

    assert desk.everything() == before


# any order of anything

IDS = st.sampled_from(["a", "b", "c"])
CONTENTS = st.sampled_from([0, 1])
MOVES = st.lists(
    st.one_of(
        st.tuples(st.just("schedule"), IDS, CONTENTS, st.integers(1, 5)),
        st.tuples(st.just("publish"), IDS, CONTENTS),
        st.tuples(st.just("cancel"), IDS),
        st.tuples(st.just("release"), st.integers(1, 3), st.integers(0, 6)),
    ),
    max_size=30,
)


@given(moves=MOVES)
@settings(max_examples=60)
def test_an_event_is_scheduled_or_published_never_both_and_published_once(
    either_server: ValkeyServer, moves: Sequence[tuple[Any, ...]]
) -> None:
    with either_server.client() as client:
        desk = Desk(client, f"test-{secrets.token_hex(6)}")
        desk.declare("S")
        waits: dict[str, tuple[int, int]] = {}  # id -> content, hour
        history: dict[str, int] = {}
        for name, *arguments in moves:
            if name == "schedule":
                (event_id, content, hour) = arguments
                (answer,) = desk.schedule(event(event_id, payload={"n": content}), due=Due(f"+{hour * 3600_000_000}"))
                known = history.get(event_id, waits.get(event_id, (content,))[0])
                assert isinstance(answer, EventIdConflict) == (known != content)
                if event_id not in history and known == content:
                    waits[event_id] = (content, min(hour, waits.get(event_id, (0, 9))[1]))
                    assert isinstance(answer, Scheduled)
            elif name == "publish":
                (event_id, content) = arguments
                (answer,) = desk.publish(event(event_id, payload={"n": content}))
                known = history.get(event_id, waits.get(event_id, (content,))[0])
                assert isinstance(answer, EventIdConflict) == (known != content)
                if known == content:
                    history.setdefault(event_id, content)
                    waits.pop(event_id, None)
            elif name == "cancel":
                assert desk.scheduled.cancel(arguments) == [waits.pop(arguments[0], None) is not None]
            else:
                (most, hour) = arguments
                due = sorted((h, i) for i, (_, h) in waits.items() if h <= hour)
                ids = [event_id for _, event_id in due]
                desk.comes_due(*ids)
                released = desk.release(most)
                assert released.published == min(most, len(ids))
                for event_id in ids[:most]:
                    history[event_id] = waits.pop(event_id)[0]
                for event_id in ids[most:]:  # its hour has come; it stays due
                    waits[event_id] = (waits[event_id][0], -1)
            assert desk.published() == list(history)
            assert set(desk.waiting()) == set(waits)
        assert [lease.event_id for lease in desk.read("S", 100)] == list(history)
