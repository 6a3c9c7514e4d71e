"""What Redis has lost and the store remembers is found and put back, once, while others work; and nothing else is."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Engine

from events import mending
from events.context import Handling
from events.dead_letters import DeadLetters
from events.deliveries import Deliveries, Settlement
from events.event import Event
from events.joining import Join
from events.keys import GROUP
from events.namespace import Declared
from events.publisher import event_arguments
from events.records import AttemptState, LetterFilter
from events.redelivery import once
from events.routes import declare
from events.scripts import sources
from events.stream import HistoryStream
from events.subscriptions import SubscriberOptions
from store.deliveries import DeliveryFilter, StoredDeliveries
from store.engine import open_engine
from store.migrate import upgrade
from tests.model.filling import FROM_THE_BEGINNING, Bench
from tests.servers import PostgresServer
from tests.valkey_servers import DebianRedis, ValkeyServer
from tests.waiting import wait_until
from workers.attempt import with_derived_ids
from workers.gaps import Gaps, Repaired, Surveyor


@pytest.fixture(scope="module")
def engine(either_server: ValkeyServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """PostgreSQL beside Valkey, SQLite beside Debian's Redis: what is asked of one has no part in the other."""
    server = None if isinstance(either_server, DebianRedis) else PostgresServer().start()
    file = f"sqlite:///{tmp_path_factory.mktemp('store') / 'store.db'}"
    engine = open_engine(server.create_database() if server else file)
    upgrade(engine)
    yield engine
    engine.dispose()
    if server:
        server.stop()


def surveyor(bench: Bench) -> Surveyor:
    store = StoredDeliveries(bench.engine, bench.name)
    return Surveyor(bench.namespace, HistoryStream(bench.namespace), store)


def found(bench: Bench) -> dict[str, Gaps]:
    """Subscribers about whom store and Redis differ."""
    return {gaps.subscriber: gaps for gaps in surveyor(bench).survey() if not gaps.is_clean}


def repair(bench: Bench) -> list[Repaired]:
    return [surveyor(bench).repair(gaps) for gaps in found(bench).values()]


def put_back(bench: Bench) -> int:
    return sum(repaired.deliveries for repaired in repair(bench))


def archive_all(bench: Bench) -> None:
    for stream in ("history", "outcomes"):
        while bench.archiver.step(stream).entries:  # type: ignore[arg-type]
            pass


def states(bench: Bench, name: str = "S") -> list[tuple[str, int, str, int]]:
    archive_all(bench)
    every = StoredDeliveries(bench.engine, bench.name).iterate(DeliveryFilter(subscriber=name))
    return [(one.event_id, one.redelivery, one.state, one.attempts) for one in every]


def flush(bench: Bench) -> None:
    bench.client.flushall()
    bench.namespace.forget()
    bench.namespace.open()


def everything(bench: Bench) -> dict[bytes, bytes]:
    return {key: bench.client.dump(key) for key in bench.client.scan_iter(f"{bench.keys.prefix}*", 5000)}


def restore(bench: Bench, content: dict[bytes, bytes]) -> None:
    """Make Redis go back to what `everything` returned."""
    bench.client.delete(*everything(bench))
    for key, value in content.items():
        bench.client.restore(key, 0, value)


@contextmanager
def forgotten(bench: Bench) -> Iterator[None]:
    """What is done within, the store knows, and Redis goes back to before it."""
    archive_all(bench)
    before = everything(bench)
    yield
    archive_all(bench)
    restore(bench, before)


def returned(bench: Bench, name: str, kind: str, payload: dict[str, Any]) -> None:
    """Handle one delivery, by returning an event that is given its id."""
    (lease,) = take(bench, name)
    made = Event(type=kind, project_id="p1", actor=name, causation_id=lease.event.event_id, payload=payload)
    (out,) = with_derived_ids([made], Handling(lease.event, name, 1, lease.delivery))
    settle(bench, lease, events=[event_arguments(out, 1 << 20, is_derived=True)])


def declare_join(bench: Bench, name: str, after: str, of: str, timeout: float = 3600.0) -> None:
    record = SubscriberOptions(join=Join((of,), timeout)).record()
    declare(bench.namespace, Declared(name, (after,), record, bench.registry.save(name, (after,), record, {})), 100)


