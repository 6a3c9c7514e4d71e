"""The schema is made, undone, made again; and its absence is a sentence."""

from __future__ import annotations

import json
import re
import threading
from datetime import UTC, datetime, timedelta

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, inspect, select, text

from events.errors import InvalidSettings, NotMigrated, StoreUnavailable
from events.records import AttemptState, Outcome
from store import cursors, migrate
from store.archive import Archive
from store.blackboard import Blackboard
from store.engine import open_engine, reading, writing
from store.recount import differences
from store.replay import Replay
from store.statistics import Statistics
from store.tables import deliveries, delivery_statistics, event_statistics, metadata, outcomes
from tests.store.conftest import an_event, store_events, store_outcomes
from tests.store.doubles import FakeClock
from tests.waiting import wait_until

AN_EVENT = """
    INSERT INTO events (namespace, position, event_id, project_id, type, actor, correlation_id, depth, timestamp,
                        payload, metadata, origin, deliveries)
    VALUES ('n', :position, 'e' || CAST(:position AS text), 'p', 'T', 'a', 'e1', 0, :at,
            :payload, '{"cost"\\:2.5}', 'publish', '["A","B"]')"""
AN_ENTRY = (
    "INSERT INTO event_index (namespace, event_id, position) VALUES ('n', 'e' || CAST(:position AS text), :position)"
)
# Of an entry that was no delivery: its position was any number.
A_DELIVERY = "INSERT INTO deliveries VALUES ('n', :position, 'A', 0, 'dead', 1, NULL)"
COUNTS = ("waiting", "done", "dead", "discarded", "dropped", "attempts", "failures", "timed")
REVISIONS = ["0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008", "0009"]


def moment(engine: Engine) -> object:
    """A moment as the dialect's driver takes it."""
    now = datetime.now(UTC)
    return now if engine.dialect.name == "postgresql" else int(now.timestamp() * 1_000_000)


def is_no_partition(name: str | None, kind: str, parents: object) -> bool:
    return kind != "table" or name is None or re.search(r"_(first|\d{4}_\d\d)$", name) is None


def test_up_down_and_up_again_leave_the_tables_of_the_legend(empty_url, open_at):
    engine = open_at(empty_url)

    assert migrate.upgrade(engine) == REVISIONS
    assert migrate.upgrade(engine) == []
    assert migrate.downgrade(engine, "base") == REVISIONS[::-1]
    assert set(inspect(engine).get_table_names()) <= {migrate.VERSION_TABLE}
    assert migrate.upgrade(engine) == REVISIONS

    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": migrate.VERSION_TABLE, "include_name": is_no_partition}
        )
        assert compare_metadata(context, metadata) == []


@pytest.mark.parametrize("before", ["0001", "0002"])
def test_rows_survive_forwards_and_backwards(empty_url, open_at, before):
    engine = open_at(empty_url)
    migrate._run(engine, "upgrade", before)
    payloads = ['{"z":1,"a":[1e300,-0.0,1.10]}', '{"text":"é \\"x\\" -0.0 1e5"}', "{}"]
    with writing(engine) as connection:
        for position, payload in enumerate(payloads, 1):
            connection.execute(text(AN_EVENT), {"position": position, "payload": payload, "at": moment(engine)})
            connection.execute(text(AN_ENTRY), {"position": position})
            connection.execute(text(A_DELIVERY), {"position": position * 600_000_000_000_000_000})
    migrate.upgrade(engine)
    history = Replay(engine, "n", None)

    read = {recorded.position: recorded.event.payload for recorded in history.iterate()}

    assert {n: json.dumps(found) for n, found in read.items()} == {
        n: json.dumps(json.loads(payload)) for n, payload in enumerate(payloads, 1)
    }
    found = history.find("e1")
    assert found is not None and found.event.metadata == {"cost": 2.5} and found.deliveries == ("A", "B")

    assert migrate.downgrade(engine, before) == [r for r in REVISIONS[::-1] if r > before]
    with reading(engine) as connection:
        rows = connection.execute(text("SELECT CAST(payload AS text) FROM events ORDER BY position")).scalars().all()
        assert [json.loads(row) for row in rows] == [json.loads(payload) for payload in payloads]
    assert migrate.upgrade(engine) == [r for r in REVISIONS if r > before]
    assert {recorded.position: recorded.event.payload for recorded in history.iterate()} == read


