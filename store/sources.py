"""Where events are imported from: a file of JSON lines, or a table of another schema."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, inspect, text

from events.errors import InvalidImport
from events.event import Event
from store.engine import open_engine
from store.exporting import COLUMNS
from store.failures import DATABASE_URL, mapped
from store.importing import SourceRow
from store.line_files import read_lines
from store.rows import RAW_CHARS, printable

_REQUIRED = ("event_id", "project_id", "event_type", "actor", "timestamp")
_OPTIONAL = ("causation_id", "correlation_id", "payload", "blackboard_pointer", "metadata")
_TABLE_COLUMNS = (*_REQUIRED, *_OPTIONAL)
_OBJECTS = ("payload", "metadata")
_OWN = {"namespace", "position", "event_id", "depth", "origin", "deliveries"}
_NO_EVENT_FIELDS = COLUMNS.keys() - Event.model_fields.keys()


def from_file(path: Path) -> Iterator[SourceRow]:
    """Read what `eventbus export` or `eventbus replay --json` wrote, in its order.

    A line that is not such an object is a row with a reason; so is the end of a damaged gzip file.

    Raises:
        OSError: it cannot be read.
    """
    number = 0
    lines = read_lines(path)
    while True:
        number += 1
        try:
            line = next(lines)
        except StopIteration:
            return
        except InvalidImport as error:
            yield SourceRow(number, number, {}, str(error))
            return
        if line.strip():
            yield _from_line(number, line)


def count_lines(path: Path) -> int:
    """Count a file's rows, for those who wait; of a damaged one those before the damage.

    Raises:
        OSError: it cannot be read.
    """
    count = 0
    with suppress(InvalidImport):
        for line in read_lines(path):
            count += bool(line.strip())
    return count


def from_table(url: str, name: str, named: str = DATABASE_URL) -> Iterator[SourceRow]:
    """Read a table with the columns of an older event store, in the order of timestamp, then id; changes nothing.

    Needed are event_id, project_id, event_type (or type), actor and timestamp; if they are there, also causation_id,
    correlation_id, payload, blackboard_pointer and metadata.

    Args:
        url: of its database. name: of the table, `schema.table` if need be. named: what gave the URL.

    Raises:
        InvalidImport: there is no such table, a column is missing, or it is the event bus's own.
        InvalidSettings, StoreUnavailable: the database cannot be read.
    """
    engine = _read_only(url, named)
    try:
        with mapped(engine, named), engine.connect() as connection:
            statement = _statement(connection, name)
            rows = connection.execution_options(stream_results=True, max_row_buffer=500).execute(text(statement))
            for number, row in enumerate(rows.mappings(), 1):
                yield _from_row(number, dict(row))
    finally:
        engine.dispose()


def count_rows(url: str, name: str, named: str = DATABASE_URL) -> int:
    """Count a table's rows, for those who wait; raises as `from_table`."""
    engine = _read_only(url, named)
    try:
        with mapped(engine, named), engine.connect() as connection:
            _, table = _columns(connection, name)
            return int(connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())
    finally:
        engine.dispose()


def _from_line(number: int, line: bytes) -> SourceRow:
    raw = printable(line[: RAW_CHARS * 4].decode(errors="replace"))[:RAW_CHARS]
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        return SourceRow(number, number, {}, f"It is not JSON: {error}.", raw)
    if not isinstance(fields, dict):
        return SourceRow(number, number, {}, f"It is a JSON {type(fields).__name__}, not an object.", raw)
    depth = fields.get("depth")
    depth = depth if isinstance(depth, int) and 0 <= depth < 2**31 else 0
    kept = {name: value for name, value in fields.items() if name not in _NO_EVENT_FIELDS}
    return _parsed(SourceRow(number, number, kept, "", raw, depth))


def _from_row(number: int, row: dict[str, Any]) -> SourceRow:
    fields: dict[str, object] = {}
    shown = {name: value.decode(errors="replace") if isinstance(value, bytes) else value for name, value in row.items()}
    raw = printable(json.dumps(shown, ensure_ascii=False, default=str))[:RAW_CHARS]
    for name, value in row.items():
        try:
            value = value.decode() if isinstance(value, bytes) else value
        except UnicodeDecodeError:
            return SourceRow(number, None, {}, f"Its {name} is not UTF-8.", raw)
        if value is not None and (value != "" or name in ("project_id", "actor", "type")):
            fields[name] = _moment(value) if name == "timestamp" else value
    for name in ("project_id", "actor", "type", "timestamp"):
        if name not in fields:
            return SourceRow(number, None, {}, f"Its {name} is null.", raw)
    # Whoever runs an import handles no event.
    fields.setdefault("causation_id", None)
    fields.setdefault("correlation_id", None)
    return _parsed(SourceRow(number, None, fields, "", raw))


def _parsed(row: SourceRow) -> SourceRow:
    """Read payload and metadata where they are JSON text."""
    for name in _OBJECTS:
        value = row.fields.get(name)
        if isinstance(value, str):
            try:
                row.fields[name] = json.loads(value)
            except (ValueError, RecursionError) as error:
                return SourceRow(row.number, row.place, {}, f"Its {name} is not JSON: {error}.", row.raw)
        if name in row.fields and row.fields[name] is None:
            row.fields[name] = {}
    return row


def _moment(value: object) -> object:
    """Read what databases write, `2026-01-31 12:00:00+00`; anything else is left to the event."""
    try:
        return datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _statement(connection: Connection, name: str) -> str:
    found, table = _columns(connection, name)
    quoted = connection.dialect.identifier_preparer.quote
    # As bytes or text, whatever they are: a value that a driver cannot read would end the whole reading.
    kind = "blob" if connection.dialect.name == "sqlite" else "text"
    columns = [f"CAST({quoted(there)} AS {kind}) AS {quoted(wanted)}" for wanted, there in found.items()]
    return f"SELECT {', '.join(columns)} FROM {table}"


def _columns(connection: Connection, name: str) -> tuple[dict[str, str], str]:
    """Return the columns of an event and what they are called there, and the table's quoted name."""
    schema, _, table = name.rpartition(".")
    inspector, quoted = inspect(connection), connection.dialect.identifier_preparer.quote
    if not inspector.has_table(table, schema=schema or None):
        raise InvalidImport(f"There is no table {name!r:.120} in that database.")
    there = {column["name"] for column in inspector.get_columns(table, schema=schema or None)}
    if there >= _OWN:
        raise InvalidImport(
            f"The table {name!r:.120} is the event bus's own: `eventbus export FILE` with its database as DATABASE_URL "
            "writes its events, and `eventbus import FILE` stores them."
        )
    called = {"event_type": "event_type" if "event_type" in there else "type"}
    missing = [column for column in _REQUIRED if called.get(column, column) not in there]
    if missing:
        raise InvalidImport(f"The table {name!r:.120} has no column {', '.join(missing)}: it does not hold events.")
    found = {c.replace("event_type", "type"): called.get(c, c) for c in _TABLE_COLUMNS if called.get(c, c) in there}
    return found, f"{quoted(schema)}.{quoted(table)}" if schema else quoted(table)


def _read_only(url: str, named: str) -> Engine:
    engine = open_engine(url, pool_size=1, named=named)
    if engine.dialect.name != "sqlite":
        return engine
    address = f"file:{quote(str(Path(engine.url.database or '').absolute()))}?mode=ro"
    # The file is another's: it is not switched to WAL.
    return create_engine(engine.url, creator=lambda: sqlite3.connect(address, uri=True))
