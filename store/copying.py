"""PostgreSQL's COPY: how many rows get into a table at the speed of the database."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from io import StringIO
from typing import Any

from sqlalchemy import Connection, Table, exc

_ESCAPED = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
FEW = 20  # below that a plain INSERT is as fast


def copy(connection: Connection, table: Table, rows: Sequence[dict[str, Any]], into: str | None = None) -> None:
    """Add rows with COPY.

    Args:
        rows: with the same columns each, as they would be given to an INSERT.
        into: the name of another table of the same columns.

    Raises:
        SQLAlchemyError: what an INSERT would raise; nothing of it remains after a rollback.
    """
    names = list(rows[0])
    columns = ", ".join(f'"{table.c[name].name}"' for name in names)
    statement = f"COPY {into or table.name} ({columns}) FROM STDIN"
    text = StringIO("".join(["\t".join([written(row[name]) for name in names]) + "\n" for row in rows]))
    raw: Any = connection.connection
    driver = connection.dialect.dbapi
    assert driver is not None
    try:
        with raw.cursor() as cursor:
            cursor.copy_expert(statement, text)
    except driver.Error as error:
        raise exc.DBAPIError.instance(statement, None, error, driver.Error, dialect=connection.dialect) from error


def written(value: Any) -> str:
    """Return a value in COPY's text format; looking for what is to be escaped takes less than escaping nothing."""
    if value is None:
        return "\\N"
    if type(value) is int:
        return str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    text = str(value)
    if "\\" in text or "\t" in text or "\n" in text or "\r" in text:
        return text.translate(_ESCAPED)
    return text
