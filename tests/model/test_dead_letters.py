"""Deciding about dead letters: once, in order, through the one door, whoever else decides or holds the lane."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from events.dead_letters import DeadLetters
from events.dropping import drop_step
from events.encoding import encode
from events.errors import HistoryReset, ScriptFailed
from events.frame import Lease
from events.joining import Join
from events.namespace import Declared
from events.records import AttemptState, DeadLetter, LetterFilter, Rejected
from events.routes import declare
from events.steering import steer
from events.stream import read_outcome
from events.subscriptions import SubscriberOptions
from tests.model.test_scripts import MIB, Bench, event, full
from tests.valkey_servers import ValkeyServer

DECISIONS = ("redelivered", "discarded", "purged")


class Desk(Bench):
    """A bench whose operator decides about dead letters."""

    @property
    def letters(self) -> DeadLetters:
        return DeadLetters(self.namespace)

    def open(self, *subscribers: str, **wanted: Any) -> list[DeadLetter]:
        return list(self.letters.iterate(LetterFilter(subscribers=subscribers, **wanted)))

    def kill(self, lease: Lease, reason: str = "no brush", consumer: str = "w", **how: Any) -> None:
        given = {"traceback": "trace", "output": b"[1]", **how}
        said = self.settle(lease, action="dead", state=AttemptState.DEAD, reason=reason, consumer=consumer, **given)
        assert said == "settled"

    def bury(self, name: str, *events: Any) -> list[DeadLetter]:
        """Publish events, give up their deliveries, and return the letters."""
        self.publish(*events)
        for lease in self.read(name, len(events) + 10):
            self.kill(lease)
        return self.open(name)

    def bury_first(self, name: str, count: int) -> list[DeadLetter]:
        """Publish events of one lane and give each up in its turn; return the letters."""
        self.publish(*(event(f"e{n}") for n in range(count)))
        for _ in range(count):
            self.kill(self.read(name)[0])
        return self.open(name)

    def decide(self, decision: Any, *letters: DeadLetter, by: str = "ann") -> list[str]:
        return [decided.verdict for decided in self.letters.decide(decision, letters, by, "as asked")]

    def last_outcome(self) -> Any:
        return read_outcome(*self.client.xrevrange(self.keys("outcomes"), count=1)[0])

    def order(self, name: str) -> list[str]:
        """Handle everything that can be, one at a time, and return the deliveries in their order."""
        found = []
        while leases := self.read(name):
            found.append(f"{leases[0].event.event_id}:{leases[0].frame.redelivery}")
            self.settle(leases[0])
        return found


@pytest.fixture
def client(either_server: ValkeyServer) -> Iterator[redis.Redis]:
    with either_server.client() as client:
        yield client
        client.replicaof("NO", "ONE")
        client.config_set("maxmemory", 0)
        client.flushall()


@pytest.fixture
def desk(client: redis.Redis) -> Desk:
    return Desk(client, f"test-{secrets.token_hex(6)}")


def test_a_root_that_is_delivered_again_lies_in_its_own_lane(desk: Desk) -> None:
    desk.declare("S", ordering="correlation", window=None)
    letters = desk.bury("S", event("e1"), event("e2"))

    assert desk.decide("redelivered", *letters) == ["settled", "settled"]

    assert {lane.decode() for lane in desk.client.hkeys(desk.keys("held", "S"))} == {"e1", "e2"}
    assert desk.order("S") == ["e1:1", "e2:1"]


# what is kept


def test_a_dead_letter_and_the_outcome_that_makes_it_say_the_same(desk: Desk) -> None:
    desk.declare("S")

    (letter,) = desk.bury("S", event(payload={"secret": 1}))

    made = desk.last_outcome()
    assert (made.state, made.letter, made.traceback, made.output, made.raw) == (
        "dead",
        letter.position,
        "trace",
        "[1]",
        "",
    )
    assert (made.event_position, made.subscriber, made.error) == (letter.event_position, "S", "no brush")
    assert letter.event is not None and letter.event.event_id == "e1"
    assert letter.name == letter.delivery == f"{letter.event_position}:S:0"
    assert (letter.reason, letter.traceback, letter.attempts, letter.worker) == ("no brush", "trace", 1, "w")


@pytest.mark.parametrize("raw", [b"garbage \x00 \xff", b"7\t0\t0\t0\tA\tr\tp1\t0\t\nnot an event", b"x" * 100_000])
def test_what_cannot_be_read_is_kept_raw_in_the_outcome_cut_at_64_kib(desk: Desk, raw: bytes) -> None:
    desk.declare("S")
    desk.client.xadd(desk.keys("queue", "S"), {"f": raw})
    (lease,) = desk.read("S")

    desk.kill(lease, lease.fault or "")

    (letter,) = desk.open("S")
    assert desk.last_outcome().raw == letter.raw == raw.decode(errors="backslashreplace")[:65_536]
    assert desk.client.xrange(desk.keys("dead", "S"))[0][1][b"f"] == raw, "Redis keeps all of it"


def test_letters_are_found_by_every_filter_a_page_at_a_time(desk: Desk) -> None:
    for name in ("S", "T"):
        desk.declare(name, "A", "B", window=None)
    desk.publish(*(event(f"e{n}", "AB"[n % 2], f"p{n % 3}") for n in range(12)))
    for name in ("S", "T"):
        for lease in desk.read(name, 100):
            desk.kill(lease, f"no {'BRUSH' if lease.event.event_id in ('e3', 'e4') else 'paint'} today")
    everything = desk.open()

    def ids(**wanted: Any) -> list[str]:
        found = list(desk.letters.iterate(LetterFilter(**wanted), page=2))
        return [f"{letter.subscriber}.{letter.event.event_id}" for letter in found if letter.event]

    assert len(everything) == len(ids()) == 24
    assert ids(subscribers=("T",), types=("B",), project_id="p1") == ["T.e1", "T.e7"]
    assert ids(error="brush") == ["S.e3", "S.e4", "T.e3", "T.e4"]
    assert ids(after=everything[11].position, before=everything[14].position) == ["T.e0", "T.e1"]
    assert ids(names=frozenset({"e5", everything[0].delivery, str(everything[23].position)})) == [
        "S.e0", "S.e5", "T.e5", "T.e11",
    ]  # fmt: skip
    newest = desk.letters.newest("T")
    assert newest == everything[23] and desk.letters.newest("nobody") is None


def test_an_entry_that_somebody_wrote_by_hand_is_a_letter_too(desk: Desk) -> None:
    desk.declare("S")
    desk.client.xadd(desk.keys("dead", "S"), {"x": "y", "a": "many"}, id="5-3")

    (letter,) = desk.open("S")

    assert (letter.name, letter.attempts, letter.event, letter.raw) == ("5", 0, None, "")
    assert desk.decide("redelivered", letter) == ["unreadable"]
    assert desk.decide("discarded", letter) == ["settled"]
    assert desk.open("S") == []


# retry


def test_what_is_delivered_again_is_a_new_delivery_whose_attempts_begin_anew(desk: Desk) -> None:
    desk.declare("S")
    desk.publish(event(payload={"n": [1, {}]}))
    (lease,) = desk.read("S")
    desk.settle(lease, action="again", state=AttemptState.RETRIED, attempts=1)
    (lease,) = desk.read("S")
    assert lease.attempt == 2
    desk.kill(lease)
    (letter,) = desk.open("S")

    (decided,) = desk.letters.decide("redelivered", [letter], "ann\tthe\noperator", "mended")

    assert (decided.verdict, decided.redelivery) == ("settled", 1)
    outcome = desk.last_outcome()
    assert (outcome.state, outcome.redelivery, outcome.attempt, outcome.letter) == (
        "redelivered",
        1,
        0,
        letter.position,
    )
    assert (outcome.worker, outcome.error) == ("ann the operator", "mended")
    assert desk.open("S") == []
    (again,) = desk.read("S")
    assert (again.delivery, again.attempt) == (f"{letter.event_position}:S:1", 1)
    assert encode(again.event) == encode(lease.event)
    desk.kill(again)
    assert [letter.redelivery for letter in desk.open("S")] == [1]


def test_a_letter_is_decided_once_however_often_and_by_whom_it_is_asked(desk: Desk) -> None:
    desk.declare("S")
    (letter,) = desk.bury("S", event())

    assert desk.decide("redelivered", letter, letter) == ["settled", "gone"]
    for decision in DECISIONS:
        assert desk.decide(decision, letter) == ["gone"]

    assert len(desk.read("S", 10)) == 1
    assert desk.client.xlen(desk.keys("outcomes")) == 2


def test_two_operators_at_once_decide_about_each_letter_once(desk: Desk) -> None:
    desk.declare("S", window=300)
    letters = desk.bury("S", *(event(f"e{n}", project=f"p{n % 7}") for n in range(300)))
    verdicts: list[str] = []
    start = threading.Barrier(3)

    def operate(by: str) -> None:
        start.wait(20)
        for n in range(0, 300, 25):
            verdicts.extend(desk.decide("redelivered", *letters[n : n + 25], by=by))

    threads = [threading.Thread(target=operate, args=(f"operator {n}",)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert sorted(verdicts) == ["gone"] * 600 + ["settled"] * 300
    assert len({lease.delivery for lease in desk.read("S", 1000)}) == 300
    assert desk.open("S") == []


def test_what_never_was_a_delivery_cannot_be_delivered_again(desk: Desk) -> None:
    desk.declare("S")
    desk.client.xadd(desk.keys("queue", "S"), {"f": "garbage"})
    desk.kill(desk.read("S")[0])
    (letter,) = desk.open("S")
    before = desk.everything()

    assert desk.decide("redelivered", letter) == ["unreadable"]
    assert desk.everything() == before

    assert desk.decide("discarded", letter) == ["settled"]
    outcome = desk.last_outcome()
    assert (outcome.event_position, outcome.state, outcome.letter) == (0, "discarded", letter.position)


def test_nothing_is_delivered_again_to_a_subscriber_that_nobody_declares(desk: Desk) -> None:
    desk.declare("S")
    (letter,) = desk.bury("S", event())
    desk.client.delete(desk.keys("sub", "S"))

    assert desk.decide("redelivered", letter) == ["undeclared"]
    assert desk.open("S") == [letter]


def test_nothing_is_delivered_again_to_a_subscriber_that_is_being_dropped(desk: Desk) -> None:
    desk.declare("S", window=8)
    letters = desk.bury("S", event(), event("e2"))
    assert not drop_step(desk.namespace, "S", dead_letters=True, most=1).is_gone

    assert desk.decide("redelivered", *letters) == ["gone", "undeclared"]

    desk.declare("S", window=8)
    assert desk.decide("redelivered", letters[1]) == ["settled"]
    assert len(desk.read("S", 10)) == 1


def test_a_paused_subscriber_gets_what_is_delivered_again_when_it_goes_on(desk: Desk) -> None:
    desk.declare("S")
    (letter,) = desk.bury("S", event())
    steer(desk.namespace, "S", paused=True)

    desk.decide("redelivered", letter)

    assert desk.read("S") == []
    steer(desk.namespace, "S", paused=False)
    assert desk.order("S") == ["e1:1"]


def test_what_is_delivered_again_waits_for_room_at_the_head_of_its_lane(desk: Desk) -> None:
    desk.declare("S", window=1)
    letters = desk.bury("S", event("e1"))
    desk.publish(event("e2"), event("e3"), event("other", project="p2"))

    desk.decide("redelivered", *letters)

    assert desk.client.xlen(desk.keys("queue", "S")) == 1
    assert desk.order("S") == ["e2:0", "e1:1", "other:0", "e3:0"]


# ordered lanes


def test_a_letter_that_blocks_its_lane_hands_the_hold_to_its_new_name(desk: Desk) -> None:
    desk.declare("S", ordering="project", on_dead="block")
    (letter,) = desk.bury("S", event("e1"), event("e2"), event("e3"), event("free", project="p2"))[:1]
    assert desk.letters.holders([letter]) == [f"{letter.event_position}:0"]

    desk.decide("redelivered", letter)

    assert desk.client.hget(desk.keys("held", "S"), "p1") == b"%d:1" % letter.event_position
    assert desk.order("S") == ["e1:1", "e2:0", "e3:0"]
    assert desk.client.hlen(desk.keys("held", "S")) == 1, "the other project is blocked still"


@pytest.mark.parametrize("decision", ["discarded", "purged"])
def test_a_lane_goes_on_when_the_letter_that_blocks_it_is_given_up(desk: Desk, decision: str) -> None:
    desk.declare("S", ordering="project", on_dead="block")
    (letter,) = desk.bury("S", event("e1"), event("e2"), event("e3"))

    assert desk.decide(decision, letter) == ["settled"]

    assert desk.order("S") == ["e2:0", "e3:0"]
    outcome = desk.last_outcome()
    assert desk.client.hlen(desk.keys("held", "S")) == 0
    assert outcome.state == "done"


def test_giving_a_letter_up_releases_no_lane_that_another_holds(desk: Desk) -> None:
    desk.declare("S", ordering="project", on_dead="skip")
    (letter,) = desk.bury("S", event("e1"))
    desk.publish(event("e2"), event("e3"))
    (running,) = desk.read("S")

    desk.decide("discarded", letter)

    assert desk.read("S", 10) == []
    desk.settle(running)
    assert desk.order("S") == ["e3:0"]


def test_a_letter_whose_lane_another_holds_waits_at_its_head(desk: Desk) -> None:
    desk.declare("S", ordering="project", on_dead="skip")
    (letter,) = desk.bury("S", event("e1"))
    desk.publish(event("e2"), event("e3"))
    (running,) = desk.read("S")

    desk.decide("redelivered", letter)

    assert desk.read("S", 10) == []
    desk.settle(running, action="again", state=AttemptState.RETRIED, attempts=1)
    assert desk.order("S") == ["e2:0", "e1:1", "e3:0"]


def test_letters_of_one_lane_come_back_in_history_order_in_whatever_order_they_are_asked(desk: Desk) -> None:
    desk.declare("S", window=8, ordering="project", on_dead="skip")
    desk.publish(*(event(f"e{n}") for n in range(9)))
    for _ in range(6):
        desk.kill(desk.read("S")[0])
    letters = desk.open("S")
    (running,) = desk.read("S")

    desk.decide("redelivered", letters[4], letters[1])
    desk.decide("redelivered", letters[0])
    desk.decide("redelivered", letters[5], letters[2], letters[3])

    desk.settle(running)
    assert desk.order("S") == ["e0:1", "e1:1", "e2:1", "e3:1", "e4:1", "e5:1", "e7:0", "e8:0"]


def test_letters_of_several_lanes_decided_at_once_go_between_what_waits_in_history_order(desk: Desk) -> None:
    desk.declare("S", window=8, ordering="project")
    desk.publish(*(event(f"e{n}", project=f"p{n % 2}") for n in range(40)))
    for n in range(24):
        for lease in desk.read("S", 2):
            desk.kill(lease) if n % 3 else desk.settle(lease, action="again", state=None)
    letters = desk.open("S")
    steer(desk.namespace, "S", paused=True)

    desk.decide("redelivered", *letters[1::3])
    desk.decide("redelivered", *reversed(letters))

    steer(desk.namespace, "S", paused=False)
    order = [int(name.partition(":")[0][1:]) for name in desk.order("S")]
    assert sorted(order) == list(range(40))
    for parity in (0, 1):
        holder, *behind = [n for n in order if n % 2 == parity]
        assert holder == 32 + parity
        assert behind == sorted(behind)


def test_letters_that_go_into_the_middle_of_a_long_lane_take_several_calls(desk: Desk) -> None:
    desk.declare("S", window=1, ordering="project")
    letters = desk.bury_first("S", 60)
    desk.publish(*(event(f"later{n}") for n in range(4000)))
    steer(desk.namespace, "S", paused=True)
    lane = desk.keys("lane", "S", "p1")
    early = [b"%d\t0\t0\t0\tA\tr\tp1\t0\t\n{}" % n for n in range(3000)]
    desk.client.lpush(lane, *reversed(early))
    raw = [part for letter in letters for part in (letter.subscriber, letter.entry_id, "", "", "")]

    first = desk.namespace.call("resolve", "redelivered", "ann", "", *raw)
    assert 0 < first.count(b"settled\t1") < 60
    assert first.count(b"LATER") == 60 - first.count(b"settled\t1")
    desk.decide("redelivered", *letters)

    positions = [int(frame.partition(b"\t")[0]) for frame in desk.client.lrange(lane, 0, -1)]
    assert positions == sorted(positions)
    assert len(positions) == 7060


def test_a_letter_comes_back_into_the_lane_that_todays_ordering_tells(desk: Desk) -> None:
    desk.declare("S", window=8)
    key = {"metadata": {"order_key": "k", "priority": 5}}
    letters = desk.bury("S", event("e1", **key), event("e2", project="p2", **key))
    desk.declare("S", window=8, ordering="order_key")
    desk.publish(event("e3", project="p3", **key))

    desk.decide("redelivered", *letters)

    assert desk.client.hkeys(desk.keys("held", "S")) == [b"k"]
    assert desk.order("S") == ["e3:0", "e1:1", "e2:1"]


# joins


def test_a_letter_that_comes_back_is_under_way_again_in_the_join_that_waits_for_it(desk: Desk) -> None:
    desk.declare("Painter")
    desk.declare("Other")
    declare(desk.namespace, Declared("Editor", ("A",), SubscriberOptions(join=Join(("I",), 3600)).record()), 100)
    (letter,) = desk.bury("Painter", event())
    (other,) = desk.read("Other")
    assert desk.read("Editor") == []

    desk.decide("redelivered", letter)
    desk.settle(other)
    assert desk.read("Editor") == []
    (painting,) = desk.read("Painter")
    desk.settle(painting, [event("i1", "I", causation_id="e1")])

    (joining,) = desk.read("Editor")
    joined = desk.as_("w").joined(joining)
    assert ([one.event_id for one in joined.events], joined.complete) == (["i1"], True)


def test_a_join_that_died_incomplete_goes_on_joining_and_is_forgotten_when_it_is_given_up(desk: Desk) -> None:
    desk.declare("Painter")
    declare(desk.namespace, Declared("Editor", ("A",), SubscriberOptions(join=Join(("I",), 3600)).record()), 100)
    desk.bury("Painter", event())
    desk.kill(*desk.read("Editor"))
    (letter,) = desk.open("Editor")
    desk.publish(event("i1", "I", causation_id="e1"))

    desk.decide("redelivered", letter)

    (joining,) = desk.read("Editor")
    assert [one.event_id for one in desk.as_("w").joined(joining).events] == ["i1"]
    desk.kill(joining)
    desk.decide("discarded", *desk.open("Editor"))
    assert not list(desk.client.scan_iter(f"{desk.keys.prefix}join*"))


def test_the_letters_of_a_dropped_subscriber_are_decided_with_it(desk: Desk) -> None:
    desk.declare("S")
    first, second = desk.bury("S", event(), event("e2", project="p2"))

    step = drop_step(desk.namespace, "S", dead_letters=True)

    assert (step.dead_letters, step.is_gone) == (2, True)
    entries: Any = desk.client.xrange(desk.keys("outcomes"))
    dropped = [read_outcome(*entry) for entry in entries][2:]
    assert [(one.letter, one.attempt, one.resolution) for one in dropped if not isinstance(one, Rejected)] == [
        (first.position, 0, "dropped"), (second.position, 0, "dropped"),
    ]  # fmt: skip
    assert desk.decide("redelivered", first) == ["gone"]


# hostile keys, servers that refuse, large batches


@pytest.mark.parametrize("decision", DECISIONS)
def test_a_namespace_that_was_lost_is_answered_with_epoch_and_not_written_to(desk: Desk, decision: str) -> None:
    desk.declare("S")
    (letter,) = desk.bury("S", event())
    before = desk.everything()

    reply = desk.namespace.scripts.call("resolve", ["another", decision, "ann", "", "S", letter.entry_id, "", "", ""])

    assert reply == b"EPOCH"
    assert desk.everything() == before
    desk.client.flushall()
    desk.namespace.may_restore = False
    desk.namespace._reset_wait_s = 0
    desk.namespace._remembered = lambda: type("Known", (), {"is_new": False})()
    with pytest.raises(HistoryReset):
        desk.decide("redelivered", letter)


@pytest.mark.parametrize("decision", DECISIONS)
@pytest.mark.parametrize(
    "parts",
    [
        ("meta",), ("clock",), ("outcomes",), ("dead", "S"), ("dead", "T"), ("queue", "S"), ("queue", "T"),
        ("lanes", "S"), ("lanes", "T"), ("held", "S"), ("held", "T"), ("sub", "S"), ("sub", "T"), ("lane", "S", "p1"),
        ("lane", "T", "p1"), ("join", "Editor", "?"), ("joined", "Editor", "?"), ("joins", "Editor"),
    ],
    ids=":".join,
)  # fmt: skip
def test_a_wrong_type_is_an_error_before_the_first_write(desk: Desk, parts: tuple[str, ...], decision: str) -> None:
    for name in ("S", "T"):
        desk.declare(name, ordering="project", on_dead="block")
    declare(desk.namespace, Declared("Editor", ("A",), SubscriberOptions(join=Join(("I",), 3600)).record()), 100)
    desk.publish(event(), event("later"))
    for name in ("S", "T"):
        desk.kill(desk.read(name)[0])
    letters = desk.open("S", "T")
    if parts[0] in ("join", "joined"):
        parts = (parts[0], parts[1], str(letters[0].event_position))
    if parts[0].startswith("join") and decision != "redelivered":
        return  # a join of others is touched by nothing that stays dead
    key = desk.keys(parts[0], *parts[1:])
    is_list = desk.client.type(key) == b"list" or parts[0] in ("lane", "joined")
    desk.client.delete(key)
    desk.client.set(key, "wrong") if is_list else desk.client.rpush(key, "wrong")
    before = desk.everything()
    told = [part for letter in letters for part in (letter.subscriber, letter.entry_id, "e1", "p1", "")]

    with pytest.raises(ScriptFailed):
        desk.namespace.scripts.call("resolve", [desk.namespace._epoch, decision, "ann", "", *told])

    assert desk.everything() == before


def test_a_joins_letter_is_given_up_whole_or_not_at_all(desk: Desk) -> None:
    declare(desk.namespace, Declared("Editor", ("A",), SubscriberOptions(join=Join(("I",), 3600)).record()), 100)
    letters = desk.bury("Editor", event())
    desk.client.set(desk.keys("joins", "Editor"), "wrong")
    before = desk.everything()

    with pytest.raises(ScriptFailed):
        desk.decide("discarded", *letters)

    assert desk.everything() == before


@pytest.mark.parametrize("decision", DECISIONS)
def test_a_full_server_lets_operators_decide(desk: Desk, decision: str) -> None:
    desk.declare("S", ordering="project", on_dead="block")
    letters = desk.bury("S", event("e1"), event("e2", project="p2"))
    desk.publish(event("e3"))
    full(desk.client)

    assert desk.decide(decision, *letters) == ["settled", "settled"]

    wanted = ["e1:1", "e2:1", "e3:0"] if decision == "redelivered" else ["e3:0"]
    assert sorted(desk.order("S")) == wanted


def test_a_replica_refuses_and_keeps_the_letter(desk: Desk) -> None:
    desk.declare("S")
    (letter,) = desk.bury("S", event())
    before = desk.everything()
    desk.client.replicaof("127.0.0.1", "1")

    with pytest.raises(ScriptFailed, match=r"(?i)read ?only"):
        desk.decide("redelivered", letter)

    assert desk.everything() == before


def test_letters_too_large_for_one_call_are_sent_in_several(desk: Desk) -> None:
    desk.declare("S", window=None)
    letters = desk.bury("S", *(event(f"e{n}", payload={"text": "x" * (3 * MIB)}) for n in range(5)))
    raw = [part for letter in letters for part in (letter.subscriber, letter.entry_id, "", "", "")]
    first = desk.namespace.call("resolve", "discarded", "ann", "", *raw)
    assert first == [b"settled\t0"] * 3 + [b"LATER"] * 2
    assert len(desk.open("S")) == 2

    assert desk.decide("redelivered", *letters) == ["gone"] * 3 + ["settled"] * 2
    assert len(desk.read("S", 10)) == 2


def test_more_letters_than_one_call_takes_are_answered_in_their_order(desk: Desk) -> None:
    desk.declare("S", window=250, ordering="order_key")
    letters = desk.bury("S", *(event(f"e{n}") for n in range(250)))

    assert desk.decide("redelivered", *letters[::2]) == ["settled"] * 125
    assert desk.decide("redelivered", *letters) == ["gone", "settled"] * 125
