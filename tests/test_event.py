"""The event value: what is refused and how it is said, what survives the wire, what makes two events the same."""

from __future__ import annotations

import json
import math
import multiprocessing
import random
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.context import Handling, handling
from events.encoding import decode, digest, encode
from events.errors import EventBusError, InvalidEvent, MalformedEntry
from events.event import MAX_DEPTH, Event, new_event_id
from events.frame import UNREADABLE, lease_of, parse_frame
from events.types import EventType, TypeName, is_well_formed, named

FIELDS: dict[str, Any] = {"project_id": "PROJ-1", "type": EventType.SCENE_WRITTEN, "actor": "ScriptWriter"}

text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
numbers = st.integers(-(10**17), 10**17) | st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | numbers | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=20,
)
json_objects = st.dictionaries(text, json_values, max_size=5)


def make(**fields: Any) -> Event:
    return Event(**(FIELDS | fields))


def refused(**fields: Any) -> str:
    """Return the one sentence for which an event with these fields is refused."""
    with pytest.raises(InvalidEvent) as caught:
        make(**fields)
    assert len(caught.value.problems) == 1, caught.value.problems
    assert str(caught.value) == f"The event is not valid: {caught.value.problems[0]}"
    return caught.value.problems[0]


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth - 1):
        value = {"a": value}
    return value


# refusals


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"project_id": ""}, "project_id must not be empty."),
        ({"project_id": "x" * 201}, "project_id must have at most 200 characters, not 201."),
        ({"project_id": None}, "project_id must be a valid string, not None."),
        ({"project_id": "a\tb"}, "project_id must hold printable characters only, not 'a\\tb'."),
        ({"project_id": "\ud800"}, "project_id must hold printable characters only, not '\\ud800'."),
        ({"actor": ""}, "actor must not be empty."),
        ({"actor": "x" * 201}, "actor must have at most 200 characters, not 201."),
        ({"event_id": ""}, "event_id must not be empty."),
        ({"event_id": "x\n"}, "event_id must hold printable characters only, not 'x\\n'."),
        ({"causation_id": ""}, "causation_id must not be empty."),
        ({"correlation_id": 7}, "correlation_id must be a valid string, not 7."),
        ({"blackboard_pointer": "x" * 500}, "blackboard_pointer must have at most 200 characters, not 500."),
        ({"type": None}, "type must be a string or a member of a StrEnum, not NoneType."),
        (
            {"timestamp": "yesterday"},
            "timestamp must be a valid datetime or date, input is too short, not 'yesterday'.",
        ),
        ({"payload": [1]}, "payload must be a JSON object, not list."),
        ({"payload": None}, "payload must be a JSON object, not NoneType."),
        ({"metadata": "x"}, "metadata must be a JSON object, not str."),
        ({"metadata": {"cost": -1}}, "metadata.cost must be a number of at least 0, not -1."),
        ({"metadata": {"cost": True}}, "metadata.cost must be a number of at least 0, not True."),
        ({"metadata": {"latency_ms": "7"}}, "metadata.latency_ms must be a number of at least 0, not '7'."),
        ({"metadata": {"latency_ms": 1e13}}, "metadata.latency_ms must be at most 1e12, not 10000000000000.0."),
    ],
)
def test_a_bad_field_gets_one_sentence(fields: dict[str, Any], sentence: str) -> None:
    assert refused(**fields).rstrip(".") == sentence.rstrip(".")


def test_an_unknown_field_is_named_with_the_fields_that_there_are() -> None:
    sentence = refused(projcet_id="typo")

    assert sentence.startswith("projcet_id is not a field of an event; the fields are event_id, project_id, type,")


@pytest.mark.parametrize("name", ["project_id", "type", "actor"])
def test_a_missing_field_is_named(name: str) -> None:
    with pytest.raises(InvalidEvent) as caught:
        Event(**{key: value for key, value in FIELDS.items() if key != name})

    assert caught.value.problems in ([f"{name} is missing."], [f"{name} must not be empty."])


