"""A world for each test: a namespace on the session's Valkey, and a migrated SQLite file."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from events.settings import Settings
from tests.fleet.fleet import World
from tests.servers import migrate
from tests.valkey_servers import ValkeyServer


def make_world(redis_url: str, folder: Path, lease_s: float = 2, timeout_s: float = 3) -> World:
    """A namespace with a migrated store in that folder."""
    url = f"sqlite:///{folder / 'store.db'}"
    migrate(url)
    namespace = f"test-{uuid.uuid4().hex[:12]}"
    return World(
        Settings(
            redis_url=redis_url, database_url=url, namespace=namespace, lease_s=lease_s, history_margin_s=0,
            timeout_s=timeout_s,
        ),
        folder,
    )  # fmt: skip


@pytest.fixture
def world(redis_url: str, tmp_path: Path) -> Iterator[World]:
    """A world of the test's own, to break things in."""
    world = make_world(redis_url, tmp_path)
    try:
        yield world
    finally:
        world.close()


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A world with a fleet of two worker processes that a module's tests share."""
    with ValkeyServer() as server:
        yield from running_fleet(server.url, tmp_path_factory.mktemp("fleet"))


def running_fleet(redis_url: str, folder: Path, app: str = "tests.fleet.app:bus", **changes: float) -> Iterator[World]:
    """A world with two worker processes while the generator is open; changes are `make_world`'s."""
    world = make_world(redis_url, folder, **changes)
    try:
        world.start_fleet(2, app)
        yield world
    finally:
        world.close()
