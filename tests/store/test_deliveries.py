"""Deliveries as the store has them: found by every filter, in pages, and joined with what is not archived."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from events.errors import InvalidFilter
from events.records import AttemptState, Outcome, RecordedEvent
from store.archive import Archive
from store.deliveries import Delivery, DeliveryFilter, StoredDeliveries, joined
from store.tables import deliveries
from tests.store.conftest import an_event, store_events

STATES = ("done", "dead", "discarded", "dropped")


@pytest.fixture
def stored(engine: Engine, archive: Archive) -> StoredDeliveries:
    """Six events to two subscribers; each third delivery of Painter is done, one is dead and was retried."""
    store_events(
        archive,
        *(an_event(n, deliveries=("Critic", "Painter"), project_id=f"P-{n % 2}") for n in range(10, 70, 10)),
    )
    end(archive, 101, 10, "Painter", 1, AttemptState.DONE)
    end(archive, 102, 20, "Painter", 5, AttemptState.DEAD)
    end(archive, 103, 20, "Painter", 0, AttemptState.REDELIVERED, redelivery=1)
    end(archive, 104, 40, "Painter", 2, AttemptState.DONE)
    return StoredDeliveries(engine, "test")


def end(archive: Archive, position: int, of: int, name: str, attempt: int, state: AttemptState, **how: Any) -> None:
    with archive.writer("outcomes") as writer:
        assert writer is not None
        writer.append_outcomes([outcome(position, of, name, attempt, state, **how)])
        writer.advance(position, f"{position}-0")


def outcome(position: int, of: int, name: str, attempt: int, state: AttemptState, *, redelivery: int = 0) -> Outcome:
    return Outcome(position, of, name, redelivery, attempt, state, "w", 5, "why")


def names(found: list[Delivery]) -> list[str]:
    return [one.name for one in found]


def test_each_event_at_each_subscriber_has_a_state_and_its_attempts(stored: StoredDeliveries) -> None:
    found = {one.name: one for one in stored.iterate(DeliveryFilter())}

    assert len(found) == 13
    assert (found["20:Painter:0"].state, found["20:Painter:0"].attempts) == ("dead", 5)
    assert (found["20:Painter:1"].state, found["20:Painter:1"].settled_position) == ("waiting", None)
    assert found["40:Painter:0"] == Delivery(40, "Painter", 0, "done", 2, 104, "e40", "SCENE_WRITTEN", "P-0")
    assert [attempt.state for attempt in stored.attempts(20)] == ["dead", "redelivered"]
    assert stored.attempts(30) == []


def test_deliveries_are_found_by_every_filter_and_a_page_follows_the_one_before(stored: StoredDeliveries) -> None:
    waiting = list(stored.iterate(DeliveryFilter(subscriber="Painter", state="waiting"), page=2))

    assert names(waiting) == ["20:Painter:1", "30:Painter:0", "50:Painter:0", "60:Painter:0"]
    assert names(stored.page(DeliveryFilter(state="done"))) == ["10:Painter:0", "40:Painter:0"]
    assert names(stored.page(DeliveryFilter(event_position=20))) == ["20:Critic:0", "20:Painter:0", "20:Painter:1"]
    assert names(stored.page(DeliveryFilter(project_id="P-1"), limit=1)) == []
    every = list(stored.iterate(DeliveryFilter()))
    assert names(stored.page(DeliveryFilter(), every[4], 3)) == names(every[5:8])
    assert names(stored.page(DeliveryFilter(), every[-1])) == []
    assert names(list(StoredDeliveries(stored._engine, "other").iterate(DeliveryFilter()))) == []


@pytest.mark.parametrize("text", ["lost", "", "DONE", "'; DROP TABLE deliveries"])
def test_a_state_that_is_none_is_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidFilter, match="waiting, done, dead, discarded or dropped"):
        DeliveryFilter(state=text)


def test_hostile_texts_match_nothing(stored: StoredDeliveries) -> None:
    for text in ("' OR 1=1 --", "%", "_", "Ünïcode", ""):
        assert stored.page(DeliveryFilter(subscriber=text)) == stored.page(DeliveryFilter(project_id=text)) == []


@pytest.mark.parametrize("text", ["nul\0", "\ud800", 7])
def test_a_name_that_no_database_can_be_asked_is_refused_alike(text: Any) -> None:
    for field in ("subscriber", "project_id"):
        with pytest.raises(InvalidFilter, match=f"^{field} of a filter"):
            DeliveryFilter(**{field: text})


def test_keys_of_what_waits_their_states_and_events(stored: StoredDeliveries) -> None:
    assert stored.waiting_counts() == {"Critic": 6, "Painter": 4}
    assert stored.waiting("Painter", (0, -1), 2) == [(20, 1), (30, 0)]
    assert stored.waiting("Painter", (20, 0), 10) == [(20, 1), (30, 0), (50, 0), (60, 0)]
    assert stored.waiting("Painter", (20, 1), 10) == [(30, 0), (50, 0), (60, 0)]
    keys = {(20, 0), (20, 1), (10, 0), (99, 0), *((n, 7) for n in range(2000))}
    assert stored.states("Painter", keys) == {
        (10, 0): ("done", 101), (20, 0): ("dead", 102), (20, 1): ("waiting", None),
    }  # fmt: skip
    assert {position: one.event.event_id for position, one in stored.events([10, 99]).items()} == {10: "e10"}
    assert (stored.known({10, 99}), stored.unknown({10, 99})) == ({10}, {99})


def test_what_was_set_aside_is_not_unknown(engine: Engine, archive: Archive, stored: StoredDeliveries) -> None:
    store_events(archive, an_event(200, event_id="e10", deliveries=("Painter",)))

    assert stored.unknown({200, 201}) == {201}
    assert stored.known({200}) == set()
    assert stored.page(DeliveryFilter(event_position=200))[0].event_id == ""


FATES = st.lists(st.tuples(st.integers(1, 5), st.sampled_from(["A", "B"]), st.sampled_from([*STATES, "waiting"])))


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(FATES, st.integers(1, 4))
def test_pages_of_every_filter_are_what_a_plain_list_says(
    engine: Engine, fates: list[tuple[int, str, str]], page: int
) -> None:
    rows = {(position, name): state for position, name, state in fates}
    with engine.begin() as connection:
        connection.execute(deliveries.delete())
        for (position, name), state in rows.items():
            row = {"event_position": position, "subscriber": name, "redelivery": 0, "state": state}
            connection.execute(deliveries.insert(), row | {"namespace": "test", "attempts": 0})
    store = StoredDeliveries(engine, "test")

    for name in (None, "A", "B"):
        for state in (None, *STATES, "waiting"):
            found = store.iterate(DeliveryFilter(subscriber=name, state=state), page=page)
            expected = [
                (position, who) for (position, who), what in sorted(rows.items())
                if name in (None, who) and state in (None, what)
            ]  # fmt: skip
            assert [(one.event_position, one.subscriber) for one in found] == expected


def test_outcomes_that_are_not_archived_are_taken_into_account_and_change_no_final_state() -> None:
    recorded: RecordedEvent = an_event(10, deliveries=("Critic", "Painter"))
    rows = [Delivery(10, "Painter", 0, "dead", 5, 90)]
    ended = [
        outcome(91, 10, "Painter", 0, AttemptState.REDELIVERED, redelivery=1),
        outcome(92, 10, "Painter", 1, AttemptState.DONE, redelivery=1),
        outcome(93, 10, "Painter", 6, AttemptState.DONE),
        outcome(94, 10, "Critic", 1, AttemptState.RETRIED),
    ]

    found = joined(recorded, rows, ended)

    assert [(one.name, one.state, one.attempts, one.settled_position) for one in found] == [
        ("10:Critic:0", "waiting", 1, None), ("10:Painter:0", "dead", 6, 90), ("10:Painter:1", "done", 1, 92),
    ]  # fmt: skip