def open_in(bench: Bench) -> list[int]:
    """How many deliveries each open join counts."""
    found = [bench.client.hget(key, "open") for key in bench.client.scan_iter(f"{bench.keys('join')}*", 5000)]
    return [int(count) for count in found]


def seen_by(bench: Bench, name: str) -> tuple[list[str], str]:
    """Take the delivery of a join, and return the types that it has seen, and why it goes."""
    (joining,) = take(bench, name)
    joined = Deliveries(bench.namespace, "w", 100).joined(joining)
    settle(bench, joining)
    return [one.type.value for one in joined.events], joined.why


def time_out(bench: Bench, name: str) -> None:
    wait_until(lambda: bool(Deliveries(bench.namespace, "w", 100).promote({name: 0})), 20, "the clock to go on")


def retry_dead_letters(bench: Bench) -> None:
    letters = DeadLetters(bench.namespace)
    letters.decide("redelivered", list(letters.iterate(LetterFilter())), "ann")


def take(bench: Bench, name: str = "S", count: int = 1, consumer: str = "w") -> Any:
    return Deliveries(bench.namespace, consumer, 100).read([name], count, None)


def settle(bench: Bench, lease: Any, action: str = "end", state: AttemptState = AttemptState.DONE, **how: Any) -> None:
    item = Settlement(lease, action, state, **how)  # type: ignore[arg-type]
    assert Deliveries(bench.namespace, "w", 100).settle([item]) == ["settled"]


def test_after_flushall_what_nobody_finished_is_delivered_again_under_its_own_name_and_nothing_else(
    bench: Bench,
) -> None:
    bench.declare("S", "A")
    published = bench.publish(250)
    done = bench.handled("S", 40)
    take(bench)
    archive_all(bench)
    flush(bench)
    (gaps,) = found(bench).values()
    assert (len(gaps.lost), gaps.is_declared, gaps.can_be_mended) == (210, True, True)

    assert put_back(bench) == 210
    assert not found(bench) and put_back(bench) == 0

    again = bench.handled("S")
    assert sorted(again) == sorted(set(published) - set(done))
    assert states(bench) == [(event_id, 0, "done", 1) for event_id in published]
    assert not found(bench)


def test_nothing_is_missing_wherever_a_delivery_is(bench: Bench) -> None:
    """Ready, leased, waiting, to be retried, dead, settled and not archived: all of it is there."""
    bench.declare("S", "A", window=3)
    bench.declare("Ordered", "A", ordering="project", on_dead="block")
    bench.publish(20)
    archive_all(bench)
    first, second, third = take(bench, count=3)
    settle(bench, first)
    settle(bench, second, "again", AttemptState.RETRIED, delay_us=600_000_000, attempts=1)
    settle(bench, third, "dead", AttemptState.DEAD)
    take(bench)
    (held,) = take(bench, "Ordered")
    settle(bench, held, "dead", AttemptState.DEAD)
    before = everything(bench)

    assert not found(bench)
    assert put_back(bench) == 0
    assert everything(bench) == before
    archive_all(bench)
    assert not found(bench)


def test_ordered_lanes_are_put_back_in_history_order_before_what_has_been_published_since(bench: Bench) -> None:
    bench.declare("S", "A", ordering="project")
    old = bench.publish(30)
    archive_all(bench)
    flush(bench)
    new = bench.publish(30)

    assert put_back(bench) == 30

    order = bench.handled("S")
    assert sorted(order) == sorted(old + new)
    for lane in range(3):
        numbers = [int(event_id[1:]) for event_id in order if int(event_id[1:]) % 3 == lane]
        begun = numbers.pop(0)  # of what is new the first was in the window before anything was put back
        assert begun == 30 + lane and numbers == sorted(numbers)


def test_a_retry_of_a_dead_letter_and_a_delivery_again_keep_their_numbers(bench: Bench) -> None:
    from tests.model.test_redelivery import EVERYTHING, redelivery

    bench.declare("S", "A")
    bench.publish(2)
    one, other = take(bench, count=2)
    settle(bench, one, "dead", AttemptState.DEAD)
    settle(bench, other)
    retry_dead_letters(bench)
    redelivery(bench).run(EVERYTHING)
    archive_all(bench)
    flush(bench)

    assert put_back(bench) == 3

    bench.handled("S")
    told = states(bench)
    number = told[-1][1]
    assert told == [
        ("e0", 0, "dead", 1), ("e0", 1, "done", 1), ("e0", number, "done", 1), ("e1", 0, "done", 1),
        ("e1", number, "done", 1),
    ]  # fmt: skip


