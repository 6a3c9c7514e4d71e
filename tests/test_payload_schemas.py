"""Payload models: refused when published, kept as given, read as the newest model whatever the version was."""

from __future__ import annotations

import asyncio
import copy
import json
import secrets
from collections.abc import Iterator
from datetime import UTC, date, datetime
from enum import StrEnum
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, create_model, model_validator

from events.bus import EventBus
from events.cloudevents import from_structured, to_structured
from events.dead_letters import DeadLetters
from events.encoding import decode, digest
from events.errors import InvalidEvent, InvalidSchema, PayloadUnreadable
from events.event import Event
from events.records import DeadLetter, LetterFilter
from events.schemas import Schemas
from events.settings import Settings
from events.slots import Slots
from events.stream import HistoryStream
from events.subscriber import wants_payload
from tests.servers import migrate
from tests.waiting import wait_until
from workers.timetable import Timetable

SCENE = "SCENE_WRITTEN"


class Mood(StrEnum):
    CALM = "calm"
    TENSE = "tense"


class Line(BaseModel):
    speaker: str
    text: str = Field(min_length=1)


class Scene(BaseModel):
    number: int = Field(ge=1)
    lines: list[Line]
    mood: Mood = Mood.CALM
    shot_on: date | None = None


class FirstScene(BaseModel):
    number: int
    text: str


def scene(payload: Any, **fields: Any) -> Event:
    return Event(project_id="P-1", type=SCENE, actor="me", payload=payload, **fields)


GOOD = {"number": 1, "lines": [{"speaker": "Fox", "text": "Dawn."}]}


@pytest.fixture
def settings(redis_url: str, tmp_path: Path) -> Settings:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    migrate(url)
    name = f"test-{secrets.token_hex(6)}"
    return Settings(redis_url=redis_url, database_url=url, namespace=name, max_event_bytes=2000, timeout_s=10)


@pytest.fixture
def bus(settings: Settings) -> Iterator[EventBus]:
    bus = EventBus(settings)
    bus.payload(SCENE, FirstScene)
    bus.payload(SCENE, Scene, version=2)

    @bus.upcaster(SCENE, from_version=1)
    def with_lines(payload: dict[str, Any]) -> dict[str, Any]:
        payload["lines"] = [{"speaker": "Narrator", "text": payload.pop("text")}]
        return payload

    yield bus
    bus.close()


# published


@pytest.mark.parametrize(
    ("payload", "problems"),
    [
        ({"number": "1", "lines": []}, ["payload.number must be a valid integer, not a string."]),
        ({"number": 0, "lines": []}, ["payload.number must be greater than or equal to 1, not 0."]),
        ({"number": 1.5, "lines": []}, ["payload.number must be a valid integer, not 1.5."]),
        ({"number": True, "lines": {}}, ["payload.number must be a valid integer, not true.",
                                         "payload.lines must be a valid array, not an object."]),
        ({"lines": [{"speaker": "Fox", "text": ""}]}, ["payload.number is missing.",
                                                       "payload.lines.0.text must have at least 1 character."]),
        ({**GOOD, "mood": "secret"}, ["payload.mood must be 'calm' or 'tense'."]),
        ({**GOOD, "shot_on": 5}, ["payload.shot_on must be a valid date, not 5."]),
    ],
)  # fmt: skip
def test_a_payload_that_does_not_fit_is_refused_by_the_name_of_each_field(
    bus: EventBus, payload: dict[str, Any], problems: list[str]
) -> None:
    with pytest.raises(InvalidEvent) as refused:
        bus.publish_sync(scene(payload))

    assert refused.value.problems == problems
    assert HistoryStream(bus.backend.namespace).entries_after("history", "0-0", 10) == []


