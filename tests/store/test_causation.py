"""Chains lead back to a root and end; trees show everything once. Whichever part SQL has."""

from __future__ import annotations

import random

import pytest

from events.errors import EventBusError, EventNotFound
from events.records import RecordedEvent
from store import causation as module
from store import descent
from store.causation import Causation
from store.seam import Seam
from tests.store.conftest import an_event, store_events
from tests.store.doubles import FakeTail


def ids(recorded):
    return [one.event.event_id for one in recorded]


def caused(position, cause, **fields):
    return an_event(position, causation_id=f"e{cause}" if cause else None, correlation_id="e1", **fields)


def split(engine, archive, history, archived):
    """The question asked of a store that has the first events, and a tail that has the rest."""
    if archived:
        store_events(archive, *history[:archived])
    return Causation(engine, "test", FakeTail(history, archived=history[archived - 1].position if archived else 0))


@pytest.mark.parametrize("archived", range(6))
def test_a_chain_leads_from_the_root_to_the_event_itself(engine, archive, archived):
    history = [caused(1, None), caused(2, 1), caused(3, 2), caused(4, 2), caused(5, 4)]
    causation = split(engine, archive, history, archived)

    assert causation.chain("e5") == [history[0], history[1], history[3], history[4]]
    assert causation.chain("e1") == [history[0]]


def test_of_what_is_not_archived_a_chain_keeps_its_own_events_alone(engine, archive, monkeypatch):
    kept, read = [], Seam.unarchived
    monkeypatch.setattr(Seam, "unarchived", lambda *asked: kept.extend(found := read(*asked)) or found)
    history = [caused(1, None), caused(2, 1), *(caused(n, 1) for n in range(3, 40)), caused(40, 2)]

    chain = split(engine, archive, history, 1).chain("e40")

    assert ids(chain) == ["e1", "e2", "e40"]
    assert ids(one.kept for one in kept if isinstance(one.kept, RecordedEvent)) == ["e2", "e40"]


def test_an_unknown_id_is_not_an_empty_chain(engine, archive):
    store_events(archive, an_event(1))
    for tail in (None, FakeTail()):
        causation = Causation(engine, "test", tail)
        for ask in (causation.chain, causation.tree, causation.children):
            with pytest.raises(EventNotFound, match="'nobody'"):
                ask("nobody")


@pytest.mark.parametrize("archived", range(4))
def test_a_missing_cause_ends_the_chain(engine, archive, archived):
    history = [caused(1, 99), caused(2, 1), caused(3, 2)]

    assert ids(split(engine, archive, history, archived).chain("e3")) == ["e1", "e2", "e3"]


@pytest.mark.parametrize("archived", range(5))
def test_a_cycle_ends_the_chain_where_it_would_repeat_and_the_tree_once_around(engine, archive, archived):
    history = [caused(1, 3), caused(2, 1), caused(3, 2), caused(4, 4)]
    causation = split(engine, archive, history, archived)

    assert ids(causation.chain("e3")) == ["e1", "e2", "e3"]
    assert ids(causation.chain("e4")) == ["e4"]
    assert [tree.event.event_id for _, tree in causation.tree("e1").walk()] == ["e1", "e2", "e3"]


@pytest.mark.parametrize("archived", [0, 250, 400])
def test_a_deep_chain_is_whole_and_one_that_is_too_deep_says_so(engine, archive, monkeypatch, archived):
    history = [caused(n, n - 1 or None) for n in range(1, 401)]
    causation = split(engine, archive, history, archived)

    assert len(causation.chain("e400")) == 400
    assert causation.tree("e1").count == 400
    monkeypatch.setattr(module, "MAX_CHAIN", 399)
    monkeypatch.setattr(module, "MAX_TREE", 399)
    assert len(causation.chain("e399")) == 399
    with pytest.raises(EventBusError, match="'e400' is longer than 399"):
        causation.chain("e400")
    with pytest.raises(EventBusError, match="more than 399"):
        causation.tree("e1")


def test_a_tree_that_is_much_too_wide_says_so_whatever_of_it_is_read_first(engine, archive, monkeypatch):
    store_events(archive, an_event(1))
    values = "'test', 10 + n, 'c' || n, 'p', 'T', 'a', 'e1', 1, {now}, '{{}}', '{{}}', 'publish', '[]', 'e1'"
    columns = (
        "namespace, position, event_id, project_id, type, actor, correlation_id, depth, timestamp, payload, metadata, "
        "origin, deliveries, causation_id"
    )
    numbers = "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 30000)"
    now = "0" if engine.dialect.name == "sqlite" else "now()"
    with engine.begin() as connection:
        chosen = f"SELECT {values.format(now=now)} FROM numbers"
        if engine.dialect.name == "postgresql":
            chosen = chosen.replace("'{}', '{}'", "CAST('{}' AS jsonb), CAST('{}' AS jsonb)")
            chosen = chosen.replace("'[]'", "CAST('[]' AS jsonb)")
        connection.exec_driver_sql(f"INSERT INTO events ({columns}) {numbers} {chosen}")
    monkeypatch.setattr(module, "MAX_TREE", 1000)

    with pytest.raises(EventBusError, match="more than 1,000"):
        Causation(engine, "test", FakeTail(archived=1)).tree("e1")


def test_a_tree_that_is_much_too_wide_says_so_where_its_root_was_not_among_what_was_read(engine, archive, monkeypatch):
    children = {one.event_id: one for n in range(2, 13) for one in [descent.without_payload(an_event(n))]}
    monkeypatch.setattr(descent, "descendants", lambda *_: children)
    monkeypatch.setattr(module, "MAX_TREE", 10)

    with pytest.raises(EventBusError, match="more than 10"):
        Causation(engine, "test", FakeTail()).tree("e1")


@pytest.mark.parametrize("archived", [0, 3, 5, 7])
def test_a_tree_has_everything_that_an_event_set_off_with_its_cost(engine, archive, archived):
    history = [
        caused(1, None, metadata={"cost": 0.1, "latency_ms": 1.5}),
        caused(2, 1, metadata={"cost": 0.2}),
        an_event(3),
        caused(4, 1, metadata={"latency_ms": 2}),
        caused(5, 2, metadata={"cost": 0.3}),
        caused(6, 1),
        caused(7, 5),
    ]
    causation = split(engine, archive, history, archived)

    tree = causation.tree("e1")

    printed = [(level, node.event.position, node.count) for level, node in tree.walk()]
    assert printed == [(0, 1, 6), (1, 2, 3), (2, 5, 2), (3, 7, 1), (1, 4, 1), (1, 6, 1)]
    assert (tree.cost_total, tree.latency_total_ms) == (0.6, 3.5)
    assert causation.tree("e2").cost_total == 0.5
    assert ids(causation.children("e1")) == ["e2", "e4", "e6"] and causation.children("e7") == []


def test_chains_of_random_histories_are_what_following_by_hand_gives(engine, archive):
    chance = random.Random(7)
    history = [caused(n, chance.choice([None, *range(1, n)])) for n in range(1, 61)]
    by_id = {one.event.event_id: one for one in history}
    causation = split(engine, archive, history, 37)

    for one in history:
        expected = [one]
        while (cause := expected[0].event.causation_id) in by_id:
            expected.insert(0, by_id[cause])
        assert causation.chain(one.event.event_id) == expected
