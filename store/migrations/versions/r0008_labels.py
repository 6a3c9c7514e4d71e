"""A delivery knows its event's type and actor, and the statistics of deliveries tell these apart.

What is stored is added up by them. What was counted and is not stored any more (pruned) keeps its place in the
sums, without type and actor. Both tables of statistics get the grain before the project in their keys, so
that the totals of all projects lie together.

This file is a record of what was done to databases: it is never edited to follow the legend.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, islice
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

JSON_TEXT = sa.Text().with_variant(JSONB(), "postgresql")
MOMENT = sa.BigInteger().with_variant(sa.TIMESTAMP(timezone=True), "postgresql")
WHOLE = sa.Text().with_variant(sa.Numeric(), "postgresql")

FILL_LABELS = """
    UPDATE deliveries SET (project_id, type, actor) = (
        SELECT e.project_id, e.type, e.actor FROM events e
        WHERE e.namespace = deliveries.namespace AND e.position = deliveries.event_position
    )
    WHERE EXISTS (
        SELECT 1 FROM events e WHERE e.namespace = deliveries.namespace AND e.position = deliveries.event_position
    )"""
STORED = """
    SELECT namespace, coalesce(project_id, '') AS project_id, event_position, subscriber, coalesce(type, '') AS type,
           coalesce(actor, '') AS actor, state, attempts, NULL AS elapsed_us
    FROM deliveries
  UNION ALL
    SELECT o.namespace, coalesce(e.project_id, ''), o.event_position, o.subscriber, coalesce(e.type, ''),
           coalesce(e.actor, ''), o.state, NULL, o.elapsed_us
    FROM outcomes o LEFT JOIN events e ON e.namespace = o.namespace AND e.position = o.event_position
    WHERE o.event_position > 0 AND o.event_position < 9007199254740992 -- else it was no delivery
    ORDER BY 1, 2"""
OLD = "SELECT * FROM delivery_statistics_old WHERE namespace = :namespace AND project_id = :project_id"
ALL_OLD = "SELECT * FROM delivery_statistics_old ORDER BY namespace, project_id"
OWNERS = "SELECT DISTINCT namespace, project_id FROM delivery_statistics_old"
INSERT = "INSERT INTO delivery_statistics ({columns}) VALUES ({values})"
COUNTS = ("waiting", "done", "dead", "discarded", "dropped", "attempts", "failures", "timed")
LABELS = ("type", "actor")
WIDTHS_US = {"total": 0, "day": 86_400_000_000, "hour": 3_600_000_000}
ALL_PROJECTS = ""
PAGE = 1000

Key = tuple[Any, ...]
Sums = dict[Key, Counter[Any]]
"""By grain, start, subscriber, and with labels type and actor: counts by column, `us`, and by ("bin", number)."""


def upgrade() -> None:
    """Hold everybody, and make both tables anew."""
    _hold_everybody()
    for name in LABELS:
        op.add_column("deliveries", sa.Column(name, sa.Text))
    connection = op.get_bind()
    connection.exec_driver_sql(FILL_LABELS)
    _replace_event_statistics("grain", "project_id")
    _set_aside("delivery_statistics")
    _make_delivery_statistics(("grain", "project_id"), ("subscriber", *LABELS))
    left = {(row.namespace, row.project_id) for row in connection.execute(sa.text(OWNERS))}
    for owner, by_hour in _stored(connection):
        left.discard(owner)
        _insert(owner, _with_pruned(_spread(by_hour), _old(connection, owner)), ("subscriber", *LABELS))
    for owner in sorted(left):
        _insert(owner, _with_pruned({}, _old(connection, owner)), ("subscriber", *LABELS))
    op.drop_table("delivery_statistics_old")


def downgrade() -> None:
    """Add up over types and actors; forget them."""
    _hold_everybody()
    connection = op.get_bind()
    _replace_event_statistics("project_id", "grain")
    _set_aside("delivery_statistics")
    _make_delivery_statistics(("project_id", "grain"), ("subscriber",))
    rows = connection.execute(_typed(ALL_OLD).execution_options(yield_per=PAGE)).mappings()
    for owner, group in groupby(rows, lambda row: (row["namespace"], row["project_id"])):
        _insert(owner, _summed(group), ("subscriber",))
    op.drop_table("delivery_statistics_old")
    for name in LABELS:
        op.drop_column("deliveries", name)


def _hold_everybody() -> None:
    """Wait until whoever locked a row of `archive` is done, and let nobody lock one; SQLite has one writer anyway.

    Before any other table is touched: a writer that waits for it would hold what is waited for here. Then all tables at
    once that will be changed: a reader who is between two of them would else make hours of work a deadlock's.
    """
    if op.get_bind().dialect.name == "postgresql":
        op.get_bind().exec_driver_sql("LOCK TABLE archive IN EXCLUSIVE MODE")
        op.get_bind().exec_driver_sql("LOCK TABLE event_statistics, delivery_statistics, deliveries")


def _set_aside(table: str) -> None:
    """Rename a table and its key, so that another can have their names."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute(f"ALTER TABLE {table} RENAME CONSTRAINT {table}_pkey TO {table}_old_pkey")
    op.rename_table(table, f"{table}_old")


def _key(*names: str) -> list[sa.Column[Any]]:
    kinds = {"start": sa.BigInteger}
    return [sa.Column(name, kinds.get(name, sa.Text), primary_key=True, autoincrement=False) for name in names]