def test_a_refusal_shows_no_text_of_the_payload_and_counts_what_it_leaves_out() -> None:
    schemas = Schemas()
    schemas.add_model("X", create_model("Many", **{f"f{n}": (int, ...) for n in range(30)}), 1)  # type: ignore[call-overload]
    event = Event(project_id="P", type="X", actor="a", payload={f"f{n}": "confidential" for n in range(30)})

    with pytest.raises(InvalidEvent) as refused:
        schemas.checked(event)

    assert "confidential" not in str(refused.value)
    assert len(refused.value.problems) == 21 and refused.value.problems[-1] == "And 10 more fields are wrong."


def test_what_an_applications_own_validator_says_is_the_sentence() -> None:
    class Span(BaseModel):
        model_config = ConfigDict(extra="forbid")
        start: int
        end: int

        @model_validator(mode="after")
        def ordered(self) -> Span:
            if self.start > 90:
                raise KeyError("ninety")
            if self.end < self.start:
                raise ValueError("ends before it starts")
            return self

    schemas = Schemas()
    schemas.add_model("SPAN", Span, 1)

    def problems(**payload: Any) -> list[str]:
        with pytest.raises(InvalidEvent) as refused:
            schemas.checked(Event(project_id="P", type="SPAN", actor="a", payload=payload))
        return refused.value.problems

    assert problems(start=2, end=1) == ["payload ends before it starts."]
    assert problems(start=1, end=2, note="") == ["payload.note is not a field of Span."]
    assert problems(start=91, end=2) == ["payload could not be held against Span: KeyError: 'ninety'."]


def test_the_newest_version_is_written_and_the_payload_stays_as_given(bus: EventBus) -> None:
    event = scene({**GOOD, "extra": [1]}, metadata={"cost": 1})
    bus.publish_sync(event)

    ((_, recorded),) = HistoryStream(bus.backend.namespace).entries_after("history", "0-0", 10)

    assert recorded.event.payload == event.payload, "no default, and nothing taken away"
    assert recorded.event.metadata == {"cost": 1, "schema_version": 2}
    assert event.metadata == {"cost": 1}, "the publisher's own event is as it was"


def test_what_is_published_again_has_its_digest_whatever_became_of_the_model(bus: EventBus, settings: Settings) -> None:
    event = scene(GOOD)
    first = bus.publish_many_sync([event])[0]
    later = EventBus(settings)
    later.payload(SCENE, create_model("Scene3", __base__=Scene, rating=(int, 3)), version=3)

    again = later.publish_many_sync([event])[0]

    assert again.position == first.position and not again.is_new  # type: ignore[union-attr]
    assert digest(later.checked(event)) == digest(event)
    later.close()


def test_an_older_version_is_held_against_its_own_model(bus: EventBus) -> None:
    old = scene({"number": 0, "text": "Dawn."}, metadata={"schema_version": 1})
    answers = bus.publish_many_sync(
        [
            old,
            scene({"number": 1}, metadata={"schema_version": 1}),
            scene(GOOD),
            scene(GOOD, metadata={"schema_version": 9}),
        ]
    )

    assert [getattr(answer, "problems", "published") for answer in answers] == [
        "published",
        ["payload.text is missing."],
        "published",
        ["metadata.schema_version is 9, and SCENE_WRITTEN has versions 1, 2 here: nobody could read it."],
    ]


@pytest.mark.parametrize("version", [0, -1, True, "2", 1.0, [1]])
def test_a_version_is_a_whole_number(bus: EventBus, version: Any) -> None:
    with pytest.raises(InvalidEvent, match=r"metadata.schema_version must be a whole number of at least 1, not "):
        bus.checked(scene(GOOD, metadata={"schema_version": version}))
    with pytest.raises(PayloadUnreadable, match="which is no version"):
        bus.read(scene(GOOD, metadata={"schema_version": version}))


def test_a_version_whose_model_is_gone_is_published_if_an_upcaster_reads_it() -> None:
    schemas = Schemas()
    schemas.add_model(SCENE, Scene, 2)
    schemas.add_upcaster(SCENE, lambda payload: {**GOOD, **payload}, 1)
    old = scene({"whatever": 1}, metadata={"schema_version": 1})

    assert schemas.checked(old) is old


