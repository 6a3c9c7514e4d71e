"""One web process a module, on a namespace with a worker and an archiver."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fleet.conftest import make_world
from tests.fleet.fleet import World
from tests.valkey_servers import ValkeyServer
from tests.web.site import Site, start


@pytest.fixture(scope="module")
def served_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with ValkeyServer(aof=True, options={"appendfsync": "everysec"}) as server:
        world = make_world(server.url, tmp_path_factory.mktemp("web"))
        try:
            world.start_fleet(1, "tests.web.app:bus", timeout_s=120)
            world.start_archiver()
            yield world
        finally:
            world.close()


@pytest.fixture(scope="module")
def site(served_world: World) -> Iterator[Site]:
    found = start(served_world)
    yield found
    found.http.close()
