"""Back-filling step by step. Interleavings are test_filling.py's."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import select

from events.backfill import beginning, cursor_of, fill, look
from events.context import Handling
from events.deliveries import Deliveries, Settlement
from events.errors import InvalidSubscription, ScriptFailed
from events.event import Event
from events.namespace import Declared
from events.publisher import event_arguments
from events.records import AttemptState
from events.routes import declare, undeclare
from events.steering import steer
from events.subscriptions import SubscriberOptions, Subscription
from store.replay import Page
from store.tables import deliveries
from tests.model.filling import FROM_THE_BEGINNING, Bench, filler
from tests.waiting import wait_until
from workers.assembly import declare_all
from workers.attempt import with_derived_ids
from workers.backfill import Backfiller
from workers.operating import drop

# one step


def test_a_new_subscriber_gets_all_of_history_from_sql_and_redis_and_is_live_then(bench: Bench) -> None:
    archived = bench.publish(30)
    bench.archive()
    unarchived = bench.publish(20)
    bench.declare("S", "A", steering=FROM_THE_BEGINNING)
    during = bench.publish(5)
    assert bench.handled("S") == [], "while it is back-filled, publish gives it nothing"

    place = bench.fill("S")

    assert (place.verdict, bench.state("S")) == ("live", (b"live", None))
    assert sorted(bench.handled("S")) == sorted(archived + unarchived + during)
    assert bench.handled("S") == [] and bench.publish(2) == bench.handled("S")


def test_now_begins_with_the_next_event_and_a_position_with_the_one_after_it(bench: Bench) -> None:
    bench.publish(3)
    positions = [recorded.position for recorded in bench.replay.iterate()]
    bench.declare("Now", "A")
    bench.declare("After", "A", steering={"state": "backfill", "cursor": str(positions[1])})

    bench.fill("After")

    assert bench.handled("After") == ["e2"]
    assert bench.handled("Now") == []
    assert bench.publish(1) == bench.handled("Now") == bench.handled("After")


def test_what_is_published_after_the_page_was_read_is_delivered_by_the_step_that_ends_the_back_fill(
    bench: Bench,
) -> None:
    before = bench.publish(3)
    bench.declare("S", "A", steering=FROM_THE_BEGINNING)
    bench.declare("Key", "A", "B", ordering="order_key", steering=FROM_THE_BEGINNING)
    place = look(bench.namespace, "Key")
    page = bench.page(place)

    bench.publish(1, "C")
    since = bench.publish(3, "B", metadata={"order_key": "k", "priority": 3}) + bench.publish(120)
    end = fill(bench.namespace, "Key", place, page.last, page.events, is_end=True)

    assert end.verdict == "live", "however much is published meanwhile"
    order = bench.handled("Key")
    assert sorted(order) == sorted(before + since)
    assert [event_id for event_id in order if event_id in since[:3]] == since[:3]
    frames = bench.client.xrange(bench.keys("history"))
    assert all(b"b" in fields for _, fields in frames[4:]) and b"b" not in frames[0][1]


def test_roots_lie_in_lanes_of_their_own_wherever_a_back_fill_reads_them(bench: Bench) -> None:
    bench.publish(2)
    bench.archive()
    bench.publish(2)
    bench.declare("S", "A", ordering="correlation", steering=FROM_THE_BEGINNING)
    place = look(bench.namespace, "S")
    page = bench.page(place)
    bench.publish(2)

    assert fill(bench.namespace, "S", place, page.last, page.events, is_end=True).verdict == "live"

    held = {lane.decode() for lane in bench.client.hkeys(bench.keys("held", "S"))}
    assert held == {f"e{n}" for n in range(6)}
    assert bench.handled("S") == [f"e{n}" for n in range(6)]


def test_more_than_one_step_reads_from_history_takes_several(bench: Bench) -> None:
    bench.declare("S", "A", steering=FROM_THE_BEGINNING)
    place, page = look(bench.namespace, "S"), Page((), 0, True)

    published = bench.publish(1500)
    first = fill(bench.namespace, "S", place, page.last, page.events, is_end=True)
    second = fill(bench.namespace, "S", first, first.cursor, (), is_end=True)

    assert (first.verdict, second.verdict) == ("filled", "live")
    assert sorted(bench.handled("S")) == sorted(published)


def test_nobody_is_live_while_redis_may_have_trimmed_what_was_not_read(bench: Bench) -> None:
    bench.publish(3)
    bench.declare("S", "A", steering=FROM_THE_BEGINNING)
    place = look(bench.namespace, "S")
    page = bench.page(place)
    bench.publish(4)
    bench.archive()
    assert bench.client.xlen(bench.keys("history")) <= 1, "SQL has it, Redis not any more"

    place = fill(bench.namespace, "S", place, page.last, page.events, is_end=True)

    assert (place.verdict, place.cursor) == ("filled", page.last)
    assert bench.fill("S").verdict == "live"
    assert sorted(bench.handled("S")) == [f"e{n}" for n in range(7)]


def test_the_second_of_two_fillers_writes_nothing(bench: Bench) -> None:
    bench.publish(6)
    bench.declare("S", "A", steering=FROM_THE_BEGINNING)
    place = look(bench.namespace, "S")
    page = bench.page(place, 4)

    first = fill(bench.namespace, "S", place, page.last, page.events, is_end=page.complete)
    before = {key: bench.client.dump(key) for key in bench.client.scan_iter(f"{bench.keys.prefix}*", 5000)}
    second = fill(bench.namespace, "S", place, page.last, page.events, is_end=page.complete)

    assert (first.verdict, second.verdict) == ("filled", "stale")
    assert second.cursor == first.cursor == page.last
    assert {key: bench.client.dump(key) for key in before} == before
    assert bench.fill("S").verdict == "live"
    assert sorted(bench.handled("S")) == [f"e{n}" for n in range(6)]
    assert look(bench.namespace, "S").verdict == "done"
    assert look(bench.namespace, "Nobody").verdict == "unknown"


def test_a_type_that_is_added_or_removed_meanwhile_makes_a_filler_read_again(bench: Bench) -> None:
    bench.publish(2)
    bench.declare("S", "A", steering=FROM_THE_BEGINNING)
    place = look(bench.namespace, "S")
    page = bench.page(place)

    bench.declare("S", "A", "B")
    added = bench.publish(1, "B")
    assert fill(bench.namespace, "S", place, page.last, page.events, is_end=True).verdict == "stale"
    undeclare(bench.namespace, "S", ["A"])
    assert bench.fill("S").verdict == "live"
    assert bench.handled("S") == added


def test_a_subscriber_without_types_and_one_of_every_type(bench: Bench) -> None:
    published = bench.publish(2) + bench.publish(2, "B")
    bench.declare("None", "A", steering=FROM_THE_BEGINNING)
    undeclare(bench.namespace, "None")
    bench.declare("All", "*", steering=FROM_THE_BEGINNING)

    assert bench.fill("None").verdict == bench.fill("All").verdict == "live"
    assert bench.handled("None") == []
    assert sorted(bench.handled("All")) == sorted(published)


def test_what_was_persisted_without_being_published_is_not_delivered(bench: Bench) -> None:
    published = bench.publish(1)
    bench.direct.store([Event(event_id="direct", type="A", project_id="p0", actor="x")])
    bench.declare("S", "A", steering=FROM_THE_BEGINNING)

    assert bench.fill("S").verdict == "live"
    assert bench.handled("S") == published


def test_a_filled_delivery_is_like_one_that_was_published(bench: Bench) -> None:
    bench.declare("Old", "A", "B")
    bench.publish(1, payload={"text": "ä"}, metadata={"priority": 5})
    bench.publish(1, "B", causation_id="e0")
    bench.archive()
    bench.declare("New", "A", "B", steering=FROM_THE_BEGINNING)

    bench.fill("New")

    def frames(name: str) -> list[bytes]:
        header_and_body = [fields[b"f"] for _, fields in bench.client.xrange(bench.keys("queue", name))]
        return [frame.partition(b"\n")[0] for frame in header_and_body]

    assert {frame.split(b"\t")[1] for frame in frames("New")} == {b"10000"}
    assert sorted(frame.replace(b"\t10000\t", b"\t0\t", 1) for frame in frames("New")) == sorted(frames("Old"))


def test_a_filled_delivery_counts_in_a_join_that_still_waits(bench: Bench) -> None:
    bench.declare("Work", "A")
    bench.client.hset(bench.keys("sub", "Join"), mapping={"join_of": "OUT", "join_timeout": str(3_600_000_000)})
    declare(bench.namespace, Declared("Join", ("A",), {"join_of": "OUT", "join_timeout": "3600000000"}), 100)
    (root,) = bench.publish(1)
    bench.declare("Late", "A", steering=FROM_THE_BEGINNING)

    bench.fill("Late")
    assert bench.handled("Work") == [root]
    assert bench.handled("Join") == [], "what was filled is under way too"
    assert bench.handled("Late") == [root]
    assert bench.handled("Join") == [root]


def test_a_full_server_refuses_a_step_whole(bench: Bench) -> None:
    bench.publish(3)
    bench.declare("S", "A", steering=FROM_THE_BEGINNING)
    bench.client.config_set("maxmemory", 1)

    with pytest.raises(ScriptFailed) as refused:
        bench.fill("S")

    assert refused.value.code == "OOM"
    bench.client.config_set("maxmemory", 0)
    assert bench.state("S") == (b"backfill", b"0")
    assert bench.fill("S").verdict == "live"


def test_a_key_of_a_wrong_type_is_an_error_before_the_first_write(bench: Bench) -> None:
    bench.publish(3)
    bench.declare("S", "A", ordering="project", steering=FROM_THE_BEGINNING)
    bench.client.set(bench.keys("lane", "S", "p1"), "wrong")

    with pytest.raises(ScriptFailed, match="WRONGTYPE"):
        bench.fill("S")
    assert bench.state("S") == (b"backfill", b"0")
    assert bench.client.xlen(bench.keys("queue", "S")) == 0


def test_a_paused_subscriber_is_filled_and_waits(bench: Bench) -> None:
    published = bench.publish(300)
    bench.declare("S", "A", steering=FROM_THE_BEGINNING)
    steer(bench.namespace, "S", paused=True)

    while bench.fill("S").verdict != "live":
        pass
    assert bench.handled("S") == []
    steer(bench.namespace, "S", paused=False)
    assert sorted(bench.handled("S")) == sorted(published)


# declaring


def test_a_subscriber_that_exists_goes_on_where_it_is_whatever_start_its_code_says(bench: Bench) -> None:
    bench.declare("S", "A")
    bench.publish(2)
    bench.handled("S")

    bench.declare("S", "A", steering=FROM_THE_BEGINNING)
    assert bench.state("S") == (b"live", None)

    bench.declare("T", "A", steering=FROM_THE_BEGINNING)
    bench.declare("T", "A")
    assert bench.state("T") == (b"backfill", b"0"), "nor does code that says less end a back-fill"


def test_a_back_fill_in_whose_middle_redis_was_lost_begins_again_where_it_began(bench: Bench) -> None:
    bench.publish(4)
    bench.archive()
    start = next(bench.replay.iterate()).position
    bench.declare("S", "A", steering={"state": "backfill", "cursor": str(start)})
    bench.fill("S", 1)
    assert bench.handled("S") == ["e1"]

    bench.client.flushall()

    assert look(bench.namespace, "S").cursor == start
    assert bench.fill("S").verdict == "live"
    assert sorted(bench.handled("S")) == ["e1", "e2", "e3"], "at least once"


# a name's lives


def handled_by(bench: Bench, name: str) -> list[tuple[str, list[str]]]:
    """Handle what is there; each delivery's name, and the ids of what its handler returned."""
    worker, done = Deliveries(bench.namespace, "w", 100), []
    while leases := worker.read([name], 1, None):
        made = Event(type="OUT", project_id="p", actor=name, causation_id=leases[0].event_id)
        (out,) = with_derived_ids([made], Handling(leases[0].event, name, 1, leases[0].delivery))
        settlement = Settlement(leases[0], "end", AttemptState.DONE, events=[event_arguments(out, 1 << 20)])
        assert worker.settle([settlement]) == ["settled"]
        done.append((leases[0].delivery, [out.event_id]))
    return done


