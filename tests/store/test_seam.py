"""Where SQL and the tail join: what reads all of SQL, while archivers go on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import Engine

from store.archive import Archive
from store.causation import Causation
from store.direct import DirectWriter
from store.engine import reading
from store.replay import EventFilter, Replay
from store.seam import Seam
from store.statistics import Statistics, _counted
from tests.store.conftest import an_event, store_events
from tests.store.doubles import FakeClock, FakeTail

HISTORY = [an_event(1), *(an_event(n, causation_id="e1") for n in range(2, 200))]
IN_TAIL = 20

Question = Callable[[Engine, FakeTail], Any]
QUESTIONS: dict[str, tuple[Question, Any]] = {
    "count": (lambda engine, tail: Replay(engine, "test", tail).count(), IN_TAIL),
    "count of some": (
        lambda engine, tail: Replay(engine, "test", tail).count(EventFilter(project_id="film"), after=5),
        IN_TAIL - 5,
    ),
    "children": (lambda engine, tail: len(Causation(engine, "test", tail).children("e1")), IN_TAIL - 1),
    "tree": (lambda engine, tail: Causation(engine, "test", tail).tree("e1").count, IN_TAIL),
    "project": (lambda engine, tail: Statistics(engine, "test", tail).project().total.count, IN_TAIL),
    "projects": (lambda engine, tail: Statistics(engine, "test", tail).projects()[0].count, IN_TAIL),
    "sums": (lambda engine, tail: Statistics(engine, "test", tail).sums()[0]["SCENE_WRITTEN"].events, IN_TAIL),
    "series": (lambda engine, tail: sum(one.count for one in Statistics(engine, "test", tail).series()), IN_TAIL),
}


@contextmanager
def archiving_at_each_look(engine: Engine, archive: Archive, tail: FakeTail) -> Iterator[list[int]]:
    """While events or sums are read, the next event is archived, and one more published; tells which."""
    archived: list[int] = []
    busy = False

    def move_on(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        nonlocal busy
        if busy or not any(f"FROM {table}" in statement.replace("\n", " ") for table in ("events", "event_statistics")):
            return
        busy = True
        archived.append(len(archived) + 1)
        tail.events, tail.archived = HISTORY[len(archived) : len(archived) + IN_TAIL], len(archived)
        store_events(archive, HISTORY[len(archived) - 1])
        busy = False

    sqlalchemy.event.listen(engine, "before_cursor_execute", move_on)
    try:
        yield archived
    finally:
        sqlalchemy.event.remove(engine, "before_cursor_execute", move_on)


@pytest.mark.parametrize("name", QUESTIONS)
def test_an_archiver_that_moves_on_during_every_answer_keeps_nobody_waiting(
    name: str, engine: Engine, archive: Archive
) -> None:
    ask, expected = QUESTIONS[name]
    tail = FakeTail(HISTORY[:IN_TAIL])

    with archiving_at_each_look(engine, archive, tail) as archived:
        found = ask(engine, tail)

    assert 0 < len(archived) <= 4, "one look for each statement"
    assert found == expected


def test_what_was_stored_by_another_way_meanwhile_is_not_left(engine: Engine, archive: Archive) -> None:
    """Two processes persist and publish one event at the same moment: the archive will set the published one aside."""
    twice, once = an_event(7), an_event(8)
    seam = Seam(engine, "test", FakeTail([twice, once]))
    unarchived = seam.unarchived(lambda one: one.event.event_id)
    DirectWriter(engine, "test", FakeClock(), Replay(engine, "test", FakeTail())).store([twice.event])

    with reading(engine) as connection:
        assert seam.left(connection, unarchived) == ["e8"]


def test_the_tail_is_read_up_to_a_position(engine: Engine, archive: Archive) -> None:
    store_events(archive, HISTORY[0])
    tail = FakeTail(HISTORY[:5], archived=1)
    seam = Seam(engine, "test", tail)

    assert [one.position for one in seam.unarchived(lambda one: one, before=4)] == [2, 3]
    reads = tail.reads
    assert (seam.unarchived(lambda one: one, before=1), tail.reads) == ([], reads), "all of that is archived"


def test_what_is_kept_of_an_event_to_be_counted_is_little_whatever_its_payload() -> None:
    kept = _counted(an_event(1, payload={"scene": "x" * 100_000}, metadata={"cost": 1.0, "notes": "y" * 100_000}))

    assert len(repr(kept)) < 500