def _replace_event_statistics(*order: str) -> None:
    columns = [
        *_key("namespace", *order, "start", "type", "actor"),
        sa.Column("events", sa.BigInteger, nullable=False),
        sa.Column("priced", sa.BigInteger, nullable=False),
        sa.Column("cost_micros", JSON_TEXT, nullable=False),
        sa.Column("timed", sa.BigInteger, nullable=False),
        sa.Column("latency_us", WHOLE, nullable=False),
        sa.Column("latency_bins", JSON_TEXT, nullable=False),
        sa.Column("first_time", MOMENT, nullable=False),
        sa.Column("last_time", MOMENT, nullable=False),
    ]
    names = ", ".join(column.name for column in columns)
    _set_aside("event_statistics")
    op.create_table("event_statistics", *columns)
    op.execute(f"INSERT INTO event_statistics ({names}) SELECT {names} FROM event_statistics_old")
    op.drop_table("event_statistics_old")


def _make_delivery_statistics(order: tuple[str, ...], names: tuple[str, ...]) -> None:
    op.create_table(
        "delivery_statistics",
        *_key("namespace", *order, "start", *names),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in COUNTS),
        sa.Column("elapsed_us", WHOLE, nullable=False),
        sa.Column("elapsed_bins", JSON_TEXT, nullable=False),
    )


def _stored(connection: sa.Connection) -> Iterator[tuple[tuple[str, str], Sums]]:
    """Add up by hour what is stored: of one project after the other, and then of all of their namespace."""
    rows = connection.execute(sa.text(STORED).execution_options(yield_per=PAGE)).mappings()
    for namespace, of_namespace in groupby(rows, lambda row: row["namespace"]):
        together: Sums = {}
        for project_id, group in groupby(of_namespace, lambda row: row["project_id"]):
            by_hour: Sums = {}
            for row in group:
                hour = row["event_position"] // WIDTHS_US["hour"] * WIDTHS_US["hour"]
                key = (hour, row["subscriber"], row["type"], row["actor"])
                _add(by_hour.setdefault(key, Counter()), row)
            _merge(together, by_hour)
            if project_id != ALL_PROJECTS:
                yield (namespace, project_id), by_hour
        yield (namespace, ALL_PROJECTS), together


def _add(counts: Counter[Any], row: Any) -> None:
    if row["attempts"] is not None:
        counts[row["state"]] += 1
        counts["attempts"] += row["attempts"]
        return
    counts["failures"] += row["state"] in ("retried", "dead", "lost")
    if row["elapsed_us"]:
        shift = max(0, row["elapsed_us"].bit_length() - 7)
        counts["timed"] += 1
        counts["us"] += row["elapsed_us"]
        counts["bin", 64 * shift + (row["elapsed_us"] >> shift)] += 1


def _merge(sums: Sums, more: Sums) -> None:
    for key, counts in more.items():
        sums.setdefault(key, Counter()).update(counts)


def _spread(by_hour: Sums) -> Sums:
    """Return sums of hours in every grain."""
    found: Sums = {}
    for (hour, *key), counts in by_hour.items():
        for grain, width in WIDTHS_US.items():
            start = hour // width * width if width else 0
            found.setdefault((grain, start, *key), Counter()).update(counts)
    return found


def _old(connection: sa.Connection, owner: tuple[str, str]) -> Sums:
    asked = {"namespace": owner[0], "project_id": owner[1]}
    return _summed(connection.execute(_typed(OLD), asked).mappings())


def _typed(query: str) -> Any:
    return sa.text(query).columns(elapsed_us=WHOLE, elapsed_bins=JSON_TEXT)


def _summed(rows: Iterable[Any]) -> Sums:
    """Return the rows of a project as they were before, without labels."""
    found: Sums = {}
    for row in rows:
        counts = found.setdefault((row["grain"], row["start"], row["subscriber"]), Counter())
        counts.update({name: row[name] for name in COUNTS})
        counts["us"] += int(row["elapsed_us"])
        bins = row["elapsed_bins"]
        bins = json.loads(bins) if isinstance(bins, str) else bins
        counts.update({("bin", int(number)): count for number, count in bins.items()})
    return found


def _with_pruned(sums: Sums, old: Sums) -> Sums:
    """Return the sums, and under no labels what the old ones had beyond them."""
    told: Sums = {}
    for key, counts in sums.items():
        told.setdefault(key[:3], Counter()).update(counts)
    left = {key: counts - told.get(key, Counter()) for key, counts in old.items()}
    _merge(sums, {(*key, "", ""): counts for key, counts in left.items() if counts})
    return sums


def _insert(owner: tuple[str, str], sums: Sums, names: Sequence[str]) -> None:
    columns = ["namespace", "project_id", "grain", "start", *names, *COUNTS, "elapsed_us", "elapsed_bins"]
    statement = sa.text(INSERT.format(columns=", ".join(columns), values=", ".join(f":{name}" for name in columns)))
    items = iter(sums.items())
    while page := list(islice(items, PAGE)):
        op.get_bind().execute(statement, [dict(zip(columns, _row(owner, *one), strict=True)) for one in page])


def _row(owner: tuple[str, str], key: Key, counts: Counter[Any]) -> list[Any]:
    bins = {name[1]: count for name, count in counts.items() if name[0] == "bin"}
    return [*owner, *key, *(counts[name] for name in COUNTS), str(counts["us"]), json.dumps(bins)]
