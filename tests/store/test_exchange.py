"""Out as lines and in again: the same events, once, with their causes; and in from an older table."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from events.encoding import digest
from events.errors import InvalidImport, StoreUnavailable
from events.records import RecordedEvent
from store import importing
from store.archive import Archive
from store.blackboard import Blackboard
from store.engine import open_engine, writing
from store.exporting import COLUMNS, lines
from store.filter import EventFilter
from store.importing import Imported, Refused, SourceRow
from store.line_files import LineWriter
from store.sources import count_lines, count_rows, from_file, from_table
from store.tables import events
from tests.store.conftest import an_event, store_events
from tests.store.doubles import FakeClock, FakeTail

HOSTILE = "'; DROP TABLE events; -- \\ \" \t\n\u2028 🦊 é %s :x {ns}"


@pytest.fixture
def board(engine: Engine) -> Blackboard:
    return Blackboard(engine, "test", None, FakeClock(10**6))


def run(board: Blackboard, source: Iterable[SourceRow]) -> tuple[Imported, list[Refused]]:
    refused: list[Refused] = []
    return board.importer.run(source, refused.append), refused


def exported(board: Blackboard, after: int = 0, wanted: EventFilter | None = None) -> list[str]:
    pages = lines(board.replay, wanted or EventFilter(), after, board.direct.horizon(), page=3)
    return [line for page, left_out in pages for line in page if not left_out]


def write(path: Path, texts: Iterable[str]) -> Path:
    with LineWriter(path) as writer:
        for line in texts:
            writer.write([line])
    return path


def told(recorded: RecordedEvent) -> tuple[Any, ...]:
    event = recorded.event
    return (event.event_id, digest(event), event.correlation_id, event.metadata, event.timestamp, recorded.depth)


@pytest.fixture
def told_events(archive: Archive) -> list[RecordedEvent]:
    history = [
        an_event(
            1, payload={"text": HOSTILE, "n": [1e300, -0.0, 10**40, None]}, metadata={"cost": 0.05, "latency_ms": 2}
        ),
        an_event(2, causation_id="e1", correlation_id="e1", depth=1, project_id="P " + "x" * 190, deliveries=("A",)),
        an_event(3, type="MY.own:type-1", blackboard_pointer="bb:P/k@1", timestamp="1969-12-31T23:59:59.999999Z"),
        an_event(4, causation_id="e2", correlation_id="e1", depth=2, payload={"long": "x" * 300_000}),
        an_event(5, causation_id="elsewhere", correlation_id="root", depth=7),
    ]  # fmt: skip
    store_events(archive, *history)
    return history


@pytest.mark.parametrize("name", ["events.jsonl", "events.jsonl.gz"])
def test_what_is_exported_and_imported_is_the_same(
    told_events: list[RecordedEvent], board: Blackboard, empty_import: Blackboard, tmp_path: Path, name: str
) -> None:
    path = write(tmp_path / name, exported(board))

    done, refused = run(empty_import, from_file(path))

    assert (done, refused) == (Imported(stored=5), [])
    found = list(empty_import.replay.iterate())
    assert [told(recorded) for recorded in found] == [told(recorded) for recorded in told_events]
    assert {recorded.origin for recorded in found} == {"import"}
    assert [recorded.position for recorded in found] == sorted(recorded.position for recorded in found)
    assert all(recorded.position > 10**6 and recorded.deliveries == () for recorded in found)


@pytest.fixture
def empty_import(engine: Engine) -> Blackboard:
    """Another namespace of the same database."""
    return Blackboard(engine, "copy", None, FakeClock(10**6))


def test_every_line_has_every_column_in_its_order_and_its_type(
    told_events: list[RecordedEvent], board: Blackboard
) -> None:
    kinds = {"int64": int, "int32": int, "string": str}
    for line in exported(board):
        row = json.loads(line)
        assert list(row) == list(COLUMNS)
        for name, value in row.items():
            kind = COLUMNS[name]
            assert (kind.endswith("?") and value is None) or type(value) is kinds[kind.rstrip("?")], name
    first, third = json.loads(exported(board)[0]), json.loads(exported(board)[2])
    assert (first["cost_micros"], first["latency_us"], first["currency"]) == (50_000, 2000, None)
    assert third["timestamp"] == "1969-12-31T23:59:59.999999Z"


def test_an_export_goes_on_where_it_stopped_without_a_gap(told_events: list[RecordedEvent], board: Blackboard) -> None:
    whole = exported(board)
    for n, line in enumerate(whole):
        assert exported(board, json.loads(line)["position"]) == whole[n + 1 :]
    board.direct.store([an_event(9).event])

    (later,) = exported(board, 5)
    assert json.loads(later)["event_id"] == "e9" and json.loads(later)["origin"] == "direct"


def test_an_export_takes_filters_and_what_is_not_archived_yet(archive: Archive, engine: Engine) -> None:
    store_events(archive, an_event(1), an_event(2, project_id="other"))
    tail = FakeTail([an_event(3), an_event(4, project_id="other"), an_event(10**9)], archived=2)
    board = Blackboard(engine, "test", tail, FakeClock(1000))

    found = [json.loads(line)["event_id"] for line in exported(board, 0, EventFilter(project_id="film"))]
    assert found == ["e1", "e3"], "what comes after the horizon is for the next export"


def test_importing_again_changes_nothing_and_goes_on_where_it_was_stopped(
    told_events: list[RecordedEvent], board: Blackboard, empty_import: Blackboard, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    path = write(tmp_path / "events.jsonl", exported(board))
    monkeypatch.setattr(importing, "BATCH", 2)
    steps = iter([None, None])

    def stop_after_two(rows: int) -> None:
        if next(steps, "stop"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        empty_import.importer.run(from_file(path), print, on_done=stop_after_two)
    assert len(list(empty_import.replay.iterate())) == 5
    with writing(empty_import.engine) as connection:
        connection.execute(events.delete().where(events.c.namespace == "copy", events.c.event_id == "e4"))
        connection.execute(text("DELETE FROM event_index WHERE namespace = 'copy' AND event_id = 'e4'"))

    assert run(empty_import, from_file(path)) == (Imported(stored=1, known=4), [])
    assert run(empty_import, from_file(path)) == (Imported(known=5), [])
    assert run(board, from_file(path)) == (Imported(known=5), []), "into where they came from"
    assert {r.event.event_id: r.depth for r in empty_import.replay.iterate()}["e4"] == 2


def test_what_is_published_and_not_archived_is_known(
    told_events: list[RecordedEvent], board: Blackboard, engine: Engine, tmp_path: Path
) -> None:
    path = write(tmp_path / "events.jsonl", exported(board))
    other = Blackboard(engine, "copy", FakeTail([told_events[1]]), FakeClock())

    assert run(other, from_file(path)) == (Imported(stored=4, known=1), [])


def test_what_is_stored_by_others_meanwhile_is_known(
    told_events: list[RecordedEvent], board: Blackboard, empty_import: Blackboard, engine: Engine, tmp_path: Path
) -> None:
    path = write(tmp_path / "events.jsonl", exported(board))
    tail = FakeTail(before_read=lambda: empty_import.direct.store([told_events[0].event]) and None)
    other = Blackboard(engine, "copy", tail, empty_import.clock)

    assert run(other, from_file(path)) == (Imported(stored=4, known=1), [])


BAD = [
    ("not JSON", "It is not JSON"),
    ("[1]", "It is a JSON list, not an object"),
    ('{"event_id": "x"}', "It has no timestamp"),
    ('{"project_id": "P", "timestamp": "2026-01-01"}', "It has no event_id"),
    ('{"event_id": "x", "project_id": "P", "type": "T", "actor": "a", "timestamp": "yesterday"}', "timestamp"),
    ('{"event_id": "x", "project_id": "P", "type": "no type", "actor": "a", "timestamp": "2026-01-01"}', "type "),
    ('{"event_id": "x", "type": "T", "actor": "a", "timestamp": "2026-01-01"}', "project_id"),
    ('{"event_id": "x", "project_id": "P", "type": "T", "actor": "a", "timestamp": "2026-01-01", "payload": "{"}',
     "Its payload is not JSON"),
    ('{"event_id": "x", "project_id": "P", "type": "T", "actor": "a", "timestamp": "2026-01-01", "payload": "[]"}',
     "payload"),
    ('{"event_id": "x", "project_id": "P", "type": "T", "actor": "a", "timestamp": "2026-01-01", "sql": 1}',
     "is not a field of an event"),
    ('{"event_id": "x\\u0000", "project_id": "P", "type": "T", "actor": "a", "timestamp": "2026-01-01"}', "event_id"),
    ('{"event_id": "e3", "project_id": "P", "type": "T", "actor": "a", "timestamp": "2026-01-01"}',
     "An earlier row has the event_id 'e3' too"),
]  # fmt: skip


def test_bad_rows_are_set_aside_with_number_and_reason_and_the_others_come(
    told_events: list[RecordedEvent], board: Blackboard, empty_import: Blackboard, tmp_path: Path
) -> None:
    path = write(tmp_path / "events.jsonl", [*exported(board), "", *(line for line, _ in BAD)])
    with path.open("ab") as file:
        file.write(b'{"event_id": "\xff"}\n')

    done, refused = run(empty_import, from_file(path))

    assert done == Imported(stored=5, refused=len(BAD) + 1) and count_lines(path) == 6 + len(BAD)
    assert [row.number for row in refused] == list(range(7, 8 + len(BAD)))
    for row, (line, reason) in zip(refused, BAD, strict=False):
        assert reason in row.reason and row.raw == line


def test_an_id_that_is_taken_by_another_event_is_set_aside(board: Blackboard, tmp_path: Path) -> None:
    board.direct.store([an_event(1, payload={"a": 1}).event])
    line = '{"event_id": "e1", "project_id": "film", "type": "X", "actor": "a", "timestamp": "2026-01-01"}'

    done, (refused,) = run(board, from_file(write(tmp_path / "one.jsonl", [line])))

    assert done == Imported(refused=1) and "is taken by another event, at position 1000001" in refused.reason


def a_row(event_id: str, cause: str | None, at: int = 0) -> str:
    fields = {"event_id": event_id, "project_id": "P", "type": "T", "actor": "a", "causation_id": cause}
    return json.dumps(fields | {"timestamp": f"2026-01-01T00:00:00.{at:06}"})


def test_causes_are_found_whether_they_come_earlier_or_later_or_in_circles(
    board: Blackboard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "BATCH", 2)
    (there,) = board.direct.store([an_event(1).event])
    rows = [
        a_row("d", "c"), a_row("c", "b"), a_row("b", "a"), a_row("a", None), a_row("x", "y"), a_row("y", "x"),
        a_row("self", "self"), a_row("lost", "nowhere"), a_row("after lost", "lost"), a_row("of e1", "e1"),
    ]  # fmt: skip

    run(board, from_file(write(tmp_path / "rows.jsonl", rows)))

    found = {r.event.event_id: (r.event.correlation_id, r.depth) for r in board.replay.iterate()}
    assert [found[name] for name in "abcd"] == [("a", 0), ("a", 1), ("a", 2), ("a", 3)]
    assert found["x"] == ("y", 1) and found["y"] == ("y", 0) and found["self"] == ("self", 0)
    assert found["lost"] == ("lost", 0) and found["after lost"] == ("lost", 1)
    assert found["of e1"] == ("e1", there.depth + 1)
    assert [r.event.event_id for r in board.causation.chain("d")] == list("abcd")


def test_a_chain_of_thousands_backwards_is_followed(board: Blackboard, tmp_path: Path) -> None:
    rows = [a_row(f"n{n}", f"n{n - 1}" if n else None) for n in reversed(range(3000))]

    done, _ = run(board, from_file(write(tmp_path / "rows.jsonl", rows)))

    found = {recorded.event.event_id: recorded.depth for recorded in board.replay.iterate()}
    assert done.stored == 3000 and found == {f"n{n}": n for n in range(3000)}


def test_a_damaged_gzip_file_gives_what_is_whole(board: Blackboard, tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl.gz", [a_row("a", None), a_row("b", "a")])
    path.write_bytes(path.read_bytes()[:-4])

    done, (refused,) = run(board, from_file(path))

    assert done.stored in (1, 2) and "damaged or ends too early" in refused.reason


# an older table

OLD_COLUMNS = "event_id, project_id, event_type, actor, causation_id, timestamp, payload, blackboard_pointer, metadata"


@pytest.fixture
def old(empty_url: str, backend: str) -> Callable[..., str]:
    """Makes a table as an older event store had it."""

    def make(rows: list[tuple[Any, ...]], name: str = "events", columns: str = OLD_COLUMNS) -> str:
        kinds = {"timestamp": "timestamptz", "payload": "jsonb", "metadata": "json"} if backend == "postgres" else {}
        names = [column.strip() for column in columns.split(",")]
        engine = open_engine(empty_url)
        with writing(engine) as connection:
            declared = ", ".join(f'"{column}" {kinds.get(column, "text")}' for column in names)
            connection.exec_driver_sql(f'CREATE TABLE "{name}" (id serial, {declared})'.replace(
                "serial", "serial" if backend == "postgres" else "integer"))  # fmt: skip
            for row in rows:
                given = {f"v{n}": value for n, value in enumerate(row)}
                quoted = ", ".join(f'"{column}"' for column in names)
                places = ", ".join(f":v{n}" for n in range(len(row)))
                connection.execute(text(f'INSERT INTO "{name}" ({quoted}) VALUES ({places})'), given)
        engine.dispose()
        return empty_url

    return make


def old_row(event_id: str, at: str, cause: str | None = None, payload: str | None = '{"n": 2.5}') -> tuple[Any, ...]:
    return (event_id, "P-1", "SCENE_WRITTEN", "Writer", cause, at, payload, None, '{"cost": 0.5}')


@pytest.fixture
def fresh(sqlite_template: Path, tmp_path: Path, open_at: Callable[..., Engine]) -> Blackboard:
    import shutil

    shutil.copy(sqlite_template, tmp_path / "fresh.db")
    return Blackboard(open_at(f"sqlite:///{tmp_path / 'fresh.db'}"), "test", None, FakeClock())


def test_an_older_table_comes_in_the_order_of_its_timestamps_with_its_causes(
    old: Callable[..., str], fresh: Blackboard
) -> None:
    url = old(
        [
            old_row("late", "2020-01-03 00:00:00+00:00", "early"),
            old_row("b", "2020-01-02T00:00:00+00:00", "late"),
            old_row("a", "2020-01-02 01:00:00+01:00", HOSTILE[:20]),
            old_row("early", "2020-01-01 00:00:00.000001+00:00", None, None),
        ]
    )

    done, refused = run(fresh, from_table(url, "events"))

    assert done == Imported(stored=4) and count_rows(url, "events") == 4 and refused == []
    found = list(fresh.replay.iterate())
    assert [(r.event.event_id, r.depth, r.event.correlation_id) for r in found] == [
        ("early", 0, "early"), ("a", 0, "a"), ("b", 2, "early"), ("late", 1, "early"),
    ]  # fmt: skip
    assert found[0].event.payload == {} and found[1].event.payload == {"n": 2.5}
    assert {r.event.type.value for r in found} == {"SCENE_WRITTEN"} and found[3].event.cost == 0.5
    assert found[0].event.timestamp.isoformat() == "2020-01-01T00:00:00.000001+00:00"
    assert run(fresh, from_table(url, "events")) == (Imported(known=4), [])


def test_bad_rows_of_a_table_are_set_aside(old: Callable[..., str], fresh: Blackboard, backend: str) -> None:
    rows = [
        old_row("good", "2020-01-01"),
        old_row("bad payload", "2020-01-01", None, "[1]"),
        old_row("good", "2020-01-02"),
    ]
    rows += [
        ("no project", None, "T", "a", None, "2020-01-01", "{}", None, None),
        (None, "P", *old_row("", "2020-01-01")[2:]),
    ]
    rows += [("no time", *old_row("", "2020-01-01")[1:5], None, "{}", None, None)]
    if backend == "sqlite":
        rows += [old_row("no moment", "yesterday"), old_row("no JSON", "2020-01-01", None, "{")]
        rows += [("bytes", "P", "T", b"\xff\xfe", None, "2020-01-01", "{}", None, None)]
    else:
        rows += [old_row("for ever", "infinity"), old_row("before Christ", "2020-01-01 BC")]

    done, refused = run(fresh, from_table(old(rows, name="old events; --"), "old events; --"))

    assert [r.event.event_id for r in fresh.replay.iterate()] == ["good"]
    assert done == Imported(stored=1, refused=len(rows) - 1) and all(row.reason and row.raw for row in refused)


def test_a_table_with_few_columns_will_do_and_one_without_the_needed_is_named(
    old: Callable[..., str], fresh: Blackboard
) -> None:
    url = old([("e1", "P", "T", "a", "2020-01-01")], columns="event_id, project_id, type, actor, timestamp")

    assert run(fresh, from_table(url, "events"))[0] == Imported(stored=1)
    with pytest.raises(InvalidImport, match="There is no table 'nothing'"):
        list(from_table(url, "nothing"))
    old([], name="other", columns="event_id, actor")
    with pytest.raises(InvalidImport, match="has no column project_id, event_type, timestamp"):
        list(from_table(url, "other"))


def test_reading_an_sqlite_file_leaves_it_as_it_is_and_a_missing_one_is_not_made(tmp_path: Path) -> None:
    import sqlite3

    path = tmp_path / "o%l d?.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE events (event_id, project_id, event_type, actor, timestamp)")
    connection.close()
    before = path.read_bytes()

    from urllib.parse import quote

    assert list(from_table(f"sqlite:///{quote(str(path))}", "events")) == []
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == [path.name]
    with pytest.raises(StoreUnavailable):
        list(from_table(f"sqlite:///{tmp_path}/missing.db", "events"))
    assert not (tmp_path / "missing.db").exists()