def test_every_bad_field_gets_a_sentence_of_its_own() -> None:
    with pytest.raises(InvalidEvent) as caught:
        Event(project_id="", type="no spaces", actor="x" * 201, payload=[], colour="red")

    assert [sentence.split()[0] for sentence in caught.value.problems] == [
        "project_id",
        "type",
        "actor",
        "payload",
        "colour",
    ]
    assert all(sentence.endswith(".") for sentence in caught.value.problems)


def test_a_refusal_is_both_an_event_bus_error_and_a_value_error() -> None:
    with pytest.raises(ValueError) as caught:
        make(project_id="")

    assert isinstance(caught.value, EventBusError)


@pytest.mark.parametrize("name", ["", "1ST", "NO SPACES", "TAB\t", "Ä", "x" * 101, "*", "LINE\n", "-"])
def test_a_type_that_is_not_a_well_formed_name_is_refused(name: str) -> None:
    assert refused(type=name).startswith("type must be a letter followed by at most 99 of the characters")
    assert not is_well_formed(name)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ((1, 2), "'a' is tuple"),
        (b"bytes", "'a' is bytes"),
        ({1, 2}, "'a' is set"),
        (datetime(2024, 1, 1), "'a' is datetime"),
        (object(), "'a' is object"),
        ({"b": [0, object()]}, "'a.b.1' is object"),
        ({1: 2}, "is int"),
        (float("nan"), "finite numbers"),
        (float("inf"), "finite numbers"),
        (-math.inf, "finite numbers"),
        ("nul \0 inside", "U+0000"),
        ({"nul \0 key": 1}, "U+0000"),
        ("\ud800", "lone surrogate"),
        ({"\udfff": 1}, "lone surrogate"),
        (10**5000, "4300 digits"),
        (10**4300, "4300 digits"),
        (nested(MAX_DEPTH), "nested deeper than 100 levels"),
        (nested(5000), "nested deeper than 100 levels"),
    ],
    ids=[
        "tuple",
        "bytes",
        "set",
        "datetime",
        "object",
        "object below",
        "integer key",
        "nan",
        "infinity",
        "-infinity",
        "nul",
        "nul in a key",
        "surrogate",
        "surrogate in a key",
        "5000 digits",
        "4301 digits",
        "101 levels",
        "5000 levels",
    ],
)
@pytest.mark.parametrize("field", ["payload", "metadata"])
def test_what_is_not_json_for_every_reader_is_refused(field: str, value: Any, says: str) -> None:
    sentence = refused(**{field: {"a": value}})

    assert sentence.startswith(f"{field} ")
    assert says in sentence


hard_cases = st.sampled_from(["NaN", "\\u0000", "\0"]) | st.integers(4295, 4305).map(lambda digits: 10**digits)
strange_values = st.recursive(
    st.integers() | st.floats() | st.text(st.characters(), max_size=5) | hard_cases,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=20,
)


@given(strange_values, st.integers(0, MAX_DEPTH))
def test_what_passes_at_a_glance_would_pass_a_closer_look(value: Any, depth: int) -> None:
    payload = {"a": value}
    for level in range(depth):
        payload = {"a": payload} if level % 2 else {"a": [payload]}

    def outcome() -> Any:
        try:
            return make(payload=payload, event_id="E", timestamp=datetime(2024, 1, 1)).payload
        except InvalidEvent as refusal:
            return refusal.problems

    at_a_glance = outcome()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("events.event._is_ordinary", lambda _: False)
        closely = outcome()

    assert json.dumps(at_a_glance) == json.dumps(closely)


def test_a_payload_that_contains_itself_is_refused() -> None:
    loop: dict[str, Any] = {}
    loop["again"] = loop

    assert "contains itself" in refused(payload=loop)


def test_a_payload_key_that_is_not_a_string_is_refused() -> None:
    assert "objects with string keys" in refused(payload={1: "one"})


