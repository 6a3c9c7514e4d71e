"""Every store test runs on a fresh SQLite file and on a fresh database of a real PostgreSQL, the wheel's.

Those of the contract (`CONTRACT`) run on Debian's PostgreSQL too, where it is installed; with `--nightly` all do.
"""

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
from tests.servers import DebianPostgres, PostgresServer, SpareDatabase, migrate

TEMPLATE = "migrated"
SERVERS: dict[str, type[PostgresServer]] = {"postgres": PostgresServer, "debian-postgres": DebianPostgres}
# What the store promises, where versions may differ. The others cost as much again: see docs/testing.md.
CONTRACT = {
    f"tests.store.test_{name}"
    for name in (
        "archive", "causation", "counting", "dead_letters", "deliveries", "inbox", "migrate", "outbox", "partitions",
        "persistence", "plans", "replay", "retention", "statistics", "tree",
    )
}  # fmt: skip


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Say on which databases a test runs: those that ask for a PostgreSQL's server on no SQLite."""
    if "place" in metafunc.fixturenames:
        places = ["postgres"] if "postgres" in metafunc.fixturenames else ["sqlite", "postgres"]
        is_wanted = metafunc.module.__name__ in CONTRACT or metafunc.config.getoption("--nightly")
        if is_wanted and DebianPostgres.available():
            places.append("debian-postgres")
        metafunc.parametrize("place", places)


class Databases:
    """A PostgreSQL for the session: its server, a spare database that is migrated, and one without a schema."""

    def __init__(self, server: PostgresServer) -> None:
        self.server = server.start()
        server.execute(f"CREATE DATABASE {TEMPLATE}")
        migrate(server.url(TEMPLATE))
        self.migrated = SpareDatabase(server, TEMPLATE)
        self.empty = SpareDatabase(server)


@pytest.fixture(scope="session")
def databases() -> Iterator[Callable[[str], Databases]]:
    """Starts a server when the first test asks for it."""
    started: dict[str, Databases] = {}

    def at(place: str) -> Databases:
        if place not in started:
            started[place] = Databases(SERVERS[place]())
        return started[place]

    yield at
    for one in started.values():
        one.server.stop()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sqlite") / "migrated.db"
    migrate(f"sqlite:///{path}")
    return path


@pytest.fixture
def postgres(place: str, databases: Callable[[str], Databases]) -> PostgresServer:
    return databases(place).server


@pytest.fixture
def backend(place: str) -> str:
    """Which of the two dialects it is, `sqlite` or `postgres`."""
    return "sqlite" if place == "sqlite" else "postgres"


@pytest.fixture
def empty_url(place: str, databases: Callable[[str], Databases], tmp_path: Path) -> Iterator[str]:
    """A database without a schema."""
    if place == "sqlite":
        yield f"sqlite:///{tmp_path / 'events.db'}"
        return
    spare = databases(place).empty
    yield spare.take()
    spare.give_back()


@pytest.fixture
def url(
    place: str, databases: Callable[[str], Databases], request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[str]:
    """A migrated, empty database."""
    if place == "sqlite":
        shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path / "events.db")
        yield f"sqlite:///{tmp_path / 'events.db'}"
        return
    spare = databases(place).migrated
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