def test_a_subscriber_that_is_filled_again_gets_nothing_twice(bench: Bench) -> None:
    bench.publish(30)
    bench.declare("S", "A", steering=FROM_THE_BEGINNING)
    bench.fill("S", 20)
    for lease in take(bench, count=3):
        settle(bench, lease, "again", AttemptState.RETRIED, delay_us=600_000_000, attempts=1)
    archive_all(bench)
    assert not found(bench)
    flush(bench)

    assert not found(bench), "its back-fill begins again, and brings them"

    while bench.fill("S").is_filling:
        pass
    assert len(bench.handled("S")) == 30 and {state for _, _, state, _ in states(bench)} == {"done"}


def test_of_several_who_repair_at_once_each_delivery_is_put_back_once(bench: Bench) -> None:
    bench.declare("S", "A")
    published = bench.publish(900)
    archive_all(bench)
    flush(bench)
    counts: list[int] = []
    threads = [threading.Thread(target=lambda: counts.append(put_back(bench))) for _ in range(3)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert sum(counts) == 900
    assert sorted(bench.handled("S")) == sorted(published)


def test_repair_while_the_handlers_and_the_archiver_work_repeats_nothing(bench: Bench) -> None:
    bench.declare("S", "A", ordering="project")
    bench.declare("T", "A")
    published = bench.publish(600)
    archive_all(bench)
    flush(bench)
    published += bench.publish(100)
    stop, ran = threading.Event(), {"S": [], "T": []}  # type: ignore[var-annotated]

    def work(name: str) -> None:
        while not stop.is_set():
            for lease in take(bench, name, 5, consumer=f"w-{name}") or []:
                ran[name].append(lease.event_id)
                done = Settlement(lease, "end", AttemptState.DONE)
                assert Deliveries(bench.namespace, f"w-{name}", 100).settle([done]) == ["settled"]

    def archive() -> None:
        while not stop.is_set():
            archive_all(bench)

    threads = [threading.Thread(target=work, args=("S",)), threading.Thread(target=work, args=("T",))]
    threads.append(threading.Thread(target=archive))
    for thread in threads:
        thread.start()
    try:
        while put_back(bench) or any(len(ids) < 700 for ids in ran.values()):
            pass
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)

    assert sorted(ran["S"]) == sorted(ran["T"]) == sorted(published)
    assert {state for _, _, state, _ in states(bench)} == {"done"} and not found(bench)


def test_a_single_delivery_that_somebody_deleted_goes_to_the_head_of_the_key_that_it_holds(bench: Bench) -> None:
    bench.declare("S", "A", ordering="project")
    published = bench.publish(9)
    archive_all(bench)
    for entry, _ in bench.client.xrange(bench.keys("queue", "S")):
        bench.client.xdel(bench.keys("queue", "S"), entry)
    assert bench.handled("S") == [], "its keys are held by what is nowhere"
    assert len(found(bench)["S"].lost) == 3

    assert put_back(bench) == 3

    order = bench.handled("S")
    assert sorted(order) == sorted(published)
    assert [event_id for event_id in order if int(event_id[1:]) % 3 == 0] == ["e0", "e3", "e6"]


def test_a_key_that_is_held_by_what_has_ended_and_a_lane_that_nobody_looks_into_go_on(bench: Bench) -> None:
    bench.declare("S", "A", ordering="project")
    bench.declare("T", "A", window=1)
    bench.publish(7)
    archive_all(bench)
    bench.client.hset(bench.keys("held", "S"), "p1", "1:0")
    bench.client.delete(bench.keys("lanes", "T"))
    gaps = found(bench)
    assert gaps["S"].free == {"p1": (1, 0)} and len(gaps["T"].unlisted) == 3

    repaired = {one.subscriber: one for one in repair(bench)}

    assert (repaired["S"].holds, repaired["T"].lanes) == (1, 3)
    assert not found(bench)
    assert len(bench.handled("T")) == 7


