"""What operators do to a subscriber, in Redis and in the store: steering, dropping, removing types."""

from __future__ import annotations

import json
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Engine

from events.deliveries import Deliveries, Settlement
from events.dropping import Step, drop_step
from events.errors import DropRefused, ScriptFailed, StoreUnavailable, UnknownSubscriber
from events.event import Event
from events.frame import Lease
from events.namespace import Declared
from events.publisher import Publisher
from events.records import AttemptState, LetterFilter
from events.routes import declare
from events.standing import standings
from events.steering import steer, until_heeded
from events.stream import HistoryStream
from store.archive import Archive
from store.dead_letters import StoredLetters
from store.engine import open_engine
from store.statistics import Statistics
from tests.model.filling import FROM_THE_BEGINNING, Bench
from workers.operating import drop, remove_types, steer_durably


def steered(bench: Bench, name: str, **changes: Any) -> int:
    done = steer_durably(bench.namespace, bench.registry, name, **changes)
    assert done.trouble == ""
    return done.taken_back


def kept(bench: Bench, name: str) -> dict[str, str]:
    return {row.subscriber: row.steering for row in bench.registry.all()}[name]


def lease(bench: Bench, name: str, count: int = 1) -> list[Lease]:
    return Deliveries(bench.namespace, "w", 100).read([name], count, None)


def settle(bench: Bench, lease: Lease, **how: Any) -> Any:
    given = {"action": "end", "state": AttemptState.DONE, **how}
    return Deliveries(bench.namespace, "w", 100).settle([Settlement(lease, **given)])[0]


def outcomes(bench: Bench) -> list[tuple[str, ...]]:
    """(position, subscriber, redelivery, attempt, state, worker) of each."""
    return [tuple(f[b"o"].decode().split("\t")[:6]) for _, f in bench.client.xrange(bench.keys("outcomes"))]


def beat(bench: Bench, consumer: str, types: dict[str, list[str]], paused: tuple[str, ...] = ()) -> None:
    said = json.dumps({"types": types, "paused": paused})
    Deliveries(bench.namespace, consumer, 100).promote(dict.fromkeys(types, 0), beat=said)


def mine(bench: Bench, name: str) -> list[str]:
    """Every key of a subscriber, and every set that names it."""
    left = []
    for key in map(bytes.decode, bench.client.scan_iter(f"{bench.keys.prefix}*", 5000)):
        is_its_own = name in key.removeprefix(bench.keys.prefix).split(":")
        if is_its_own or (bench.client.type(key) == b"set" and bench.client.sismember(key, name)):
            left.append(key)
    return left


# steering


def test_what_an_operator_sets_holds_after_redis_was_lost(bench: Bench) -> None:
    bench.declare("S", "A", window=7)
    bench.declare("Other", "A")

    steered(bench, "S", paused=True, concurrency=3, rate_limit=2.5)
    bench.client.flushall()
    bench.publish(5)

    (found,) = standings(bench.namespace, ["S"])
    assert found.queue.is_paused and found.queue.ready == 0 and found.queue.waiting == 5
    assert (found.concurrency.holds, found.concurrency.declared, found.rate.holds) == (3, 7, 2.5)
    assert len(bench.handled("Other")) == 5
    bench.declare("S", "A", window=9)
    assert bench.handled("S") == [], "a worker that declares it changes nothing of that"


def test_what_is_given_back_to_the_code_is_forgotten_in_both_places(bench: Bench) -> None:
    bench.declare("S", "A", window=7)
    steered(bench, "S", paused=True, concurrency=None, rate_limit=9)
    assert kept(bench, "S") == {"paused": "1", "set_concurrency": "", "set_rate": "9.0"}

    steered(bench, "S", paused=False, concurrency="code", rate_limit="code")

    assert kept(bench, "S") == {}
    (found,) = standings(bench.namespace, ["S"])
    assert not found.queue.is_paused and not found.concurrency.is_set and found.concurrency.holds == 7


def test_steering_does_not_touch_where_a_back_fill_began(bench: Bench) -> None:
    bench.declare("S", "A", steering=FROM_THE_BEGINNING)

    steered(bench, "S", paused=True)

    assert kept(bench, "S") == FROM_THE_BEGINNING | {"paused": "1", "first_redelivery": "10000"}


def test_steering_whom_nobody_declared_changes_nothing_anywhere(bench: Bench) -> None:
    with pytest.raises(UnknownSubscriber, match="'S'"):
        steer_durably(bench.namespace, bench.registry, "S", paused=True)

    assert bench.registry.all() == []


