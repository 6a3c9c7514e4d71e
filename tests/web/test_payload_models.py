"""With EVENTBUS_APP the web process holds payloads against the application's models, and runs nothing of it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fleet.conftest import make_world
from tests.fleet.fleet import World
from tests.valkey_servers import ValkeyServer
from tests.web.site import Site, start

EVENTS = "/api/v1/events"
SCENE = {"project_id": "film", "type": "SCENE_WRITTEN", "actor": "tester"}
GOOD = {"number": 3, "text": "Dawn."}
PROBLEMS = ["payload.number must be greater than or equal to 1, not 0.", "payload.text is missing."]


@pytest.fixture(scope="module")
def modelled_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with ValkeyServer() as server:
        world = make_world(server.url, tmp_path_factory.mktemp("modelled"))
        yield world
        world.close()


@pytest.fixture(scope="module")
def modelled(modelled_world: World) -> Iterator[Site]:
    """A web process that knows models; nothing else runs."""
    found = start(modelled_world, EVENTBUS_APP="tests.web.modelled:bus", EVENTBUS_HOME=str(modelled_world.tmp_path))
    yield found
    found.http.close()


def test_a_payload_that_does_not_fit_its_model_is_refused_by_field_and_not_published(modelled: Site) -> None:
    refused = modelled.problem("POST", EVENTS, 422, json=SCENE | {"event_id": "EV-bad", "payload": {"number": 0}})
    later = modelled.problem("POST", f"{EVENTS}?delay=1h", 422, json=SCENE | {"payload": {"number": 0}})

    assert refused["code"] == later["code"] == "InvalidEvent"
    assert refused["problems"] == later["problems"] == PROBLEMS
    assert all(problem in refused["detail"] for problem in PROBLEMS)
    modelled.problem("GET", f"{EVENTS}/EV-bad", 404)


def test_a_payload_that_fits_is_published_as_it_was_given_with_its_version(modelled: Site) -> None:
    modelled.published(**SCENE, event_id="EV-new", payload=GOOD)
    modelled.published(**SCENE, event_id="EV-old", payload={"number": 0}, metadata={"schema_version": 1})

    new, old = (modelled.get(f"/events/{name}") for name in ("EV-new", "EV-old"))
    assert (new["payload"], new["metadata"]) == (GOOD, {"schema_version": 2})
    assert (old["payload"], old["metadata"]) == ({"number": 0}, {"schema_version": 1})


def test_each_event_of_a_batch_is_held_against_its_own_model(modelled: Site) -> None:
    batch = [SCENE | {"payload": {"number": 0}}, SCENE | {"payload": GOOD}, SCENE | {"type": "OTHER", "payload": {}}]

    found = modelled.post("/events/batch", batch)

    assert (found["published"], found["refused"]) == (2, 1)
    assert found["answers"][0]["error"]["problems"] == PROBLEMS


def test_a_cloudevent_is_held_against_the_model_of_its_schemaversion(modelled: Site) -> None:
    def sent(version: str) -> Any:
        said = {"specversion": "1.0", "id": f"EV-ce-{version}", "source": "node", "type": "SCENE_WRITTEN",
                "subject": "film", "schemaversion": version}  # fmt: skip
        return modelled.http.post(EVENTS, headers={f"ce-{name}": said[name] for name in said}, json={"number": 0})

    assert (sent("1").status_code, sent("2").status_code) == (201, 422)


def test_the_application_that_is_loaded_for_its_models_does_nothing(modelled: Site) -> None:
    modelled.published(**SCENE, payload=GOOD)

    assert modelled.get("/subscribers")["subscribers"] == []
    assert modelled.get("/workers")["workers"] == []
    assert modelled.get("/events", actor="tick")["events"] == []
    assert not Path(modelled.world.tmp_path, "handled").exists()
    assert "Payloads are held against the models of tests.web.modelled:bus: SCENE_WRITTEN." in modelled.world.log("web")


def test_without_an_application_a_payload_is_whatever_the_publisher_put_there(modelled_world: World) -> None:
    site = start(modelled_world, name="plain")

    site.published(**SCENE, event_id="EV-any", payload={"number": "none"})

    found = site.get("/events/EV-any")
    assert (found["payload"], found["metadata"]) == ({"number": "none"}, {})
    site.http.close()


@pytest.mark.parametrize(
    ("app", "sentence"),
    [
        ("nowhere:bus", "The application's module 'nowhere' cannot be found"),
        ("tests.fleet.broken:bus", "Traceback"),
    ],
)
def test_an_application_that_cannot_be_loaded_is_named_and_nothing_is_served(
    modelled_world: World, app: str, sentence: str
) -> None:
    command = [sys.executable, "-m", "console.main", "web", "--port", "0"]
    process = modelled_world.run(command, app, EVENTBUS_APP=app)

    assert process.wait(60) == 2
    assert sentence in modelled_world.log(app) and "running on" not in modelled_world.log(app)
