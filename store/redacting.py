"""Redaction: takes payloads out of events that stay, with their ids, types, causes, costs and times.

    payload                    {"redacted": true}, or "[redacted]" at each given path; so too in metadata
    on the blackboard          every version of a payload that lies there
    dead letters               tracebacks, outputs and raw texts are emptied, reasons cut to the exception's name
    outcomes                   errors cut likewise
    rejected                   raw texts in which the event's id or project is written

Nothing puts it back: the archive leaves a stored event as it is, importing or persisting the event again changes
nothing, and what is published again under its id is set aside without its content.

What this cannot reach is counted (deliveries and open dead letters, whose bodies Redis keeps until they have ended
or are decided) or told in docs/retention.md.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, RowMapping, Text, cast, func, or_, select

from events.digits import whole
from events.errors import EventNotFound, InvalidFilter
from events.records import OPEN
from store import cursors, inserts
from store.cursors import insert
from store.direct import IMPORTED, ORIGIN
from store.engine import reading, writing
from store.filter import EventFilter
from store.fold import WAITING
from store.paths import Path, read_path
from store.payloads import place_of
from store.replay import Replay
from store.rows import REDACTED, exact_of, inexact, is_storable, json_text, recorded_event
from store.state import JSON
from store.state import REDACTED as VALUE_REDACTED
from store.tables import blackboard, dead_letters, deliveries, events, outcomes, redactions, rejected

BATCH = 200
MARKER = {"redacted": True}
WHOLE = "payload"
_KEPT = ("cost", "currency", "latency_ms", "priority")
_event = events.c


@dataclass(slots=True)
class Redacted:
    """What was redacted, or in a rehearsal would be.

    Attributes:
        events: how many have something of what is to go. unchanged: how many have nothing, or nothing any more.
        waiting: their deliveries that wait, open_letters: their dead letters that are open: Redis has the bodies.
        unarchived: events that only Redis has, and that were not redacted.
        rows: of other tables that were changed.
    """

    events: int = 0
    unchanged: int = 0
    waiting: int = 0
    open_letters: int = 0
    unarchived: int = 0
    rows: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Order:
    paths: tuple[Path, ...]
    names: tuple[str, ...]


class Redaction:
    """Redacts events of one namespace. Archivers and readers go on meanwhile."""

    def __init__(self, engine: Engine, namespace: str, replay: Replay) -> None:
        self._engine = engine
        self._namespace = namespace
        self._replay = replay

    def redact(
        self,
        event_ids: Collection[str] = (),
        project_id: str | None = None,
        paths: Sequence[str] = (),
        *,
        dry_run: bool = False,
        on_batch: Callable[[int], None] = lambda events: None,
    ) -> Redacted:
        """Redact the named events, or all of a project.

        Args:
            paths: `payload`, or dotted paths that begin with `payload.` or `metadata.`; the whole payload unless
                given. What is not at a path is passed over.
            dry_run: change nothing.
            on_batch: called after each batch with the number of its events.

        Raises:
            EventNotFound: one of the events is not there; nothing was changed.
            InvalidFilter: a path cannot be redacted; nothing was changed.
            StoreUnavailable, NotMigrated, RedisUnavailable: what was redacted is; ask again for the rest.
        """
        order, done = _order(paths), Redacted()
        done.unarchived = self._unarchived(event_ids, project_id)
        for positions in self._pages(event_ids, project_id):
            with (reading if dry_run else writing)(self._engine) as connection:
                self._redact(connection, positions, order, done, dry_run)
            on_batch(len(positions))
        if not dry_run:
            self._set_aside(event_ids, project_id, done)
        return done

    def _unarchived(self, event_ids: Collection[str], project_id: str | None) -> int:
        """Count those that are in Redis alone; make sure that the others exist."""
        if project_id is not None:
            # A published event of the project that SQL does not have is after the cursor.
            with reading(self._engine) as connection:
                archived = self._replay.seam.archived(connection)
            found = self._replay.iterate(EventFilter(project_id=project_id), archived)
            return sum(recorded.origin not in (ORIGIN, IMPORTED) for recorded in found)
        known = self._replay.find_all(set(event_ids))
        missing = sorted(set(event_ids) - known.keys())
        if missing:
            raise EventNotFound(f"There is no event {missing[0]!r:.240}; nothing was redacted.")
        with reading(self._engine) as connection:
            return len(known.keys() - inserts.known_positions(connection, self._namespace, known.keys()).keys())

    def _pages(self, event_ids: Collection[str], project_id: str | None) -> Iterator[list[int]]:
        if project_id is None:
            with reading(self._engine) as connection:
                known = inserts.known_positions(connection, self._namespace, event_ids)
            every = sorted(position for position in known.values() if position is not None)
            yield from (every[start : start + BATCH] for start in range(0, len(every), BATCH))
            return
        after, full = -1, is_storable(project_id)
        while full:
            mine = (_event.namespace == self._namespace, _event.project_id == project_id, _event.position > after)
            with reading(self._engine) as connection:
                query = select(_event.position).where(*mine).order_by(_event.position).limit(BATCH)
                page = list(connection.execute(query).scalars())
            full = len(page) == BATCH
            if page:
                yield page
                after = page[-1]

    def _redact(
        self, connection: Connection, positions: list[int], order: _Order, done: Redacted, dry_run: bool
    ) -> None:
        if not dry_run:  # an outcome that comes later has its error cut by whoever redacts again
            cursors.lock(connection, self._namespace, "outcomes")
        mine = (_event.namespace == self._namespace, _event.position.in_(positions))
        changed = []
        for row in connection.execute(select(events).where(*mine)).mappings():
            change, lies_there = _change(row, order), self._lies(connection, row, order)
            if not change and not lies_there:
                done.unchanged += 1
                continue
            changed.append(row)
            if not dry_run:
                self._write(connection, row, change, order)
                self._redact_values(connection, row, order, done)
        done.events += len(changed)
        self._count_left(connection, positions, done)
        if not dry_run and positions:
            self._cut_texts(connection, positions, done)

    def _write(self, connection: Connection, row: RowMapping, change: dict[str, Any], order: _Order) -> None:
        if change:
            payload, metadata = json_text("payload", change["payload"]), json_text("metadata", change["metadata"])
            exact = exact_of(payload, metadata) if connection.dialect.name == "postgresql" else None
            mine = (_event.namespace == self._namespace, _event.position == row["position"])
            new = {"payload": payload, "metadata": metadata, "exact": exact}
            connection.execute(events.update().where(*mine).values(new))
        column = redactions.c
        mine = (column.namespace == self._namespace, column.event_id == row["event_id"])
        before = connection.execute(select(column.paths).where(*mine)).scalar_one_or_none() or []
        paths = json_text("paths", sorted({*before, *order.names}))
        statement = insert(connection, redactions).on_conflict_do_update(
            index_elements=[column.namespace, column.event_id],
            set_={"paths": paths, "redacted_at": datetime.now(UTC)},
        )
        record = {"namespace": self._namespace, "event_id": row["event_id"], "paths": paths}
        connection.execute(statement, record | {"redacted_at": datetime.now(UTC)})

    def _values(self, connection: Connection, row: RowMapping, order: _Order) -> Iterator[tuple[Any, Any]]:
        """Iterate over the versions of an event's payload on the blackboard that would change; None for all of one."""
        place = place_of(row["project_id"], row["blackboard_pointer"])
        if place is None:
            return
        column = blackboard.c
        text = func.coalesce(column.exact, cast(column.value, Text)).label("text")
        query = select(column.version, column.kind, text).where(*_at(self._namespace, place.project_id, place.key))
        for version in connection.execute(query).all():
            if version.kind == VALUE_REDACTED or version.kind == "deleted":
                continue
            if (WHOLE,) in order.paths:
                yield version, None
            elif version.kind == JSON:
                value = json.loads(version.text)
                inside = [path[1:] for path in order.paths if path[0] == WHOLE]
                if any([_replace(value, path) for path in inside]):  # each of them
                    yield version, value

    def _lies(self, connection: Connection, row: RowMapping, order: _Order) -> bool:
        return any(True for _ in self._values(connection, row, order))

    def _redact_values(self, connection: Connection, row: RowMapping, order: _Order, done: Redacted) -> None:
        place = place_of(row["project_id"], row["blackboard_pointer"])
        if place is None:
            return
        for version, value in list(self._values(connection, row, order)):
            new: dict[str, Any] = {"kind": VALUE_REDACTED, "value": None, "exact": None, "data": None, "size_bytes": 0}
            if value is not None:
                text = json_text("value", value)
                keeps = connection.dialect.name == "postgresql" and inexact(text)
                new = {"value": text, "exact": text if keeps else None, "size_bytes": len(text.encode())}
            mine = (*_at(self._namespace, place.project_id, place.key), blackboard.c.version == version.version)
            connection.execute(blackboard.update().where(*mine).values(new))
            done.rows["blackboard"] = done.rows.get("blackboard", 0) + 1

    def _count_left(self, connection: Connection, positions: list[int], done: Redacted) -> None:
        waits, letter = deliveries.c, dead_letters.c
        for column, condition, name in (
            (waits, waits.state == WAITING, "waiting"),
            (letter, letter.resolution == OPEN, "open_letters"),
        ):
            mine = (column.namespace == self._namespace, column.event_position.in_(positions), condition)
            count = connection.execute(select(func.count()).where(*mine)).scalar_one()
            setattr(done, name, getattr(done, name) + count)

    def _cut_texts(self, connection: Connection, positions: list[int], done: Redacted) -> None:
        """Cut what handlers said of the events: `ValueError: no brush` says no more than `ValueError: [redacted]`."""
        for table, column, emptied in (
            (outcomes, outcomes.c.error, ()),
            (dead_letters, dead_letters.c.reason, ("traceback", "output", "raw")),
        ):
            mine = (table.c.namespace == self._namespace, table.c.event_position.in_(positions))
            texts = [table.c[name] for name in emptied]
            for position, text, *others in connection.execute(
                select(table.c.position, column, *texts).where(*mine)
            ).all():
                if not any(others) and _cut(text) == text:
                    continue
                new = {column.name: _cut(text), **dict.fromkeys(emptied, "")}
                one = (table.c.namespace == self._namespace, table.c.position == position)
                connection.execute(table.update().where(*one).values(new))
                done.rows[table.name] = done.rows.get(table.name, 0) + 1

    def _set_aside(self, event_ids: Collection[str], project_id: str | None, done: Redacted) -> None:
        names = [name for name in (event_ids if project_id is None else [project_id]) if is_storable(name)]
        raw = rejected.c.raw
        with writing(self._engine) as connection:
            for name in names:
                says = or_(*(raw.contains(json.dumps(name, ensure_ascii=a), autoescape=True) for a in (True, False)))
                changed = rejected.update().where(rejected.c.namespace == self._namespace, raw != REDACTED, says)
                count = connection.execute(changed.values(raw=REDACTED)).rowcount
                if count:
                    done.rows["rejected"] = done.rows.get("rejected", 0) + count