def test_what_cannot_be_put_back_is_named(bench: Bench) -> None:
    bench.declare("Gone", "A")
    bench.publish(3)
    archive_all(bench)
    bench.registry.remove("Gone")
    flush(bench)
    bench.declare("S", "A")
    bench.client.rpush(bench.keys("lane", "S", "p1"), "77\t0\t0\t0\tA\tr\tp1\t0\t\n{}")

    gaps = found(bench)

    assert (len(gaps["Gone"].lost), gaps["Gone"].is_declared, gaps["Gone"].can_be_mended) == (3, False, False)
    assert gaps["S"].foreign == [(77, 0)] and gaps["S"].unlisted == ["p1"]
    assert put_back(bench) == 0


def test_a_redis_that_went_back_has_what_the_store_knows_to_have_ended(bench: Bench) -> None:
    bench.declare("S", "A")
    bench.publish(2)
    (frame, _) = [fields[b"f"] for _, fields in bench.client.xrange(bench.keys("queue", "S"))]
    bench.handled("S")
    archive_all(bench)
    bench.client.xadd(bench.keys("queue", "S"), {"f": frame})

    assert [redelivery for _, redelivery in found(bench)["S"].ended] == [0]
    assert put_back(bench) == 0


def test_a_join_does_not_go_before_what_is_under_way_at_both_places_of_an_event(bench: Bench) -> None:
    bench.declare("S", "A")
    bench.declare("T", "B")
    declare_join(bench, "J", "A", "C")
    (brief,) = bench.publish()
    with forgotten(bench):
        returned(bench, "S", "B", {"n": 1})
    returned(bench, "S", "B", {"n": 1})
    at_its_place = take(bench, "T")
    assert put_back(bench) == 1, "the delivery at the place where the store has the event"

    assert bench.handled("T")

    assert not take(bench, "J"), "what T has of the place that Redis knows is under way"
    settle(bench, at_its_place[0])
    assert [lease.event.event_id for lease in take(bench, "J")] == [brief]


@pytest.mark.parametrize("generations", [1, 2, 4])
def test_a_join_has_what_is_put_back_and_ends_before_redis_has_its_event_again(bench: Bench, generations: int) -> None:
    """Redis has only the root, the store what follows: of that the last is put back, and ends first of all."""
    kinds = "ABCDEF"[: generations + 2]
    agents = [f"S{kind}" for kind in kinds[:-1]]
    for agent, kind in zip(agents, kinds, strict=False):
        bench.declare(agent, kind)
    declare_join(bench, "J", "A", kinds[-1])
    bench.publish()
    with forgotten(bench):
        for agent, caused in zip(agents[:-1], kinds[1:], strict=False):
            returned(bench, agent, caused, {})
    assert put_back(bench) == 1, "what the last agent has of the place where the store has its event"

    returned(bench, agents[-1], kinds[-1], {})
    assert not take(bench, "J"), "what Redis has still to do again is under way"
    for agent, caused in zip(agents, kinds[1:], strict=False):
        returned(bench, agent, caused, {})

    assert seen_by(bench, "J") == ([kinds[-1]], "complete")
    archive_all(bench)
    assert not found(bench)


def test_a_join_waits_for_what_is_put_back_of_an_event_that_redis_has_forgotten(bench: Bench) -> None:
    bench.declare("S", "A")
    bench.declare("T", "B")
    declare_join(bench, "J", "A", "C")
    bench.publish()
    with forgotten(bench):
        returned(bench, "S", "B", {})
    assert put_back(bench) == 1
    (old,) = take(bench, "T")
    returned(bench, "S", "B", {})
    assert bench.handled("T"), "at the place that Redis knows"

    assert not take(bench, "J"), "what was put back runs"
    settle(bench, old)
    assert len(take(bench, "J")) == 1


@pytest.mark.parametrize("how", ["delivered again", "retried"])
def test_a_join_waits_for_what_redis_has_forgotten_to_have_delivered_again(bench: Bench, how: str) -> None:
    bench.declare("S", "A")
    bench.declare("T", "A")
    declare_join(bench, "J", "A", "C")
    bench.publish()
    (lease,) = take(bench, "S")
    if how == "retried":
        settle(bench, lease, "dead", AttemptState.DEAD)
    else:
        settle(bench, lease)
    with forgotten(bench):
        if how == "retried":
            retry_dead_letters(bench)
        else:
            (recorded,) = bench.replay.iterate()
            once(bench.namespace, "S", 70_000, recorded, "ann", "again")
    assert put_back(bench) == 1
    (running,) = take(bench, "T")

    assert bench.handled("S")
    assert not take(bench, "J"), "T runs"
    settle(bench, running)
    assert len(take(bench, "J")) == 1