def test_a_store_that_is_away_keeps_nobody_from_pausing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.declare("S", "A")
    away = open_engine("postgresql://nobody:nothing@127.0.0.1:1/none", timeout_s=1)
    monkeypatch.setattr(bench.registry, "_engine", away)

    done = steer_durably(bench.namespace, bench.registry, "S", paused=True)

    assert "cannot be used" in done.trouble
    assert standings(bench.namespace, ["S"])[0].queue.is_paused
    away.dispose()


def test_operators_that_steer_at_once_leave_both_places_agreeing(bench: Bench) -> None:
    bench.declare("S", "A")

    def toggle(paused: bool) -> None:
        for _ in range(15):
            steered(bench, "S", paused=paused)

    threads = [threading.Thread(target=toggle, args=(paused,)) for paused in (True, False)]
    [thread.start() for thread in threads]
    [thread.join(60) for thread in threads]

    assert ("paused" in kept(bench, "S")) == standings(bench.namespace, ["S"])[0].queue.is_paused


def test_a_pause_is_heeded_when_everybody_who_holds_something_has_said_so(bench: Bench) -> None:
    bench.declare("S", "A")
    bench.publish(3)
    for consumer in ("w1", "w2", "idle"):
        beat(bench, consumer, {"S": ["A"]})
    held = [Deliveries(bench.namespace, consumer, 100).read(["S"], 1, None)[0] for consumer in ("w1", "w2")]
    steer(bench.namespace, "S", paused=True)

    assert until_heeded(bench.namespace, "S", 0.1) == ("w1", "w2"), "who holds nothing can start nothing"
    with ThreadPoolExecutor() as pool:
        for paused, still in ((("S",), ("w2",)), ((), ("w1", "w2"))):
            beat(bench, "w1", {"S": ["A"]}, paused=("S",))  # of an earlier pause, perhaps
            waiting = pool.submit(until_heeded, bench.namespace, "S", 2.0)
            while not waiting.done():
                beat(bench, "w1", {"S": ["A"]}, paused=paused)
            assert waiting.result() == still
    for consumer, lease in zip(("w1", "w2"), held, strict=True):
        Deliveries(bench.namespace, consumer, 100).settle([Settlement(lease, "again", None)])
    assert until_heeded(bench.namespace, "S", 0.1) == ()


# dropping


def test_a_dropped_subscriber_leaves_nothing_but_an_outcome_for_each_delivery(bench: Bench, engine: Engine) -> None:
    for name, options in {"S": {"window": 4}, "Ordered": {"window": 4, "ordering": "project"}, "Stays": {}}.items():
        bench.declare(name, "A", "B", **options)
    bench.publish(30)
    for name in ("S", "Ordered"):
        settle(bench, lease(bench, name)[0])
        settle(bench, lease(bench, name)[0], action="again", state=AttemptState.RETRIED, attempts=1, delay_us=10**12)
    before = {bench.keys("history"), bench.keys("clock")}

    gone = [drop(bench.namespace, bench.registry, name) for name in ("S", "Ordered")]

    assert [(found.deliveries, found.dead_letters, found.is_back) for found in gone] == [(29, 0, False)] * 2
    assert mine(bench, "S") == mine(bench, "Ordered") == []
    assert before <= {key.decode() for key in bench.client.keys(f"{bench.keys.prefix}*")}
    assert [row.subscriber for row in bench.registry.all()] == ["Stays"]
    assert len(bench.handled("Stays")) == 30
    said = Counter((name, state) for _, name, _, _, state, _ in outcomes(bench) if name != "Stays")
    assert said == {
        ("S", "done"): 1, ("S", "retried"): 1, ("S", "dropped"): 29,
        ("Ordered", "done"): 1, ("Ordered", "retried"): 1, ("Ordered", "dropped"): 29,
    }  # fmt: skip
    bench.archive()
    while bench.archiver.step("outcomes").entries:
        pass
    found = {one.subscriber: one for one in Statistics(engine, bench.name, None).deliveries()}
    assert (found["S"].dropped, found["S"].done, found["S"].waiting) == (29, 1, 0)


def test_a_drop_goes_in_bounded_steps_and_can_be_taken_up_again(bench: Bench) -> None:
    bench.declare("S", "A", window=10, ordering="order_key")
    bench.publish(70)
    first = drop_step(bench.namespace, "S", most=25)
    assert first == Step(25, 0, is_gone=False)

    bench.publish(5)
    assert lease(bench, "S", 100) == [], "nothing more begins, and nothing more comes"
    steps = []
    drop(bench.namespace, bench.registry, "S", progress=steps.append)

    assert sum(step.deliveries for step in steps) == 45
    assert mine(bench, "S") == []
    with pytest.raises(UnknownSubscriber):
        drop(bench.namespace, bench.registry, "S")
    assert bench.registry.all() == []


