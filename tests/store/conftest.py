"""Every store test runs twice: on a fresh SQLite file, and on a fresh database of a real PostgreSQL."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from events.event import Event
from events.records import Outcome, RecordedEvent
from store.archive import Archive
from store.engine import open_engine
from store.migrate import upgrade
from tests.servers import PostgresServer, SpareDatabase

TEMPLATE = "migrated"


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    server = PostgresServer().start()
    server.execute(f"CREATE DATABASE {TEMPLATE}")
    migrate(server.url(TEMPLATE))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def spare(postgres: PostgresServer) -> SpareDatabase:
    """A migrated database."""
    return SpareDatabase(postgres, TEMPLATE)


@pytest.fixture(scope="session")
def spare_empty(postgres: PostgresServer) -> SpareDatabase:
    """A database without a schema."""
    return SpareDatabase(postgres)


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sqlite") / "migrated.db"
    migrate(f"sqlite:///{path}")
    return path


@pytest.fixture(params=["sqlite", "postgres"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def empty_url(backend: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database without a schema."""
    if backend == "sqlite":
        yield f"sqlite:///{tmp_path / 'events.db'}"
        return
    spare = request.getfixturevalue("spare_empty")
    yield spare.take()
    spare.give_back()


@pytest.fixture
def url(backend: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A migrated, empty database."""
    if backend == "sqlite":
        shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path / "events.db")
        yield f"sqlite:///{tmp_path / 'events.db'}"
        return
    spare = request.getfixturevalue("spare")
    yield spare.take()
    spare.give_back()


@pytest.fixture
def open_at() -> Iterator[Callable[..., Engine]]:
    """Opens engines, and closes them after the test."""
    engines: list[Engine] = []

    def open_one(url: str, **options: Any) -> Engine:
        engines.append(open_engine(url, **options))
        return engines[-1]

    yield open_one
    for engine in engines:
        engine.dispose()


@pytest.fixture
def engine(url: str, open_at: Callable[..., Engine]) -> Engine:
    return open_at(url)


@pytest.fixture
def archive(engine: Engine) -> Archive:
    return Archive(engine, "test")


def an_event(
    position: int, type: str = "SCENE_WRITTEN", *, deliveries: tuple[str, ...] = (), depth: int = 0, **fields: Any
) -> RecordedEvent:
    """An event whose id is `e<position>` unless it says otherwise."""
    given = {"event_id": f"e{position}", "project_id": "film", "actor": "tester", **fields}
    event = Event(type=type, **given)
    if event.correlation_id is None:
        event = event.model_copy(update={"correlation_id": event.event_id})
    return RecordedEvent(position, event, depth, deliveries)


def store_events(archive: Archive, *recorded: RecordedEvent) -> None:
    """Archive events, and move the cursor to the last of them."""
    with archive.writer("history") as writer:
        assert writer is not None
        writer.append_events(recorded)
        writer.advance(recorded[-1].position, f"{recorded[-1].position}-0")


def store_outcomes(archive: Archive, *ended: Outcome) -> None:
    """Archive outcomes, and move the cursor to the last of them."""
    with archive.writer("outcomes") as writer:
        assert writer is not None
        writer.append_outcomes(ended)
        writer.advance(ended[-1].position, f"{ended[-1].position}-0")


def migrate(url: str) -> None:
    """Give a database its schema; nobody is connected to it afterwards."""
    engine = open_engine(url)
    upgrade(engine)
    engine.dispose()
