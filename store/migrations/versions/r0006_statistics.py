"""Statistics are kept in two tables, and a delivery knows its project.

What is stored already is added up here, one project after another. Nothing may be stored meanwhile: the rows of
`archive` are held. docs/statistics.md says what the tables hold.

This file is a record of what was done to databases: it is never edited to follow the legend.
"""

import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

JSON_TEXT = sa.Text().with_variant(JSONB(), "postgresql")
MOMENT = sa.BigInteger().with_variant(sa.TIMESTAMP(timezone=True), "postgresql")
WHOLE = sa.Text().with_variant(sa.Numeric(), "postgresql")

EVENTS = """
    SELECT namespace, project_id, type, actor, timestamp, cost_micros, currency, latency_us
    FROM events
    ORDER BY namespace, project_id"""
DELIVERIES = """
    SELECT namespace, coalesce(project_id, '') AS project_id, event_position, subscriber, state, attempts,
           NULL AS elapsed_us
    FROM deliveries
  UNION ALL
    SELECT o.namespace, coalesce(e.project_id, ''), o.event_position, o.subscriber, o.state, NULL, o.elapsed_us
    FROM outcomes o LEFT JOIN events e ON e.namespace = o.namespace AND e.position = o.event_position
    WHERE o.event_position > 0 AND o.event_position < 9007199254740992 -- else it was no delivery
    ORDER BY 1, 2"""
FILL_PROJECTS = """
    UPDATE deliveries SET project_id = (
        SELECT e.project_id FROM events e
        WHERE e.namespace = deliveries.namespace AND e.position = deliveries.event_position
    )"""
INSERT = "INSERT INTO {table} ({columns}) VALUES ({values})"
STATES = ("waiting", "done", "dead", "discarded", "dropped")
WIDTHS_US = {"total": 0, "day": 86_400_000_000, "hour": 3_600_000_000}
ALL_PROJECTS = ""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def upgrade() -> None:
    """Make the tables, hold everybody who writes, and fill them."""
    _hold_writers()
    op.add_column("deliveries", sa.Column("project_id", sa.Text))
    _make_tables()
    connection = op.get_bind()
    connection.exec_driver_sql(
        "INSERT INTO archive (namespace, stream, position, last_entry) "
        "SELECT namespace, 'deliveries', 0, '0-0' FROM archive WHERE stream = 'direct'"
    )
    connection.exec_driver_sql(FILL_PROJECTS)
    _fill("event_statistics", ("type", "actor"), EVENTS, _add_event, _event_columns)
    _fill("delivery_statistics", ("subscriber",), DELIVERIES, _add_delivery, _delivery_columns)


def downgrade() -> None:
    """Drop them; the next upgrade adds everything up again."""
    _hold_writers()
    op.drop_table("delivery_statistics")
    op.drop_table("event_statistics")
    op.drop_column("deliveries", "project_id")
    op.execute("DELETE FROM archive WHERE stream IN ('deliveries', 'pruned_events', 'pruned_deliveries')")


def _hold_writers() -> None:
    """Wait until whoever locked a row of `archive` is done, and let nobody lock one; SQLite has one writer anyway.

    Before any other table is touched: a writer that waits for it would hold what is waited for here.
    """
    if op.get_bind().dialect.name == "postgresql":
        op.get_bind().exec_driver_sql("LOCK TABLE archive IN EXCLUSIVE MODE")


def _make_tables() -> None:
    key: list[tuple[str, Any]] = [
        ("namespace", sa.Text),
        ("project_id", sa.Text),
        ("grain", sa.Text),
        ("start", sa.BigInteger),
    ]
    op.create_table(
        "event_statistics",
        *(sa.Column(name, kind, primary_key=True, autoincrement=False) for name, kind in key),
        sa.Column("type", sa.Text, primary_key=True),
        sa.Column("actor", sa.Text, primary_key=True),
        sa.Column("events", sa.BigInteger, nullable=False),
        sa.Column("priced", sa.BigInteger, nullable=False),
        sa.Column("cost_micros", JSON_TEXT, nullable=False),
        sa.Column("timed", sa.BigInteger, nullable=False),
        sa.Column("latency_us", WHOLE, nullable=False),
        sa.Column("latency_bins", JSON_TEXT, nullable=False),
        sa.Column("first_time", MOMENT, nullable=False),
        sa.Column("last_time", MOMENT, nullable=False),
    )
    op.create_table(
        "delivery_statistics",
        *(sa.Column(name, kind, primary_key=True, autoincrement=False) for name, kind in key),
        sa.Column("subscriber", sa.Text, primary_key=True),
        *(sa.Column(state, sa.BigInteger, nullable=False) for state in STATES),
        sa.Column("attempts", sa.BigInteger, nullable=False),
        sa.Column("failures", sa.BigInteger, nullable=False),
        sa.Column("timed", sa.BigInteger, nullable=False),
        sa.Column("elapsed_us", WHOLE, nullable=False),
        sa.Column("elapsed_bins", JSON_TEXT, nullable=False),
    )