def test_a_type_without_a_model_is_let_through_untouched(bus: EventBus) -> None:
    bus.upcaster("ONLY_UPCAST", lambda payload: payload, from_version=1)
    for kind in ("QA_REPORT", "ONLY_UPCAST"):
        event = Event(project_id="P", type=kind, actor="a", metadata={"schema_version": "any"})
        assert bus.checked(event) is event


def test_a_scheduled_event_is_checked_when_it_is_scheduled(bus: EventBus) -> None:
    with pytest.raises(InvalidEvent, match=r"payload.number is missing"):
        bus.publish_sync(scene({"lines": []}), delay=60)
    event_id = bus.publish_sync(scene(GOOD), delay=60)

    assert bus.cancel(event_id)


def test_a_model_is_a_payload_and_becomes_its_json() -> None:
    made = Scene(number=1, lines=[Line(speaker="Fox", text="Dawn.")], shot_on=date(2026, 1, 31))
    event = scene(made)

    assert event.payload == {**GOOD, "mood": "calm", "shot_on": "2026-01-31"}
    assert event.caused(SCENE, actor="me", payload=made).payload == event.payload


def test_a_large_payload_is_checked_before_it_goes_to_the_blackboard(bus: EventBus) -> None:
    lines = [{"speaker": "Fox", "text": "the fox " * 500}]

    async def run() -> Event:
        with pytest.raises(InvalidEvent, match=r"payload.number is missing"):
            await bus.publish_large(scene({"lines": lines}))
        await bus.publish_large(scene({"number": 7, "lines": lines}))
        (stored,) = await bus.replay_events()
        assert bus.read(stored, await bus.payload_of(stored)).number == 7
        return stored

    stored = asyncio.run(run())
    assert stored.payload == {} and stored.metadata["schema_version"] == 2
    with pytest.raises(PayloadUnreadable, match=r"its payload lies at 'bb:P-1/payloads/.*; pass it as the second"):
        bus.read(stored)


# read


def test_an_old_payload_is_read_as_the_newest_model_and_stays_as_it_was(bus: EventBus) -> None:
    old = scene({"number": 3, "text": "Rain."})

    assert bus.read(old) == Scene(number=3, lines=[Line(speaker="Narrator", text="Rain.")])
    assert old.payload == {"number": 3, "text": "Rain."}


def test_reading_takes_what_publishing_would_not(bus: EventBus) -> None:
    assert bus.read(scene({"number": "4", "lines": []}, metadata={"schema_version": 2})).number == 4


@pytest.mark.parametrize(
    ("payload", "version", "why"),
    [
        (GOOD, 3, r"it has version 3, and this process knows versions 1, 2: deploy what reads it\."),
        ({"number": 1}, 1, r"the upcaster from version 1 failed: KeyError: 'text'\."),
        ({"redacted": True}, 2, r"payload.number is missing. payload.lines is missing\."),
    ],
)
def test_what_cannot_be_read_is_named(bus: EventBus, payload: dict[str, Any], version: int, why: str) -> None:
    event = scene(payload, event_id="EV-1", metadata={"schema_version": version})

    with pytest.raises(
        PayloadUnreadable, match=rf"The payload of EV-1 \(SCENE_WRITTEN\) cannot be read: {why}"
    ) as found:
        bus.read(event)
    assert bool(found.value.problems) == (version == 2)


def test_a_gap_in_the_upcasters_an_answer_that_is_no_dict_and_a_type_without_a_model_are_named() -> None:
    schemas = Schemas()
    schemas.add_model(SCENE, Scene, 4)
    schemas.add_upcaster(SCENE, lambda payload: [], 3)

    for version, why in (
        (2, "no upcaster leads from version 2 to 3"),
        (3, "from version 3 returned a list, not a dict"),
    ):
        with pytest.raises(PayloadUnreadable, match=why):
            schemas.read(scene(GOOD, metadata={"schema_version": version}))
    with pytest.raises(PayloadUnreadable, match="QA_REPORT has no model here"):
        schemas.read(Event(project_id="P", type="QA_REPORT", actor="a"))
    assert schemas.types[SCENE].oldest_readable == 3


