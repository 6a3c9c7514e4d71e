"""What a database has to be told so that it takes the right index. Every use is held by `tests/store/test_plans.py`.

SQLite guesses that any namespace has ten rows, and rather than sort reads all of one in the order of its key.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, literal_column

from events.records import AttemptState
from store.tables import deliveries

DONE = AttemptState.DONE.value
# SQLite takes a partial index (`deliveries_state`) only if its condition is written in the query.
IS_NOT_DONE = deliveries.c.state != literal_column(f"'{DONE}'")


def hidden(column: ColumnElement[Any], dialect: str) -> ColumnElement[Any]:
    """Return a column as SQLite finds no index of it: with a plus, which changes nothing else."""
    return literal_column(f"+{column}", column.type) if dialect == "sqlite" else column
