"""Harm to the database: PostgreSQL crashed, its connections ended, deadlocks; an SQLite without room."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from typing import TYPE_CHECKING

import psycopg2

from tests.chaos.harm import Spared
from tests.fleet.fleet import children

if TYPE_CHECKING:
    from tests.chaos.stage import Stage

TERMINATE = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname IS NOT NULL AND pid <> pg_backend_pid() AND backend_type = 'client backend'"""
CROSSED = (("outbox", "inbox"), ("event_statistics", "events"), ("delivery_statistics", "outcomes"))
"""Pairs of tables: those who write both take the second first."""


COUNTED_WITHIN_S = 3.0


def end_database(stage: Stage, rng: random.Random) -> None:
    """Crash PostgreSQL and start it again."""
    assert stage.postgres is not None
    stage.postgres.pause()
    stage.play(rng.uniform(0.2, 2.0))
    stage.postgres.resume()


def freeze_database(stage: Stage, rng: random.Random) -> None:
    """SIGSTOP every process of PostgreSQL: transactions stay open, and nothing is answered."""
    assert stage.postgres is not None
    pids = [stage.postgres.pid, *children(stage.postgres.pid)]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    stage.play(rng.uniform(0.2, stage.lease_s * 1.5))
    for pid in pids:
        os.kill(pid, signal.SIGCONT)


def terminate(stage: Stage, rng: random.Random) -> None:
    """pg_terminate_backend for every client."""
    assert stage.postgres is not None
    stage.postgres.execute(TERMINATE)


def cut_database(stage: Stage, rng: random.Random) -> None:
    """Cut every connection to PostgreSQL, which may have committed what it cannot answer any more."""
    assert stage.sql_proxy is not None
    if not stage.sql_proxy.connections:
        raise Spared("Nobody was connected.")
    stage.sql_proxy.cut()


def stall_database(stage: Stage, rng: random.Random) -> None:
    """Hold back all bytes to and from PostgreSQL."""
    assert stage.sql_proxy is not None
    stage.sql_proxy.stall(True)
    stage.play(rng.uniform(0.2, stage.lease_s * 1.5))
    stage.sql_proxy.stall(False)


def deadlock(stage: Stage, rng: random.Random) -> None:
    """Lock two tables in the other order than those who write them, and let PostgreSQL choose a victim: them.

    Ours looks for deadlocks late, so it is theirs that finds one; PostgreSQL counts it within a second or two.
    """
    before = _deadlocks(stage)
    later, earlier = rng.choice(CROSSED)
    with contextlib.closing(psycopg2.connect(stage.settings.database_url)) as connection:
        cursor = connection.cursor()
        cursor.execute("SET deadlock_timeout = '20s'; SET lock_timeout = '8s'")
        with contextlib.suppress(psycopg2.Error):
            cursor.execute(f"LOCK TABLE {later} IN ACCESS EXCLUSIVE MODE")
            stage.play(rng.uniform(0.2, 0.6))
            cursor.execute(f"LOCK TABLE {earlier} IN ACCESS EXCLUSIVE MODE")
        connection.rollback()
    until = time.monotonic() + COUNTED_WITHIN_S
    while _deadlocks(stage) == before:
        if time.monotonic() > until:
            raise Spared(f"Nobody wrote to {later} and then to {earlier} meanwhile: there was no deadlock.")
        stage.play(0.2)


def _deadlocks(stage: Stage) -> int:
    with contextlib.closing(psycopg2.connect(stage.settings.database_url)) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        return int(cursor.fetchone()[0])


def fill_disk(stage: Stage, rng: random.Random) -> None:
    """Give SQLite no page more than it has (`PRAGMA max_page_count`), in every process."""
    stage.levers.pull(is_disk_full=True)
    stage.play(rng.uniform(0.5, 2.5))
    stage.levers.pull(is_disk_full=False)