@pytest.mark.parametrize("value", [10**4299, ["1" * 4301, 7 * [{}]], "{" * 200])
def test_what_is_long_or_looks_deep_is_taken_where_every_reader_reads_it(value: Any) -> None:
    event = make(payload={"a": value})

    assert decode(encode(event)) == event and digest(event)


def test_a_payload_of_the_greatest_depth_is_taken_and_survives() -> None:
    event = make(payload=nested(MAX_DEPTH))

    assert decode(encode(event)) == event


def test_a_backslash_before_u0000_is_text_not_the_character() -> None:
    event = make(payload={"regex": r"\u0000", r"\u0000": 1})

    assert decode(encode(event)) == event


# values


def test_a_naive_timestamp_is_read_as_utc() -> None:
    assert make(timestamp=datetime(2024, 5, 1, 12, 30)).timestamp == datetime(2024, 5, 1, 12, 30, tzinfo=UTC)


def test_an_aware_timestamp_is_converted_to_utc() -> None:
    zone = timezone(timedelta(hours=5, minutes=30))

    timestamp = make(timestamp=datetime(2024, 5, 1, 12, 30, tzinfo=zone)).timestamp

    assert timestamp == datetime(2024, 5, 1, 7, 0, tzinfo=UTC)
    assert timestamp.utcoffset() == timedelta(0)


def test_a_moment_that_utc_cannot_tell_is_refused_with_a_sentence() -> None:
    before_year_one = datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=5)))

    assert "a moment that UTC can tell" in refused(timestamp=before_year_one)


def test_an_event_without_a_timestamp_happened_now() -> None:
    before = datetime.now(UTC)

    assert before <= make().timestamp <= datetime.now(UTC)


def test_cost_and_latency_are_read_from_the_metadata() -> None:
    event = make(metadata={"cost": 1, "latency_ms": 2.5})

    assert (event.cost, event.latency_ms) == (1.0, 2.5)
    assert (make().cost, make().latency_ms) == (None, None)


def test_an_event_is_frozen() -> None:
    event = make()

    with pytest.raises(ValueError, match="frozen"):
        event.actor = "somebody else"  # type: ignore[misc]


def test_an_event_keeps_nothing_of_the_callers_payload() -> None:
    payload = {"shots": [1]}
    event = make(payload=payload)

    payload["shots"].append(2)

    assert event.payload == {"shots": [1]}


# types


def test_event_type_iterates_like_an_enum_and_each_member_is_its_name() -> None:
    members = list(EventType)

    assert len(members) == 29
    assert members[0] is EventType.PROJECT_CREATED
    assert members[-1] is EventType.USER_ERROR_REPORTED
    assert all(member.value == member.name == str(member) == member for member in members)
    assert EventType("QA_REPORT") is EventType["QA_REPORT"] is EventType.QA_REPORT


class Kitchen(StrEnum):
    """An application's own vocabulary."""

    EGG_BOILED = "EGG_BOILED"


@pytest.mark.parametrize("kind", [Kitchen.EGG_BOILED, "EGG_BOILED", EventType.QA_REPORT, "QA_REPORT", "a:b.c-d_1"])
def test_every_kind_of_type_has_a_value_and_survives_the_wire(kind: str) -> None:
    event = make(type=kind)
    again = decode(encode(event))

    assert again.type.value == event.type.value == str(kind)
    assert again.type == event.type == kind
    assert type(again.type.value) is str


def test_a_known_name_reads_as_the_member_and_an_unknown_one_as_a_type_name() -> None:
    assert make(type="QA_REPORT").type is EventType.QA_REPORT
    assert named("QA_REPORT") is EventType.QA_REPORT
    assert isinstance(make(type=Kitchen.EGG_BOILED).type, TypeName)
    assert {TypeName("X"): 1}["X"] == 1


# the wire


def test_a_changed_copy_of_a_decoded_event_changes_nothing_of_other_events() -> None:
    event, other = (decode(encode(Event(project_id="p", type="T", actor="a", payload={"n": n}))) for n in (1, 2))

    for copy in (event.model_copy(update={"unheard_of": 1}), event.model_copy(update={"unheard_of": 1}, deep=True)):
        assert "unheard_of" in copy.model_fields_set
    assert event.model_fields_set == other.model_fields_set == set(Event.model_fields)
    assert other.model_copy(deep=True) == other


