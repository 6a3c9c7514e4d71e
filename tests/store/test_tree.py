"""What a tree amounts to, node by node: the same as adding it up by hand, whichever part of it SQL has."""

from __future__ import annotations

import itertools
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, event

from events.errors import EventNotFound
from events.records import AttemptState, Outcome, RecordedEvent
from store.archive import Archive
from store.causation import Causation, missing_link
from store.tree import CausationTree, MissingLink
from tests.store.conftest import an_event, store_events
from tests.store.doubles import FakeTail

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
NAMES = ("Painter", "Editor")

namespaces = itertools.count()


def caused(position: int, cause: int | None, **fields: Any) -> RecordedEvent:
    return an_event(position, causation_id=f"e{cause}" if cause else None, **{"correlation_id": "e1", **fields})


def asked_of(engine: Engine, history: list[RecordedEvent], archived: int, ended: list[Outcome] = []) -> Causation:  # noqa: B006
    """The question asked of a store that has the first events and all outcomes, and a tail that has the rest."""
    namespace = f"n{next(namespaces)}"
    archive = Archive(engine, namespace)
    if archived:
        store_events(archive, *history[:archived])
    with archive.writer("outcomes") as writer:
        assert writer is not None
        writer.append_outcomes(ended)
        if ended:
            writer.advance(ended[-1].position, f"{ended[-1].position}-0")
    return Causation(engine, namespace, FakeTail(history, archived=history[archived - 1].position if archived else 0))


def outcome(
    position: int, event_position: int, state: AttemptState, redelivery: int = 0, name: str = "Painter"
) -> Outcome:
    return Outcome(position, event_position, name, redelivery, 1, state, "worker")


def by_position(tree: CausationTree) -> dict[int, CausationTree]:
    return {node.event.position: node for _, node in tree.walk()}


# against a model


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[RecordedEvent], list[Outcome]]:
    """A history of which any event may name any other as its cause, itself and unknown ones included; and outcomes."""
    size = draw(st.integers(1, 14))
    history, ended = [], []
    for n in range(1, size + 1):
        metadata: dict[str, Any] = {}
        if draw(st.booleans()):
            metadata["cost"] = draw(st.integers(0, 10**9)) / 10**6
            metadata |= draw(st.sampled_from([{}, {"currency": "EUR"}, {"currency": "USD"}, {"currency": "JPY"}]))
        if draw(st.booleans()):
            metadata["latency_ms"] = draw(st.integers(0, 10**7)) / 1000
        cause = draw(st.one_of(st.none(), st.integers(1, n), st.integers(1, size + 2)))
        seconds = draw(st.integers(-5, 5))
        deliveries = tuple(name for name in NAMES if draw(st.booleans()))
        event_of = caused(n, cause, metadata=metadata, timestamp=NOON + timedelta(seconds=seconds))
        history.append(RecordedEvent(n, event_of.event, 0, deliveries))
        for name in deliveries:
            for redelivery, state in enumerate(
                draw(st.lists(st.sampled_from(["dead", "done", "retried"]), max_size=2))
            ):
                ended.append(outcome(100 + len(ended), n, AttemptState(state), redelivery, name))
    return history, ended


def model(history: list[RecordedEvent], root: int) -> set[int]:
    """The positions of what an event set off, itself included, found by asking each event again and again."""
    found = {root}
    while more := {r.position for r in history if r.event.causation_id in {f"e{n}" for n in found}} - found:
        found |= more
    return found


def last_states(history: list[RecordedEvent], ended: list[Outcome], archived: int) -> Counter[tuple[int, str]]:
    """How the last delivery of each archived event to each subscriber ended."""
    states: dict[tuple[int, str, int], str] = {}
    for recorded in history[:archived]:
        states |= {(recorded.position, name, 0): "waiting" for name in recorded.deliveries}
    for one in ended:
        states[one.event_position, one.subscriber, one.redelivery] = one.state if one.state != "retried" else "waiting"
    last = {key[:2]: states[key] for key in sorted(states)}
    return Counter((position, state) for (position, _), state in last.items())


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(histories(), st.data())
def test_totals_are_what_adding_up_by_hand_gives(engine: Engine, told: Any, data: st.DataObject) -> None:
    history, ended = told
    archived = data.draw(st.integers(0, len(history)))
    causation = asked_of(engine, history, archived, ended)
    states = last_states(history, ended, archived)
    at = {recorded.position: recorded for recorded in history}

    tree = causation.tree(f"e{data.draw(st.integers(1, len(history)))}")

    nodes = by_position(tree)
    assert set(nodes) == model(history, tree.event.position), "every event once"
    for position, node in nodes.items():
        below = [at[n] for _, inner in node.walk() for n in [inner.event.position]]
        costs: Counter[str] = Counter()
        for one in below:
            if one.event.cost is not None:
                costs[one.event.metadata.get("currency", "USD")] += round(one.event.cost * 1_000_000)
        ends = [one.event.timestamp + timedelta(milliseconds=one.event.latency_ms or 0) for one in below]
        assert node.count == len(below)
        assert dict(node.costs_micros) == costs and node.cost_micros == sum(costs.values())
        assert node.latency_us == sum(round((one.event.latency_ms or 0) * 1000) for one in below)
        assert timedelta(microseconds=node.elapsed_us) == max(ends) - at[position].event.timestamp
        assert node.waiting == sum(states[one.position, "waiting"] for one in below)
        assert node.dead == sum(states[one.position, "dead"] for one in below)
        path = node.critical_path
        assert all(after in before.children for before, after in itertools.pairwise(path))
        assert path[-1].event.end_us == node.end_us
        assert [child.event.position for child in node.children] == sorted(
            n for n in nodes if at[n].event.causation_id == f"e{position}" and n != tree.event.position
        )


