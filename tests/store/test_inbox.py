"""The inbox: of all transactions that handle an event for a subscriber, one has its effects."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, exc, text
from sqlalchemy.orm import Session

from events.context import Handling, handling
from events.errors import EventBusError, NotMigrated
from events.event import Event
from events.settings import Settings
from store import inbox
from store.engine import open_engine, reading, writing
from tests.waiting import wait_until

SETTINGS = Settings(namespace="test")


def delivery(event_id: str = "e1", subscriber: str = "Billing", redelivery: int = 0) -> Handling:
    event = Event(event_id=event_id, project_id="film", type="SHOT_APPROVED", actor="tester")
    return Handling(event, subscriber, 1, f"7:{subscriber}:{redelivery}", "test")


@pytest.fixture
def engine(engine: Engine) -> Engine:
    """A database with a table of the application's."""
    with writing(engine) as connection:
        connection.execute(text("CREATE TABLE charges (event_id text, who text)"))
    return engine


def charge(session: Session, handled: Handling, who: str = "me", step: str = "") -> bool:
    """What a handler does: its effect, if it is the first."""
    first = inbox.once(session, handled, step=step)
    if first:
        session.execute(text("INSERT INTO charges VALUES (:e, :w)"), {"e": handled.event.event_id, "w": who})
    return first


def handle(engine: Engine, handled: Handling, who: str = "me", step: str = "") -> bool:
    with Session(engine) as session, session.begin():
        return charge(session, handled, who, step)


def charges(engine: Engine) -> list[tuple[str, str]]:
    with reading(engine) as connection:
        return sorted(tuple(row) for row in connection.execute(text("SELECT event_id, who FROM charges")))  # type: ignore[misc]


@contextmanager
def inside(handled: Handling) -> Iterator[None]:
    token = handling.set(handled)
    try:
        yield
    finally:
        handling.reset(token)


def test_one_transaction_of_a_subscriber_is_told_true_and_every_later_one_false(engine):
    again = [delivery(), delivery(redelivery=1), delivery(redelivery=10_000)]

    assert handle(engine, delivery(), "first")
    assert not any(handle(engine, handled, "again") for handled in again)
    assert handle(engine, delivery("e2")) and handle(engine, delivery(subscriber="Audit"), "audit")

    assert charges(engine) == [("e1", "audit"), ("e1", "first"), ("e2", "me")]


def test_inside_a_handler_it_knows_what_is_handled_and_outside_it_says_what_is_missing(engine):
    with Session(engine) as session, session.begin():
        with pytest.raises(EventBusError, match="outside a handler"):
            inbox.once(session)
        with inside(delivery()):
            assert inbox.once(session)
            assert not inbox.once(session), "one transaction asks once"

    assert not handle(engine, delivery())


def test_a_transaction_that_rolls_back_gives_the_effect_to_the_next(engine):
    with pytest.raises(KeyError), Session(engine) as session, session.begin():
        assert charge(session, delivery(), "failed")
        raise KeyError
    with Session(engine) as session, session.begin():
        with pytest.raises(KeyError), session.begin_nested():
            assert charge(session, delivery(), "failed too")
            raise KeyError
        assert charge(session, delivery(), "third")

    assert charges(engine) == [("e1", "third")]


def test_each_step_of_a_handler_with_several_transactions_is_done_once(engine):
    told = [[handle(engine, delivery(), step, step) for step in ("reserve", "pay")] for _ in range(2)]

    assert told == [[True, True], [False, False]]
    assert charges(engine) == [("e1", "pay"), ("e1", "reserve")]


def test_what_is_undone_and_forgotten_together_is_done_again(engine):
    for event_id in ("e1", "e2", "e3"):
        handle(engine, delivery(event_id))
    handle(engine, delivery("e1", "Audit"), "audit")

    with Session(engine) as session, session.begin():
        session.execute(text("DELETE FROM charges WHERE event_id = 'e1' AND who = 'me'"))
        assert inbox.forget(session, "Billing", ["e1", "unknown"], settings=SETTINGS) == 1
    assert [handle(engine, delivery(event_id), "again") for event_id in ("e1", "e2")] == [True, False]
    assert not handle(engine, delivery("e1", "Audit"))
    with Session(engine) as session:
        assert inbox.forget(session, "Billing", settings=SETTINGS) == 3
        session.rollback()

    assert not handle(engine, delivery("e3"))
    assert charges(engine) == [("e1", "again"), ("e1", "audit"), ("e2", "me"), ("e3", "me")]


