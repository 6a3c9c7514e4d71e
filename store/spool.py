"""Rows that are to be imported, on disk between reading and storing: they come in any order, and go in history's.

A temporary SQLite file without a name, which goes with the process, however that ends. So neither the number of rows
nor the length of a chain of causes is bounded by memory, and a cause is found whether it comes earlier or later.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_SCHEMA = """
    CREATE TABLE rows (
        event_id TEXT PRIMARY KEY,
        place INTEGER NOT NULL,     -- where it belongs in the order
        number INTEGER NOT NULL,    -- where it was read
        body TEXT NOT NULL,         -- the encoded event
        causation_id TEXT,
        correlation_id TEXT,        -- as it was read; its root's once depth is resolved
        said_depth INTEGER NOT NULL,
        depth INTEGER               -- null until resolved
    );
    CREATE INDEX rows_order ON rows (place, event_id);
"""
_COLUMNS = "event_id, place, number, body, causation_id, correlation_id, said_depth"


@dataclass(frozen=True, slots=True)
class Row:
    """A row that was read.

    Attributes:
        place: where it belongs in the order; of several with the same place the smaller id comes first.
        number: where it was read, for people. body: the encoded event.
        depth: as the source says; 0 when it does not.
    """

    event_id: str
    place: int
    number: int
    body: str
    causation_id: str | None
    correlation_id: str | None
    depth: int = 0


@dataclass(frozen=True, slots=True)
class Root:
    """What causes say of an event: the id of its root, and how far it is from it."""

    event_id: str
    depth: int


class Spool:
    """Takes rows, gives them in order, and follows their causes. For one thread; use it as a context manager."""

    def __init__(self) -> None:
        # SQLite opens a file for the empty name, in SQLITE_TMPDIR or TMPDIR, and unlinks it at once.
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.executescript("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;" + _SCHEMA)
        self._database.execute("BEGIN")

    def add(self, row: Row) -> bool:
        """Take a row; False when it has one of that id already, which stays."""
        values = (row.event_id, row.place, row.number, row.body, row.causation_id, row.correlation_id, row.depth)
        done = self._database.execute("INSERT OR IGNORE INTO rows VALUES (?, ?, ?, ?, ?, ?, ?, NULL)", values)
        return done.rowcount == 1

    def pages(self, size: int) -> Iterator[list[Row]]:
        """Iterate over the rows in their order, a page at a time."""
        after: tuple[int, str] = (-(2**63), "")
        while True:
            query = f"SELECT {_COLUMNS} FROM rows WHERE (place, event_id) > (?, ?) ORDER BY place, event_id LIMIT ?"
            page = [Row(*found) for found in self._database.execute(query, (*after, size))]
            if not page:
                return
            yield page
            after = (page[-1].place, page[-1].event_id)

    def root_of(self, row: Row, stored: Callable[[str], Root | None]) -> Root:
        """Return the root of a row.

        A cause that is stored says its own; one that is nowhere ends the chain, and what the row said of its root
        and depth holds. Of rows that name each other in a circle the one that closes it is the root.

        Args:
            stored: finds what is known of an event that is in history already.
        """
        resolved = self._resolved(row.event_id)
        if resolved:
            return resolved
        path, seen, current = [row], {row.event_id}, row
        while (found := self._known(current, stored)) is None:
            cause = self._read(current.causation_id or "")
            if cause is None or cause.event_id in seen:
                found = _said(current) if cause is None else Root(current.event_id, 0)
                break
            path.append(cause)
            seen.add(cause.event_id)
            current = cause
        else:
            # What is known is the cause's of the last on the path.
            found = Root(found.event_id, found.depth + 1)
        for one in reversed(path):
            self._keep(one, found)
            root, found = found, Root(found.event_id, found.depth + 1)
        return root

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def _known(self, row: Row, stored: Callable[[str], Root | None]) -> Root | None:
        """Return what is known of a row's cause."""
        if row.causation_id is None:
            return None
        return self._resolved(row.causation_id) or stored(row.causation_id)

    def _resolved(self, event_id: str) -> Root | None:
        query = "SELECT correlation_id, depth FROM rows WHERE event_id = ? AND depth IS NOT NULL"
        found = self._database.execute(query, (event_id,)).fetchone()
        return Root(*found) if found else None

    def _read(self, event_id: str) -> Row | None:
        query = f"SELECT {_COLUMNS} FROM rows WHERE event_id = ?"
        found = self._database.execute(query, (event_id,)).fetchone()
        return Row(*found) if found else None

    def _keep(self, row: Row, root: Root) -> None:
        update = "UPDATE rows SET correlation_id = ?, depth = ? WHERE event_id = ?"
        self._database.execute(update, (root.event_id, root.depth, row.event_id))


def _said(row: Row) -> Root:
    """Return what a row says of its own root; without a cause it is one, or at least has no depth."""
    return Root(row.correlation_id or row.event_id, row.depth if row.causation_id else 0)
