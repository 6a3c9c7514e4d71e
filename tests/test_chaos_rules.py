"""Each rule of the checker seen to fail: evidence that breaks it, beside evidence that does not."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, Table

from store.engine import open_engine
from store.tables import delivery_statistics, event_statistics
from tests.chaos.check import statistics_differ
from tests.chaos.stage import NAMESPACE
from tests.servers import migrate


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """An empty store."""
    url = f"sqlite:///{tmp_path / 'store.db'}"
    migrate(url)
    engine = open_engine(url)
    yield engine
    engine.dispose()


def some_row(table: Table) -> dict[str, Any]:
    """A row of a table of statistics, of nothing that is stored."""
    row = {column.name: {"TEXT": ""}.get(str(column.type), 0) for column in table.columns}
    row |= {"namespace": NAMESPACE, "grain": "total", "type": "SHOT"}
    row |= {name: {} for name in row if name.endswith("_bins") or name == "cost_micros"}
    return row | {name: datetime.now(UTC) for name in row if name.endswith("_time")}


@pytest.mark.parametrize("table", [event_statistics, delivery_statistics], ids=lambda table: table.name)
def test_a_wrong_row_in_either_table_of_statistics_is_told_as_often_as_one_looks(engine: Engine, table: Table) -> None:
    assert not list(statistics_differ(engine))

    with engine.begin() as connection:
        connection.execute(table.insert().values(some_row(table)))

    for _ in range(2):
        assert list(statistics_differ(engine)) == [f"{table.name} differs from adding up again (1 rows)."]