def test_what_a_subscriber_returns_that_was_dropped_and_made_anew_is_new_and_is_stored(bench: Bench) -> None:
    bench.declare("S", "A")
    bench.declare("Reader", "OUT")
    bench.publish(2)
    lives = [handled_by(bench, "S")]

    for _ in range(2):
        assert drop(bench.namespace, bench.registry, "S").deliveries == 0
        bench.declare("S", "A", steering=FROM_THE_BEGINNING)
        assert bench.fill("S").verdict == "live"
        lives.append(handled_by(bench, "S"))

    assert len({name for life in lives for name, _ in life}) == 6
    returned = [event_id for life in lives for _, (event_id,) in life]
    assert bench.handled("Reader") == returned and len(set(returned)) == 6
    bench.archive()
    while bench.archiver.step("outcomes").entries:
        pass
    assert [found.event.event_id for found in bench.replay.iterate() if found.event.type == "OUT"] == returned
    assert {row.subscriber: row.state for row in deliveries_of(bench)} == {"S": "done", "Reader": "done"}
    assert len([row for row in deliveries_of(bench) if row.subscriber == "S"]) == 6


def deliveries_of(bench: Bench) -> list[Any]:
    with bench.engine.connect() as connection:
        return list(connection.execute(select(deliveries).where(deliveries.c.namespace == bench.name)))


