"""The SQL behind the statistics: sums, averages and percentiles, exact over everything published so far.

What is not archived yet goes into the query as one JSON parameter, so that a percentile is taken over
both parts. p95 is the nearest rank (percentile_disc), spelled with a window function because SQLite
has no percentiles; so it is the same on both databases.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, text

from events.records import RecordedEvent
from store.rows import Unstorable, event_row
from store.tables import Moment, microseconds

ALL_TYPES = "*"
_MICROS = 1_000_000

_TAIL = {
    "sqlite": """
        SELECT json_extract(value, '$.type') AS type, json_extract(value, '$.cost_micros') AS cost_micros,
               json_extract(value, '$.currency') AS currency, json_extract(value, '$.latency_us') AS latency_us,
               json_extract(value, '$.timestamp') AS timestamp
        FROM json_each(:tail)""",
    "postgresql": """
        SELECT type, cost_micros, currency, latency_us, "timestamp"
        FROM json_to_recordset(CAST(:tail AS json))
          AS t (type text, cost_micros bigint, currency text, latency_us bigint, "timestamp" timestamptz)""",
}

_MEASURED = """
    WITH measured AS (
        SELECT {type} AS type, e.cost_micros, e.currency, e.latency_us, e.timestamp
        FROM (
            SELECT type, cost_micros, currency, latency_us, timestamp
            FROM events
            WHERE namespace = :namespace {of_project}
          UNION ALL
            {tail}
        ) e
    )"""

# Whole units and the rest are summed apart: a sum of millionths may exceed 64 bits.
_BY_TYPE = f"""{_MEASURED},
    ranked AS (
        SELECT *, row_number() OVER (PARTITION BY type ORDER BY latency_us IS NULL, latency_us) AS place,
               count(latency_us) OVER (PARTITION BY type) AS places
        FROM measured
    )
    SELECT type, count(*) AS count, count(cost_micros) AS costs, count(latency_us) AS latencies,
           sum(cost_micros / 1000000) AS cost_whole, sum(cost_micros % 1000000) AS cost_rest,
           sum(latency_us / 1000000) AS latency_whole, sum(latency_us % 1000000) AS latency_rest,
           max(CASE WHEN place = (95 * places + 99) / 100 THEN latency_us END) AS latency_p95_us,
           min(timestamp) AS first_time, max(timestamp) AS last_time
    FROM ranked
    GROUP BY type"""

_BY_CURRENCY = f"""{_MEASURED}
    SELECT type, coalesce(currency, 'USD') AS currency,
           sum(cost_micros / 1000000) AS cost_whole, sum(cost_micros % 1000000) AS cost_rest
    FROM measured
    WHERE cost_micros IS NOT NULL
    GROUP BY type, coalesce(currency, 'USD')"""


@dataclass(slots=True)
class Sums:
    """What was added up for one type, in integers: `costs` and `latencies` count the events that have one."""

    count: int = 0
    costs: int = 0
    cost_micros: int = 0
    latencies: int = 0
    latency_us: int = 0
    latency_p95_us: int | None = None
    first_time: datetime | None = None
    last_time: datetime | None = None
    currencies: dict[str, int] = field(default_factory=dict)


def of(unarchived: Iterable[RecordedEvent], project_id: str | None) -> list[dict[str, Any]]:
    """Return what the statistics need of unarchived events; those that the archive will reject are left out."""
    names = ("type", "cost_micros", "currency", "latency_us", "timestamp")
    found = []
    for recorded in unarchived:
        if project_id is None or recorded.event.project_id == project_id:
            try:
                row = event_row("", recorded)
            except Unstorable:
                continue
            found.append({name: row[name] for name in names})
    return found


def by_type(
    connection: Connection, namespace: str, project_id: str | None, tail: list[dict[str, Any]]
) -> dict[str, Sums]:
    """Add up a project, or all of them when it is None.

    Returns:
        The sums of each type that occurs, and under `ALL_TYPES` those of all together; empty when
        there are no events.
    """
    values: dict[str, Any] = {"namespace": namespace, "tail": _json(connection, tail)}
    if project_id is not None:
        values["project_id"] = project_id
    found: dict[str, Sums] = {}
    for group in ("e.type", f"'{ALL_TYPES}'"):
        for row in _rows(connection, _BY_TYPE, group, values):
            found[row["type"]] = _sums(row)
        for row in _rows(connection, _BY_CURRENCY, group, values):
            found[row["type"]].currencies[row["currency"]] = _sum(row, "cost")
    return found


def _rows(connection: Connection, sql: str, group: str, values: dict[str, Any]) -> Iterable[RowMapping]:
    of_project = "AND project_id = :project_id" if "project_id" in values else ""
    query = text(sql.format(type=group, of_project=of_project, tail=_TAIL[connection.dialect.name]))
    return connection.execute(query.columns(first_time=Moment, last_time=Moment), values).mappings()


def _sums(row: RowMapping) -> Sums:
    return Sums(
        count=row["count"],
        costs=row["costs"],
        cost_micros=_sum(row, "cost"),
        latencies=row["latencies"],
        latency_us=_sum(row, "latency"),
        latency_p95_us=row["latency_p95_us"],
        first_time=row["first_time"],
        last_time=row["last_time"],
    )


def _sum(row: RowMapping, name: str) -> int:
    return int(row[f"{name}_whole"] or 0) * _MICROS + int(row[f"{name}_rest"] or 0)


def _json(connection: Connection, tail: list[dict[str, Any]]) -> str:
    """Write the tail's measures with moments as the dialect stores them."""
    exact = connection.dialect.name == "sqlite"
    return json.dumps(tail, default=lambda moment: microseconds(moment) if exact else moment.isoformat())
