"""The projects' shared state: versioned, compared and set, pointed to; alike on both databases."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, text

from events.context import Handling, handling
from events.encoding import encode
from events.errors import (
    EventIdConflict,
    InvalidEvent,
    InvalidValue,
    StoreUnavailable,
    ValueNotFound,
    VersionConflict,
)
from events.event import Event
from store import state as state_module
from store.blackboard import Blackboard
from store.engine import writing
from store.pointers import Pointer
from tests.store.doubles import FakeClock

VALUES = [
    {"title": "The Fox", "scenes": [1, 2.5, None, True]}, [], {}, "", "text", 0, -0.0, 1e300, 10**40, 0.1, None, False,
    '{"looks": "like JSON"}', {"a": "\\ \" ' \u2028 é 🦊 %s :x ; DROP TABLE blackboard; --"}, b"", b"\x00\xff bytes",
]  # fmt: skip


@pytest.fixture
def board(engine: Engine) -> Iterator[Blackboard]:
    board = Blackboard(engine, "test", None, FakeClock())
    yield board
    board.pool.shutdown()


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:20])
def test_a_value_is_read_as_it_was_written(board: Blackboard, value: Any) -> None:
    pointer = board.put("P-1", "state", value)

    found = board.get(pointer)
    assert found.value == value and type(found.value) is type(value)
    assert json.dumps(found.value, default=repr) == json.dumps(value, default=repr), "minus zero stays minus zero"
    assert found.kind == ("bytes" if isinstance(value, bytes) else "json")
    assert found.size_bytes == len(value if isinstance(value, bytes) else json.dumps(
        value, ensure_ascii=False, separators=(",", ":")).encode())  # fmt: skip


def test_a_pointer_names_exactly_its_version_and_one_without_a_version_the_newest(board: Blackboard) -> None:
    first, second = board.put("P-1", "scenes/3", "draft"), board.put("P-1", "scenes/3", "final")

    assert (first, second) == ("bb:P-1/scenes/3@1", "bb:P-1/scenes/3@2")
    assert [board.get(p).value for p in (first, second, "bb:P-1/scenes/3")] == ["draft", "final", "final"]
    for nowhere in ("bb:P-1/scenes/3@3", "bb:P-1/scenes", "bb:P-2/scenes/3@1"):
        with pytest.raises(ValueNotFound, match="never written"):
            board.get(nowhere)


@given(st.text(min_size=1, max_size=40), st.text(min_size=1, max_size=40), st.none() | st.integers(1, 2**63 - 1))
def test_every_pointer_is_read_as_it_was_written(project_id: str, key: str, version: int | None) -> None:
    if not (project_id.isprintable() and key.isprintable()):
        with pytest.raises(InvalidValue, match="printable"):
            Pointer(project_id, key, version)
        return
    pointer = Pointer(project_id, key, version)

    assert Pointer.read(str(pointer)) == pointer
    assert Event(project_id=project_id, type="X", actor="a", blackboard_pointer=str(pointer))


@pytest.mark.parametrize(
    "wrong",
    ["", "bb:", "bb:P", "bb:P/", "bb:/k", "P/k@1", "bb:P/k@0", "bb:P/k@01", "bb:P/k@x", "bb:P/k@1@2", "bb:P%2f/k",
     "bb:P/k%", "bb:P/k%2Fl@1", "bb:P/k@9223372036854775808", "bb:P/k\n", "bb:P/\0", None, 7],
)  # fmt: skip
def test_what_is_no_pointer_is_refused_by_name(board: Blackboard, wrong: Any) -> None:
    with pytest.raises(InvalidValue):
        board.get(wrong)


def test_hostile_names_are_names(board: Blackboard) -> None:
    names = ["a/b", "a@1", "100%", "%40", "'; DROP TABLE blackboard; --", "{ns}:x", "🦊", " ", "_", "%"]
    pointers = {(p, k): board.put(p, k, [p, k]) for p in names for k in names}

    assert len(set(pointers.values())) == 100
    assert all(board.get(pointer).value == [*pair] for pair, pointer in pointers.items())
    assert {entry.key for entry in board.keys("%")} == set(names)


def test_names_that_no_pointer_can_hold_are_refused_before_anything_is_written(board: Blackboard) -> None:
    for project_id, key in (("", "k"), ("P", ""), ("P", "a\nb"), ("P" * 200, "k"), ("P", "k" * 177)):
        with pytest.raises(InvalidValue):
            board.put(project_id, key, 1)
    assert len(board.put("P", "k" * 175, 1)) <= 200


@pytest.mark.parametrize("actor", ["nul\0", "\ud800", 7])
def test_an_actor_that_no_database_can_keep_is_refused_alike(board: Blackboard, actor: Any) -> None:
    with pytest.raises(InvalidValue, match="Who writes"):
        board.put("P", "k", 1, actor=actor)
    assert board.history("P", "k", limit=2**63) == []


@pytest.mark.parametrize(
    "value", [float("nan"), {"a": float("inf")}, "\0", {"a": ["x\0"]}, "\ud800", object(), {1, 2}],
    ids=["nan", "inf", "nul", "deep nul", "surrogate", "object", "set"],
)  # fmt: skip
def test_what_no_database_can_keep_is_refused_alike(board: Blackboard, value: Any) -> None:
    with pytest.raises(InvalidValue):
        board.put("P", "k", value)
    assert board.newest("P", "k") is None


def test_a_value_over_the_limit_is_refused_and_one_at_it_is_kept(
    board: Blackboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_module, "MAX_VALUE_BYTES", 3_000_000)
    whole = bytes(range(256)) * 11_718 + b"1234" * 48

    assert board.get(board.put("P", "whole", whole)).value == whole
    with pytest.raises(InvalidValue, match="3,000,001 bytes is over the blackboard's limit of 3,000,000"):
        board.put("P", "more", whole + b"x")
    with pytest.raises(InvalidValue, match="3,000,002"):
        board.put("P", "text", "x" * 3_000_000)


def test_compare_and_set_writes_only_over_what_was_expected(board: Blackboard) -> None:
    assert board.compare_and_set("P", "k", 0, "a") == 1
    assert board.compare_and_set("P", "k", 1, "b") == 2

    for stale in (0, 1, 3):
        with pytest.raises(VersionConflict, match=f"at version 2, not at the expected {stale}") as caught:
            board.compare_and_set("P", "k", stale, "c")
        assert caught.value.current == 2
    with pytest.raises(VersionConflict, match="was never written"):
        board.compare_and_set("P", "other", 1, "c")
    for wrong in (-1, True, None, "1"):
        with pytest.raises(InvalidValue, match="at least 0"):
            board.compare_and_set("P", "k", wrong, "c")  # type: ignore[arg-type]
    assert board.get("bb:P/k").value == "b"


def test_deleting_is_a_version_and_what_was_before_can_be_read(board: Blackboard) -> None:
    first = board.put("P", "k", "a")

    assert board.delete("P", "k") == 2
    assert board.delete("P", "k") == 0 and board.delete("P", "nothing") == 0
    assert board.newest("P", "k") is None and board.keys("P") == []
    for gone in ("bb:P/k", "bb:P/k@2"):
        with pytest.raises(ValueNotFound, match="it was deleted"):
            board.get(gone)
    assert board.get(first).value == "a"
    assert board.compare_and_set("P", "k", 0, "b") == 3
    assert [(entry.version, entry.kind) for entry in board.history("P", "k")] == [
        (3, "json"), (2, "deleted"), (1, "json"),
    ]  # fmt: skip


def test_history_and_keys_come_in_pages_without_values(board: Blackboard) -> None:
    for n in range(7):
        board.put("P", "k", n)
    for name in "abc":
        board.put("P", name, name)
    board.put("Q", "z", 1)

    pages = [board.history("P", "k", limit=3)]
    while len(pages[-1]) == 3:
        pages.append(board.history("P", "k", limit=3, before=pages[-1][-1].version))
    assert [[entry.version for entry in page] for page in pages] == [[7, 6, 5], [4, 3, 2], [1]]
    assert {entry.value for page in pages for entry in page} == {None}
    assert [entry.pointer for entry in board.keys("P", limit=3)] == ["bb:P/a@1", "bb:P/b@1", "bb:P/c@1"]
    assert [entry.pointer for entry in board.keys("P", after="c")] == ["bb:P/k@7"]
    assert board.history("P", "nothing") == [] == board.keys("nobody")
    with pytest.raises(InvalidValue, match="at least 1, not 0"):
        board.history("P", "k", limit=0)


def test_a_version_says_who_wrote_it_and_while_handling_what(board: Blackboard) -> None:
    board.put("P", "k", 1, actor="me")
    token = handling.set(Handling(Event(event_id="EV-1", project_id="P", type="X", actor="a"), "Writer", 1, "1:W:0"))
    try:
        board.put("P", "k", 2)
    finally:
        handling.reset(token)

    assert [(entry.actor, entry.event_id) for entry in board.history("P", "k")] == [("Writer", "EV-1"), ("me", None)]


def test_namespaces_are_apart(board: Blackboard, engine: Engine) -> None:
    board.put("P", "k", 1)
    other = Blackboard(engine, "other", None, FakeClock())

    assert other.newest("P", "k") is None and other.keys("P") == [] and other.put("P", "k", 2) == "bb:P/k@1"
    assert board.get("bb:P/k").value == 1
    other.pool.shutdown()


def at_once(number: int, work: Callable[[int], Any]) -> list[Any]:
    """Do the same from several threads at once; return what each returned or raised."""
    barrier, results = threading.Barrier(number), [None] * number

    def run(n: int) -> None:
        barrier.wait()
        try:
            results[n] = work(n)
        except Exception as error:
            results[n] = error

    threads = [threading.Thread(target=run, args=(n,)) for n in range(number)]
    [thread.start() for thread in threads]
    [thread.join(60) for thread in threads]
    return results


def test_of_writers_at_once_one_wins_the_comparison(board: Blackboard) -> None:
    for expected in range(5):
        results = at_once(5, lambda n, expected=expected: board.compare_and_set("P", "k", expected, n))

        assert [r for r in results if isinstance(r, int)] == [expected + 1]
        assert [r.current for r in results if isinstance(r, VersionConflict)] == [expected + 1] * 4


def test_versions_have_no_gap_however_many_write_at_once(board: Blackboard) -> None:
    def write(n: int) -> list[str]:
        return [board.put("P", "k", [n, i]) for i in range(10)]

    pointers = [pointer for found in at_once(5, write) for pointer in found]

    assert sorted(map(len, {p: 1 for p in pointers})) == sorted(map(len, pointers)), "no pointer was given twice"
    assert [entry.version for entry in board.history("P", "k")] == list(range(50, 0, -1))


def test_a_writer_that_rolls_back_leaves_no_gap(board: Blackboard, engine: Engine, backend: str) -> None:
    if backend == "sqlite":
        pytest.skip("SQLite has one writer at a time.")
    inserted, done = threading.Event(), []
    with pytest.raises(InvalidEvent), writing(engine) as connection:
        connection.execute(
            text(
                "INSERT INTO blackboard (namespace, project_id, key, version, kind, size_bytes, written_at) "
                "VALUES ('test', 'P', 'k', 1, 'deleted', 0, now())"
            )
        )
        thread = threading.Thread(target=lambda: (inserted.set(), done.append(board.put("P", "k", 1))))
        thread.start()
        inserted.wait(30)
        raise InvalidEvent(["roll back"])
    thread.join(60)

    assert done == ["bb:P/k@1"]


# payloads of events


def an_event(size: int = 5000, **fields: Any) -> Event:
    given = {"event_id": "EV-1", "project_id": "P/1", "type": "SCENE_WRITTEN", "actor": "Writer", **fields}
    return Event(payload={"text": "x" * size, "n": 1e300}, **given)


def test_a_payload_over_the_limit_goes_to_the_blackboard_and_comes_back(board: Blackboard) -> None:
    event = an_event()

    light = board.offload(event, over_bytes=1000)

    assert len(encode(light)) < 1000 and light.payload == {}
    assert light.blackboard_pointer == "bb:P%2F1/payloads/EV-1@1"
    assert board.payload_of(light) == event.payload
    assert board.offload(event, over_bytes=1000) == light, "again it is the same event"
    assert [entry.version for entry in board.history("P/1", "payloads/EV-1")] == [1]


def test_a_small_event_stays_as_it_is(board: Blackboard) -> None:
    small = an_event(10, blackboard_pointer="s3://elsewhere")

    assert board.offload(small) is small
    assert board.payload_of(small) == small.payload
    for pointer in ("s3://elsewhere", "bb:nonsense", "bb:P/other@1"):
        empty = Event(project_id="P", type="X", actor="a", blackboard_pointer=pointer)
        assert board.payload_of(empty) == {}, "an application's own pointer is left to it"


def test_another_payload_under_the_same_id_is_a_conflict(board: Blackboard) -> None:
    board.offload(an_event(), over_bytes=1000)

    with pytest.raises(EventIdConflict, match="EV-1"):
        board.offload(an_event(6000), over_bytes=1000)
    with pytest.raises(InvalidEvent, match="s3://elsewhere"):
        board.offload(an_event(blackboard_pointer="s3://elsewhere"), over_bytes=1000)
    with pytest.raises(InvalidValue, match="use a shorter key"):
        board.offload(an_event(event_id="E" * 200), over_bytes=1000)


# the asyncio edge


def test_every_call_can_be_awaited_and_a_cancelled_one_gives_its_connection_back(
    url: str, open_at: Callable[..., Engine]
) -> None:
    asyncio.run(call_and_cancel(Blackboard(open_at(url, pool_size=1), "test", None, FakeClock(), threads=1)))


async def call_and_cancel(board: Blackboard) -> None:
    pointers = await asyncio.gather(*(board.run(board.put, "P", "k", n) for n in range(5)))
    assert (await board.run(board.get, pointers[2])).pointer == pointers[2]
    for _ in range(5):
        waiting = asyncio.create_task(board.run(board.put, "P", "k", "cancelled"))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    await board.run(board.put, "P", "k", "last")

    versions = [entry.version for entry in await board.run(board.history, "P", "k")]
    assert versions == list(range(len(versions), 0, -1)) and len(versions) in range(6, 12)
    assert board.engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    board.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        await board.run(board.put, "P", "k", 1)
