"""How many rows get into a table at the speed of the database: PostgreSQL's COPY, SQLite's own `executemany`.

Rows are turned into columns first, and each column is written as a whole: what its values have in common (all are
texts, none has anything to escape) is found out once for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from io import StringIO
from typing import Any

from sqlalchemy import Connection, Table, exc

from store.tables import Moment, microseconds

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
    columns_written = [_column([row[name] for row in rows]) for name in names]
    text = StringIO("\n".join(map("\t".join, zip(*columns_written, strict=True))) + "\n")
    raw: Any = connection.connection
    driver = connection.dialect.dbapi
    assert driver is not None
    try:
        with raw.cursor() as cursor:
            cursor.copy_expert(statement, text)
    except driver.Error as error:
        raise exc.DBAPIError.instance(statement, None, error, driver.Error, dialect=connection.dialect) from error


def execute_many(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """Add rows to a table of SQLite by the driver's own `executemany`.

    Args:
        rows: with the same columns each, as they would be given to an INSERT.

    Raises:
        SQLAlchemyError: what an INSERT would raise; nothing of it remains after a rollback.
    """
    names = list(rows[0])
    columns = [[row[name] for row in rows] for name in names]
    for at, name in enumerate(names):
        if isinstance(table.c[name].type, Moment):
            columns[at] = [None if value is None else microseconds(value) for value in columns[at]]
    listed, places = ", ".join(f'"{name}"' for name in names), ", ".join("?" * len(names))
    statement = f"INSERT INTO {table.name} ({listed}) VALUES ({places})"
    connection.exec_driver_sql(statement, list(zip(*columns, strict=True)))


def _column(values: list[Any]) -> list[str]:
    """Return a column's values in COPY's text format."""
    kinds = set(map(type, values))
    if kinds == {str} and not _is_to_be_escaped("".join(values)):
        return values
    if kinds == {int}:
        return list(map(str, values))
    if kinds == {type(None)}:
        return ["\\N"] * len(values)
    return list(map(written, values))


def written(value: Any) -> str:
    """Return a value in COPY's text format; looking for what is to be escaped takes less than escaping nothing."""
    if value is None:
        return "\\N"
    if type(value) is int:
        return str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    text = str(value)
    return text.translate(_ESCAPED) if _is_to_be_escaped(text) else text


def _is_to_be_escaped(text: str) -> bool:
    return "\\" in text or "\t" in text or "\n" in text or "\r" in text
