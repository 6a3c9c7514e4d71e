"""A chain, a tree and a project's statistics in a large history, against the raw driver.

It is asked the very statements that ours sends, and gives rows; and a statement by hand, which tells less: a chain and
a tree without payloads, deliveries and what is missing, and sums without what became of deliveries. The sums that are
kept are rows of text, from which ours makes percentiles; whoever keeps none adds the project's events up, which the
last statement does: by type, by actor and in all, without percentiles where the database has none.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg2
from sqlalchemy import Engine, event

from benchmarks.limits.limit import Limit, Sides
from benchmarks.limits.rows import database
from store.causation import Causation
from store.statistics import Statistics
from tests.store.dataset import CHAIN, NAMESPACE, TREE, fill, history

_UP = """
    WITH RECURSIVE up (event_id, causation_id, n) AS (
        SELECT event_id, causation_id, 0 FROM events WHERE namespace = '{ns}' AND position =
            (SELECT position FROM event_index WHERE namespace = '{ns}' AND event_id = '{id}')
      UNION ALL
        SELECT e.event_id, e.causation_id, up.n + 1 FROM up
        JOIN event_index i ON i.namespace = '{ns}' AND i.event_id = up.causation_id
        JOIN events e ON e.namespace = '{ns}' AND e.position = i.position
    ) SELECT * FROM up"""
_DOWN = """
    WITH RECURSIVE down (event_id, cost_micros, latency_us) AS (
        SELECT event_id, cost_micros, latency_us FROM events WHERE namespace = '{ns}' AND position =
            (SELECT position FROM event_index WHERE namespace = '{ns}' AND event_id = '{id}')
      UNION ALL
        SELECT e.event_id, e.cost_micros, e.latency_us FROM down
        JOIN events e ON e.namespace = '{ns}' AND e.causation_id = down.event_id
    ) SELECT * FROM down"""
_SUMS = "SELECT * FROM event_statistics WHERE namespace = '{ns}' AND grain = 'total' AND project_id = '{id}'"

_EACH = ("type", "actor", "'*'")
_ADDED = "count(*), sum(cost_micros), count(cost_micros), avg(latency_us), min(timestamp), max(timestamp)"
_PERCENTILES = {
    "sqlite": "",
    "postgresql": ", percentile_disc(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY latency_us)",
}


def _adding_up(kind: str) -> str:
    from_events = "FROM events WHERE namespace = '{ns}' AND project_id = '{id}' GROUP BY 1, currency"
    return " UNION ALL ".join(f"SELECT {each}, currency, {_ADDED}{_PERCENTILES[kind]} {from_events}" for each in _EACH)


def _asking(kind: str, which: str) -> Callable[[int], Any]:
    @contextmanager
    def sides(size: int) -> Iterator[Sides]:
        size = max(size, 10 * TREE)
        with database(kind) as engine:
            fill(engine, history(size))
            last, first = f"EV-{(CHAIN - 1) * (size // CHAIN) + 1:09d}", f"EV-{2:09d}"
            causation = Causation(engine, NAMESPACE, None)
            asked: dict[str, tuple[Callable[[], object], str, str]] = {
                "chain": (lambda: causation.chain(last), _UP, last),
                "tree": (lambda: causation.tree(first), _DOWN, first),
                "statistics": (lambda: Statistics(engine, NAMESPACE, None).project("WIDE"), _SUMS, "WIDE"),
            }
            ask, sql, name = asked[which]
            by_hand = {"one by hand, raw": sql}
            if which == "statistics":
                by_hand["its events added up, raw"] = _adding_up(kind)
            yield {
                "ours": lambda: _ms(ask),
                "the same statements, raw": _raw(engine, _overheard(engine, ask)),
                **{said: _raw(engine, [(one.format(ns=NAMESPACE, id=name), ())]) for said, one in by_hand.items()},
            }

    return sides


def _overheard(engine: Engine, ask: Callable[[], object]) -> list[tuple[str, Any]]:
    """Return the queries that a question sends, with their values."""
    said: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, values: Any, *_: Any) -> None:
        if statement.lstrip().startswith(("SELECT", "WITH")):
            said.append((statement, values))

    event.listen(engine, "before_cursor_execute", note)
    ask()
    event.remove(engine, "before_cursor_execute", note)
    return said


def _raw(engine: Engine, queries: list[tuple[str, Any]]) -> Callable[[], float]:
    url = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    is_sqlite = engine.dialect.name == "sqlite"
    connection: Any = sqlite3.connect(str(engine.url.database)) if is_sqlite else psycopg2.connect(url)

    def ask() -> None:
        cursor = connection.cursor()
        for statement, values in queries:
            cursor.execute(statement, values)
            cursor.fetchall()
        connection.rollback()

    return lambda: _ms(ask)


def _ms(ask: Callable[[], object]) -> float:
    began = time.monotonic()
    ask()
    return (time.monotonic() - began) * 1e3


LIMITS = tuple(
    Limit(f"{which}-{kind}", f"{title}, {kind}", "ms", _asking(kind, which))
    for kind in ("postgresql", "sqlite")
    for which, title in (
        ("chain", f"A chain of {CHAIN}"),
        ("tree", f"A tree of {TREE:,} with totals"),
        ("statistics", "A project's statistics"),
    )
)