@settings(max_examples=60)
@given(
    payload=json_objects,
    metadata=st.dictionaries(text.filter(lambda key: key not in ("cost", "latency_ms")), json_values),
)
def test_an_event_survives_encode_and_decode(payload: dict[str, Any], metadata: dict[str, Any]) -> None:
    event = make(payload=payload, metadata=metadata, causation_id="EV-cause", blackboard_pointer="s3://bucket/key")
    again = decode(encode(event))

    assert again == event
    assert json.dumps(again.payload) == json.dumps(event.payload)  # 1 is not 1.0, and -0.0 not 0
    assert digest(again) == digest(event)


@pytest.mark.parametrize(
    "payload",
    [
        {"list": [], "object": {}},
        {"sixteen": 1763800000000001, "seventeen": 99999999999999999, "negative": -9007199254740993},
        {"float": 0.1, "tiny": 5e-324, "minus zero": -0.0, "whole": 1.0},
        {"text": 'Ω 漢字 🎬 \u2028 \x7f \\ " / \r\n\t'},
        {"": {"": [[], {}, None, True, False]}},
        {"big": 10**400},
    ],
    ids=["empty list and object", "16 digits", "floats", "text", "nothing named", "400 digits"],
)
def test_json_that_others_break_survives(payload: dict[str, Any]) -> None:
    assert json.dumps(decode(encode(make(payload=payload))).payload) == json.dumps(payload)


@given(
    moment=st.datetimes(timezones=st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes))))
)
@settings(max_examples=50)
def test_the_moment_survives_to_the_microsecond(moment: datetime) -> None:
    try:
        event = make(timestamp=moment)
    except InvalidEvent:
        return  # the first and last hours of the calendar, in other zones

    assert decode(encode(event)).timestamp == event.timestamp == moment


def test_decode_takes_the_root_that_publish_found() -> None:
    assert decode(encode(make()), "EV-root").correlation_id == "EV-root"
    assert decode(encode(make(correlation_id="EV-own"))).correlation_id == "EV-own"


@given(st.binary())
@settings(max_examples=150)
def test_decode_of_any_bytes_gives_an_event_or_malformed_entry(body: bytes) -> None:
    with pytest.raises(MalformedEntry):
        decode(body)


any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.fixed_dictionaries({}, optional={name: any_json for name in Event.model_fields}))
@settings(max_examples=60)
def test_decode_of_any_json_gives_an_event_or_malformed_entry(value: Any) -> None:
    try:
        event = decode(json.dumps(value))
    except MalformedEntry:
        return

    assert decode(encode(event)) == event


good = {"event_id": "EV-1", "project_id": "p", "type": "X", "actor": "a", "timestamp": "2024-01-01T00:00:00+00:00"}


@given(field=st.sampled_from([*Event.model_fields]), value=any_json)
@settings(max_examples=150)
def test_one_field_replaced_by_any_json_gives_an_event_or_malformed_entry(field: str, value: Any) -> None:
    try:
        event = decode(json.dumps(good | {field: value}))
    except MalformedEntry as error:
        assert str(error).endswith(".")
        return

    assert decode(encode(event)) == event


# Encoded once: an event of its own for each example would have a length of its own now and then.
WHOLE = encode(make(payload={"line": "Ω", "n": 1.5}))