def test_a_subscriber_is_the_same_one_after_its_declaration_again_a_lost_redis_and_its_retries(bench: Bench) -> None:
    bench.publish(1)
    bench.archive()
    bench.declare("S", "A", steering=FROM_THE_BEGINNING)
    bench.declare("S", "A", steering=FROM_THE_BEGINNING)
    bench.fill("S", 1)
    (before,) = handled_by(bench, "S")

    with bench.registry.held("S") as row:
        row.steering.update(FROM_THE_BEGINNING)  # as if it had been in the middle
    bench.client.flushall()
    bench.declare("S", "A")
    assert bench.fill("S").verdict == "live"

    assert handled_by(bench, "S") == [before], "what it did is known by its name"


def test_nobody_becomes_a_join_while_it_is_back_filled(bench: Bench) -> None:
    bench.declare("S", "A", steering=FROM_THE_BEGINNING)

    with pytest.raises(InvalidSubscription, match="back-filled"):
        declare(bench.namespace, Declared("S", ("A",), {"join_of": "B", "join_timeout": "1000000"}), 100)


# the filler


def steering(bench: Bench) -> dict[str, dict[str, str]]:
    return {row.subscriber: row.steering for row in bench.registry.all()}


def test_a_filler_stops_while_enough_wait_and_the_store_forgets_what_has_ended(bench: Bench) -> None:
    published = bench.publish(2600)
    bench.declare("S", "A", steering=FROM_THE_BEGINNING)
    bench.declare("Other", "A", steering=FROM_THE_BEGINNING)
    mine = filler(bench, "S", page=500)
    mine.start()
    try:
        wait_until(lambda: look(bench.namespace, "S").waiting >= 2000, 20, "enough to wait")
        assert look(bench.namespace, "S").verdict == "stale", "the rest comes when these are handled"
        assert steering(bench)["S"].items() > FROM_THE_BEGINNING.items()
        handled = []
        wait_until(lambda: handled.extend(bench.handled("S")) or len(handled) == 2600, 30, "all of it")
        assert sorted(handled) == sorted(published)
        wait_until(lambda: "cursor" not in steering(bench)["S"], 10, "the store to forget where it began")
    finally:
        mine.stop()
    assert steering(bench)["Other"].items() > FROM_THE_BEGINNING.items()
    assert bench.state("Other") == (b"backfill", b"0"), "each process fills its own"


