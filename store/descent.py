"""The SQL that follows causes: back to a root, down to everything below it, and to where a cause is missing.

A few statements whatever the size: the database itself walks the tree, by index.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable
from functools import cache
from itertools import starmap
from typing import Any

from sqlalchemy import Connection, TextualSelect, text

from events.records import RecordedEvent
from store.fold import DEAD, WAITING
from store.rows import RECORDED, Unstorable, is_storable, measures_of, recorded
from store.tables import Moment, events
from store.tree import MissingLink, TreeEvent

_CHUNK = 500  # rows in memory beside what is made of them

# The first fields of a `TreeEvent`, in their order.
_NAMES = (
    "position", "event_id", "project_id", "type", "actor", "causation_id", "timestamp", "cost_micros", "currency",
    "latency_us",
)  # fmt: skip
_COLUMNS = ", ".join(_NAMES)
_OF_X = ", ".join(f"x.{name}" for name in _NAMES)
_RECORDED = ", ".join(str(column).replace(f"{events.name}.", "x.") for column in RECORDED)

# The UNION that recurs is no UNION ALL: a row met before is not followed again, which ends cycles. The LIMIT stops the
# recursion itself, because rows are asked for one by one.
#
# A recursion takes one step per generation, and PostgreSQL guesses ten rows a step. Given a plain join it
# reads the whole table in every step (a chain of 600 took minutes). LATERAL with OFFSET 0 leaves it
# nothing but the index. SQLite has no LATERAL, and needs none: with CROSS it joins in the order that is written.
_LOOKUP = {
    "sqlite": "CROSS JOIN {table} {name} ON {name}.namespace = :namespace AND {name}.{column} = {value}",
    "postgresql": """CROSS JOIN LATERAL (
            SELECT * FROM {table} WHERE namespace = :namespace AND {column} = {value} OFFSET 0
        ) {name}""",
}
_LISTED = {
    "sqlite": "json_each(:listed) l",
    "postgresql": "json_array_elements_text(CAST(:listed AS json)) AS l (value)",
}
# Of thousands of positions, one look into the index: a list of parameters costs more than what it finds.
_IS_LISTED = {
    "sqlite": "event_position IN (SELECT value FROM json_each(:listed))",
    "postgresql": """event_position = ANY (ARRAY(
        SELECT CAST(value AS bigint) FROM json_array_elements_text(CAST(:listed AS json)) AS l (value)))""",
}

_ABOVE = f"""
    WITH RECURSIVE chain (position, cause) AS (
        SELECT i.position,
               (SELECT e.causation_id FROM events e WHERE e.namespace = :namespace AND e.position = i.position)
        FROM event_index i
        WHERE i.namespace = :namespace AND i.event_id = :event_id
      UNION
        SELECT x.position,
               (SELECT e.causation_id FROM events e WHERE e.namespace = :namespace AND e.position = x.position)
        FROM chain c
        {{place_of_cause}}
    )
    SELECT {_RECORDED}
    FROM (SELECT position FROM chain LIMIT :bound) c
    {{event_of_c}}"""

_BELOW = f"""
    WITH RECURSIVE tree ({_COLUMNS}) AS (
        SELECT {_OF_X}
        FROM {{listed}}
        {{place_of_l}}
        {{event_of_i}}
      UNION ALL
        SELECT {_OF_X}
        FROM {{listed}}
        {{effects_of_l}}
      UNION
        SELECT {_OF_X}
        FROM tree t
        {{effects_of_t}}
    )
    SELECT {_COLUMNS} FROM tree LIMIT :bound"""

# A subquery that gives one value is never turned into a join: one look into the index for each event of the root.
_BROKEN = """
    SELECT e.event_id, e.position, e.causation_id
    FROM events e
    WHERE e.namespace = :namespace AND e.correlation_id = :root_id AND e.causation_id IS NOT NULL
      AND (SELECT i.position FROM event_index i
           WHERE i.namespace = :namespace AND i.event_id = e.causation_id) IS NULL
    ORDER BY e.position"""

# SQLite takes a partial index (`deliveries_state`) only if its condition is written in the query.
_OPEN = """
    SELECT DISTINCT event_position FROM deliveries
    WHERE namespace = :namespace AND state IN ('waiting', 'dead') AND state <> 'done' AND {is_listed}"""
_STATES = """
    SELECT event_position, subscriber, state FROM deliveries
    WHERE namespace = :namespace AND {is_listed}
    ORDER BY redelivery"""


def ancestors(connection: Connection, namespace: str, event_id: str, bound: int) -> dict[str, RecordedEvent]:
    """Return an event and the causes before it, by id, as far as they are stored; at most `bound`."""
    if not is_storable(event_id):
        return {}
    _compile_nothing(connection)
    values = {"namespace": namespace, "event_id": event_id, "bound": bound}
    rows = connection.execute(_statement(_ABOVE, connection.dialect.name), values).all()
    return {one.event.event_id: one for one in starmap(recorded, rows)}


def descendants(connection: Connection, namespace: str, event_ids: Collection[str], bound: int) -> dict[str, TreeEvent]:
    """Return those events and what they caused, directly or through others, by id; at most `bound`.

    Args:
        event_ids: they need not be stored themselves.
    """
    _compile_nothing(connection)
    listed = json.dumps([event_id for event_id in event_ids if is_storable(event_id)], ensure_ascii=False)
    values = {"namespace": namespace, "listed": listed, "bound": bound}
    rows = connection.execute(_statement(_BELOW, connection.dialect.name), values).yield_per(_CHUNK)
    return {event.event_id: event for event in starmap(TreeEvent, rows)}


def broken_links(connection: Connection, namespace: str, root_id: str) -> Iterable[MissingLink]:
    """Iterate over stored events that name that root and a cause which is not stored, oldest first."""
    values = {"namespace": namespace, "root_id": root_id}
    found = connection.execute(_statement(_BROKEN, connection.dialect.name), values)
    return (MissingLink(*row) for row in found)


def open_deliveries(connection: Connection, namespace: str, positions: Collection[int]) -> dict[str, Counter[int]]:
    """Count the deliveries that wait and those that are dead, as far as archived, by their event's position.

    Of a delivery that was made again the last one counts.

    Returns:
        `waiting` and `dead`, each with the number of deliveries of each event that has any.
    """

    def asked(query: str, of: Collection[int]) -> Iterable[Any]:
        values = {"namespace": namespace, "listed": json.dumps(list(of))}
        return connection.execute(_statement(query, connection.dialect.name), values).yield_per(_CHUNK)

    last: dict[tuple[int, str], str] = {}
    # Most deliveries are done, and need not be looked at.
    if some := [position for (position,) in asked(_OPEN, positions)]:
        last = {(position, subscriber): state for position, subscriber, state in asked(_STATES, some)}
    return {
        wanted: Counter([position for (position, _), state in last.items() if state == wanted])
        for wanted in (WAITING, DEAD)
    }


def without_payload(recorded: RecordedEvent) -> TreeEvent | None:
    """Return an unarchived event as a tree holds it; None when the archive will set it aside."""
    event = recorded.event
    try:
        cost_micros, currency, latency_us = measures_of(event)
    except (Unstorable, OverflowError):
        return None
    return TreeEvent(
        position=recorded.position,
        event_id=event.event_id,
        project_id=event.project_id,
        type=event.type.value,
        actor=event.actor,
        causation_id=event.causation_id,
        timestamp=event.timestamp,
        cost_micros=cost_micros,
        currency=currency,
        latency_us=latency_us,
    )


def _compile_nothing(connection: Connection) -> None:
    """Forbid PostgreSQL to compile the statements of this transaction.

    It takes a recursion for thousands of times dearer than it is: builds that can compile (Debian's) spent 1.6 s on
    compiling the query of a tree of five, which runs in a millisecond.
    """
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SET LOCAL jit = off")


@cache
def _statement(query: str, dialect: str) -> TextualSelect:
    """Return one of the queries above as a dialect has it; made once, which takes longer than many an answer."""
    lookup = _LOOKUP[dialect].format
    said = query.format(
        listed=_LISTED[dialect],
        is_listed=_IS_LISTED[dialect],
        place_of_l=lookup(table="event_index", column="event_id", value="l.value", name="i"),
        place_of_cause=lookup(table="event_index", column="event_id", value="c.cause", name="x"),
        event_of_c=lookup(table="events", column="position", value="c.position", name="x"),
        event_of_i=lookup(table="events", column="position", value="i.position", name="x"),
        effects_of_l=lookup(table="events", column="causation_id", value="l.value", name="x"),
        effects_of_t=lookup(table="events", column="causation_id", value="t.event_id", name="x"),
    )
    return text(said).columns(timestamp=Moment)
