"""Months of history on PostgreSQL: a partition each, made by whoever needs it first."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
from sqlalchemy import Engine, text

from events.records import AttemptState, Outcome
from store import partitions
from store.archive import Archive
from store.engine import reading
from store.replay import Replay
from tests.servers import PostgresServer
from tests.store.conftest import TEMPLATE, an_event, store_events


@pytest.fixture
def engine(postgres: PostgresServer, open_at: Callable[..., Engine]) -> Iterator[Engine]:
    url = postgres.create_database(TEMPLATE)
    yield open_at(url)
    postgres.drop_database(url)


def position_of(year: int, month: int, day: int = 1) -> int:
    return int(datetime(year, month, day, tzinfo=UTC).timestamp()) * 1_000_000


def tables(engine: Engine, table: str) -> list[str]:
    """A table's partitions, by name."""
    query = text("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = to_regclass(:table)")
    with reading(engine) as connection:
        return sorted(connection.execute(query, {"table": table}).scalars())


def rows_in(engine: Engine, table: str) -> int:
    with reading(engine) as connection:
        return int(connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())


def test_a_batch_over_months_makes_the_partitions_it_needs_and_reads_as_one_history(engine: Engine) -> None:
    archive = Archive(engine, "test")
    positions = [1, position_of(2031, 1) - 1, position_of(2031, 1), position_of(2031, 3, 31)]

    store_events(archive, *(an_event(position, deliveries=("A",)) for position in positions))

    used = ["events_2030_12", "events_2031_01", "events_2031_03", "events_first"]
    assert set(used) <= set(tables(engine, "events")) and "events_2031_02" not in tables(engine, "events")
    assert {"deliveries_2030_12", "deliveries_2031_01"} <= set(tables(engine, "deliveries"))
    assert [rows_in(engine, name) for name in used] == [1, 1, 1, 1]
    assert [recorded.position for recorded in Replay(engine, "test", None).iterate(page=2)] == positions


def test_outcomes_and_their_deliveries_have_months_too(engine: Engine) -> None:
    position = position_of(2031, 5)
    ended = Outcome(position, 1, "A", 0, 1, AttemptState.DONE, "worker", 5, "")

    with Archive(engine, "test").writer("outcomes") as writer:
        assert writer is not None
        writer.append_outcomes([ended])
        writer.advance(position, f"{position}-0")

    assert "outcomes_2031_05" in tables(engine, "outcomes")
    assert "deliveries_2031_05" not in tables(engine, "deliveries"), "an event of the first partition"


def test_an_outcome_of_what_was_no_delivery_stops_no_archiver(engine: Engine) -> None:
    dead = Outcome(5, 1_700_000_000_000_000_000, "A", 0, 1, AttemptState.DEAD, "worker", 5, "it cannot be read")

    with Archive(engine, "test").writer("outcomes") as writer:
        assert writer is not None
        writer.append_outcomes([dead])
        writer.advance(5, "5-0")

    assert rows_in(engine, "outcomes") == 1 and rows_in(engine, "deliveries") == 0


def test_a_batch_of_many_is_written_twice_in_one_transaction_and_again_after_another_schema(engine: Engine) -> None:
    ended = [Outcome(n, n, "A", 0, 1, AttemptState.DONE, "w\\N\t", 5, "\\N\n") for n in range(1, 61)]
    for _ in range(2):
        with Archive(engine, "test").writer("outcomes") as writer:
            assert writer is not None
            writer.append_outcomes(ended[:30])
            writer.append_outcomes(ended)
            writer.advance(60, "60-0")

    assert rows_in(engine, "outcomes") == 60
    with reading(engine) as connection:
        assert connection.execute(text("SELECT DISTINCT worker, error FROM outcomes")).all() == [("w\\N\t", "\\N\n")]


def test_who_may_only_write_finds_the_next_months(postgres: PostgresServer, engine: Engine) -> None:
    now = datetime.now(UTC)
    months = {partitions.month_of(int(now.timestamp() * 1e6) + n * 31 * 86_400_000_000) for n in (1, 2, 3)}

    assert {partitions.name_of("events", month) for month in months} <= set(tables(engine, "events"))


def test_archivers_of_several_namespaces_begin_the_same_month_at_once(engine: Engine) -> None:
    begin, failed = threading.Barrier(3), []
    first = position_of(2032, 2)

    def run(namespace: str) -> None:
        try:
            begin.wait()
            store_events(Archive(engine, namespace), *(an_event(first + n) for n in range(40)))
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(f"n{n}",)) for n in range(3)]
    [thread.start() for thread in threads]
    [thread.join(60) for thread in threads]

    assert failed == []
    assert rows_in(engine, "events_2032_02") == 120


def test_a_months_bounds_are_its_first_position_and_the_next_months() -> None:
    december = datetime(2026, 12, 1, tzinfo=UTC)

    assert partitions.bounds(december) == (position_of(2026, 12), position_of(2027, 1))
    assert partitions.month_of(position_of(2027, 1) - 1) == december
    assert partitions.name_of("events", december) == "events_2026_12"
