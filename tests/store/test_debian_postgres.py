"""Debian's PostgreSQL: which one it is, or that the contract was not run on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg2
import pytest

from tests.servers import DebianPostgres, PostgresServer
from tests.store.conftest import SERVERS


def version(server: PostgresServer) -> str:
    connection: Any = psycopg2.connect(server.url())
    try:
        cursor = connection.cursor()
        cursor.execute("SHOW server_version")
        return str(cursor.fetchone()[0])
    finally:
        connection.close()


def test_the_contract_runs_on_debians_postgresql_or_says_that_it_did_not(
    databases: Callable[[str], Any], measured: Callable[[str], None]
) -> None:
    if not DebianPostgres.available():
        pytest.skip("Not run: the store's contract on Debian's PostgreSQL, which is not in /usr/lib/postgresql.")

    wheels, debians = (version(databases(place).server) for place in SERVERS)

    assert "Debian" in debians and "Debian" not in wheels
    measured(f"the contract ran on PostgreSQL {wheels} and on {debians}")