def test_a_filler_tells_the_store_what_one_that_was_killed_could_not(bench: Bench) -> None:
    bench.declare("S", "A", steering=FROM_THE_BEGINNING)
    bench.fill("S")
    assert steering(bench)["S"].items() > FROM_THE_BEGINNING.items()
    nobody_says = Backfiller(bench.namespace, bench.registry, bench.replay, ["S"], lambda: ())

    nobody_says.start()

    wait_until(lambda: "cursor" not in steering(bench)["S"], 10, "the store to forget where it began")
    nobody_says.stop()


def test_one_that_cannot_be_filled_keeps_no_other_one_from_it(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    published = bench.publish(20)
    for name in ("Alpha", "Beta"):
        bench.declare(name, "A", ordering="project", steering=FROM_THE_BEGINNING)
    lane = bench.keys("lane", "Alpha", "p1")
    bench.client.set(lane, "damaged")
    both = filler(bench, "Alpha", "Beta")

    both.start()
    try:
        wait_until(lambda: bench.state("Beta")[0] == b"live", 20, "Beta to be live")
        assert bench.state("Alpha") == (b"backfill", b"0")
        assert sum("Back-filling Alpha waits" in record.message for record in caplog.records) == 1
        bench.client.delete(lane)
        wait_until(lambda: bench.state("Alpha")[0] == b"live", 20, "Alpha to be live too")
    finally:
        both.stop()

    assert sorted(bench.handled("Alpha")) == sorted(bench.handled("Beta")) == sorted(published)


def test_a_back_fill_waits_for_retries_too(bench: Bench) -> None:
    bench.publish(3000)
    bench.declare("S", "A", steering=FROM_THE_BEGINNING)
    mine, worker = filler(bench, "S", page=500), Deliveries(bench.namespace, "w", 100)

    for _ in range(12):
        mine.step("S")
        while leases := worker.read(["S"], 128, None):
            again = [
                Settlement(one, "again", AttemptState.RETRIED, attempts=1, delay_us=3_600_000_000) for one in leases
            ]
            worker.settle(again)

    assert bench.state("S")[0] == b"backfill"
    assert 2000 <= bench.client.zcard(bench.keys("delayed", "S")) < 2600, "however many fail, no more is added"


def test_a_step_that_reads_on_in_history_takes_a_bounded_number_of_bytes(bench: Bench) -> None:
    bench.declare("S", "A", steering=FROM_THE_BEGINNING)
    place = look(bench.namespace, "S")
    published = [bench.publish(1, payload={"text": "x" * 900_000})[0] for _ in range(24)] + bench.publish(30)

    verdicts = []
    while place.is_filling:
        before = bench.client.xlen(bench.keys("queue", "S"))
        place = fill(bench.namespace, "S", place, place.cursor, (), is_end=True)
        verdicts.append((place.verdict, bench.client.xlen(bench.keys("queue", "S")) - before))

    assert verdicts[-1][0] == "live" and len(verdicts) == 3
    assert all(added <= 10 for verdict, added in verdicts if verdict == "filled"), verdicts
    assert sorted(bench.handled("S")) == sorted(published)


def test_who_loses_all_its_types_is_filled_on_when_it_has_some_again(bench: Bench) -> None:
    published = bench.publish(10)
    bench.declare("S", "A", steering=FROM_THE_BEGINNING)
    bench.fill("S", 4)
    undeclare(bench.namespace, "S")
    mine = filler(bench, "S")

    for _ in range(3):
        assert mine.step("S") > 0
    assert bench.state("S")[0] == b"backfill"
    declare(bench.namespace, Declared("S", ("A",), {}), 100)
    while bench.state("S")[0] == b"backfill":
        mine.step("S")

    assert sorted(bench.handled("S")) == sorted(published)


def test_a_filler_makes_no_row_for_who_was_dropped(bench: Bench) -> None:
    bench.declare("S", "A")
    bench.registry.remove("S")

    filler(bench, "S").step("S")
    filler(bench, "Nobody").step("Nobody")

    assert bench.registry.all() == []


def test_where_a_subscriber_starts_is_a_word_a_moment_or_a_position() -> None:
    moment = datetime(2024, 1, 1, 12, tzinfo=UTC)
    assert cursor_of("now") is None and beginning("now") == {}
    assert cursor_of("beginning") == cursor_of(0) == 0
    assert cursor_of(moment) == 1_704_110_400_000_000 - 1, "an event of that microsecond is delivered"
    assert cursor_of(moment.replace(tzinfo=None)) == cursor_of(moment)
    assert cursor_of(moment.astimezone(timezone(timedelta(hours=5)))) == cursor_of(moment)
    assert cursor_of(datetime(1960, 1, 1, tzinfo=UTC)) == 0
    assert beginning(7) == {"state": "backfill", "cursor": "7"}
    for wrong in ("yesterday", -1, True, None, 1.5, 2**60):
        with pytest.raises(InvalidSubscription, match="start must be"):
            cursor_of(wrong)  # type: ignore[arg-type]


def subscribed(start: Any) -> Subscription:
    return Subscription("S", ("A",), print, False, SubscriberOptions(start=start))


def test_a_start_that_has_not_come_is_now_in_both_places(bench: Bench) -> None:
    bench.publish(3)
    bench.archive()
    declare_all(bench.namespace, bench.registry, [subscribed(datetime.now(UTC) + timedelta(hours=1))], 100)
    published = bench.publish(2)

    assert bench.fill("S").verdict == "live"
    published += bench.publish(2)
    assert sorted(bench.handled("S")) == published

    bench.archive()
    bench.client.flushall()
    bench.namespace.forget()
    assert look(bench.namespace, "S").cursor == int(steering(bench)["S"]["cursor"])
    assert bench.fill("S").verdict == "live"
    assert sorted(bench.handled("S")) == published, "a Redis that lost all begins where it had begun"


def test_who_is_declared_while_it_is_dropped_is_in_both_places_as_a_new_one(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.publish(2)
    bench.declare("S", "A", steering=FROM_THE_BEGINNING)
    first = steering(bench)["S"]
    save = bench.registry.save

    def save_and_be_dropped(*arguments: Any) -> dict[str, str]:
        kept = save(*arguments)
        monkeypatch.setattr(bench.registry, "save", save)
        drop(bench.namespace, bench.registry, "S", force=True)
        return kept

    monkeypatch.setattr(bench.registry, "save", save_and_be_dropped)
    declare_all(bench.namespace, bench.registry, [subscribed("beginning")], 100)

    assert bench.state("S") == (b"backfill", b"0")
    assert steering(bench)["S"].items() > FROM_THE_BEGINNING.items()
    assert steering(bench)["S"]["first_redelivery"] != first["first_redelivery"]
    bench.client.flushall()
    assert bench.publish(1) and bench.client.smembers(bench.keys("routes", "A")) == {b"S"}
