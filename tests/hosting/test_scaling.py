"""The autoscalers of docs/deploy.md see what is not done; a fleet that they stopped is started again for it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.documents import blocks_of
from tests.fleet.conftest import make_world
from tests.fleet.fleet import World
from tests.fleet.test_delivery import make, publish
from tests.valkey_servers import ValkeyServer
from tests.waiting import wait_until
from tests.web.site import Site, start

DEPLOY = Path(__file__).resolve().parents[2] / "docs" / "deploy.md"
PATIENCE_S = 60


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with ValkeyServer() as server:
        found = make_world(server.url, tmp_path)
        try:
            yield found
        finally:
            found.close()


def triggers() -> Iterator[dict[str, Any]]:
    """The triggers of every scaler that the document shows."""
    blocks = [block.code for block in blocks_of(DEPLOY.read_text(), "docs/deploy.md") if block.language == "yaml"]
    for part in (part for block in blocks for part in yaml.safe_load_all(block)):
        yield from part.get("triggers", part.get("spec", {}).get("triggers", ()))


def test_a_fleet_of_none_is_started_for_a_retry_that_is_not_due(world: World) -> None:
    fleet = world.start_fleet(1, "tests.hosting.app:bus", timeout_s=PATIENCE_S)
    publish(world, make("PREVIEW_VIDEO_REQUESTED"))
    wait_until(lambda: world.redis.zcard(world.keys("delayed", "VideoGen")), PATIENCE_S, "the retry to wait")
    fleet.terminate()
    fleet.wait(PATIENCE_S)
    site = start(world)
    lag = site.get("/lag")

    found = {trigger["type"]: trigger["metadata"] for trigger in triggers()}

    assert lag["VideoGen"]["lag"] == 0, "nothing waits for a worker"
    assert at(lag, found["metrics-api"]["valueLocation"]) == 1
    assert total(site, found["prometheus"]["query"]) == 1
    site.http.close()


def at(value: Any, location: str) -> Any:
    """Return what is at a `valueLocation`: names between dots."""
    for name in location.split("."):
        value = value[name]
    return value


def total(site: Site, query: str) -> float:
    """Return what a query of the form max(series + series ...) gives for the samples of one process's /metrics."""
    [series] = re.findall(r"^max\((.*)\)$", query)
    samples = dict(line.rsplit(" ", 1) for line in site.http.get("/metrics").text.splitlines() if line[:1] != "#")
    return sum(float(samples[name]) for name in series.split(" + "))