CORPUS = {
    1: [{"text": "Rain."}, {"text": ""}],
    2: [{"lines": ["Rain."]}, {"lines": []}],
    3: [{"lines": [{"text": "Rain.", "speaker": None}]}],
    4: [{"lines": [{"text": "Rain.", "speaker": None}], "mood": "tense"}],
}


class Final(BaseModel):
    class Spoken(BaseModel):
        text: str
        speaker: str | None

    lines: list[Spoken]
    mood: Mood


CHAIN = {
    1: lambda payload: {"lines": [payload["text"]] if payload["text"] else []},
    2: lambda payload: {"lines": [{"text": line, "speaker": None} for line in payload["lines"]]},
    3: lambda payload: {**payload, "mood": "calm"},
}


@pytest.mark.parametrize(
    ("version", "payload"), [(v, payload) for v, payloads in CORPUS.items() for payload in payloads]
)
def test_every_old_payload_of_a_corpus_stays_readable(version: int, payload: dict[str, Any]) -> None:
    schemas = Schemas()
    schemas.add_model(SCENE, Final, 4)
    for from_version, upcaster in CHAIN.items():
        schemas.add_upcaster(SCENE, upcaster, from_version)

    found = schemas.read(scene(payload, metadata={"schema_version": version}))

    assert isinstance(found, Final) and [line.text for line in found.lines] in (["Rain."], [])


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcd"), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
PAYLOADS = st.dictionaries(st.sampled_from("abcdef"), JSON, max_size=4)
STEPS = st.sampled_from([
    lambda payload: {**payload, "g": len(payload)},
    lambda payload: {key: value for key, value in payload.items() if key != "a"},
    lambda payload: {"was": payload},
    lambda payload: dict(sorted(payload.items(), reverse=True)),
    lambda payload: (payload.clear(), {"cleared": True})[1],
])  # fmt: skip


@given(payload=PAYLOADS, steps=st.lists(STEPS, min_size=0, max_size=6), data=st.data())
def test_reading_an_old_version_is_the_chain_and_then_the_newest_model(
    payload: dict[str, Any], steps: list[Any], data: st.DataObject
) -> None:
    newest = len(steps) + 1
    version = data.draw(st.integers(1, newest))
    schemas = Schemas()
    schemas.add_model(SCENE, Open, newest)
    for number, step in enumerate(steps, 1):
        schemas.add_upcaster(SCENE, step, number)
    expected = copy.deepcopy(payload)
    for step in steps[version - 1 :]:
        expected = step(expected)
    absent = version == 1 and data.draw(st.booleans())
    event = scene(payload, metadata={} if absent else {"schema_version": version})

    assert schemas.read(event) == Open.model_validate(expected)
    assert event.payload == payload, "the event's own is never touched"


class Everything(BaseModel):
    n: int
    x: float
    at: datetime
    mood: Mood
    pair: tuple[int, str]
    some: set[int]
    deep: dict[str, list[Annotated[str, Field(max_length=9)]]]
    either: int | str | None


@given(made=st.builds(
    Everything,
    x=st.floats(allow_nan=False, allow_infinity=False),
    at=st.datetimes(timezones=st.just(UTC)),
    pair=st.tuples(st.integers(), st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))),
    deep=st.dictionaries(st.sampled_from("ab"), st.lists(st.text(st.sampled_from("ab"), max_size=9), max_size=2)),
    either=st.none() | st.integers() | st.text(st.sampled_from("ab1")),
))  # fmt: skip
def test_a_model_that_is_published_is_accepted_and_read_back(made: Everything) -> None:
    schemas = Schemas()
    schemas.add_model(SCENE, Everything, 1)

    assert schemas.read(schemas.checked(scene(made))) == made


# registered


