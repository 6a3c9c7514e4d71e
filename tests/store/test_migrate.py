"""The schema is made, undone, made again; and its absence is a sentence."""

from __future__ import annotations

import threading

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from events.errors import InvalidSettings, NotMigrated, StoreUnavailable
from store import migrate
from store.archive import Archive
from store.engine import open_engine, reading, writing
from store.tables import metadata

REVISIONS = ["0001", "0002"]


def test_up_down_and_up_again_leave_the_tables_of_the_legend(empty_url, open_at):
    engine = open_at(empty_url)

    assert migrate.upgrade(engine) == REVISIONS
    assert migrate.upgrade(engine) == []
    assert migrate.downgrade(engine, "base") == REVISIONS[::-1]
    assert set(inspect(engine).get_table_names()) <= {migrate.VERSION_TABLE}
    assert migrate.upgrade(engine) == REVISIONS

    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": migrate.VERSION_TABLE})
        assert compare_metadata(context, metadata) == []


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