@given(st.data())
@settings(max_examples=100)
def test_an_event_cut_or_flipped_on_the_wire_never_crashes_the_reader(data: st.DataObject) -> None:
    body = bytearray(WHOLE)
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(body[: data.draw(st.integers(0, len(body)))])

    for damaged in (bytes(body), cut):
        with suppress(MalformedEntry):
            assert isinstance(decode(damaged), Event)


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 200_000,
        b'{"a":' * 200_000,
        b'{"a":' + b"1" * 5000 + b"}",
        b"\xff\xfe{\0}\0",
        b"\xef\xbb\xbf{}",
        json.dumps(good | {"payload": {"a": float("nan")}}).encode(),
        json.dumps(good | {"payload": {"a": "\ud800"}}).encode(),
        json.dumps(good | {"event_id": "\udc00"}).encode(),
        json.dumps(good | {"timestamp": "0001-01-01T00:00:00+05:00"}).encode(),
    ],
    ids=[
        "deep list",
        "deep object",
        "long number",
        "utf-16",
        "byte order mark",
        "nan",
        "surrogate",
        "surrogate id",
        "year 0",
    ],
)
def test_poison_is_malformed_and_its_sentence_is_short(body: bytes) -> None:
    with pytest.raises(MalformedEntry) as caught:
        decode(body)

    assert len(str(caught.value)) < 300


def test_a_malformed_entry_never_shows_its_payload() -> None:
    with pytest.raises(MalformedEntry) as caught:
        decode(json.dumps({"payload": {"token": "s3cret"}, "event_id": "x"}))

    assert "s3cret" not in str(caught.value)


def test_a_timestamp_of_another_zone_reads_as_utc() -> None:
    event = decode(json.dumps(good | {"timestamp": "2024-01-01T05:00:00+05:00"}))

    assert event.timestamp.isoformat() == "2024-01-01T00:00:00+00:00"


# the digest


@pytest.mark.parametrize(
    "change",
    [
        {"project_id": "PROJ-2"},
        {"type": "QA_REPORT"},
        {"actor": "Someone"},
        {"causation_id": "EV-other"},
        {"causation_id": None},
        {"payload": {"a": 2, "b": [1]}},
        {"payload": {"a": 1.0, "b": [1]}},
        {"payload": {"a": True, "b": [1]}},
        {"payload": {"a": 1, "b": {}}},
        {"payload": {}},
        {"blackboard_pointer": "elsewhere"},
        {"blackboard_pointer": None},
    ],
)
def test_the_digest_covers_what_the_event_says(change: dict[str, Any]) -> None:
    said = {"causation_id": "EV-cause", "payload": {"a": 1, "b": [1]}, "blackboard_pointer": "here"}

    assert digest(make(**said)) != digest(make(**(said | change)))


@pytest.mark.parametrize(
    "change",
    [
        {"timestamp": datetime(2020, 1, 1)},
        {"correlation_id": "EV-root"},
        {"metadata": {"cost": 5, "latency_ms": 9, "host": "b"}},
        {"event_id": "EV-another"},
        {"payload": {"b": {"y": 2, "x": 1}, "a": 1}},
    ],
)
def test_the_digest_does_not_cover_how_it_was_measured_or_written(change: dict[str, Any]) -> None:
    said = {"payload": {"a": 1, "b": {"x": 1, "y": 2}}, "metadata": {"cost": 1}}

    assert digest(make(**said)) == digest(make(**(said | change)))


@given(payload=json_objects, seed=st.integers())
@settings(max_examples=50)
def test_the_order_of_keys_makes_no_difference(payload: dict[str, Any], seed: int) -> None:
    keys = list(payload)
    random.Random(seed).shuffle(keys)

    assert digest(make(payload=payload)) == digest(make(payload={key: payload[key] for key in keys}))


# events made from events


def test_a_caused_event_is_of_the_same_project_and_root() -> None:
    root = make(metadata={"cost": 1})
    child = root.caused("QA_REPORT", actor="Critic", payload={"ok": True}, cost=0.05, latency_ms=12)
    grandchild = child.caused("QA_REPORT", actor="Critic")

    assert (child.project_id, child.causation_id, child.correlation_id) == ("PROJ-1", root.event_id, root.event_id)
    assert (child.cost, child.latency_ms, child.payload) == (0.05, 12.0, {"ok": True})
    assert (grandchild.causation_id, grandchild.correlation_id) == (child.event_id, root.event_id)
    assert (grandchild.payload, grandchild.metadata) == ({}, {})
    assert len({root.event_id, child.event_id, grandchild.event_id}) == 3