def _order(paths: Sequence[str]) -> _Order:
    """Read paths.

    Raises:
        InvalidFilter: one leads elsewhere than into payload or metadata, or to what stays.
    """
    read = [read_path(path) for path in paths or [WHOLE]]
    for path, written in zip(read, paths or [WHOLE], strict=True):
        if not (path == (WHOLE,) or (path[0] in (WHOLE, "metadata") and len(path) > 1)):
            raise InvalidFilter(
                f"{written!r:.200} cannot be redacted: give `payload`, or a path like payload.text or metadata.prompt."
            )
        if path[0] == "metadata" and path[1] in _KEPT:
            raise InvalidFilter(f"{written!r:.200} cannot be redacted: {', '.join(_KEPT)} stay, for sums and order.")
        if not is_storable(written):
            raise InvalidFilter(f"{written!r:.200} cannot be redacted: no key has such characters.")
    return _Order(tuple(read), tuple(paths or [WHOLE]))


def _change(row: RowMapping, order: _Order) -> dict[str, Any]:
    """Return an event's payload and metadata as they are to be; empty when they are so already."""
    event = recorded_event(row).event
    new = {"payload": json.loads(json.dumps(event.payload)), "metadata": json.loads(json.dumps(event.metadata))}
    changed = False
    for path in order.paths:
        if path == (WHOLE,):
            # An empty payload says nothing; one on the blackboard is redacted there.
            if event.payload and event.payload != MARKER:
                new["payload"], changed = dict(MARKER), True
        elif _replace(new, path):
            changed = True
    return new if changed else {}


def _replace(value: Any, path: Path) -> bool:
    """Put the mark at a path; False when there is nothing, or the mark already."""
    for part in path[:-1]:
        value = _inside(value, part)
    last: Any = path[-1]
    found = _inside(value, last)
    if found is _NOTHING or found == REDACTED:
        return False
    value[int(last) if isinstance(value, list) else last] = REDACTED
    return True


_NOTHING = object()


def _inside(value: Any, part: str) -> Any:
    if isinstance(value, dict):
        return value.get(part, _NOTHING)
    if isinstance(value, list) and (place := whole(part)) is not None and place < len(value):
        return value[place]
    return _NOTHING


def _cut(text: str) -> str:
    name, colon, _ = text.partition(": ")
    if not text or text == REDACTED or text == f"{name}: {REDACTED}":
        return text
    return f"{name}: {REDACTED}" if colon and name.replace(".", "").replace("_", "").isalnum() else REDACTED


def _at(namespace: str, project_id: str, key: str) -> tuple[ColumnElement[bool], ...]:
    column = blackboard.c
    return column.namespace == namespace, column.project_id == project_id, column.key == key
