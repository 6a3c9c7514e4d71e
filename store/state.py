"""The projects' shared state: keys with versioned values, the newest of which one usually wants.

A write appends a version: 1, 2, 3, ... without a gap. Nothing is overwritten, so that a pointer to a version
names the same value for as long as it is kept. Deleting appends a version too, one that has no value.

Two writers cannot append the same version: the table's key refuses the second, which looks again and appends
the next one, or finds that what it compared with is no more.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, RowMapping, Text, cast, func, select

from events.context import handling
from events.errors import InvalidValue, ValueNotFound, VersionConflict
from store.cursors import insert
from store.engine import reading, writing
from store.pointers import Pointer
from store.rows import Unstorable, inexact, is_storable, json_text
from store.tables import blackboard

MAX_VALUE_BYTES = 64 * 1024 * 1024
JSON, BYTES, DELETED, REDACTED = "json", "bytes", "deleted", "redacted"
_WHY = {DELETED: "it was deleted", REDACTED: "it was redacted"}

_table = blackboard.c
_ABOUT = [_table[n] for n in ("project_id", "key", "version", "kind", "size_bytes", "written_at", "actor", "event_id")]
# As text: a driver may parse jsonb, and a JSON string is then not to be told from JSON.
_VALUE = [func.coalesce(_table.exact, cast(_table.value, Text)).label("text"), _table.data]


@dataclass(frozen=True, slots=True)
class Entry:
    """One version of a value.

    Attributes:
        project_id: whose value it is. key: its name in the project.
        version: 1 for the first, and one more each time.
        kind: `json`, `bytes`; `deleted` or `redacted`, which have no value.
        size_bytes: of the JSON in UTF-8, or of the bytes.
        written_at: by the writer's clock, UTC.
        actor: who wrote it. event_id: while handling which event. None when nobody said.
        value: JSON as Python has it, or bytes; None in a history, which leaves values out.
    """

    project_id: str
    key: str
    version: int
    kind: str
    size_bytes: int
    written_at: datetime
    actor: str | None
    event_id: str | None
    value: Any = None

    @property
    def pointer(self) -> str:
        """The pointer to exactly this version."""
        return str(Pointer(self.project_id, self.key, self.version))


class State:
    """The shared state of one namespace's projects. Threads may share it.

    Raises, in every method:
        StoreUnavailable, NotMigrated: what was being written may or may not be.
    """

    def __init__(self, engine: Engine, namespace: str) -> None:
        self._engine = engine
        self._namespace = namespace

    def put(self, project_id: str, key: str, value: Any, *, actor: str | None = None) -> str:
        """Append a version, whatever the newest one is.

        Args:
            value: anything JSON can say, or bytes; at most 64 MiB encoded. Tuples become lists, and
                an object's keys text.
            actor: who writes; inside a handler its subscriber unless given.

        Returns:
            The pointer to the new version.

        Raises:
            InvalidValue: it cannot be kept; nothing was written.
        """
        version = self._append(Pointer(project_id, key), _written(value), None, actor)
        return str(Pointer(project_id, key, version))

    def compare_and_set(
        self, project_id: str, key: str, expected_version: int, value: Any, *, actor: str | None = None
    ) -> int:
        """Append a version if the newest one is still the expected; of several at once one succeeds.

        Args:
            expected_version: 0 when there must be no value: never written, or deleted.

        Returns:
            The new version.

        Raises:
            VersionConflict: the newest version is another; nothing was written. Read it and decide again.
            InvalidValue: as `put`.
        """
        if isinstance(expected_version, bool) or not isinstance(expected_version, int) or expected_version < 0:
            raise InvalidValue(
                f"The expected version must be a whole number of at least 0, not {expected_version!r:.40}."
            )
        return self._append(Pointer(project_id, key), _written(value), expected_version, actor)

    def delete(self, project_id: str, key: str, *, actor: str | None = None) -> int:
        """Append a version without a value; the earlier ones can still be read by their pointers.

        Returns:
            The new version; 0 when there is no value to delete.
        """
        place = Pointer(project_id, key)
        while (newest := self.newest(project_id, key)) is not None:
            try:
                return self._append(place, {"kind": DELETED, "size_bytes": 0}, newest.version, actor)
            except VersionConflict:
                continue
        return 0

    def get(self, pointer: str | Pointer) -> Entry:
        """Return the version that a pointer names, or the newest when it names none.

        Raises:
            ValueNotFound: it was never written, or has no value any more.
            InvalidValue: that is no pointer.
        """
        place = pointer if isinstance(pointer, Pointer) else Pointer.read(pointer)
        found = self._find(place)
        if found is None or found.kind in _WHY:
            why = _WHY[found.kind] if found else "it was never written, or pruned"
            raise ValueNotFound(f"The blackboard has no value at {str(place)!r}: {why}.")
        return found

    def newest(self, project_id: str, key: str) -> Entry | None:
        """Return the newest version of a key; None when it was never written, or has no value any more."""
        found = self._find(Pointer(project_id, key))
        return None if found is None or found.kind in _WHY else found

    def history(self, project_id: str, key: str, *, before: int | None = None, limit: int = 100) -> list[Entry]:
        """Return a page of a key's versions, newest first, without their values.

        Args:
            before: a version, exclusive; the last one's of a page gives the next.
            limit: most entries, at least 1.
        """
        place, earlier = Pointer(project_id, key), [] if before is None else [_table.version < min(before, 2**63 - 1)]
        query = select(*_ABOUT).where(*self._at(place), *earlier).order_by(_table.version.desc()).limit(_page(limit))
        with reading(self._engine) as connection:
            return [Entry(**row) for row in connection.execute(query).mappings()]

    def keys(self, project_id: str, *, after: str = "", limit: int = 100) -> list[Entry]:
        """Return a page of a project's keys that have a value, in their order: the newest entry of each, without it.

        Args:
            after: a key, exclusive; "" is the beginning.

        Raises:
            InvalidValue: a name that no key or project has.
        """
        Pointer(project_id, after or "any")
        same = blackboard.alias().c
        # Asked for each row, so that the database stops when the page is full.
        newest = select(func.max(same.version)).where(
            same.namespace == self._namespace, same.project_id == project_id, same.key == _table.key
        )
        query = (
            select(*_ABOUT)
            .where(_table.namespace == self._namespace, _table.project_id == project_id, _table.key > after)
            .where(_table.version == newest.scalar_subquery(), _table.kind.not_in(_WHY))
            .order_by(_table.key)
            .limit(_page(limit))
        )
        with reading(self._engine) as connection:
            return [Entry(**row) for row in connection.execute(query).mappings()]

    def _find(self, place: Pointer) -> Entry | None:
        query = select(*_ABOUT, *_VALUE).where(*self._at(place)).order_by(_table.version.desc()).limit(1)
        if place.version is not None:
            query = query.where(_table.version == place.version)
        with reading(self._engine) as connection:
            row = connection.execute(query).mappings().one_or_none()
        return None if row is None else _entry(row)

    def _append(self, place: Pointer, written: dict[str, Any], expected: int | None, actor: str | None) -> int:
        if actor is not None and not (isinstance(actor, str) and is_storable(actor)):
            raise InvalidValue(f"Who writes a value is a text that a database can keep, not {actor!r:.80}.")
        current = handling.get()
        about = {
            "namespace": self._namespace,
            "project_id": place.project_id,
            "key": place.key,
            "written_at": datetime.now(UTC),
            "actor": actor or (current.subscriber if current else None),
            "event_id": current.event.event_id if current else None,
        }
        with writing(self._engine) as connection:
            while True:
                version, is_gone = self._latest(connection, place)
                if expected is not None and expected != version and not (expected == 0 and is_gone):
                    raise _conflict(place, expected, version)
                row = {**about, **written, "version": version + 1}
                if connection.dialect.name == "sqlite":
                    row.pop("exact", None)
                # PostgreSQL waits here for another writer of this version, and tells whether it committed.
                if connection.execute(insert(connection, blackboard).on_conflict_do_nothing(), row).rowcount:
                    return version + 1

    def _latest(self, connection: Connection, place: Pointer) -> tuple[int, bool]:
        """Return a key's newest version, 0 for none, and whether it may be written as if there were none."""
        query = select(_table.version, _table.kind).where(*self._at(place)).order_by(_table.version.desc()).limit(1)
        row = connection.execute(query).one_or_none()
        return (row.version, row.kind == DELETED) if row else (0, True)

    def _at(self, place: Pointer) -> Sequence[ColumnElement[bool]]:
        return (
            _table.namespace == self._namespace,
            _table.project_id == place.project_id,
            _table.key == place.key,
        )