def test_a_drop_ends_no_more_large_deliveries_in_a_step_than_the_server_can_bear(bench: Bench) -> None:
    bench.declare("S", "A", window=20)
    for _ in range(30):
        bench.publish(1, payload={"text": "x" * 900_000})
    for held in lease(bench, "S", 12):
        settle(bench, held, action="dead", state=AttemptState.DEAD)

    steps = [drop_step(bench.namespace, "S", dead_letters=True)]
    while not steps[-1].is_gone:
        steps.append(drop_step(bench.namespace, "S", dead_letters=True))

    assert max(step.deliveries + step.dead_letters for step in steps) <= 9, "some 8 MB, and the one that exceeds them"
    assert sum(step.deliveries for step in steps) == 18
    assert sum(step.dead_letters for step in steps) == 12
    assert mine(bench, "S") == []


def test_a_drop_that_was_cut_short_before_the_store_forgot_is_finished_by_repeating_it(bench: Bench) -> None:
    bench.declare("S", "A")
    while not drop_step(bench.namespace, "S").is_gone:
        pass

    assert drop(bench.namespace, bench.registry, "S").deliveries == 0
    assert bench.registry.all() == []


@pytest.mark.parametrize("most", [1, 3, 7])
def test_code_that_declares_a_subscriber_half_dropped_gets_what_is_left_in_order(bench: Bench, most: int) -> None:
    bench.declare("S", "A", window=2, ordering="project")
    bench.publish(12)
    drop_step(bench.namespace, "S", most=most)

    bench.declare("S", "A", window=2, ordering="project")
    beat(bench, "w1", {"S": ["A"]})  # a worker tends it

    left = bench.handled("S")
    assert len(left) == 12 - most
    for lane in range(3):
        numbers = [int(event_id[1:]) for event_id in left if int(event_id[1:]) % 3 == lane]
        assert numbers == sorted(numbers)
    assert bench.publish(1) == bench.handled("S")


def test_what_workers_hold_is_dropped_only_by_force_and_their_settling_is_refused(bench: Bench) -> None:
    bench.declare("S", "A")
    bench.publish(3)
    (held,) = lease(bench, "S")
    before = {key: bench.client.dump(key) for key in bench.client.scan_iter(f"{bench.keys.prefix}*", 5000)}

    with pytest.raises(DropRefused, match="Workers hold 1 deliveries of 'S'"):
        drop(bench.namespace, bench.registry, "S")
    assert {key: bench.client.dump(key) for key in before} == before

    assert drop(bench.namespace, bench.registry, "S", force=True).deliveries == 3
    said = {(attempt, worker) for _, _, _, attempt, state, worker in outcomes(bench) if state == "dropped"}
    assert said == {("1", "w"), ("0", "")}
    bench.declare("S", "A")
    assert settle(bench, held) == "refused"


def test_what_workers_held_of_a_dropped_subscriber_is_lost_and_their_other_leases_go_on(bench: Bench) -> None:
    bench.declare("S", "A")
    bench.declare("T", "A")
    bench.publish(1)
    (dropped,), (other,) = lease(bench, "S"), lease(bench, "T")
    worker = Deliveries(bench.namespace, "w", 100)

    drop(bench.namespace, bench.registry, "S", force=True)

    assert worker.renew([dropped, other]) == [dropped]
    assert worker.begin(dropped) == 0
    ends = [Settlement(one, "end", AttemptState.DONE) for one in (dropped, other)]
    assert worker.settle(ends) == ["refused", "settled"]
    assert mine(bench, "S") == []


def test_a_worker_that_reads_from_a_queue_that_is_gone_is_told_so(bench: Bench) -> None:
    bench.declare("S", "A")
    drop(bench.namespace, bench.registry, "S")

    with pytest.raises(ScriptFailed) as error:
        lease(bench, "S")

    assert error.value.code == "NOGROUP"


def test_dead_letters_are_removed_only_when_asked(bench: Bench, engine: Engine) -> None:
    bench.declare("S", "A", ordering="project", on_dead="block")
    bench.publish(4)
    settle(bench, lease(bench, "S")[0], action="dead", state=AttemptState.DEAD, reason="broken")

    with pytest.raises(DropRefused, match="1 dead letters of 'S' are kept"):
        drop(bench.namespace, bench.registry, "S")
    gone = drop(bench.namespace, bench.registry, "S", dead_letters=True)

    assert (gone.deliveries, gone.dead_letters) == (3, 1)
    assert mine(bench, "S") == []
    bench.archive()
    while bench.archiver.step("outcomes").entries:
        pass
    (letter,) = StoredLetters(engine, bench.name).iterate(LetterFilter())
    assert (letter.reason, letter.resolution) == ("broken", "dropped")