@pytest.mark.parametrize("undone", [["0009", "0008", "0007", "0006"], ["0009", "0008"]])
def test_what_was_stored_before_is_in_the_statistics_after(empty_url, open_at, undone):
    engine = open_at(empty_url)
    migrate.upgrade(engine)
    noon = datetime(2024, 5, 1, 12, tzinfo=UTC)
    for namespace in ("n", "'other'"):
        archive = Archive(engine, namespace)
        early = Outcome(10**12 + 1, 7_200_000_000, "A", 3, 1, AttemptState.LOST, "w", elapsed_us=10**15)
        store_outcomes(archive, early, Outcome(10**12 + 2, 2**60, "A", 0, 1, AttemptState.DEAD, "w"))
        measured = {"cost": 1e12, "currency": "E\\", "latency_ms": 1e12}
        for n in range(1, 31):
            metadata = [{}, {"cost": 0.5}, {"latency_ms": n / 7}, measured][n % 4]
            fields = {"metadata": metadata, "project_id": f"p{n % 3}", "actor": f"a{n % 2}", "deliveries": ("A", "B")}
            at = noon - timedelta(hours=n % 5, microseconds=n % 2)
            store_events(archive, an_event(n * 1_800_000_000, "TU"[n % 2], timestamp=at, **fields))
        states = [AttemptState.DONE, AttemptState.RETRIED, AttemptState.DEAD]
        ended = [
            Outcome(10**12 + 2 + n, n * 1_800_000_000, "A", 0, n % 3, states[n % 3], "w", elapsed_us=n * 999)
            for n in range(1, 33)  # two of events that are not stored
        ]
        store_outcomes(archive, *ended)

    def summed():
        with reading(engine) as connection:
            tables = (event_statistics, delivery_statistics, deliveries)
            found = [[dict(row) for row in connection.execute(select(table)).mappings()] for table in tables]
        found[1] = [row for row in found[1] if any(row[name] for name in COUNTS)]
        return [sorted(rows, key=lambda row: [str(value) for value in row.values()]) for rows in found]

    kept = summed()
    assert migrate.downgrade(engine, f"{int(undone[-1]) - 1:04}") == undone
    assert migrate.upgrade(engine) == [*reversed(undone)]

    assert summed() == kept
    assert differences(engine, "n") == differences(engine, "'other'") == []
    store_events(Archive(engine, "n"), an_event(2 * 10**12, deliveries=("A",)))
    assert differences(engine, "n") == []


def test_what_was_pruned_stays_counted_when_types_are_told_apart(empty_url, open_at):
    engine = open_at(empty_url)
    migrate.upgrade(engine)
    archive = Archive(engine, "n")
    store_events(archive, *(an_event(n, "TU"[n % 2], deliveries=("A",)) for n in range(1, 7)))
    ended = [Outcome(100 + n, n, "A", 0, 1, AttemptState.DONE, "w", elapsed_us=n) for n in range(1, 7)]
    store_outcomes(archive, *ended)
    statistics = Statistics(engine, "n", None)
    before = statistics.project("film"), statistics.deliveries("film"), statistics.deliveries()
    Blackboard(engine, "n", None, FakeClock()).retention.prune(4)

    migrate.downgrade(engine, "0007")
    migrate.upgrade(engine)

    after = statistics.project("film"), statistics.deliveries("film"), statistics.deliveries()
    assert after[0].total == before[0].total and after[1:] == before[1:]
    assert [one.deliveries.done for one in before[0].types] == [3, 3]
    assert [one.deliveries.done for one in after[0].types] == [2, 1], "of what was pruned only that it was"


