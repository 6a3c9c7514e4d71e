"""A bench for tests of what SQL and Redis do together, on both servers; files with benches of their own have them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
from sqlalchemy import Engine

from store.engine import open_engine
from store.migrate import upgrade
from tests.model.filling import Bench
from tests.valkey_servers import ValkeyServer


@pytest.fixture
def client(either_server: ValkeyServer) -> Iterator[redis.Redis]:
    with either_server.client() as client:
        yield client
        client.config_set("maxmemory", 0)
        client.flushall()


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    engine = open_engine(f"sqlite:///{tmp_path_factory.mktemp('store') / 'store.db'}")
    upgrade(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def bench(client: redis.Redis, engine: Engine) -> Bench:
    return Bench(client, engine)