@pytest.mark.parametrize("zombie_commits", [True, False])
def test_whoever_comes_while_a_zombie_has_not_ended_waits_for_it_and_is_told_what_became_of_it(
    engine, url, open_at, backend, zombie_commits
):
    patient, told = open_at(url, timeout_s=30.0), []
    with Session(engine) as zombie:
        assert charge(zombie, delivery(), "zombie")
        other = threading.Thread(target=lambda: told.append(handle(patient, delivery(redelivery=1), "other")))
        other.start()
        if backend == "postgres":
            wait_until(lambda: _blocked(engine), 20, "the other to wait for the key")
        assert other.is_alive() and told == []
        zombie.commit() if zombie_commits else zombie.rollback()
    other.join(30)

    assert told == [not zombie_commits]
    assert charges(engine) == [("e1", "zombie" if zombie_commits else "other")]


def _blocked(engine: Engine) -> bool:
    query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    with engine.connect() as connection:
        return bool(connection.execute(text(query)).scalar())


def test_a_snapshot_that_cannot_see_the_winner_fails_instead_of_charging_twice(engine, backend):
    if backend == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    strict = engine.execution_options(isolation_level="SERIALIZABLE")
    with Session(strict) as late:
        late.execute(text("SELECT count(*) FROM charges")).all()
        assert handle(engine, delivery(), "first")
        with pytest.raises(exc.OperationalError, match="could not serialize"):
            charge(late, delivery(), "late")

    with Session(strict) as retried, retried.begin():
        assert not charge(retried, delivery(), "late")
    assert charges(engine) == [("e1", "first")]


def test_a_database_without_an_inbox_is_named(empty_url, open_at):
    with Session(open_at(empty_url)) as session, pytest.raises(NotMigrated, match="run `eventbus migrate`"):
        inbox.once(session, delivery())


# killed at every step ---------------------------------------------------------------------------

POINTS = ("before it asks", "before the effect", "between effect and commit", "after the commit")


def _handle_and_die(url: str, at: str, event_id: str) -> None:
    def point(name: str) -> None:
        if name == at:
            os.kill(os.getpid(), signal.SIGKILL)

    with Session(open_engine(url)) as session, session.begin():
        point("before it asks")
        first = inbox.once(session, delivery(event_id))
        point("before the effect")
        if first:
            session.execute(text("INSERT INTO charges VALUES (:e, 'dying')"), {"e": event_id})
        point("between effect and commit")
    point("after the commit")


@pytest.mark.parametrize("at", POINTS)
def test_a_handler_that_is_killed_anywhere_has_its_effect_once(engine, url, at):
    process = multiprocessing.get_context("spawn").Process(target=_handle_and_die, args=(url, at, "e1"))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL

    committed = charges(engine)
    told = [handle(engine, delivery(), "next"), handle(engine, delivery(redelivery=1), "retried")]

    assert committed == ([("e1", "dying")] if at == "after the commit" else [])
    assert told == [at != "after the commit", False]
    assert len(charges(engine)) == 1


STEPS = st.tuples(st.integers(0, 2), st.integers(0, 3), st.sampled_from(["commit", "rollback", "forget"]))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEPS, max_size=30))
def test_effects_are_as_many_as_one_for_each_event_whatever_rolls_back_or_is_forgotten(engine, steps):
    with writing(engine) as connection:
        connection.execute(text("DELETE FROM charges"))
        connection.execute(text("DELETE FROM inbox"))
    done: set[str] = set()

    for number, redelivery, end in steps:
        handled = delivery(f"e{number}", redelivery=redelivery)
        effects: dict[str, Callable[[set[str]], set[str]]] = {
            "commit": lambda known, e=handled.event.event_id: known | {e},
            "rollback": lambda known: known,
            "forget": lambda known, e=handled.event.event_id: known - {e},
        }
        with Session(engine) as session:
            if end == "forget":
                session.execute(text("DELETE FROM charges WHERE event_id = :e"), {"e": handled.event.event_id})
                inbox.forget(session, "Billing", [handled.event.event_id], settings=SETTINGS)
            else:
                assert charge(session, handled) == (handled.event.event_id not in done)
            session.rollback() if end == "rollback" else session.commit()
        done = effects[end](done)

    assert charges(engine) == [(event_id, "me") for event_id in sorted(done)]