def test_the_delivery_of_a_join_that_is_put_back_counts_in_no_join_of_its_own_event(bench: Bench) -> None:
    bench.declare("S", "A")
    declare_join(bench, "J1", "A", "C", timeout=1e-6)
    declare_join(bench, "J2", "A", "C")
    bench.publish()
    time_out(bench, "J1")
    settle(bench, take(bench, "J1")[0], "dead", AttemptState.DEAD)
    with forgotten(bench):
        retry_dead_letters(bench)
    assert put_back(bench) == 1

    assert bench.handled("J1")
    assert not take(bench, "J2"), "S waits"
    bench.handled("S")
    assert seen_by(bench, "J2") == ([], "complete")


def test_a_join_does_not_wait_for_its_own_delivery_at_another_place(bench: Bench) -> None:
    bench.declare("S", "A")
    declare_join(bench, "J", "A", "B")
    with forgotten(bench):
        bench.publish()
    bench.number = 0
    bench.publish()
    assert put_back(bench) == 2
    (twin,) = take(bench, "J")

    bench.handled("S")

    assert seen_by(bench, "J") == ([], "complete")
    assert Deliveries(bench.namespace, "w", 100).joined(twin).why == "lost"


def test_a_join_that_redis_opens_anew_has_what_was_returned_before(bench: Bench) -> None:
    """What follows is put back and ends; then what opened the join comes again, and what it sets off is known."""
    for agent, kind in (("SA", "A"), ("SB", "B"), ("SC", "C")):
        bench.declare(agent, kind)
    declare_join(bench, "J", "B", "D")
    bench.publish()
    with forgotten(bench):
        returned(bench, "SA", "B", {})
        returned(bench, "SB", "C", {})
    assert put_back(bench) == 2
    returned(bench, "SC", "D", {})
    assert seen_by(bench, "J") == ([], "lost")
    for agent, kind in (("SA", "B"), ("SB", "C"), ("SC", "D")):
        returned(bench, agent, kind, {})

    assert seen_by(bench, "J") == (["D"], "complete")


def test_a_root_that_is_published_again_joins_what_was_put_back_and_returned(bench: Bench) -> None:
    bench.declare("SA", "A")
    declare_join(bench, "J", "A", "B")
    with forgotten(bench):
        bench.publish()
    assert put_back(bench) == 2
    returned(bench, "SA", "B", {})
    assert seen_by(bench, "J") == ([], "lost")
    bench.number = 0
    bench.publish()
    returned(bench, "SA", "B", {})

    assert seen_by(bench, "J") == (["B"], "complete")


def test_a_join_that_is_a_dead_letter_goes_on_joining_what_is_put_back(bench: Bench) -> None:
    for agent, kind in (("SA", "A"), ("SB", "B"), ("SC", "C")):
        bench.declare(agent, kind)
    declare_join(bench, "J", "A", "D", timeout=1e-6)
    bench.publish()
    time_out(bench, "J")
    settle(bench, take(bench, "J")[0], "dead", AttemptState.DEAD)
    with forgotten(bench):
        returned(bench, "SA", "B", {})
        returned(bench, "SB", "C", {})
    assert put_back(bench) == 1
    returned(bench, "SC", "D", {})

    retry_dead_letters(bench)

    assert seen_by(bench, "J")[0] == ["D"]


@pytest.mark.parametrize("ordering", ["", "project"])
@pytest.mark.parametrize("at_once", [200, 7])
def test_of_hundreds_that_are_put_back_in_steps_each_counts_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, ordering: str, at_once: int
) -> None:
    monkeypatch.setattr("events.mending.MAX_AT_ONCE", at_once)
    bench.declare("S", "A")
    bench.declare("T", "B", ordering=ordering)
    declare_join(bench, "J", "A", "B")
    bench.publish()
    with forgotten(bench):
        bench.publish(450, "B", causation_id="e0")

    assert put_back(bench) == 450

    assert open_in(bench) == [451]
    bench.handled("S")
    assert not take(bench, "J")
    assert len(bench.handled("T")) == 450
    assert seen_by(bench, "J") == ([], "complete"), "nobody has published them again"


