"""Publishing over HTTP: one, many, as CloudEvents; what is refused, and with which sentence."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest

from events.encoding import encode
from events.event import Event
from events.settings import Settings
from tests.waiting import wait_until
from tests.web.site import Site

EVENTS = "/api/v1/events"
NOON = "2026-01-31T12:00:00Z"
STRUCTURED = {"content-type": "application/cloudevents+json"}


def new(**fields: Any) -> dict[str, Any]:
    return {"event_id": f"EV-{uuid.uuid4().hex}", "project_id": "film", "type": "QA_REPORT", "actor": "tester"} | fields


def test_an_event_is_published_once_however_often_it_is_sent(site: Site) -> None:
    event = new(payload={"n": 1}, metadata={"cost": 0.5})

    first = site.http.post(EVENTS, json=event)
    again = site.http.post(EVENTS, json=event)

    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == {"event_id": event["event_id"], "position": first.json()["position"], "is_new": True}
    assert again.json() == first.json() | {"is_new": False}
    found = site.get(f"/events/{event['event_id']}")
    assert {name: found[name] for name in event} == event


def test_an_id_that_says_something_else_is_refused_by_name(site: Site) -> None:
    event = new(payload={"n": 1})
    site.post("/events", event, 201)

    found = site.problem("POST", EVENTS, 409, json=event | {"payload": {"n": 2}})

    assert found["code"] == "EventIdConflict" and event["event_id"] in found["detail"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"project_id": ""}, "project_id must not be empty"),
        ({"type": "no such"}, "type must be a letter"),
        ({"extra": 1}, "extra is not a field of an event"),
        ({"self": 1}, "a field that no event has"),
        ({"payload": [1]}, "payload must be a JSON object"),
        ({"metadata": {"cost": -1}}, "metadata.cost must be a number of at least 0"),
        ({"timestamp": "yesterday"}, "timestamp"),
        ({"actor": None}, "actor"),
    ],
)
def test_a_bad_field_is_named_and_nothing_is_written(site: Site, changes: dict[str, Any], sentence: str) -> None:
    event = new(**changes)

    found = site.http.post(EVENTS, json=event).json()

    assert found["status"] in (400, 422) and sentence in found["detail"]
    assert site.http.get(f"{EVENTS}/{event['event_id']}").status_code == 404


@pytest.mark.parametrize(
    ("body", "media", "status", "sentence"),
    [
        (b"", "application/json", 400, "The body is not JSON"),
        (b"{", "application/json", 400, "The body is not JSON"),
        (b"[1]", "application/json", 400, "An event is a JSON object, not an array"),
        (b'{"cost": NaN}', "application/json", 400, "NaN is not JSON"),
        (b"\xff\xfe", "application/json", 400, "The body is not JSON"),
        (b"[" * 100_000, "application/json", 400, "The body is not JSON"),
        (b"a=b", "application/x-www-form-urlencoded", 415, "send application/json"),
        (b"{}", "", 415, "send application/json"),
    ],
)
def test_what_is_no_event_is_refused_with_a_sentence(
    site: Site, body: bytes, media: str, status: int, sentence: str
) -> None:
    found = site.problem("POST", EVENTS, status, content=body, headers={"content-type": media})

    assert sentence in found["detail"]


def test_an_event_that_is_too_large_is_refused_by_its_size(site: Site) -> None:
    found = site.problem("POST", EVENTS, 413, json=new(payload={"text": "x" * 1_100_000}))

    assert found["code"] == "EventTooLarge" and "EVENTBUS_MAX_EVENT_BYTES" in found["detail"]


def test_a_body_without_end_is_refused(site: Site) -> None:
    def endless() -> Any:
        for _ in range(40):
            yield b" " * 1_000_000

    answer = site.http.post(EVENTS, content=endless(), headers={"content-type": "application/json"})

    assert answer.status_code == 413 and "longer than" in answer.json()["detail"]


def test_of_a_batch_each_event_is_answered_by_itself(site: Site) -> None:
    known, fresh, bad = new(), new(), new(project_id="")
    site.post("/events", known, 201)

    found = site.post("/events/batch", [known, bad, fresh, 7])

    assert [answer.get("is_new") for answer in found["answers"]] == [False, None, True, None]
    assert (found["published"], found["known"], found["refused"]) == (1, 1, 2)
    assert found["answers"][1]["error"]["code"] == "InvalidEvent"
    assert found["answers"][1]["event_id"] == bad["event_id"]
    assert "a JSON object, not a number" in found["answers"][3]["error"]["detail"]


def test_a_batch_of_a_thousand_keeps_its_order(site: Site) -> None:
    events = [new(project_id="thousand", payload={"n": n}) for n in range(1000)]

    found = site.post("/events/batch", events)

    assert found["published"] == 1000
    positions = [answer["position"] for answer in found["answers"]]
    assert positions == sorted(positions)
    read, after, complete = [], 0, False
    while not complete:
        page = site.get("/events", project="thousand", after=after, limit=400)
        read += [event["payload"]["n"] for event in page["events"]]
        after, complete = page["last"], page["complete"]
    assert read == list(range(1000))


def test_an_event_that_was_read_can_be_sent_back(site: Site) -> None:
    receipt = site.published(payload={"n": 1})
    found = site.get(f"/events/{receipt['event_id']}")

    assert site.post("/events", found)["is_new"] is False


def test_an_event_is_scheduled_and_taken_back(site: Site) -> None:
    event = new()

    planned = site.http.post(f"{EVENTS}?delay=1h", json=event)
    gone = site.http.delete(f"/api/v1/scheduled/{event['event_id']}")

    assert planned.status_code == 202 and planned.json()["is_new"] is True and planned.json()["due"] > "2026"
    assert gone.status_code == 204, gone.text
    assert "published already" in site.problem("DELETE", f"/api/v1/scheduled/{event['event_id']}", 404)["detail"]
    assert "a span like 90s" in site.problem("POST", f"{EVENTS}?delay=soon", 400, json=event)["detail"]


def test_what_is_published_over_http_is_handled_and_its_effect_is_found(site: Site) -> None:
    receipt = site.published(type="PROJECT_CREATED")

    def effects() -> Any:
        return site.get(f"/events/{receipt['event_id']}/children")["events"]

    (effect,) = wait_until(effects, 30, "the writer to answer")
    assert effect["type"] == "SCENE_WRITTEN" and effect["payload"] == {"of": receipt["event_id"]}
    chain = site.get(f"/events/{effect['event_id']}/chain")
    assert [event["event_id"] for event in chain["events"]] == [receipt["event_id"], effect["event_id"]]


MADE_BY = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OTHER = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01"


def test_an_event_without_a_context_gets_that_of_the_request(site: Site) -> None:
    headers = {"traceparent": MADE_BY, "tracestate": "vendor=1"}
    bare, own = new(), new(metadata={"traceparent": OTHER, "cost": 1})

    one = site.http.post(EVENTS, json=bare, headers=headers)
    many = site.http.post(f"{EVENTS}/batch", json=[own, new(event_id=f"{own['event_id']}-2")], headers=headers)

    assert (one.status_code, many.status_code) == (201, 200), many.text
    assert site.get(f"/events/{bare['event_id']}")["metadata"] == headers
    assert site.get(f"/events/{own['event_id']}")["metadata"] == own["metadata"]
    assert site.get(f"/events/{own['event_id']}-2")["metadata"] == headers


@pytest.mark.parametrize(
    "parent", ["", "00-1-2-01", MADE_BY.upper(), f"ff{MADE_BY[2:]}", f"00-{'0' * 32}-{'1' * 16}-01"]
)
def test_a_header_that_is_no_context_is_none(site: Site, parent: str) -> None:
    event = new()

    answer = site.http.post(EVENTS, json=event, headers={"traceparent": parent, "tracestate": "vendor=1"})

    assert answer.status_code == 201 and site.get(f"/events/{event['event_id']}")["metadata"] == {}


def test_a_context_makes_no_event_too_large(site: Site) -> None:
    event = new()
    room = Settings().max_event_bytes - len(encode(Event(**event, payload={"text": ""}, timestamp=NOON)))
    event |= {"payload": {"text": "x" * (room - 10)}, "timestamp": NOON}

    answer = site.http.post(EVENTS, json=event, headers={"traceparent": MADE_BY})

    assert answer.status_code == 201, answer.text
    assert site.get(f"/events/{event['event_id']}")["metadata"] == {}


def cloud(**changes: Any) -> dict[str, Any]:
    return {
        "specversion": "1.0", "id": f"ce-{uuid.uuid4().hex}", "source": "/agents/7", "type": "com.studio.shot.done",
        "subject": "film", "time": "2026-01-31T12:00:00Z", "data": {"shot": 3}, "cost": 0.25, "latencyms": 12,
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    } | changes  # fmt: skip


def test_a_structured_cloudevent_is_an_event(site: Site) -> None:
    sent = cloud()

    answer = site.http.post(EVENTS, content=json.dumps(sent), headers=STRUCTURED)

    assert answer.status_code == 201, answer.text
    found = site.get(f"/events/{sent['id']}")
    assert (found["actor"], found["project_id"], found["type"]) == ("/agents/7", "film", "com.studio.shot.done")
    assert found["timestamp"] == "2026-01-31T12:00:00Z" and found["payload"] == {"shot": 3}
    assert found["metadata"] == {"cost": 0.25, "latency_ms": 12, "traceparent": sent["traceparent"]}


def test_a_binary_cloudevent_is_the_same_event(site: Site) -> None:
    sent = cloud(subject="Bär & Söhne", cost=1)
    headers = {f"ce-{name}": str(value) for name, value in sent.items() if name != "data"}
    headers["ce-subject"] = "B%C3%A4r%20&%20S%C3%B6hne"

    binary = site.http.post(
        EVENTS, content=json.dumps(sent["data"]), headers=headers | {"content-type": "application/studio+json"}
    )
    structured = site.http.post(EVENTS, content=json.dumps(sent), headers=STRUCTURED)

    assert (binary.status_code, structured.status_code) == (201, 200), (binary.text, structured.text)
    found = site.get(f"/events/{sent['id']}")
    assert found["project_id"] == "Bär & Söhne" and found["metadata"]["cost"] == 1


def test_an_event_is_read_as_a_cloudevent_that_can_be_sent_back(site: Site) -> None:
    sent = cloud()
    site.http.post(EVENTS, content=json.dumps(sent), headers=STRUCTURED)

    answer = site.http.get(f"{EVENTS}/{sent['id']}", headers={"accept": STRUCTURED["content-type"]})

    assert answer.headers["content-type"] == STRUCTURED["content-type"]
    found = answer.json()
    assert {name: found[name] for name in sent if name != "time"} == {n: v for n, v in sent.items() if n != "time"}
    assert site.http.post(EVENTS, content=answer.content, headers=STRUCTURED).status_code == 200


def test_a_batch_of_cloudevents_is_published(site: Site) -> None:
    sent = [cloud(), cloud(specversion="0.3"), cloud(subject=None)]
    media = {"content-type": "application/cloudevents-batch+json"}

    found = site.http.post(f"{EVENTS}/batch", content=json.dumps(sent), headers=media).json()

    assert [answer.get("is_new") for answer in found["answers"]] == [True, None, None]
    assert "specversion must be '1.0'" in found["answers"][1]["error"]["detail"]
    assert "names the project" in found["answers"][2]["error"]["detail"]


@pytest.mark.parametrize(
    ("data", "payload"),
    [
        ({"data": [1, 2]}, {"data": [1, 2]}),
        ({"data": "text"}, {"data": "text"}),
        ({"data_base64": "AAEC"}, {"data_base64": "AAEC"}),
        ({}, {}),
    ],
)
def test_data_that_is_no_object_is_kept(site: Site, data: dict[str, Any], payload: dict[str, Any]) -> None:
    sent = cloud()
    del sent["data"]

    site.http.post(EVENTS, content=json.dumps(sent | data), headers=STRUCTURED)

    assert site.get(f"/events/{sent['id']}")["payload"] == payload
