"""No question about deliveries, retention, redaction, statistics, outbox, inbox or blackboard reads a namespace whole.

Each statement that is sent is explained right before, with its values: an index narrows it by more than the
namespace, in every partition. `test_indexes.py` has those about events and causes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, event, text

from events.context import Handling
from events.event import Event
from events.records import Rejected
from events.settings import Settings
from store import inbox
from store import outbox as outbox_module
from store.archive import Archive
from store.blackboard import Blackboard
from store.deliveries import Delivery, DeliveryFilter
from store.engine import reading, writing
from store.outgoing import Outgoing
from store.tables import inbox as inbox_table
from store.tables import metadata
from tests.store.conftest import an_event, store_events
from tests.store.doubles import FakeClock
from tests.store.test_indexes import MONTHS, NOON, filled, names_of, uses

__all__ = ["filled"]  # a fixture

HERE = Settings(namespace="test")
MIDDLE = Delivery(MONTHS[1] + 400, "A", 0, "dead", 1, None)
# Read whole, because little is in it at a time: what is under way, what could not be stored, a row for each stream.
SMALL = ("outbox", "rejected", "archive")
NODE = re.compile(r"(?:Index (?:Only )?Scan (?:Backward )?using \S+ on|Bitmap Index Scan on|Seq Scan on) (\S+)")


@contextmanager
def explaining(engine: Engine) -> Iterator[list[tuple[str, str]]]:
    """Note each statement with its plan; PostgreSQL is told that a table is never read whole if that can be."""
    said: list[tuple[str, str]] = []

    def note(connection: Any, _cursor: Any, statement: str, values: Any, _context: Any, is_many: bool) -> None:
        if is_many or not statement.lstrip().startswith(("SELECT", "WITH", "DELETE", "UPDATE")):
            return
        cursor = connection.connection.cursor()
        if engine.dialect.name == "sqlite":
            cursor.execute(f"EXPLAIN QUERY PLAN {statement}", values)
        else:
            cursor.execute("SET LOCAL enable_seqscan = off")
            cursor.execute(f"EXPLAIN {statement}", values)
        said.append((statement, "\n".join(str(row[-1]) for row in cursor.fetchall())))
        cursor.close()

    event.listen(engine, "before_cursor_execute", note)
    yield said
    event.remove(engine, "before_cursor_execute", note)


def read_whole(engine: Engine, plan: str, empty: set[str]) -> list[str]:
    """The lines of a plan that read all that a namespace, or everybody, has in a table that is not small or empty."""
    lines, found = plan.splitlines(), []
    is_sqlite = engine.dialect.name == "sqlite"
    # Where the sums are few PostgreSQL merges all of them with those that it looks for.
    small = SMALL if is_sqlite else (*SMALL, "event_statistics", "delivery_statistics")
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if is_sqlite:
            table = re.match(r"(?:SCAN|SEARCH) (\w+)", line)
            is_whole = "(namespace=?)" in line or line.startswith("SCAN")
        else:
            table = NODE.search(line)
            narrowed = re.search(r"Index Cond: (.*)", following)
            is_whole = narrowed is None or narrowed[1] == "(namespace = 'test'::text)"
        if table is None or not is_whole or table[1] in empty or table[1].startswith(small):
            continue
        if table[1].startswith(tuple(metadata.tables)):
            found.append(line)
    return found


def without_rows(engine: Engine) -> set[str]:
    """Tables and indexes of PostgreSQL that have no rows."""
    if engine.dialect.name == "sqlite":
        return set()
    with reading(engine) as connection:
        return set(connection.execute(text("SELECT relname FROM pg_class WHERE reltuples = 0")).scalars())


# Of two subscribers' deliveries one in fifty is dead, one in fifty waits; the dead letters of the others are decided.
MOSTLY_DONE = [
    "UPDATE deliveries SET state = 'done' WHERE event_position - event_position / 50 * 50 > 1",
    "UPDATE deliveries SET state = 'waiting' WHERE event_position - event_position / 50 * 50 = 1",
    """INSERT INTO deliveries (namespace, event_position, subscriber, redelivery, state, attempts)
       SELECT namespace, event_position, 'B', 0, state, 1 FROM deliveries""",
]


def board_of(engine: Engine) -> Blackboard:
    return Blackboard(engine, "test", None, FakeClock(MONTHS[2] + 10**9))


def archive_more(engine: Engine) -> None:
    store_events(Archive(engine, "test"), an_event(MONTHS[2] + 2 * 10**6, deliveries=("A", "B")))


def add_and_relay(engine: Engine) -> None:
    with writing(engine) as connection:
        outbox_module.add(connection, Event(event_id="new", project_id="p", type="T", actor="a"), settings=HERE)
    with Outgoing(engine, "test").batch(datetime.now(UTC)) as batch:
        batch.published = {row: MONTHS[2] for row in list(batch.events)[:2]}
        batch.refused = {row: "no" for row in list(batch.events)[2:4]}
    Outgoing(engine, "test").waiting()


def handle_and_forget(engine: Engine) -> None:
    handling = Handling(an_event(1, event_id="handled").event, "A", 1, "1:A:0", "test")
    with writing(engine) as connection:
        assert inbox.once(connection, handling)
        inbox.forget(connection, "A", ["handled"], settings=HERE)


def keep_state(engine: Engine) -> None:
    board = board_of(engine)
    board.put("p7", "k50", {"n": 1})
    assert len(board.keys("p7", after="k2", limit=10)) == 10
    board.history("p7", "k50", before=3)
    board.get("bb:p7/k50@1")
    board.newest("p7", "k50")


def listed(**wanted: Any) -> Callable[[Engine], Any]:
    return lambda engine: board_of(engine).deliveries.page(DeliveryFilter(**wanted), MIDDLE, 50)


# PostgreSQL 18 finds deliveries of events in the second too, of few subscribers; those in a state in the third.
BY_EVENT = "deliveries_pkey|deliveries_subscriber|deliveries_state"
OF_PRUNING = [
    "events_pkey", BY_EVENT, "dead_letters_delivery|dead_letters_resolution", "outcomes_delivery", "event_index_pkey",
    "redactions_pkey", "inbox_event", "rejected_pkey", "deliveries_state",
]  # fmt: skip
# What is asked, and indexes that serve it; those that are not named here may vary.
QUESTIONS: dict[str, tuple[Callable[[Engine], Any], list[str]]] = {
    "all deliveries": (listed(), [BY_EVENT]),
    "a subscriber's": (listed(subscriber="A"), ["deliveries_subscriber"]),
    "those in a state": (listed(state="dead"), ["deliveries_state"]),
    "those that are done": (listed(state="done"), [BY_EVENT]),
    "a subscriber's in a state": (listed(subscriber="A", state="dead"), ["deliveries_state"]),
    "a subscriber's that are done": (listed(subscriber="A", state="done"), ["deliveries_subscriber"]),
    "a project's": (listed(project_id="p7"), ["events_project", BY_EVENT]),
    "a project's in a state": (listed(project_id="p7", state="dead"), ["events_project", "deliveries_state"]),
    "an event's": (listed(event_position=MONTHS[1] + 500), [BY_EVENT]),
    "what waits": (lambda e: board_of(e).deliveries.waiting("A", (MONTHS[1], 0), 50), ["deliveries_state"]),
    "how much waits": (lambda e: board_of(e).deliveries.waiting_counts(), ["deliveries_state"]),
    "states": (lambda e: board_of(e).deliveries.states("A", {(MONTHS[1] + 7, 0)}), []),
    "attempts": (lambda e: board_of(e).deliveries.attempts(MONTHS[1] + 7), ["outcomes_delivery"]),
    "unknown": (lambda e: board_of(e).deliveries.unknown({1, MONTHS[1]}), ["events_pkey", "rejected_pkey"]),
    "a project's numbers": (lambda e: board_of(e).statistics.project("p7"), ["event_statistics_pkey"]),
    "everybody's": (lambda e: board_of(e).statistics.project(), ["event_statistics_pkey"]),
    "a series": (
        lambda e: board_of(e).statistics.series("p7", "hour", NOON, NOON + timedelta(days=1)),
        ["event_statistics_pkey"],
    ),
    "the projects'": (
        lambda e: board_of(e).statistics.projects(5),
        ["event_statistics_pkey", "delivery_statistics_pkey"],
    ),
    "a subscriber's numbers": (lambda e: board_of(e).statistics.deliveries("p7"), ["delivery_statistics_pkey"]),
    "a series of them": (
        lambda e: board_of(e).statistics.delivery_series("p7", "hour", NOON),
        ["delivery_statistics_pkey"],
    ),
    "archiving": (archive_more, ["event_statistics_pkey", "delivery_statistics_pkey", BY_EVENT]),
    "the outbox": (add_and_relay, ["outbox_state", "event_index_pkey"]),
    "the inbox": (handle_and_forget, ["inbox_pkey|inbox_event"]),
    "the blackboard": (keep_state, ["blackboard_pkey"]),
    "redaction": (
        lambda e: board_of(e).redaction.redact(project_id="p7"),
        ["events_project", "events_pkey", BY_EVENT, "dead_letters_delivery", "outcomes_delivery", "redactions_pkey"],
    ),
    "what would be pruned": (lambda e: board_of(e).retention.rehearse(MONTHS[1] + 9), OF_PRUNING[:3]),
    "pruning a project": (lambda e: board_of(e).retention.prune(MONTHS[1] + 9, "p3"), ["events_project"]),
    "pruning": (lambda e: board_of(e).retention.prune(MONTHS[0] + 10), OF_PRUNING),
    "dropping months": (lambda e: list(board_of(e).retention._months.drop(MONTHS[2])), []),
}  # fmt: skip


@pytest.fixture
def everything(filled: Engine) -> Engine:
    """The deliveries of three months, and something in every other table."""
    archive, board = Archive(filled, "test"), board_of(filled)
    store_events(archive, an_event(MONTHS[2] + 1_500_000, project_id="p7", payload={"secret": "x"}))
    with archive.writer("history") as writer:
        assert writer is not None
        writer.reject([Rejected(f"{n}-0", "bad", "raw") for n in range(100, 200)])
    for n in range(60):
        board.put("p7", f"k{n}", n)
    with writing(filled) as connection:
        for n in range(20):
            one = Event(event_id=f"o{n}", project_id="p", type="T", actor="a")
            outbox_module.add(connection, one, settings=HERE)
        handled = {"namespace": "test", "subscriber": "A", "step": "", "delivery": "", "handled_at": NOON}
        connection.execute(inbox_table.insert(), [{**handled, "event_id": f"o{n}"} for n in range(2000)])
        for change in MOSTLY_DONE:
            connection.exec_driver_sql(change)
        if filled.dialect.name == "postgresql":
            connection.exec_driver_sql("ANALYZE")
    return filled


def names_in(engine: Engine, index: str) -> set[str]:
    """The names of an index, or of others that serve as well (`a|b`), in every partition."""
    is_sqlite = engine.dialect.name == "sqlite"
    own = [f"sqlite_autoindex_{i[:-5]}_1" if is_sqlite and i.endswith("_pkey") else i for i in index.split("|")]
    return {name for one in own for name in names_of(engine, one)}


def test_no_question_reads_a_namespace_whole(everything: Engine) -> None:
    wrong: list[str] = []
    empty = without_rows(everything)
    for question, (ask, indexes) in QUESTIONS.items():
        wanted = {index: names_in(everything, index) for index in indexes}
        with explaining(everything) as said:
            ask(everything)
        plans = "\n".join(plan for _, plan in said)
        for index, names in wanted.items():
            if not any(uses(plans, name) for name in names):
                wrong.append(f"{question}: {index} is not used in\n{plans}")
        for statement, plan in said:
            wrong += [f"{question}: {line}\n{statement}" for line in read_whole(everything, plan, empty)]
    assert wrong == [], "\n\n".join(wrong)
