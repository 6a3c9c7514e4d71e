"""`eventbus asyncapi`: a document that the official schema accepts, and that says what the application does."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from console.asyncapi import MAX_ACTORS, document
from console.exits import Mistake
from console.yaml_text import to_yaml
from events.bus import EventBus
from events.encoding import encode
from events.event import Event
from events.schemas import Schemas
from events.settings import Settings
from tests.console.command import Place

OFFICIAL = Path(__file__).parents[1] / "asyncapi" / "schema-3.0.0.json"
PIPELINE = '''
from typing import Literal

from pydantic import BaseModel, Field

from events import EventBus, EventType

print("loading the pipeline")
bus = EventBus()


class Line(BaseModel):
    speaker: str
    words: list["Line"] = []


@bus.payload(EventType.SCENE_WRITTEN)
class SceneV1(BaseModel):
    number: int
    text: str


@bus.payload(EventType.SCENE_WRITTEN, version=3)
class Scene(BaseModel):
    """A scene, as its writer left it."""

    number: int = Field(ge=1)
    lines: list[Line]
    mood: Literal["calm", "tense"] = "calm"
    at: tuple[int, int] | None = None


@bus.payload("shop:order.paid-1")
class Scene(BaseModel):
    euros: float = 1e16


@bus.upcaster(EventType.SCENE_WRITTEN, from_version=2)
def third(payload):
    return payload


@bus.subscriber("ScriptWriter", [EventType.PROJECT_CREATED, "shop:order.paid-1"], ordering="project", max_attempts=3)
async def write(event):
    """Writes the scenes.

    Slowly.
    """


@bus.subscriber("Planner", [EventType.SCENE_WRITTEN], rate_limit=0.5, concurrency=2, time_limit=30)
def plan(event, payload):
    pass


@bus.join("Editor", after=[EventType.SCENE_WRITTEN], of=[EventType.IMAGE_GENERATED], timeout=60)
def cut(event, joined):
    pass


@bus.subscriber("Logger", ["*"], batch=10)
def log(events):
    pass
'''


@pytest.fixture(scope="module")
def official() -> Any:
    return jsonschema_rs.validator_for(json.loads(OFFICIAL.read_text()))


@pytest.fixture
def pipeline(place: Place) -> Place:
    (place.directory / "pipeline.py").write_text(PIPELINE)
    return place


def shown(place: Place, *options: str, **variables: str) -> dict[str, Any]:
    done = place.run("asyncapi", "--app", "pipeline:bus", *options, **variables)
    assert done.code == 0 and "loading the pipeline" in done.err and "Traceback" not in done.err, done.err
    return done.json()


def payload_of(found: dict[str, Any], kind: str, message: str) -> Any:
    """A validator of what a message carries."""
    schema = found["channels"][kind]["messages"][message]["payload"]
    return jsonschema_rs.validator_for({**schema, "components": found["components"]})


def test_the_document_is_valid_and_says_who_receives_what(pipeline: Place, official: Any) -> None:
    found = shown(pipeline, "--title", "Film", "--release", "1.4")

    assert [error.message for error in official.iter_errors(found)] == []
    assert (found["asyncapi"], found["info"]["title"], found["info"]["version"]) == ("3.0.0", "Film", "1.4")
    assert "servers" not in found, "the embedded one is nobody else's"
    assert {kind: sorted(channel["messages"]) for kind, channel in found["channels"].items()} == {
        "*": ["event"],
        "IMAGE_GENERATED": ["event"],
        "PROJECT_CREATED": ["event"],
        "SCENE_WRITTEN": ["v1", "v3"],
        "shop:order.paid-1": ["v1"],
    }
    assert {name: one["channel"]["$ref"] for name, one in found["operations"].items()} == {
        "ScriptWriter.PROJECT_CREATED": "#/channels/PROJECT_CREATED",
        "ScriptWriter.shop:order.paid-1": "#/channels/shop:order.paid-1",
        "Planner.SCENE_WRITTEN": "#/channels/SCENE_WRITTEN",
        "Editor.SCENE_WRITTEN": "#/channels/SCENE_WRITTEN",
        "Logger.*": "#/channels/*",
    }
    assert found["operations"]["ScriptWriter.PROJECT_CREATED"]["description"] == "Writes the scenes.\n\nSlowly."
    options = {name: one["x-eventbus"] for name, one in found["operations"].items()}
    usual = {"max_attempts": 5, "time_limit_s": 600.0}
    assert options["ScriptWriter.PROJECT_CREATED"] == {
        "subscriber": "ScriptWriter", **usual, "max_attempts": 3, "ordering": "project", "on_dead": "skip",
    }  # fmt: skip
    assert options["Planner.SCENE_WRITTEN"] == {
        "subscriber": "Planner", **usual, "time_limit_s": 30, "concurrency": 2, "rate_limit_per_s": 0.5,
    }  # fmt: skip
    joined = {"of": ["IMAGE_GENERATED"], "timeout_s": 60, "partial": "run"}
    assert options["Editor.SCENE_WRITTEN"] == {"subscriber": "Editor", **usual, "join": joined}
    assert options["Logger.*"] == {"subscriber": "Logger", **usual, "batch": 10}
    assert not (pipeline.directory / ".eventbus").exists(), "nothing was started"


def test_each_message_tells_which_versions_are_readable_and_every_reference_leads_somewhere(pipeline: Place) -> None:
    found = shown(pipeline)
    messages = found["channels"]["SCENE_WRITTEN"]["messages"]

    assert messages["v1"]["x-eventbus"] == {"schema_version": 1, "newest": False, "readable_here": False}
    assert messages["v3"]["x-eventbus"] == {"schema_version": 3, "newest": True, "readable_here": True}
    assert found["info"]["title"] == "pipeline:bus"
    for reference in references(found):
        place: Any = found
        for part in reference.removeprefix("#/").split("/"):
            place = place[part]
        assert isinstance(place, dict), reference


def references(value: Any) -> list[str]:
    if isinstance(value, list):
        return [found for item in value for found in references(item)]
    if not isinstance(value, dict):
        return []
    own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
    return own + [found for item in value.values() for found in references(item)]


def test_what_the_bus_publishes_is_what_the_document_says(pipeline: Place) -> None:
    found = shown(pipeline)
    schemas = Schemas()

    class Scene(BaseModel):
        number: int
        lines: list[dict[str, Any]]

    schemas.add_model("SCENE_WRITTEN", Scene, 3)

    def published(payload: dict[str, Any], kind: str = "SCENE_WRITTEN", **metadata: Any) -> Any:
        event = Event(project_id="P", type=kind, actor="a", payload=payload, metadata=metadata, causation_id="EV-0")
        return json.loads(encode(schemas.checked(event)))

    third = payload_of(found, "SCENE_WRITTEN", "v3")
    good = published({"number": 1, "lines": [{"speaker": "Fox"}]}, cost=0.5)
    assert third.is_valid(good)
    assert not third.is_valid(published({"number": 0, "lines": []}))
    assert not third.is_valid({**good, "metadata": {}}) and not third.is_valid({**good, "type": "OTHER"})
    assert payload_of(found, "shop:order.paid-1", "v1").is_valid(published({"euros": 2}, "shop:order.paid-1"))
    for kind in ("PROJECT_CREATED", "*"):
        assert payload_of(found, kind, "event").is_valid(published({"any": ["thing"]}, "PROJECT_CREATED", priority=3))


@pytest.mark.parametrize(
    ("url", "server"),
    [
        (
            "redis://bob:s3cret@redis.example:6380/2",
            {"host": "redis.example:6380", "protocol": "redis", "pathname": "/2"},
        ),
        ("rediss://:s3cret/with#signs@redis.example", {"host": "***", "protocol": "rediss"}),
        ("redis://redis.example?password=s3cret", {"host": "redis.example", "protocol": "redis"}),
        ("unix:///run/redis.sock", {"host": "localhost", "protocol": "redis", "pathname": "/run/redis.sock"}),
    ],
)
def test_the_server_is_named_without_its_secrets(url: str, server: dict[str, str], official: Any) -> None:
    settings = Settings(redis_url=url, namespace="film")
    found = document(_one_subscriber(settings), Schemas(), settings, title="t", release="0")

    assert official.is_valid(found)
    told = {name: value for name, value in found["servers"]["redis"].items() if name != "description"}
    assert told == server and "s3cret" not in json.dumps(found) and "bob" not in json.dumps(found)
    assert found["channels"]["X"]["servers"] == [{"$ref": "#/servers/redis"}]
    assert found["x-eventbus"] == {"namespace": "film"}


def _one_subscriber(settings: Settings) -> Any:
    bus = EventBus(settings)
    bus.subscriber("S", ["X"])(lambda event: None)
    return bus.subscriptions


def test_who_has_published_is_named_when_the_store_is_asked(pipeline: Place, official: Any) -> None:
    for kind, actor in (("PROJECT_CREATED", "Author"), ("PROJECT_CREATED", "Robot"), ("NEVER_RECEIVED", "Robot")):
        assert pipeline.run("publish", kind, "-p", "P-1", "-a", actor).code == 0

    found = shown(pipeline, "--observed")

    assert official.is_valid(found)
    sends = {name: one["x-eventbus"] for name, one in found["operations"].items() if one["action"] == "send"}
    assert sends == {
        "publish:NEVER_RECEIVED": {"actors": ["Robot"]},
        "publish:PROJECT_CREATED": {"actors": ["Author", "Robot"]},
    }


def test_json_is_what_it_prints_anyway_and_not_beside_yaml(pipeline: Place) -> None:
    plain, asked = (pipeline.run("asyncapi", "--app", "pipeline:bus", *how) for how in ((), ("--json",)))

    assert asked.code == 0 and asked.out == plain.out
    both = pipeline.run("asyncapi", "--app", "pipeline:bus", "--json", "--yaml")
    assert both.code == 2 and both.sentence() == "Give either --yaml or --json."


def test_of_very_many_actors_some_are_named(official: Any) -> None:
    settings = Settings()
    senders = [("X", f"user-{n:03}") for n in range(MAX_ACTORS + 7)]

    found = document(_one_subscriber(settings), Schemas(), settings, title="t", release="0", senders=senders)

    assert official.is_valid(found)
    told = found["operations"]["publish:X"]["x-eventbus"]
    assert len(told["actors"]) == MAX_ACTORS and told["more_actors"] == 7


def test_yaml_says_the_same_as_json(pipeline: Place) -> None:
    done = pipeline.run("asyncapi", "--app", "pipeline:bus", "--yaml")

    assert done.code == 0 and done.out.startswith('asyncapi: "3.0.0"\n')
    assert yaml.safe_load(done.out) == shown(pipeline)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
    [
        "no",
        "Yes",
        "1",
        "1e3",
        "- a",
        "#",
        "a: b",
        "~",
        "2026-01-31",
        "\u2028",
        "\x85",
        "\x7f",
        "\ufeff",
        "🦊",
        "*",
        "&x",
    ]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3))


@given(VALUES)
def test_what_is_written_as_yaml_is_read_as_it_was(value: Any) -> None:
    found = yaml.safe_load(to_yaml(value))

    assert found == value or math.isclose(found, value)
    assert type(found) is type(value)


def test_a_model_that_json_schema_cannot_tell_is_named() -> None:
    class Strange(BaseModel):
        model_config = {"arbitrary_types_allowed": True}
        what: memoryview

    schemas = Schemas()
    schemas.add_model("X", Strange, 1)

    with pytest.raises(Mistake, match=r"cannot tell one of the models Strange \(version 1 of X\): "):
        document([], schemas, Settings(), title="t", release="0")


def test_an_application_that_cannot_be_loaded_is_a_mistake(place: Place) -> None:
    (place.directory / "broken.py").write_text("1 / 0\n")
    (place.directory / "leaving.py").write_text("raise SystemExit(0)\n")

    assert "There is no application to run" in place.run("asyncapi").sentence()
    for module, said in (("broken", "ZeroDivisionError"), ("leaving", "SystemExit")):
        done = place.run("asyncapi", "--app", module)
        assert (done.code, done.out) == (2, "") and said in done.err
    missing = place.run("asyncapi", "--app", "nowhere:bus")
    assert missing.code == 2 and "cannot be found" in missing.sentence()