# the corners


@pytest.mark.parametrize("archived", range(5))
def test_an_effect_that_was_published_before_its_cause_is_in_the_tree(engine: Engine, archived: int) -> None:
    history = [caused(1, None), caused(2, 4), caused(3, 2), caused(4, 1)]

    tree = asked_of(engine, history, archived).tree("e1")

    assert [(level, node.event.position) for level, node in tree.walk()] == [(0, 1), (1, 4), (2, 2), (3, 3)]
    assert tree.missing == (), "a cause that is not archived yet is not missing"


@pytest.mark.parametrize("archived", range(6))
def test_missing_causes_are_named_above_the_tree_and_inside_it(engine: Engine, archived: int) -> None:
    history = [caused(1, 90), caused(2, 1), caused(3, 91), caused(4, 3), caused(5, 92, correlation_id="e5")]
    causation = asked_of(engine, history, archived)

    above, inside = MissingLink("e1", 1, "e90"), MissingLink("e3", 3, "e91")
    assert causation.tree("e1").missing == (above, inside)
    assert causation.tree("e1").count == 2, "what cannot be reached is named, and not counted"
    assert causation.tree("e2").missing == () and causation.tree("e4").missing == ()
    assert causation.tree("e3").missing == (inside,)
    assert missing_link(causation.chain("e2")) == above
    assert missing_link(causation.chain("e4")) == inside


@pytest.mark.parametrize("archived", range(4))
def test_a_circle_and_a_whole_chain_miss_nothing(engine: Engine, archived: int) -> None:
    history = [caused(1, 2), caused(2, 1), caused(3, None, correlation_id="e3")]
    causation = asked_of(engine, history, archived)

    assert missing_link(causation.chain("e2")) is None and causation.tree("e2").missing == ()
    assert missing_link(causation.chain("e3")) is None and causation.tree("e3").missing == ()


def test_many_missing_causes_are_named_up_to_a_bound(engine: Engine) -> None:
    history = [caused(1, None), *(caused(n, 1000 + n) for n in range(2, 150))]

    for archived in (0, 70, 149):
        missing = asked_of(engine, history, archived).tree("e1").missing
        assert [link.position for link in missing] == [*range(2, 102)]


def test_a_delivery_that_was_made_again_counts_as_it_ended_last(engine: Engine) -> None:
    history = [an_event(n, deliveries=("Painter",)) for n in (1, 2, 3)]
    ended = [
        outcome(10, 1, AttemptState.DEAD), outcome(11, 1, AttemptState.REDELIVERED, 1),
        outcome(12, 2, AttemptState.DEAD), outcome(13, 2, AttemptState.REDELIVERED, 1),
        outcome(14, 2, AttemptState.DEAD, 1), outcome(15, 3, AttemptState.DEAD),
        outcome(16, 3, AttemptState.REDELIVERED, 1), outcome(17, 3, AttemptState.DONE, 1),
    ]  # fmt: skip
    causation = asked_of(engine, history, 3, ended)

    trees = [causation.tree(f"e{n}") for n in (1, 2, 3)]

    assert [(tree.waiting, tree.dead) for tree in trees] == [(1, 0), (0, 1), (0, 0)]


def test_an_unarchived_event_that_cannot_be_stored_is_left_out_as_the_archive_will(engine: Engine) -> None:
    wrong = caused(2, 1)
    wrong.event.metadata["cost"] = 1e13

    assert asked_of(engine, [caused(1, None), wrong, caused(3, 1)], 0).tree("e1").count == 2


@pytest.mark.parametrize("event_id", ["\0", "\ud800", "'; DROP TABLE events; --", "%", "", "x" * 10_000])
def test_whatever_an_id_holds_one_that_nobody_has_is_not_found(engine: Engine, event_id: str) -> None:
    causation = asked_of(engine, [caused(1, None), caused(2, None)], 1)

    for ask in (causation.chain, causation.children, causation.tree):
        with pytest.raises(EventNotFound):
            ask(event_id)


# size


@pytest.mark.parametrize("archived", [6_000, 10_000])
@pytest.mark.parametrize("shape", ["a chain", "a fan", "random"])
def test_ten_thousand_events_are_a_tree_in_a_few_statements(engine: Engine, archived: int, shape: str) -> None:
    causes = {"a chain": lambda n: n - 1, "a fan": lambda n: 1, "random": lambda n: 1 + n * 7919 % (n - 1)}
    history = [caused(n, causes[shape](n) if n > 1 else None, metadata={"cost": 0.001}) for n in range(1, 10_001)]
    causation = asked_of(engine, history, archived)
    statements: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *said: statements.append(said[2]))

    tree = causation.tree("e1")

    assert (tree.count, dict(tree.costs_micros)) == (10_000, {"USD": 10_000_000})
    deepest = max(level for level, _ in tree.walk())
    assert deepest == {"a chain": 9_999, "a fan": 1}.get(shape, deepest)
    assert len(statements) < 60, "some for each thousand events, none for each event"


def test_postgresql_compiles_no_recursion(engine: Engine, backend: str) -> None:
    if backend == "sqlite":
        pytest.skip("SQLite compiles nothing")
    causation, found = asked_of(engine, [caused(1, None), caused(2, 1)], 2), []

    def note(connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "RECURSIVE" in statement:
            cursor = connection.connection.cursor()
            cursor.execute("SHOW jit")
            found.append(cursor.fetchone()[0])

    event.listen(engine, "before_cursor_execute", note)
    causation.tree("e1")
    causation.chain("e2")

    assert found == ["off", "off"]