def test_what_is_too_much_for_a_step_is_not_counted_in_it(bench: Bench) -> None:
    bench = Bench(bench.client, bench.engine, {**sources(), "mend": _of_three_at_most(sources()["mend"])})
    bench.declare("S", "A")
    bench.declare("T", "B")
    declare_join(bench, "J", "A", "B")
    bench.publish()
    with forgotten(bench):
        bench.publish(20, "B", causation_id="e0")

    assert put_back(bench) == 20

    assert open_in(bench) == [21]


def _of_three_at_most(text: str) -> str:
    return text.replace("local MAX_DELIVERIES = 5000", "local MAX_DELIVERIES = 3")


def test_what_is_put_back_where_its_event_is_and_holds_its_lane_is_not_counted_again(bench: Bench) -> None:
    bench.declare("S", "A")
    bench.declare("T", "B", ordering="project")
    declare_join(bench, "J", "A", "C")
    bench.publish()
    returned(bench, "S", "B", {})
    archive_all(bench)
    bench.client.delete(bench.keys("queue", "T"))
    bench.client.xgroup_create(bench.keys("queue", "T"), GROUP, "0", mkstream=True)

    assert put_back(bench) == 1

    assert open_in(bench) == [1]
    returned(bench, "T", "C", {})

    assert seen_by(bench, "J") == (["C"], "complete")


def test_causes_in_a_circle_and_those_that_nobody_has_end_nowhere(bench: Bench) -> None:
    bench.declare("S", "A")
    bench.declare("T", "B")
    declare_join(bench, "J", "A", "C")
    bench.publish()
    with forgotten(bench):
        causes = {"x": "y", "y": "x", "z": "nobody", "w": "w"}
        events = [Event(event_id=one, type="B", project_id="p1", actor="x", causation_id=causes[one]) for one in causes]
        for event in events:
            bench.publisher.publish_many([event])

    assert put_back(bench) == 4

    assert open_in(bench) == [1]


@pytest.mark.parametrize("value", ["1\t" + "a" * 800 + "\t" * 7, "1\t" + "a\t" * 400, "no id at all"])
def test_an_id_that_a_hand_has_written_is_not_known_and_keeps_nobody_waiting(bench: Bench, value: str) -> None:
    bench.declare("S", "A")
    bench.client.set(bench.keys("id", "e0"), value)

    (event_id,) = bench.publish()

    assert bench.handled("S") == [event_id]


def test_one_delivery_at_two_places_may_return_other_contents_and_the_first_stays(bench: Bench) -> None:
    bench.declare("S", "A")
    with forgotten(bench):
        bench.publish()
    bench.number = 0
    bench.publish()
    returned(bench, "S", "B", {"measured": 1})
    assert put_back(bench) == 1

    returned(bench, "S", "B", {"measured": 2})

    archive_all(bench)
    assert [one.event.payload for one in bench.replay.iterate() if one.event.type == "B"] == [{"measured": 1}]
    assert not bench.client.xlen(bench.keys("dead", "S"))


def test_a_step_that_looked_before_another_one_mended_writes_nothing(bench: Bench) -> None:
    bench.declare("S", "A")
    bench.publish(2)
    archive_all(bench)
    recorded = list(bench.replay.iterate())
    flush(bench)
    before = mending.ground(bench.namespace, "S").mends

    first = mending.mend(bench.namespace, "S", before, [(0, one) for one in recorded])
    second = mending.mend(bench.namespace, "S", before, [(0, one) for one in recorded])

    assert (first.put_back, first.is_stale, second.put_back, second.is_stale) == (2, False, 0, True)
    assert len(bench.handled("S")) == 2


def test_what_waits_is_asked_for_in_pages(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.gaps.WAITING_AT_ONCE", 7)
    bench.declare("S", "A")
    bench.publish(30)
    archive_all(bench)
    entries = bench.client.xrange(bench.keys("queue", "S"))
    for entry, _ in entries[20:]:
        bench.client.xdel(bench.keys("queue", "S"), entry)

    assert len(found(bench)["S"].lost) == 10
    assert put_back(bench) == 10 and len(bench.handled("S")) == 30


def test_names_are_read_in_pages_from_every_place(bench: Bench) -> None:
    bench.declare("S", "A", window=2)
    bench.publish(1100)
    archive_all(bench)
    lanes = mending.lanes(bench.namespace)["S"]

    there = mending.present(bench.namespace, "S", lanes)

    assert there == {(one.position, 0) for one in bench.replay.iterate()}
    assert SubscriberOptions().concurrency is None