@pytest.mark.parametrize("known", ["project_id", None])
def test_a_delivery_that_knew_half_of_its_event_learns_the_rest(empty_url, open_at, known):
    engine = open_at(empty_url)
    migrate.upgrade(engine)
    archive = Archive(engine, "n")
    store_events(archive, an_event(1, deliveries=("A",)), an_event(2, project_id="song", deliveries=("A",)))
    migrate.downgrade(engine, "0007")
    if known is None:
        with writing(engine) as connection:  # what an archiver of a version before 0006 leaves
            connection.execute(text("UPDATE deliveries SET project_id = NULL"))
            connection.execute(text("DELETE FROM delivery_statistics WHERE project_id <> ''"))

    migrate.upgrade(engine)
    store_outcomes(archive, Outcome(100, 1, "A", 0, 1, AttemptState.DONE, "w", elapsed_us=5))

    assert differences(engine, "n") == []
    assert [one.deliveries.done for one in Statistics(engine, "n", None).projects()] == [1, 0]


def test_a_reader_who_is_between_two_tables_does_not_make_the_migration_fail(empty_url, open_at, backend):
    if backend == "sqlite":
        pytest.skip("SQLite has one writer, and readers who wait for nobody.")
    engine, done = open_at(empty_url), []
    migrate.upgrade(engine)
    store_events(Archive(engine, "n"), an_event(1, deliveries=("A",)))
    migrate.downgrade(engine, "0007")
    migrating = threading.Thread(target=lambda: done.append(migrate.upgrade(open_at(empty_url))))

    with reading(engine) as connection:
        connection.execute(text("SELECT * FROM event_statistics")).all()
        migrating.start()
        wait_until(lambda: _waits(engine), 30, "the migration to wait for the reader")
        connection.exec_driver_sql("SET LOCAL lock_timeout = '5s'")
        connection.execute(text("SELECT * FROM deliveries")).all()
    migrating.join(60)

    assert done == [["0008", "0009"]]


def test_the_named_head_is_the_newest_script():
    config = Config()
    config.set_main_option("script_location", str(migrate._SCRIPTS))

    assert ScriptDirectory.from_config(config).get_current_head() == migrate.HEAD


def test_processes_that_migrate_at_once_apply_each_revision_once(empty_url, open_at):
    engines = [open_at(empty_url) for _ in range(4)]
    applied, barrier = [], threading.Barrier(len(engines))

    def run(engine):
        barrier.wait()
        applied.append(migrate.upgrade(engine))

    threads = [threading.Thread(target=run, args=(engine,)) for engine in engines]
    [thread.start() for thread in threads]
    [thread.join(60) for thread in threads]

    assert sorted(applied) == [[], [], [], REVISIONS]


def test_a_database_without_schema_says_to_migrate(empty_url, open_at):
    engine = open_at(empty_url)

    with pytest.raises(NotMigrated, match="run `eventbus migrate`"):
        migrate.require_current(engine)
    with pytest.raises(NotMigrated, match="run `eventbus migrate`"):
        Archive(engine, "test").cursor("history")


def test_an_older_and_a_newer_schema_are_told_apart(engine):
    migrate.require_current(engine)
    for found, advice in (("0000", "run `eventbus migrate`"), ("9999", "newer than")):
        with writing(engine) as connection:
            connection.execute(text(f"UPDATE {migrate.VERSION_TABLE} SET version_num = '{found}'"))

        with pytest.raises(NotMigrated, match=advice):
            migrate.require_current(engine)
    with pytest.raises(NotMigrated, match="9999"):
        migrate.upgrade(engine)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2"])
def test_an_unreachable_server_is_named_without_its_password(scheme):
    engine = open_engine(f"{scheme}://bob:s3cret%40@127.0.0.1:1/films?sslmode=disable", timeout_s=2)

    with pytest.raises(StoreUnavailable) as caught:
        migrate.require_current(engine)

    assert "postgresql://bob:***@127.0.0.1:1/films" in str(caught.value)
    assert "s3cret" not in str(caught.value) and caught.value.__cause__ is None
    assert engine.url.query["sslmode"] == "disable"