def test_what_cannot_be_registered_is_named(bus: EventBus) -> None:
    bus.payload(SCENE, Scene, version=2)  # again: harmless
    for wrong, why in (
        (
            lambda: bus.payload(SCENE, FirstScene, version=2),
            "Version 2 of SCENE_WRITTEN has a model already, Scene: give",
        ),
        (lambda: bus.payload(SCENE, dict, version=3), "must be a pydantic model, a class, not <class 'dict'>"),
        (lambda: bus.payload(SCENE, Scene, version=0), "must be a whole number of at least 1, not 0"),
        (lambda: bus.payload("*", Scene), "'\\*' cannot name an event type"),
        (lambda: bus.upcaster(SCENE, len, from_version=1), "Version 1 of SCENE_WRITTEN has an upcaster already"),
        (lambda: bus.upcaster(SCENE, "x", from_version=2), "must be callable with a dict, not 'x'"),
        (lambda: bus.upcaster(SCENE, len, from_version="1"), "must be a whole number of at least 1, not '1'"),
    ):
        with pytest.raises(InvalidSchema, match=why):
            wrong()


def test_two_buses_know_nothing_of_each_other(bus: EventBus) -> None:
    other = EventBus(bus.settings)

    assert other.checked(scene({})).payload == {}
    other.close()


def test_a_decorated_model_and_function_stay_what_they_are(bus: EventBus) -> None:
    @bus.payload("QA_REPORT")
    class Report(BaseModel):
        passed: bool

    @bus.upcaster("QA_REPORT", from_version=7)
    def step(payload: dict[str, Any]) -> dict[str, Any]:
        return payload

    assert Report(passed=True).passed and step({"a": 1}) == {"a": 1}


# handled


def dead(bus: EventBus) -> list[DeadLetter]:
    return list(DeadLetters(bus.backend.namespace).iterate(LetterFilter()))


@pytest.mark.parametrize("is_async", [True, False])
def test_a_handler_that_asks_for_the_payload_gets_the_model(bus: EventBus, is_async: bool) -> None:
    seen: list[Any] = []

    def plan(event: Event, payload: Scene) -> None:
        seen.append((event.payload, payload))

    async def plan_async(event: Event, payload: Scene) -> None:
        plan(event, payload)

    def by_default(event: Event, payload: object = "its own") -> None:
        seen.append(payload)

    bus.subscriber("ShotDirector", [SCENE])(plan_async if is_async else plan)
    bus.subscriber("Other", [SCENE])(by_default)

    async def run() -> None:
        await bus.start_consuming()
        await bus.publish(scene({"number": 1, "text": "Rain."}, metadata={"schema_version": 1}))
        await asyncio.to_thread(wait_until, lambda: len(seen) == 2, 30)
        await bus.stop_consuming()

    asyncio.run(run())

    seen.sort(key=str)
    assert seen[0][0] == {"number": 1, "text": "Rain."} and seen[0][1].lines[0].speaker == "Narrator"
    assert seen[1] == "its own"


def test_a_payload_that_cannot_be_read_fails_the_attempt_of_who_asked_and_of_nobody_else(bus: EventBus) -> None:
    seen: list[str] = []

    @bus.subscriber("Asks", [SCENE], max_attempts=1)
    async def asks(event: Event, payload: Scene) -> None:
        seen.append("asked")

    @bus.subscriber("Takes", [SCENE])
    async def takes(event: Event) -> None:
        seen.append("took")

    async def run() -> list[Event]:
        await bus.start_consuming()
        newer = EventBus(bus.settings)
        await newer.publish(scene({"other": 1}, metadata={"schema_version": 3}))  # of a release that is not here yet
        await asyncio.to_thread(wait_until, lambda: seen and dead(bus), 30)
        await bus.stop_consuming()
        await newer.disconnect()
        return await bus.replay_events()

    (stored,) = asyncio.run(run())

    assert seen == ["took"] and stored.payload == {"other": 1}
    (letter,) = dead(bus)
    assert letter.subscriber == "Asks" and letter.reason.startswith("PayloadUnreadable: The payload of EV-")