def test_a_caused_event_outside_a_handler_needs_an_actor() -> None:
    with pytest.raises(InvalidEvent, match="actor must not be empty"):
        make().caused("QA_REPORT")


def test_inside_a_handler_cause_root_project_and_actor_default_to_what_is_handled() -> None:
    cause = make(event_id="EV-cause", correlation_id="EV-root")
    token = handling.set(Handling(cause, "Critic", 1, "7:Critic:0"))
    try:
        event, caused = Event(type="QA_REPORT"), cause.caused("QA_REPORT")
        other = Event(type="QA_REPORT", project_id="P2", actor="me", causation_id="EV-x", correlation_id="EV-y")
    finally:
        handling.reset(token)

    for made in (event, caused):
        assert (made.project_id, made.actor, made.causation_id, made.correlation_id) == (
            "PROJ-1", "Critic", "EV-cause", "EV-root",
        )  # fmt: skip
    assert (other.project_id, other.actor, other.causation_id, other.correlation_id) == ("P2", "me", "EV-x", "EV-y")


# ids


def test_ids_sort_by_the_time_they_were_made() -> None:
    first = new_event_id()
    made_at = time.time_ns() // 1_000_000
    while time.time_ns() // 1_000_000 == made_at:
        pass
    second = new_event_id()

    assert first < second
    assert first.startswith("EV-") and len(first) == 35


def _some_ids(count: int) -> list[str]:
    return [new_event_id() for _ in range(count)]


def test_ids_are_unique_across_a_fork() -> None:
    with multiprocessing.get_context("fork").Pool(2) as pool:
        children = pool.map(_some_ids, [2000] * 4)

    ids = [event_id for child in [*children, _some_ids(2000)] for event_id in child]
    assert len(set(ids)) == len(ids) == 10_000


# frames


HEADER = b"1763800000000001\t0\t2\t3\tX\tEV-root\tlane\t-3\tJoin/5"


def test_a_frame_reads_back_as_it_was_written() -> None:
    frame = parse_frame(HEADER + b"\n" + b"body with \n and \t")

    assert (frame.position, frame.redelivery, frame.attempts, frame.depth) == (
        1763800000000001,
        0,
        2,
        3,
    )
    assert (frame.type, frame.root, frame.lane, frame.body) == ("X", "EV-root", "lane", b"body with \n and \t")
    assert (frame.priority, frame.scopes) == (-3, "Join/5")
    assert frame.name == "1763800000000001:0"


@given(st.binary() | st.binary().map(lambda body: HEADER + body) | st.binary().map(lambda body: b"1\t" * 9 + body))
@settings(max_examples=150)
def test_any_bytes_are_a_frame_or_malformed(raw: bytes) -> None:
    try:
        assert parse_frame(raw).position is not None
    except MalformedEntry as error:
        assert "9 fields" in str(error)


@given(raw=st.none() | st.binary() | st.binary().map(lambda body: HEADER + b"\n" + body), count=st.integers(1, 9))
@settings(max_examples=150)
def test_a_lease_of_any_bytes_has_a_fault_and_no_exception(raw: bytes | None, count: int) -> None:
    lease = lease_of("Editor", b"5-0", count, raw, suspect=False)

    assert lease.fault is not None and lease.fault.endswith(".")
    assert lease.attempt >= 1
    assert lease.frame is UNREADABLE or lease.frame.position == 1763800000000001


def test_a_lease_of_a_good_frame_counts_its_attempts_and_knows_its_root() -> None:
    lease = lease_of("Editor", b"5-0", 2, HEADER + b"\n" + encode(make()), suspect=False)

    assert lease.fault is None
    assert (lease.attempt, lease.suspect, lease.delivery) == (4, False, "1763800000000001:Editor:0")
    assert lease.event.correlation_id == "EV-root"
    assert "PROJ-1" not in repr(lease)