def test_a_file_that_is_no_database_or_lies_nowhere_is_unavailable(tmp_path):
    (tmp_path / "poem.txt").write_text("Tyger Tyger, burning bright" * 50)

    for path in (tmp_path / "poem.txt", tmp_path / "missing" / "events.db"):
        with pytest.raises(StoreUnavailable, match=path.name):
            migrate.upgrade(open_engine(f"sqlite:///{path}"))


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://h/d", "postgresql://h:port/d", "nonsense"])
def test_a_url_that_cannot_be_used_is_refused_at_once(url):
    with pytest.raises(InvalidSettings, match="DATABASE_URL"):
        open_engine(url)


def test_sqlite_survives_a_power_cut_and_shares_the_file(tmp_path, sqlite_template):
    engine = open_engine(f"sqlite:///{sqlite_template}")

    with reading(engine) as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert connection.execute(text("PRAGMA synchronous")).scalar() == 2
    engine.dispose()


def test_the_statistics_wait_for_an_archiver_and_count_what_it_stores(empty_url, open_at, backend):
    if backend == "sqlite":
        pytest.skip("SQLite has one writer per file")
    engine, counted = open_at(empty_url), []
    migrate.upgrade(engine)
    migrate.downgrade(engine, "0005")
    with writing(engine) as connection:
        connection.execute(text("INSERT INTO archive VALUES ('n', 'history', 0, '0-0'), ('n', 'direct', 0, '0-0')"))
    migrating = threading.Thread(target=lambda: counted.append(migrate.upgrade(open_at(empty_url))))

    with writing(engine) as connection:
        connection.execute(text("SELECT * FROM archive FOR UPDATE"))
        migrating.start()
        wait_until(lambda: _waits(engine), 30, "the migration to wait for the archiver")
        at = {"position": 1, "payload": "{}", "at": moment(engine)}
        connection.execute(text(AN_EVENT), at)
        connection.execute(text(AN_ENTRY), at)
        connection.execute(text("UPDATE archive SET position = 1 WHERE stream = 'history'"))
    migrating.join(60)

    assert counted == [["0006", "0007", "0008", "0009"]]
    assert Statistics(engine, "n", None).project("p").total.count == 1
    assert differences(engine, "n") == []


@pytest.fixture
def half_migrated(empty_url, open_at, backend):
    """A PostgreSQL without the indexes of 0007, and a function that begins to make them in a thread."""
    if backend == "sqlite":
        pytest.skip("SQLite has one writer, and readers who wait for nobody.")
    engine = open_at(empty_url)
    migrate.upgrade(engine)
    migrate.downgrade(engine, "0006")
    done: list[list[str]] = []
    thread = threading.Thread(target=lambda: done.append(migrate._run(open_at(empty_url), "upgrade", "0007")))
    yield engine, thread, done
    thread.join(30)


def test_new_indexes_wait_for_an_archiver_before_they_touch_what_it_needs(half_migrated):
    engine, thread, done = half_migrated
    Archive(engine, "n")._make_rows()

    with writing(engine) as connection:  # as an archiver of history folds
        cursors.lock(connection, "n", cursors.DELIVERIES)
        connection.execute(deliveries.delete())
        thread.start()
        wait_until(lambda: _waits(engine), 30, "the migration to wait for the archiver")
        connection.execute(select(outcomes)).all()

    thread.join(30)
    assert done == [["0007"]]


def test_readers_go_on_while_new_indexes_are_made(half_migrated):
    engine, thread, done = half_migrated

    with writing(engine) as connection:
        connection.execute(deliveries.delete())  # the last of the tables has to be waited for
        thread.start()
        wait_until(lambda: _waits(engine), 30, "the migration to come to deliveries")
        with reading(engine) as reader:
            reader.exec_driver_sql("SET LOCAL lock_timeout = '5s'")
            reader.execute(select(outcomes)).all()

    thread.join(30)
    assert done == [["0007"]]


def _waits(engine: Engine) -> bool:
    with reading(engine) as connection:
        here = "SELECT oid FROM pg_database WHERE datname = current_database()"
        query = text(f"SELECT count(*) FROM pg_locks WHERE NOT granted AND database = ({here})")
        return bool(connection.execute(query).scalar())