def test_a_result_that_does_not_fit_is_a_dead_letter_at_once_and_all_of_it_is_kept(bus: EventBus) -> None:
    calls: list[str] = []

    @bus.subscriber("ScriptWriter", ["PROJECT_CREATED"], max_attempts=5, min_backoff=0)
    async def write(event: Event) -> list[Event]:
        calls.append(event.event_id)
        paid = event.caused(SCENE, payload=GOOD, cost=2.5)
        return [paid, event.caused(SCENE, payload={"number": "one", "lines": []}, cost=2.5)]

    async def run() -> list[Event]:
        await bus.start_consuming()
        await bus.publish(Event(project_id="P-1", type="PROJECT_CREATED", actor="me"))
        await asyncio.to_thread(wait_until, lambda: dead(bus), 30)
        await bus.stop_consuming()
        return await bus.replay_events(event_types=[SCENE])

    assert asyncio.run(run()) == []
    (letter,) = dead(bus)
    assert len(calls) == 1, "paid work is not repeated"
    assert letter.reason == (
        "What the handler returned could not be published: The event is not valid: payload.number must be a valid "
        "integer, not a string."
    )
    assert [event["metadata"]["cost"] for event in json.loads(letter.output)] == [2.5, 2.5]


def test_a_result_that_fits_has_its_version(bus: EventBus) -> None:
    @bus.subscriber("ScriptWriter", ["PROJECT_CREATED"])
    def write(event: Event) -> Event:
        return event.caused(SCENE, payload=Scene(number=1, lines=[]))

    async def run() -> list[Event]:
        await bus.start_consuming()
        await bus.publish(Event(project_id="P-1", type="PROJECT_CREATED", actor="me"))
        while not (found := await bus.replay_events(event_types=[SCENE])):
            await asyncio.sleep(0.02)
        await bus.stop_consuming()
        return found

    (stored,) = asyncio.run(asyncio.wait_for(run(), 30))
    assert stored.metadata["schema_version"] == 2


def test_a_factory_of_a_schedule_is_held_to_the_models(bus: EventBus) -> None:
    bus.every("* * * * *", lambda slot: scene({}), name="wrong")
    bus.every("* * * * *", lambda slot: scene(GOOD), name="right")
    wrong, right = bus.schedules
    loop = asyncio.new_event_loop()
    table = Timetable(Slots(bus.backend.namespace, 100), bus.schedules, loop, 1 << 20)

    with pytest.raises(InvalidEvent, match=r"payload.number is missing"):
        table._made(wrong, datetime.now(UTC))
    ((*_, body),) = table._made(right, datetime.now(UTC))
    loop.close()

    assert decode(body).metadata == {"schema_version": 2}  # type: ignore[arg-type]


def test_only_a_second_parameter_that_a_handler_needs_asks_for_the_payload() -> None:
    class Agent:
        async def handle_event(self, event: Event, payload: Scene) -> None: ...

    def injects(function: Any) -> Any:
        @wraps(function)
        def wrapper(event: Event) -> Any:
            return function(event, "its own")

        return wrapper

    def passes_on(function: Any) -> Any:
        @wraps(function)
        def wrapper(*args: Any) -> Any:
            return function(*args)

        return wrapper

    def asks(event: Event, payload: Scene) -> None: ...
    def by_default(event: Event, payload: object = None) -> None: ...
    def by_name(event: Event, *, payload: object) -> None: ...
    def all_of(event: Event, *payload: object) -> None: ...
    def joins(event: Event, joined: object) -> None: ...

    assert [wants_payload(handler) for handler in (asks, Agent().handle_event, passes_on(asks))] == [True] * 3
    others = (by_default, by_name, all_of, joins, injects(asks), print, lambda event: None)
    assert [wants_payload(handler) for handler in others] == [False] * 7


def test_the_version_travels_in_a_cloudevent() -> None:
    event = scene(GOOD, metadata={"schema_version": 2})

    assert to_structured(event)["schemaversion"] == 2
    assert from_structured(to_structured(event)).metadata == {"schema_version": 2}
