"""Each index of the legend in `store/tables.py` serves the query that it is there for, in every partition.

The statements are those that the code sends: they are overheard, and explained with the same values. `test_plans.py`
has those about everything else.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, event, text

from events.records import AttemptState, DeadLetter, LetterFilter, Outcome
from store.archive import Archive
from store.causation import Causation
from store.dead_letters import StoredLetters
from store.engine import reading, writing
from store.filter import EventFilter
from store.replay import Replay
from tests.store.conftest import an_event, store_events

MONTHS = [int(datetime(2031, month, 1, tzinfo=UTC).timestamp()) * 1_000_000 for month in (1, 2, 3)]
NOON = datetime(2031, 1, 1, 12, tzinfo=UTC)
EVENTS = 800  # in each month
ROOT, CHILD = f"e{MONTHS[1] + 30}", f"e{MONTHS[1] + 31}"  # a tree of some thirty events


def history(month: int) -> list[Any]:
    """The events of a month: any one project, type, actor, root or cause has few of them."""
    chance = random.Random(month)
    found = []
    for n in range(EVENTS):
        position = month + n
        cause = f"e{chance.randrange(month, position)}" if n else None
        recorded = an_event(
            position, type=f"T{chance.randrange(100)}", project_id=f"p{chance.randrange(100)}", causation_id=cause,
            actor=f"a{chance.randrange(100)}", correlation_id=f"e{month + chance.randrange(100)}",
            timestamp=NOON + timedelta(minutes=position % 10**6), deliveries=("A",),
        )  # fmt: skip
        found.append(recorded)
    return found


def ended(events: list[Any]) -> list[Outcome]:
    """A dead letter of each event, and a decision about all of them but a few."""
    letters = [
        Outcome(r.position + 500_000, r.position, "A", 0, 1, AttemptState.DEAD, "w", letter=r.position + 600_000)
        for r in events
    ]
    return letters + [
        Outcome(one.position + 200_000, one.event_position, "A", 0, 0, AttemptState.DISCARDED, "w", letter=one.letter)
        for n, one in enumerate(letters)
        if n % 50
    ]


@pytest.fixture
def filled(engine: Engine) -> Engine:
    archive = Archive(engine, "test")
    months = [history(month) for month in MONTHS]
    for events in months:
        store_events(archive, *events)
    with archive.writer("outcomes") as writer:
        assert writer is not None
        for events in months:
            writer.append_outcomes(ended(events))
        writer.advance(MONTHS[2] + 10**6, f"{MONTHS[2] + 10**6}-0")
    if engine.dialect.name == "postgresql":
        with writing(engine) as connection:
            connection.execute(text("ANALYZE"))
    return engine


@contextmanager
def overhearing(engine: Engine) -> Iterator[list[tuple[str, Any]]]:
    said: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, values: Any, *_: Any) -> None:
        if not statement.startswith("SET"):
            said.append((statement, values))

    event.listen(engine, "before_cursor_execute", note)
    yield said
    event.remove(engine, "before_cursor_execute", note)


def plan(engine: Engine, statement: str, values: Any) -> str:
    """How the database would run a statement; PostgreSQL is told that a table is never read whole if that can be."""
    with reading(engine) as connection:
        if engine.dialect.name == "sqlite":
            lines = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
            return "\n".join(str(line[-1]) for line in lines)
        connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        return "\n".join(connection.exec_driver_sql(f"EXPLAIN {statement}", values).scalars())


def names_of(engine: Engine, index: str) -> set[str]:
    """An index's own name, and those of its parts in the partitions that have rows."""
    if engine.dialect.name == "sqlite":
        return {index}
    parts = text("""
        SELECT i.inhrelid::regclass::text FROM pg_inherits i
        JOIN pg_index x ON x.indexrelid = i.inhrelid JOIN pg_class t ON t.oid = x.indrelid
        WHERE i.inhparent = to_regclass(:index) AND t.reltuples > 0""")
    with reading(engine) as connection:
        return set(connection.execute(parts, {"index": index}).scalars()) or {index}