def test_a_drop_is_refused_while_live_workers_take_the_subscriber(bench: Bench) -> None:
    bench.declare("S", "A")
    bench.publish(1)
    beat(bench, "w1", {"S": ["A"]})

    with pytest.raises(DropRefused, match="1 live workers take 'S'"):
        drop(bench.namespace, bench.registry, "S")
    assert drop(bench.namespace, bench.registry, "S", force=True).deliveries == 1
    beat(bench, "w1", {"S": ["A"]})
    bench.declare("S", "A", steering=FROM_THE_BEGINNING)
    assert bench.state("S") == (b"backfill", b"0"), "what a worker still says of it makes no record"


def test_joins_that_wait_for_a_dropped_subscriber_are_told_that_something_is_missing(bench: Bench) -> None:
    bench.declare("Work", "A")
    declare(bench.namespace, Declared("Join", ("A",), {"join_of": "OUT", "join_timeout": "3600000000"}), 100)
    (root,) = bench.publish(1)

    drop(bench.namespace, bench.registry, "Work")

    (joined,) = lease(bench, "Join")
    assert joined.event_id == root
    found = Deliveries(bench.namespace, "w", 100).joined(joined)
    assert (found.why, found.dead) == ("dead", 1)


def test_a_dropped_join_leaves_nothing(bench: Bench) -> None:
    bench.declare("Work", "A")
    declare(bench.namespace, Declared("Join", ("A",), {"join_of": "OUT", "join_timeout": "3600000000"}), 100)
    bench.publish(3)
    settle(bench, lease(bench, "Work")[0])
    assert bench.client.zcard(bench.keys("joins", "Join")) == 2

    assert drop(bench.namespace, bench.registry, "Join").deliveries == 3

    assert mine(bench, "Join") == []
    assert len(bench.handled("Work")) == 2


def test_a_join_that_is_let_go_while_its_subscriber_is_dropped_is_not_handed_to_a_worker(bench: Bench) -> None:
    bench.declare("Work", "A")
    declare(bench.namespace, Declared("Join", ("A",), {"join_of": "OUT", "join_timeout": "3600000000"}), 100)
    (first,) = bench.publish(1)
    bench.publish(1, causation_id=first)
    outer, inner = lease(bench, "Work", 2)
    assert [settle(bench, inner), settle(bench, outer)] == ["settled"] * 2
    assert bench.client.xlen(bench.keys("queue", "Join")) == 1, "the inner one is ready, and the outer waits for it"

    assert drop_step(bench.namespace, "Join", most=1) == Step(1, 0, is_gone=False)

    assert lease(bench, "Join") == []
    assert drop(bench.namespace, bench.registry, "Join").deliveries == 1
    assert mine(bench, "Join") == []


def test_what_workers_still_say_of_a_dropped_subscriber_makes_nothing_of_it(bench: Bench) -> None:
    bench.declare("S", "A")
    bench.declare("T", "A")
    bench.publish(1)
    worker = Deliveries(bench.namespace, "w", 100)
    drop(bench.namespace, bench.registry, "S")

    worker.promote({"S": 2, "T": 1})
    worker.reap(["S", "T"], 1000, 10)

    assert mine(bench, "S") == []
    assert bench.client.hget(bench.keys("running", "T"), "w") == b"1"


def test_what_is_no_delivery_is_dropped_too(bench: Bench) -> None:
    bench.declare("S", "A")
    bench.client.xadd(bench.keys("queue", "S"), {"f": "no frame"})
    bench.client.xadd(bench.keys("queue", "S"), {"x": "y"})

    assert drop(bench.namespace, bench.registry, "S").deliveries == 2
    assert mine(bench, "S") == []
    ended = HistoryStream(bench.namespace).entries_after("outcomes", "0-0", 10)
    assert [record.event_position for _, record in ended] == [0, 0]  # type: ignore[union-attr]


def test_a_full_server_lets_a_subscriber_be_dropped(bench: Bench) -> None:
    bench.declare("S", "A")
    bench.publish(20)
    bench.client.config_set("maxmemory", 1)

    while not drop_step(bench.namespace, "S", most=7).is_gone:
        pass

    assert mine(bench, "S") == []


