"""A filter by payload or metadata finds the same in Python, on SQLite and on PostgreSQL, whatever keys are called."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from events.errors import InvalidFilter
from store import paths
from store.archive import Archive
from store.filter import EventFilter
from store.replay import Replay
from tests.store.conftest import an_event, store_events
from tests.store.doubles import FakeTail

HOSTILE = [
    "a", "b", "0", "1", "-1", "01", "+1", " 1", "1 ", "2147483648", "1_0", "١", "a.b", ".", "",
    "\\", '"', "'", "$", "$.a", "[0]", "]", "*",
    "%s", ":x", "--", "'; DROP TABLE events; --", "{a}", "a\nb", "\x7f", "é", "e\u0301", "😀", "\u202e", "null",
]  # fmt: skip
NUMBERS = [
    0, 1, -1, 1.0, -0.0, 0.1, 0.30000000000000004, 1e23, 10**23, 1e300, 5e-324, 2**53 + 1, float(2**53), 2**63 - 1,
    2**63, -(2**63), 10**30, 10**30 + 1, 1e30, 100, 1e2,
]  # fmt: skip
SCALARS = (
    st.sampled_from([None, True, False, "1", "true", *NUMBERS, *HOSTILE])
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.integers()
    | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=5)
)
KEYS = st.sampled_from(HOSTILE)
DOCUMENTS = st.dictionaries(
    KEYS,
    st.recursive(SCALARS, lambda of: st.lists(of, max_size=3) | st.dictionaries(KEYS, of, max_size=3), max_leaves=6),
    max_size=4,
)  # fmt: skip

namespaces = itertools.count()


def leaves(value: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    """Every scalar of a document with its path."""
    if isinstance(value, dict):
        return [leaf for key, inner in value.items() for leaf in leaves(inner, (*path, key))]
    if isinstance(value, list):
        return [leaf for place, inner in enumerate(value) for leaf in leaves(inner, (*path, str(place)))]
    return [(path, value)]


def miswritten(path: tuple[str, ...], place: str) -> tuple[str, ...]:
    """A path with its places in lists written otherwise."""
    return tuple(place if part in "012" else part for part in path)


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.data(), st.lists(DOCUMENTS, min_size=1, max_size=5))
def test_sql_finds_what_python_finds_at_any_path_of_any_document(
    engine: Engine, data: st.DataObject, documents: list[Any]
) -> None:
    every = [leaf for document in documents for leaf in leaves(document)]
    known = st.sampled_from([path for path, _ in every]) if every else st.nothing()
    nearly = st.builds(miswritten, known, st.sampled_from(["-1", "00", "01", "+0", "+1", " 0", "1"]))
    values = st.sampled_from([value for _, value in every]) if every else st.nothing()
    namespace = f"n{next(namespaces)}"
    history = [an_event(n + 1, payload=document, metadata={"inner": document}) for n, document in enumerate(documents)]
    store_events(Archive(engine, namespace), *history)
    replay = Replay(engine, namespace, None)

    for _ in range(4):
        path = data.draw(known | nearly | st.lists(KEYS, min_size=1, max_size=3).map(tuple))
        value = data.draw(values | SCALARS)
        for wanted in (EventFilter(payload={path: value}), EventFilter(metadata={("inner", *path): value})):
            assert list(replay.iterate(wanted)) == [r for r in history if wanted.matches(r.event)], wanted


@given(DOCUMENTS)
@example({"a": [{"b.c": None}], "": {"": ""}})
def test_every_scalar_is_found_at_its_own_path_however_it_is_written(document: Any) -> None:
    event = an_event(1, payload=document).event
    for path, value in leaves(document):
        dotted = ".".join(part.replace("\\", "\\\\").replace(".", "\\.") for part in path)

        assert paths.read_path(dotted) == path
        assert EventFilter(payload={dotted: value}).matches(event)
        assert EventFilter(payload={path: value}).matches(event)


STORED: list[Any] = [
    {"n": 1}, {"n": 1.0}, {"n": True}, {"n": "1"}, {"n": None}, {}, {"n": -0.0}, {"n": 1e300}, {"n": 0.1},
    {"n": 2**53 + 1}, {"list": ["x", {"deep": "y"}]}, {"list": {"0": "x", "-1": "z"}}, {"a.b": 1}, {"a": {"b": 1}},
    {"list": ["y", "z"]},
]  # fmt: skip
ASKED: list[tuple[dict[Any, Any], list[int]]] = [
    ({"n": 1}, [0, 1]),
    ({"n": 1.0}, [0, 1]),
    ({"n": True}, [2]),
    ({"n": "1"}, [3]),
    ({"n": None}, [4]),
    ({"n": 0}, [6]),
    ({"n": 1e300}, [7]),
    ({"n": 10**300}, [7]),
    ({"n": 0.1}, [8]),
    ({"n": 0.1000000000000001}, []),
    ({"n": 2**53 + 1}, [9]),
    ({"n": 2.0**53}, []),
    ({"list.0": "x"}, [10, 11]),
    ({"list.1.deep": "y"}, [10]),
    ({"list.-1": "z"}, [11]),
    ({"list.1": "z"}, [14]),
    ({"list.01": "z"}, []),
    ({"list. 1": "z"}, []),
    ({"list.2": "z"}, []),
    ({"list.0": "x", "list.1.deep": "y"}, [10]),
    ({"a\\.b": 1}, [12]),
    ({"a.b": 1}, [13]),
    ({("a.b",): 1}, [12]),
    ({("list", 0): "x"}, [10, 11]),
    ({"n.deeper": 1}, []),
]


@pytest.mark.parametrize("archived", [0, 7, 15])
def test_equal_means_the_same_value_in_json(engine: Engine, archive: Archive, archived: int) -> None:
    history = [an_event(n + 1, payload=payload) for n, payload in enumerate(STORED)]
    if archived:
        store_events(archive, *history[:archived])
    replay = Replay(engine, "test", FakeTail(history, archived=archived))

    for asked, expected in ASKED:
        wanted = EventFilter(payload=asked)
        assert [recorded.position - 1 for recorded in replay.iterate(wanted, page=2)] == expected, asked
        assert replay.count(wanted) == len(expected), asked


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        ({"payload": {"a\\": 1}}, r"ends with a backslash"),
        ({"payload": {"a": [1]}}, r"asked for a text, a number, true, false or null at 'a', not for \[1\]"),
        ({"payload": {"a": float("nan")}}, "is nan, which JSON does not have"),
        ({"payload": {"a": 10**1000}}, "more than 1,000 digits"),
        ({"payload": {"a": "\0"}}, r"holds U\+0000 or a lone surrogate"),
        ({"metadata": {"\ud800": 1}}, r"of metadata holds U\+0000 or a lone surrogate"),
        ({"metadata": {(): 1}}, "a tuple of parts, not"),
        ({"metadata": {("a", -1): 1}}, "a place in a list from 0 on, not -1"),
        ({"metadata": {"a.0": 1, ("a", 0): 2}}, "given twice in metadata"),
        ({"metadata": ["a"]}, "must map paths to values"),
        ({"project_id": "\0"}, "project_id of a filter holds"),
        ({"actor": "\ud800"}, "actor of a filter holds"),
        ({"types": ("\0",)}, "types of a filter holds"),
        ({"correlation_id": 5}, "must be a text, not 5"),
    ],
    ids=repr,
)
def test_what_cannot_be_asked_is_refused_with_a_sentence(wanted: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidFilter, match=why):
        EventFilter(**wanted)