def uses(found: str, name: str) -> bool:
    return re.search(rf"(?:on|using|USING INDEX|USING COVERING INDEX) {re.escape(name)}\b", found) is not None


def used_by(engine: Engine, index: str, asked: list[tuple[str, Any]], *, everywhere: bool) -> str:
    """Say which index was not used where it should be; empty when all is well."""
    plans = [plan(engine, *one) for one in asked if one[0].lstrip().startswith(("SELECT", "WITH"))]
    names = names_of(engine, index)
    for found in plans:
        used = [name for name in names if uses(found, name)]
        if used and (len(used) == len(names) or not everywhere):
            return ""
    return f"{sorted(names)} not in\n" + "\n\n".join(plans)


REPLAYS = {
    "events_project": EventFilter(project_id="p7"),
    "events_type": EventFilter(types=("T7",)),
    "events_actor": EventFilter(actor="a7"),
    "events_correlation": EventFilter(correlation_id=f"e{MONTHS[0] + 7}"),
    "events_timestamp": EventFilter(start_time=NOON + timedelta(minutes=50), end_time=NOON + timedelta(minutes=90)),
}


def test_a_replay_of_any_one_thing_reads_the_index_of_it_in_every_partition(filled: Engine) -> None:
    for index, wanted in REPLAYS.items():
        with overhearing(filled) as asked:
            Replay(filled, "test", None).page(wanted)
        assert used_by(filled, index, asked, everywhere=True) == "", index


def test_a_replay_of_everything_from_a_position_reads_in_order_and_not_the_months_before(filled: Engine) -> None:
    with overhearing(filled) as asked:
        Replay(filled, "test", None).page(after=MONTHS[1] + 5)

    found = plan(filled, *asked[-1])
    if filled.dialect.name == "sqlite":
        assert found == "SEARCH events USING INDEX sqlite_autoindex_events_1 (namespace=? AND position>?)"
    else:
        assert "events_2031_02_pkey" in found and "events_2031_01" not in found, found
        assert "Sort" not in found


CAUSES: dict[str, tuple[Callable[[Causation], Any], list[str]]] = {
    "a chain": (lambda causation: causation.chain(CHILD), ["event_index_pkey"]),
    "children": (lambda causation: causation.children(ROOT), ["events_causation"]),
    "a tree": (
        lambda causation: causation.tree(ROOT),
        ["event_index_pkey", "events_causation", "events_correlation", "deliveries_pkey"],
    ),
}


def test_causes_are_followed_by_index(filled: Engine) -> None:
    read_whole = re.compile(r"^(?:SCAN (?:events|e|i|x)\b.*|.*Seq Scan on (?:events|event_index|deliveries).*)$", re.M)
    for question, (ask, indexes) in CAUSES.items():
        with overhearing(filled) as asked:
            ask(Causation(filled, "test", None))
        for index in indexes:
            name = f"sqlite_autoindex_{index[:-5]}_1" if filled.dialect.name == "sqlite" and "_pkey" in index else index
            assert used_by(filled, name, asked, everywhere="pkey" not in index) == "", (question, index)
        assert [found[0] for one in asked if (found := read_whole.search(plan(filled, *one)))] == [], question


def test_the_attempts_and_letters_of_one_delivery_are_found_by_index(filled: Engine) -> None:
    letters = StoredLetters(filled, "test")
    event_position = MONTHS[1] + 7
    letter = DeadLetter(event_position + 600_000, "A", event_position, 0, 1, "w", "", None)

    with overhearing(filled) as asked:
        assert len(letters.attempts(letter)) == 2
    assert used_by(filled, "outcomes_delivery", asked, everywhere=True) == ""
    with overhearing(filled) as asked:
        assert len(list(letters.iterate(LetterFilter(names=frozenset({f"e{event_position}"}))))) == 1
    assert used_by(filled, "dead_letters_delivery", asked, everywhere=True) == ""
    with overhearing(filled) as asked:
        assert letters.open_counts() == {"A": 3 * EVENTS // 50}
    assert used_by(filled, "dead_letters_resolution", asked, everywhere=True) == ""