def _written(value: Any) -> dict[str, Any]:
    """Return the columns that hold a value."""
    if isinstance(value, bytes | bytearray | memoryview):
        data = bytes(value)
        return {"kind": BYTES, "data": data, "size_bytes": _bounded(len(data))}
    try:
        text = json_text("value", value)
    except Unstorable as error:
        raise InvalidValue(str(error)) from None
    size_bytes = _bounded(len(text.encode()))
    return {"kind": JSON, "value": text, "exact": text if inexact(text) else None, "size_bytes": size_bytes}


def _entry(row: RowMapping) -> Entry:
    fields = dict(row)
    text, data = fields.pop("text"), fields.pop("data")
    value = bytes(data) if data is not None else json.loads(text) if text is not None else None
    return Entry(**fields, value=value)


def _bounded(size_bytes: int) -> int:
    if size_bytes > MAX_VALUE_BYTES:
        raise InvalidValue(
            f"A value of {size_bytes:,} bytes is over the blackboard's limit of {MAX_VALUE_BYTES:,}: keep it in a file "
            "or an object store, and put its address here."
        )
    return size_bytes


def _conflict(place: Pointer, expected: int, version: int) -> VersionConflict:
    found = f"is at version {version}" if version else "was never written"
    return VersionConflict(
        f"The value at {str(place)!r} {found}, not at the expected {expected}: read it, and decide again.", version
    )


def _page(limit: int) -> int:
    if limit < 1:
        raise InvalidValue(f"The limit of a page must be at least 1, not {limit}.")
    return min(limit, 2**63 - 1)