def _fill(
    table: str,
    names: tuple[str, ...],
    query: str,
    add: Callable[["Sums", Any], None],
    columns_of: Callable[["Sums"], dict[str, Any]],
) -> None:
    """Add up the rows of a query, a project in memory at a time, and insert the sums."""
    together: dict[str, ByHour] = {}
    rows = op.get_bind().execute(sa.text(query).execution_options(yield_per=1000)).mappings()
    for (namespace, project_id), group in groupby(rows, lambda row: (row["namespace"], row["project_id"])):
        by_hour: ByHour = {}
        for row in group:
            start = _microseconds(row, table) // WIDTHS_US["hour"] * WIDTHS_US["hour"]
            add(by_hour.setdefault((start, *(row[name] for name in names)), Sums()), row)
        for key, sums in by_hour.items():
            together.setdefault(namespace, {}).setdefault(key, Sums()).merge(sums)
        if project_id != ALL_PROJECTS:
            _insert(table, names, (namespace, project_id), by_hour, columns_of)
    for namespace, by_hour in together.items():
        _insert(table, names, (namespace, ALL_PROJECTS), by_hour, columns_of)


class Sums:
    """Numbers by what they count, and the earliest and latest moment."""

    def __init__(self) -> None:
        self.of: Counter[Any] = Counter()
        self.first: Any = None
        self.last: Any = None

    def see(self, first: Any, last: Any) -> None:
        self.first = first if self.first is None else min(self.first, first)
        self.last = last if self.last is None else max(self.last, last)

    def merge(self, other: "Sums") -> None:
        self.of.update(other.of)
        if other.first is not None:
            self.see(other.first, other.last)

    def part(self, kind: str) -> str:
        """Return what is counted under `(kind, name)`, by name, as JSON."""
        return json.dumps({key[1]: count for key, count in self.of.items() if key[0] == kind})


def _add_event(sums: Sums, row: Any) -> None:
    sums.of["events"] += 1
    sums.see(row["timestamp"], row["timestamp"])
    if row["cost_micros"] is not None:
        sums.of["priced"] += 1
        sums.of["cost", row["currency"] or "USD"] += row["cost_micros"]
    if row["latency_us"] is not None:
        _add_duration(sums, row["latency_us"])


def _add_delivery(sums: Sums, row: Any) -> None:
    if row["attempts"] is not None:
        sums.of[row["state"]] += 1
        sums.of["attempts"] += row["attempts"]
        return
    sums.of["failures"] += row["state"] in ("retried", "dead", "lost")
    if row["elapsed_us"]:
        _add_duration(sums, row["elapsed_us"])


def _add_duration(sums: Sums, duration_us: int) -> None:
    shift = max(0, duration_us.bit_length() - 7)
    sums.of["timed"] += 1
    sums.of["us"] += duration_us
    sums.of["bin", 64 * shift + (duration_us >> shift)] += 1


def _event_columns(sums: Sums) -> dict[str, Any]:
    return {
        "events": sums.of["events"],
        "priced": sums.of["priced"],
        "cost_micros": sums.part("cost"),
        "timed": sums.of["timed"],
        "latency_us": str(sums.of["us"]),
        "latency_bins": sums.part("bin"),
        "first_time": sums.first,
        "last_time": sums.last,
    }


def _delivery_columns(sums: Sums) -> dict[str, Any]:
    return {name: sums.of[name] for name in (*STATES, "attempts", "failures", "timed")} | {
        "elapsed_us": str(sums.of["us"]),
        "elapsed_bins": sums.part("bin"),
    }


def _insert(
    table: str,
    names: tuple[str, ...],
    owner: tuple[str, str],
    by_hour: "ByHour",
    columns_of: Callable[[Sums], dict[str, Any]],
) -> None:
    """Insert the rows of one project, in every grain."""
    found: dict[tuple[Any, ...], Sums] = {}
    for (hour, *key), sums in by_hour.items():
        for grain, width in WIDTHS_US.items():
            start = hour // width * width if width else 0
            found.setdefault((*owner, grain, start, *key), Sums()).merge(sums)
    key_names = ("namespace", "project_id", "grain", "start", *names)
    rows = [dict(zip(key_names, key, strict=True)) | columns_of(sums) for key, sums in found.items()]
    columns = list(rows[0])
    values = ", ".join(f":{name}" for name in columns)
    op.get_bind().execute(sa.text(INSERT.format(table=table, columns=", ".join(columns), values=values)), rows)


def _microseconds(row: Any, table: str) -> int:
    if table == "delivery_statistics":
        return int(row["event_position"])
    moment = row["timestamp"]
    return moment if isinstance(moment, int) else int((moment - EPOCH) // timedelta(microseconds=1))


ByHour = dict[tuple[Any, ...], Sums]
