"""The kit on a PostgreSQL of the user's own: the bus's namespace is fresh, the rest begins anew by `setup`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import Session

from events.event import Event
from events.testing import TestBus, crash_test
from store import inbox, outbox
from tests.servers import PostgresServer, migrate


@pytest.fixture(scope="module")
def postgres_url() -> Iterator[str]:
    server = PostgresServer().start()
    try:
        url = server.create_database()
        migrate(url)
        yield url
    finally:
        server.stop()


@pytest.fixture
def event_bus_settings(postgres_url: str) -> dict[str, Any]:
    return {"database_url": postgres_url}


@pytest.fixture
def engine(postgres_url: str) -> Iterator[Engine]:
    engine = create_engine(postgres_url.replace("postgresql://", "postgresql+psycopg2://"))
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE IF NOT EXISTS charges (shot INTEGER)"))
    yield engine
    engine.dispose()


def test_a_careful_handler_passes_and_a_naive_one_is_caught(event_bus_kit: TestBus, engine: Engine) -> None:
    def begin() -> None:
        with engine.begin() as connection:
            connection.execute(text("TRUNCATE charges"))

    def charges() -> list[int]:
        with engine.connect() as connection:
            return list(connection.execute(text("SELECT shot FROM charges ORDER BY shot")).scalars())

    def charge(session: Session, event: Event) -> None:
        session.execute(text("INSERT INTO charges VALUES (:shot)"), event.payload)

    def careful(event: Event) -> None:
        with Session(engine) as session, session.begin():
            if inbox.once(session):
                charge(session, event)
                outbox.add(session, event.caused("SHOT_BILLED"))

    def naive(event: Event) -> None:
        with Session(engine) as session, session.begin():
            charge(session, event)
            outbox.add(session, event.caused("SHOT_BILLED"))

    approved = Event(project_id="P", type="SHOT_APPROVED", actor="User", payload={"shot": 4})

    crash_test(careful, approved, bus=event_bus_kit, setup=begin, state=charges).raise_if_not()
    report = crash_test(naive, approved, bus=event_bus_kit, setup=begin, state=charges)

    assert report.first is not None
    assert report.first.what.startswith("killed after commit 1 (to test_1), test_postgres.py:")
    assert report.first.differences.state
    assert report.first.differences.extra


def test_buses_that_share_a_database_see_nothing_of_each_other(event_bus_kit: TestBus, postgres_url: str) -> None:
    event_bus_kit.publish_sync(Event(project_id="P", type="SHOT_APPROVED", actor="User"))
    event_bus_kit.run_until_idle_sync()

    with TestBus(database_url=postgres_url) as other:
        other.run_until_idle_sync()
        assert other.events() == []
    assert len(event_bus_kit.events()) == 1