def test_a_key_of_a_wrong_type_is_an_error_before_the_first_write(bench: Bench) -> None:
    bench.declare("S", "A", ordering="project", window=1)
    bench.publish(9)
    bench.client.delete(bench.keys("delayed", "S"))
    bench.client.set(bench.keys("delayed", "S"), "wrong")

    with pytest.raises(Exception, match="WRONGTYPE"):
        drop_step(bench.namespace, "S")

    assert bench.client.smembers(bench.keys("routes", "A")) == {b"S"}
    assert outcomes(bench) == []


# types


def test_removing_types_stops_what_comes_and_leaves_what_waits(bench: Bench, engine: Engine) -> None:
    bench.declare("S", "A", "B")
    waiting = bench.publish(2, "B")

    assert remove_types(bench.namespace, bench.registry, "S", ["B", "never"]) == ["B"]

    bench.publish(1, "B")
    assert bench.handled("S") == waiting
    assert bench.publish(1, "A") == bench.handled("S")
    assert bench.registry.all()[0].types == ["A"]
    with pytest.raises(UnknownSubscriber):
        remove_types(bench.namespace, bench.registry, "Nobody", ["A"])


# how they stand


def test_how_a_subscriber_stands_is_told_from_its_record_its_queue_and_the_beats(bench: Bench) -> None:
    bench.declare("S", "A", "B", window=5)
    bench.declare("Filled", "A", steering={"state": "backfill", "cursor": "12"})
    assert standings(bench.namespace)[1].quiet_s is None
    bench.publish(3)
    beat(bench, "w1", {"S": ["A"]})

    filled, found = standings(bench.namespace)

    assert (filled.queue.subscriber, filled.filled_to, filled.is_orphaned) == ("Filled", 12, True)
    assert (found.workers, found.undeclared, found.is_orphaned) == (("w1",), ("B",), False)
    assert found.queue.ready == 3 and not found.is_idle(0)
    bench.handled("S")
    found = standings(bench.namespace, ["S"])[0]
    assert found.quiet_s is not None and found.is_idle(0) and not found.is_idle(3600)
    with pytest.raises(UnknownSubscriber, match="'Nobody'"):
        standings(bench.namespace, ["Nobody"])


def test_a_beat_that_cannot_be_read_shows_a_worker_that_takes_nothing(bench: Bench) -> None:
    bench.declare("S", "A")
    for consumer, said in (("w1", "no json"), ("w2", "[]"), ("w3", '{"types": 7}'), ("w4", '{"types": {"S": 1}}')):
        Deliveries(bench.namespace, consumer, 100).promote({"S": 0}, beat=said)

    assert standings(bench.namespace, ["S"])[0].workers == ()


def test_archived_states_are_the_same_whoever_is_first(bench: Bench, engine: Engine) -> None:
    bench.declare("S", "A")
    bench.publish(2)
    drop(bench.namespace, bench.registry, "S")

    bench.archiver.step("outcomes")
    bench.archive()

    (found,) = Statistics(engine, bench.name, None).deliveries()
    assert (found.subscriber, found.dropped, found.waiting, found.attempts) == ("S", 2, 0, 0)
    assert Archive(engine, bench.name).cursor("history").position > 0


def test_a_store_that_cannot_be_reached_drops_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.declare("S", "A")
    bench.publish(2)
    away = open_engine("postgresql://nobody:nothing@127.0.0.1:1/none", timeout_s=1)
    monkeypatch.setattr(bench.registry, "_engine", away)

    with pytest.raises(StoreUnavailable):
        drop(bench.namespace, bench.registry, "S")
    assert len(bench.handled("S")) == 2
    away.dispose()


@pytest.mark.parametrize("options", [{}, {"concurrency": "60"}, {"ordering": "project"}])
def test_a_lane_whose_key_was_overwritten_costs_no_other_lane_anything(bench: Bench, options: dict[str, str]) -> None:
    declare(bench.namespace, Declared("S", ("A",), options), 100)
    steered(bench, "S", paused=True)
    publisher = Publisher(bench.namespace, 1 << 20, 100)
    lanes = [f"P{n:02}" for n in range(50)]
    publisher.publish_many(
        [Event(event_id=f"{lane}-{n}", project_id=lane, type="A", actor="a") for n in range(3) for lane in lanes]
    )
    bench.client.set(bench.keys("lane", "S", "P30"), "written by hand")

    steered(bench, "S", paused=False)
    handled: list[str] = []
    while leases := lease(bench, "S", 200):
        handled += [one.event.event_id for one in leases]
        for one in leases:
            settle(bench, one)

    assert sorted(handled) == sorted(f"{lane}-{n}" for lane in lanes if lane != "P30" for n in range(3))
    assert bench.client.zcard(bench.keys("lanes", "S")) == 0
