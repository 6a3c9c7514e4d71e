"""`eventbus bench` measures on the user's servers, and leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import redis
from sqlalchemy import create_engine, func, select

from store.tables import metadata
from tests.console.command import Place
from tests.servers import migrate

RATES = (
    "publish, one awaited after another", "publish, a hundred at once", "publish_many", "drain, plain handlers",
    "drain, async handlers", "drain, handlers of batches", "archive, events and outcomes", "replay",
)  # fmt: skip
SMALL = ("bench", "--events", "100", "--rounds", "2", "--processes", "1")


def test_it_measures_everything_on_servers_of_its_own(place: Place) -> None:
    measured = place.run(*SMALL, "--json")

    found = measured.json()
    assert (found["events"], found["rounds"], found["processes"]) == (100, 2, 1)
    assert {title for title, turns in found["turns"].items() if all(turn.get("per_s", 0) > 0 for turn in turns)} == {
        *RATES
    }
    assert all(len(turns) == 2 for turns in found["turns"].values())
    assert all(0 < turn["p50_ms"] <= turn["p99_ms"] for turn in found["turns"]["idle to handled"])
    assert found["turns"]["drain, plain handlers"][0].keys() >= {"worker_us", "server_us", "commands", "bytes"}
    assert "round 2 of 2: replay" in measured.err
    assert not list(place.directory.iterdir())


def test_it_asks_before_it_loads_named_servers_and_removes_what_it_made(
    place: Place, redis_url: str, tmp_path: Path
) -> None:
    database_url = f"sqlite:///{tmp_path / 'ours.db'}"
    migrate(database_url)
    there = {"REDIS_URL": redis_url, "DATABASE_URL": database_url}
    refused = place.run(*SMALL, **there)

    done = place.run(*SMALL, "--yes", **there)

    assert refused.code == 2 and f"Load {redis_url} and {database_url} with 100 events" in refused.sentence()
    lines = done.out.splitlines()
    assert done.code == 0 and "EVENTS/S" in lines[0] and [line.split("  ")[0] for line in lines[1:]] == [
        *RATES[:6], "idle to handled", *RATES[6:],
    ]  # fmt: skip
    with redis.Redis.from_url(redis_url) as client:
        assert not client.keys("*")
    with create_engine(database_url).connect() as connection:
        tables = metadata.sorted_tables
        assert not any(connection.execute(select(func.count()).select_from(table)).scalar() for table in tables)
