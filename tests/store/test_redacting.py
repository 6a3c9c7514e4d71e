"""Redaction: what is to be known no more is gone, the chain stays, and nothing puts it back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sqlalchemy import Engine, select

from events.errors import EventIdConflict, EventNotFound, InvalidFilter, ValueNotFound
from events.event import Event
from events.records import AttemptState, Outcome, RecordedEvent, Rejected
from store.archive import Archive
from store.blackboard import Blackboard
from store.engine import reading
from store.exporting import lines
from store.filter import EventFilter
from store.line_files import LineWriter
from store.redacting import MARKER
from store.sources import from_file
from store.tables import metadata
from tests.store.conftest import an_event, store_events
from tests.store.doubles import FakeClock, FakeTail

SECRET = "the fox is red"
PAYLOAD = {
    "text": SECRET,
    "n": 1e300,
    "author": {"name": SECRET, "age": 7},
    "shots": [{"say": SECRET}, SECRET],
    "a.b": SECRET,
}


@pytest.fixture
def board(engine: Engine) -> Blackboard:
    return Blackboard(engine, "test", None, FakeClock(10**6))


@pytest.fixture
def history(archive: Archive, board: Blackboard) -> list[RecordedEvent]:
    """Three events of the film and one of another project, all with the secret; one payload on the blackboard."""
    light = board.offload(an_event(2, payload=PAYLOAD, causation_id="e1").event, over_bytes=10)
    told = [
        an_event(1, payload=PAYLOAD, metadata={"cost": 0.5, "prompt": SECRET}, deliveries=("A", "B")),
        RecordedEvent(2, light.model_copy(update={"correlation_id": "e1"}), 1),
        an_event(3, causation_id="e2", correlation_id="e1", depth=2, payload={}),
        an_event(4, project_id="other", payload=PAYLOAD),
    ]
    store_events(archive, *told)
    return told


def everything(engine: Engine, but: str = "") -> str:
    """All that the database holds, as text."""
    with reading(engine) as connection:
        tables = [table for table in metadata.sorted_tables if table.name != but]
        return "\n".join(f"{table.name} {row}" for table in tables for row in connection.execute(select(table)))


def test_a_payload_goes_and_all_else_of_the_event_stays(
    history: list[RecordedEvent], board: Blackboard, engine: Engine
) -> None:
    done = board.redaction.redact(["e1"])

    found = board.replay.find("e1")
    before = history[0]
    assert done.events == 1 and found is not None
    assert found.event == before.event.model_copy(update={"payload": MARKER, "timestamp": found.event.timestamp})
    assert found.event.timestamp == before.event.timestamp and found.deliveries == ("A", "B")
    assert [r.event.event_id for r in board.causation.chain("e3")] == ["e1", "e2", "e3"]
    assert board.statistics.project("film").total.cost_total == 0.5
    assert board.replay.find("e4") == history[3]


def test_every_trace_of_a_projects_payloads_goes(
    history: list[RecordedEvent], board: Blackboard, engine: Engine, archive: Archive
) -> None:
    dead = {"letter": 101, "traceback": SECRET, "output": SECRET, "error": f"ValueError: {SECRET}"}
    ended = [
        Outcome(100, 1, "A", 0, 1, AttemptState.RETRIED, "w", error=SECRET),
        Outcome(101, 1, "A", 0, 2, AttemptState.DEAD, "w", **dead),
        Outcome(102, 1, "A", 0, 0, AttemptState.DISCARDED, "w", letter=101, error="not wanted: by me"),
    ]
    with archive.writer("outcomes") as writer:
        assert writer is not None
        writer.append_outcomes(ended)
        raw = json.dumps({"event_id": "x", "project_id": "film", "payload": SECRET})
        writer.reject([Rejected("1-0", "bad", raw), Rejected("2-0", "bad", '{"project_id": "filmed"}')])
        writer.advance(102, "102-0")

    rehearsed = board.redaction.redact(project_id="film", paths=["payload", "metadata.prompt"], dry_run=True)
    assert SECRET in everything(engine)
    done = board.redaction.redact(project_id="film", paths=["payload", "metadata.prompt"])

    left = [line for line in everything(engine).splitlines() if SECRET in line]
    assert len(left) == 1 and "'other'" in left[0], "only the other project's"
    assert (rehearsed.events, rehearsed.unchanged) == (done.events, done.unchanged) == (2, 1)
    assert done.rows == {"blackboard": 1, "outcomes": 3, "dead_letters": 1, "rejected": 1}
    assert (done.waiting, done.open_letters) == (1, 0)
    assert [o.error for o in board.dead_letters.attempts(board.dead_letters.find([101])[101])] == [
        "[redacted]", "ValueError: [redacted]", "[redacted]",
    ]  # fmt: skip
    with pytest.raises(ValueNotFound, match="it was redacted"):
        board.payload_of(board.replay.find("e2").event)  # type: ignore[union-attr]
    again = board.redaction.redact(project_id="film", paths=["payload", "metadata.prompt"])
    assert (again.events, again.unchanged, again.rows) == (0, 3, {})


def test_paths_take_out_what_is_there_and_leave_the_rest_exact(history: list[RecordedEvent], board: Blackboard) -> None:
    paths = [
        "payload.author.name",
        "payload.shots.0.say",
        "payload.shots.7",
        "payload.a\\.b",
        "payload.text.x",
        "metadata.no",
    ]

    done = board.redaction.redact(["e1", "e2", "e3"], paths=paths)

    mark = "[redacted]"
    expected = PAYLOAD | {
        "author": {"name": mark, "age": 7}, "shots": [{"say": mark}, SECRET], "a.b": mark,
    }  # fmt: skip
    first, second = (board.replay.find(name).event for name in ("e1", "e2"))  # type: ignore[union-attr]
    assert first.payload == expected and json.dumps(first.payload["n"]) == "1e+300"
    assert board.payload_of(second) == expected and second.payload == {}
    assert (done.events, done.unchanged) == (2, 1)


@pytest.mark.parametrize(
    "path", ["", "payload.", "metadata", "metadata.cost", "metadata.priority", "actor", "event_id", "payloads.x", "x\\",
             "payload.\0", "payload.\ud800"],
)  # fmt: skip
def test_a_path_that_leads_elsewhere_is_refused_and_nothing_is_changed(
    history: list[RecordedEvent], board: Blackboard, engine: Engine, path: str
) -> None:
    before = everything(engine)

    if path == "payload.":
        assert board.redaction.redact(["e1"], paths=[path]).events == 0, "no key is empty here"
    else:
        with pytest.raises(InvalidFilter):
            board.redaction.redact(["e1"], paths=["payload.text", path])
    assert everything(engine) == before


def test_a_rehearsal_writes_nothing_and_unknown_events_are_named(
    history: list[RecordedEvent], board: Blackboard, engine: Engine
) -> None:
    before = everything(engine)

    assert board.redaction.redact(["e1", "e2"], dry_run=True).events == 2
    for nobody in ("e9", "\0", "\ud800", "'; DROP TABLE events; --"):
        with pytest.raises(EventNotFound, match="nothing was redacted"):
            board.redaction.redact(["e1", nobody])
    for project_id in ("\0", "\ud800"):
        with pytest.raises(InvalidFilter):
            board.redaction.redact(project_id=project_id)
    assert board.redaction.redact(project_id="'; DROP TABLE events; --").events == 0
    assert everything(engine) == before


def test_what_only_redis_has_is_counted_and_redacted_once_it_is_archived(archive: Archive, engine: Engine) -> None:
    store_events(archive, an_event(1, payload=PAYLOAD))
    tail = FakeTail([an_event(2, payload=PAYLOAD)], archived=1)
    board = Blackboard(engine, "test", tail, FakeClock())

    done = board.redaction.redact(project_id="film")
    assert (done.events, done.unarchived) == (1, 1)
    assert board.redaction.redact(["e1", "e2"]).unarchived == 1
    store_events(archive, tail.events[0])
    tail.archived = 2

    assert board.redaction.redact(["e2"]).events == 1
    assert SECRET not in everything(engine)


def test_nothing_puts_it_back(
    history: list[RecordedEvent], board: Blackboard, engine: Engine, archive: Archive, tmp_path: Path
) -> None:
    with LineWriter(tmp_path / "before.jsonl") as writer:
        for page, _ in lines(board.replay, EventFilter(), 0, board.direct.horizon()):
            writer.write(page)
    board.redaction.redact(project_id="film", paths=["payload", "metadata.prompt"])
    board.redaction.redact(project_id="other")
    redacted = everything(engine, but="archive")
    original, large = history[0].event, an_event(2, payload=PAYLOAD, causation_id="e1").event

    stored = board.direct.store([original, original.model_copy(update={"payload": {"another": SECRET}})])
    assert [recorded.event.payload for recorded in stored] == [MARKER, MARKER], "known, and what is kept is told"
    imported = board.importer.run(from_file(tmp_path / "before.jsonl"), print)
    assert (imported.known, imported.stored, imported.refused) == (4, 0, 0)
    assert board.offload(large, over_bytes=10).blackboard_pointer == "bb:film/payloads/e2@1"
    store_events(archive, *history)  # Redis had gone back
    assert everything(engine, but="archive") == redacted

    store_events(archive, an_event(900, event_id="e1", payload=PAYLOAD))  # Redis had forgotten the id
    assert SECRET not in everything(engine)
    assert "e1" in everything(engine) and "[redacted]" in everything(engine)
    board.direct.store([Event(event_id="new", project_id="film", type="X", actor="a")])
    with pytest.raises(EventIdConflict):
        board.direct.store([Event(event_id="new", project_id="film", type="X", actor="b")])


def test_a_project_of_several_pages_is_redacted_whole(
    archive: Archive, board: Blackboard, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.redacting.BATCH", 3)
    store_events(archive, *(an_event(n, payload={"text": SECRET}) for n in range(10)))
    told: list[int] = []

    assert board.redaction.redact(project_id="film", on_batch=told.append).events == 10
    assert told == [3, 3, 3, 1] and SECRET not in everything(engine)
    assert board.redaction.redact([f"e{n}" for n in range(10)]).unchanged == 10


def test_pruning_takes_the_record_of_a_redaction_too(
    history: list[RecordedEvent], board: Blackboard, engine: Engine
) -> None:
    board.redaction.redact(["e4"])
    assert "redactions" in everything(engine)

    assert board.retention.prune(10).rows["redactions"] == 1
    assert "redactions" not in everything(engine)
