"""Questions over HTTP: history, causation, numbers, deliveries, dead letters, subscribers; and bad ones."""

from __future__ import annotations

import uuid
from typing import Any
from urllib.parse import quote

import pytest

from events.backend import Backend
from events.backfill import ENOUGH
from events.redelivery import begin, give_up, look
from tests.waiting import wait_until
from tests.web.site import Site


@pytest.fixture(scope="module")
def story(site: Site) -> dict[str, Any]:
    """A project with a root, what it caused, and a dead letter, all archived."""
    project = f"story-{uuid.uuid4().hex[:6]}"
    root = site.published(project_id=project, type="PROJECT_CREATED", payload={"scene": {"number": 3}})
    failed = site.published(project_id=project, type="ERROR_DETECTED", payload={"why": 1})

    def ended() -> Any:
        page = site.get("/deliveries", project=project)["deliveries"]
        found = {one["subscriber"]: one for one in page if one["state"] != "waiting"}
        return found if len(found) == 2 else None

    found = wait_until(
        lambda: (ended() or {}).get("Broken") and (ended() or {}).get("Writer") and ended(), 30, "the ends"
    )
    (child,) = site.get(f"/events/{root['event_id']}/children")["events"]
    return {"project": project, "root": root, "failed": failed, "child": child, "deliveries": found}


def test_history_is_paged_without_a_gap(site: Site, story: dict[str, Any]) -> None:
    seen, after, complete = [], 0, False
    while not complete:
        page = site.get("/events", project=story["project"], after=after, limit=1)
        seen += [event["event_id"] for event in page["events"]]
        after, complete = page["last"], page["complete"]

    places = sorted((story[name]["position"], story[name]["event_id"]) for name in ("root", "failed", "child"))
    assert seen == [event_id for _, event_id in places]


@pytest.mark.parametrize(
    ("parameters", "count"),
    [
        ({"type": "PROJECT_CREATED"}, 1),
        ({"type": ["PROJECT_CREATED", "SCENE_WRITTEN"]}, 2),
        ({"actor": "Writer"}, 1),
        ({"payload": "scene.number=3"}, 1),
        ({"payload": "scene.number=4"}, 0),
        ({"metadata": "cost=0.25"}, 1),
        ({"since": "1h"}, 3),
        ({"until": "2020-01-01"}, 0),
        ({"newest": "true", "limit": 2}, 2),
    ],
)
def test_filters_ask_what_they_say(site: Site, story: dict[str, Any], parameters: dict[str, Any], count: int) -> None:
    assert len(site.get("/events", project=story["project"], **parameters)["events"]) == count


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("/events?limt=3", "There is no parameter 'limt' here: the parameters are project, type"),
        ("/events?limit=0", "'limit' should be greater than or equal to 1, not '0'"),
        ("/events?limit=1&limit=2", "given 2 times"),
        ("/events?limit=99999999999999999999", "'limit' should be less than or equal to 1000"),
        ("/events?after=-1", "'after' should be greater than or equal to 0"),
        ("/events?since=2026-02-01&until=2026-01-01", "is after until"),
        ("/events?since=tomorrow", "since must be a moment like 2026-01-31T12:00:00Z"),
        ("/events?payload=x", "payload must be PATH=JSON"),
        ("/events?type=no%20such", "type must be a letter"),
        ("/events?project=%00", "U+0000"),
        ("/events?newest=true&after=5", "do not go together"),
        ("/events/stream?after=x", "'after' should be a valid integer"),
        ("/deliveries?state=gone", "gone"),
        ("/deliveries?after=7", "after must be a delivery"),
        ("/statistics/series?grain=year", "'grain' should be 'day' or 'hour', not 'year'"),
        ("/projects?order=name", "The parameter 'order' should be 'recent' or 'cost', not 'name'."),
        ("/projects?after=here", "'after' must be the `last` of the page before, not 'here'"),
        ("/lag?x=1", "it takes none"),
    ],
)
def test_a_question_that_cannot_be_asked_is_named(site: Site, path: str, sentence: str) -> None:
    assert sentence in site.problem("GET", f"/api/v1{path}", 400)["detail"]


@pytest.mark.parametrize("path", ["", "/chain", "/children", "/tree", "/deliveries"])
@pytest.mark.parametrize("event_id", ["EV-none", "<script>", "%F0%9F%A6%8A", "a%2Fb"])
def test_an_unknown_event_is_not_found(site: Site, path: str, event_id: str) -> None:
    found = site.problem("GET", f"/api/v1/events/{event_id}{path}", 404)

    assert "<script>" not in found["detail"] or found["code"] == "EventNotFound"


def test_a_tree_has_every_event_with_its_totals(site: Site, story: dict[str, Any]) -> None:
    found = site.get(f"/events/{story['root']['event_id']}/tree")

    assert found["count"] == 2 and found["missing"] == []
    root, child = found["nodes"]
    assert (root["level"], root["count"], root["cost_total"]) == (0, 2, 0.25)
    assert (child["level"], child["cost"], child["latency_ms"]) == (1, 0.25, 12)
    assert len(site.get(f"/events/{story['root']['event_id']}/tree", depth=0)["nodes"]) == 1


def test_an_events_deliveries_tell_each_attempt(site: Site, story: dict[str, Any]) -> None:
    (found,) = site.get(f"/events/{story['failed']['event_id']}/deliveries")["deliveries"]

    assert (found["subscriber"], found["state"], found["attempts"]) == ("Broken", "dead", 1)
    (attempt,) = found["outcomes"]
    assert attempt["state"] == "dead" and "it cannot" in attempt["error"]


def test_numbers_are_those_of_the_project(site: Site, story: dict[str, Any]) -> None:
    found = site.get("/statistics", project=story["project"])
    series = site.get("/statistics/series", project=story["project"], grain="hour")
    projects = site.get("/projects", search=story["project"].upper())

    assert found["total"]["count"] == 3 and found["total"]["cost_by_currency"] == {"USD": 0.25}
    assert {one["type"] for one in found["types"]} == {"PROJECT_CREATED", "ERROR_DETECTED", "SCENE_WRITTEN"}
    assert sum(bucket["count"] for bucket in series["buckets"]) == 3
    assert [one["project_id"] for one in projects["projects"]] == [story["project"]] and projects["is_all"]


@pytest.mark.parametrize("order", ["recent", "cost"])
def test_pages_of_projects_follow_each_other_without_gap_or_repeat(site: Site, order: str) -> None:
    for number in range(5):
        site.published(project_id=f"paged: {number}", metadata={"cost": number % 2})
    whole = [one["project_id"] for one in site.get("/projects", order=order, search="paged: ")["projects"]]

    pages, after = [], {}
    while not pages or not pages[-1]["is_all"]:
        pages.append(site.get("/projects", order=order, search="paged: ", limit=2, **after))
        after = {"after": pages[-1]["last"]}

    assert [len(page["projects"]) for page in pages] == [2, 2, 1]
    assert [one["project_id"] for page in pages for one in page["projects"]] == whole and len(whole) == 5
    assert site.get("/projects", order=order, search="paged: ", **after) == {
        "projects": [], "is_all": True, "last": None,
    }  # fmt: skip


def test_a_place_of_the_dearest_project_there_can_be_is_taken_back(site: Site) -> None:
    assert site.get("/projects", search="nobody's", after=f"-{10**24}:-{10**15}:P-1")["projects"] == []


def test_projects_come_by_their_last_activity_or_by_their_cost(site: Site, story: dict[str, Any]) -> None:
    site.published(project_id="later")
    site.published(project_id="dear", metadata={"cost": 1000})
    site.published(project_id="latest")

    recent = [one["project_id"] for one in site.get("/projects", limit=2)["projects"]]
    dearest = [one["project_id"] for one in site.get("/projects", order="cost", limit=1)["projects"]]

    assert recent == ["latest", "dear"] and dearest == ["dear"]


def test_a_dead_letter_is_read_previewed_and_decided_once(site: Site, story: dict[str, Any]) -> None:
    (letter,) = site.get("/dead-letters", project=story["project"])["dead_letters"]
    dossier = site.get(f"/dead-letters/{letter['name']}")
    order = {"name": [letter["name"]]}

    preview = site.post("/dead-letters/retry", order | {"dry_run": True})
    done = site.post("/dead-letters/retry", order | {"reason": "the model is back"})

    assert "RuntimeError" in dossier["traceback"] and dossier["chain"][-1]["event_id"] == story["failed"]["event_id"]
    assert preview["says"] == ["Would retry 1 dead letter."] and preview["counts"] == {"settled": 1}
    assert done["says"] == ["Retried 1 dead letter."]
    becomes = preview["letters"][0]["becomes"]
    assert becomes == done["letters"][0]["becomes"] and becomes.endswith(":Broken:1")
    again = wait_until(
        lambda: site.get("/dead-letters", project=story["project"])["dead_letters"], 30, "the next letter"
    )
    assert [one["name"] for one in again] == [becomes]
    gone = site.post("/dead-letters/discard", {"project": story["project"]})
    assert gone["counts"] == {"settled": 1}
    assert site.get("/dead-letters", project=story["project"]) == {"dead_letters": [], "is_all": True}


def test_a_purge_empties_what_the_database_alone_keeps_of_letters(site: Site) -> None:
    name = f"purged-{uuid.uuid4().hex[:6]}"
    site.published(project_id=name, type="ERROR_DETECTED", payload={"why": "secret"})
    (letter,) = wait_until(lambda: site.get("/dead-letters", project=name)["dead_letters"], 30, "the letter")
    order = {"name": [letter["name"]]}
    assert site.post("/dead-letters/discard", order)["counts"] == {"settled": 1}

    rehearsed = wait_until(
        lambda: (found := site.post("/dead-letters/purge", order | {"dry_run": True}))["copies"] and found,
        30,
        "the decision in the database",
    )
    assert "secret" in site.get(f"/dead-letters/{letter['name']}")["traceback"]
    limited = site.post("/dead-letters/purge", {"project": name, "limit": 1, "dry_run": True})
    done, again = site.post("/dead-letters/purge", order), site.post("/dead-letters/purge", order)

    assert rehearsed["says"] == ["Would purge 0 dead letters.", "Would empty 1 copy in the database."]
    assert (limited["copies"], done["copies"], again["copies"]) == (1, 1, 0)
    assert done["says"] == ["Purged 0 dead letters.", "Emptied 1 copy in the database."]
    assert site.get(f"/dead-letters/{letter['name']}")["traceback"] == ""


def test_deciding_about_everything_has_to_be_said(site: Site) -> None:
    for body, sentence in (
        ({}, 'or `"all": true`'),
        ({"all": True, "project": "x"}, "do not go together"),
        ({"names": ["x"]}, "There is no field 'names' here"),
        ([], "body"),
    ):
        found = site.problem("POST", "/api/v1/dead-letters/discard", 400, json=body)
        assert sentence in found["detail"]


def test_a_subscriber_is_paused_limited_and_goes_on(site: Site) -> None:
    paused = site.post("/subscribers/Writer/pause", None)
    assert paused["subscriber"]["state"] == "paused" and paused["warnings"] == []
    receipt = site.published(type="PROJECT_CREATED", project_id="paused")
    assert site.get("/subscribers/Writer")["waiting"] + site.get("/subscribers/Writer")["ready"] == 1

    limited = site.http.patch("/api/v1/subscribers/Writer/limits", json={"concurrency": 2, "rate": 50}).json()
    assert (limited["subscriber"]["concurrency"]["holds"], limited["subscriber"]["rate"]["holds"]) == (2, 50)
    free = site.http.patch("/api/v1/subscribers/Writer/limits", json={"concurrency": "code", "rate": None}).json()
    assert free["subscriber"]["concurrency"]["is_set"] is False and free["subscriber"]["rate"]["holds"] is None

    assert site.post("/subscribers/Writer/resume", None)["subscriber"]["state"] == "live"
    wait_until(lambda: site.get(f"/events/{receipt['event_id']}/children")["events"], 30, "the writer to go on")
    for path, body in (("/subscribers/Nobody/pause", None), ("/subscribers/Nobody/redeliver", {"event_id": "x"})):
        assert site.problem("POST", f"/api/v1{path}", 404, json=body)["code"] in ("UnknownSubscriber", "EventNotFound")
    wrong = site.problem("PATCH", "/api/v1/subscribers/Writer/limits", 400, json={"concurrency": -1})
    worded = site.problem("PATCH", "/api/v1/subscribers/Writer/limits", 400, json={"rate": "many", "concurrency": 1.5})
    assert worded["detail"] == (
        "The field 'concurrency' must be a whole number, \"code\" or null, not 1.5. "
        "The field 'rate' must be a number, \"code\" or null, not 'many'."
    )
    assert "-1" in wrong["detail"]


def test_one_event_is_delivered_again_to_one_subscriber(site: Site, story: dict[str, Any]) -> None:
    body = {"event_id": story["root"]["event_id"], "reason": "the prompt was wrong"}

    assert site.post("/subscribers/Writer/redeliver", body) == {"made": 1}

    def again() -> Any:
        found = site.get(f"/events/{story['root']['event_id']}/deliveries")["deliveries"]
        return [one["redelivery"] for one in found if one["state"] == "done"]

    assert len(wait_until(lambda: len(again()) == 2 and again(), 30, "the redelivery")) == 2
    effects = site.get(f"/events/{story['root']['event_id']}/children")["events"]
    assert len(effects) == 2, "an answer of its own"
    wrong = site.problem("POST", "/api/v1/subscribers/Broken/redeliver", 409, json=body)
    assert wrong["code"] == "RedeliveryRefused"


def test_a_redelivery_that_was_interrupted_keeps_no_single_event_back(site: Site, story: dict[str, Any]) -> None:
    backend = Backend(site.world.settings)
    backend.namespace.open()
    try:
        begin(backend.namespace, "Writer", 70_000, 0, "{}")
        assert site.post("/subscribers/Writer/redeliver", {"event_id": story["root"]["event_id"]}) == {"made": 1}
        assert look(backend.namespace, "Writer").number == 70_000, "it is still there for who goes on with it"
        give_up(backend.namespace, "Writer", 70_000)
    finally:
        backend.close()


def test_the_fleet_is_seen(site: Site) -> None:
    (worker,) = site.get("/workers")["workers"]
    lag = site.get("/lag")
    site.published()
    overview = wait_until(lambda: (found := site.get("/overview"))["published"] and found, 30, "a sample since")

    assert worker["alive"] and set(worker["subscribers"]) == {"Writer", "Broken"}
    assert lag["Writer"]["workers"] == 1 and lag["Writer"]["capacity"] > 0
    assert overview["workers_alive"] == 1 and overview["trouble"] == ""


def test_what_changes_something_is_in_the_audit_log_and_events_are_not(site: Site) -> None:
    site.http.post("/api/v1/subscribers/Writer/resume", auth=("Ada <b>", "any"))
    site.published()

    newest = site.get("/audit", limit=1)["entries"][0]

    assert (newest["action"], newest["target"]) == ("resume_subscriber", "/api/v1/subscribers/Writer/resume")
    assert (newest["status"], newest["address"], newest["who"]) == (200, "127.0.0.1", "local")
    site.http.post("/api/v1/subscribers/Nobody/pause")
    assert site.get("/audit", limit=1)["entries"][0]["status"] == 404


def test_who_published_what_has_a_line_in_the_log(site: Site) -> None:
    receipt = site.published(payload={"secret": "of the payload"})
    batch = [{"project_id": "film", "type": "QA_REPORT", "actor": "t", "event_id": f"EV-logged-{n}"} for n in range(25)]
    site.post("/events/batch", [*batch, {"project_id": ""}])

    def logged() -> str:
        log = site.world.log("web")
        return log if "publish 25 events, 25 taken, 0 refused: EV-logged-0, EV-logged-1, " in log else ""

    log = wait_until(logged, 30, "the line of the batch")
    assert f"local (operator, 127.0.0.1) publish 1 event, 1 taken, 0 refused: {receipt['event_id']}" in log
    assert "EV-logged-19, ..." in log and "EV-logged-20" not in log and "of the payload" not in log


@pytest.mark.parametrize(
    ("body", "media", "shown"),
    [
        (b'{"event_id": "EV-none"}', "text/plain", {"event_id": "EV-none"}),
        (b'{"event_id": "EV-none"}', "Application/JSON", {"event_id": "EV-none"}),
        (b'{"event_id": "EV-none", "reason": "\\u0000"}', "application/json", "EV-none"),
        (b'{"event_id": "EV-none", "reason": "\\ud800"}', "application/json", "EV-none"),
        (b'{"event_id": "EV-none"}' + b" " * 20_000, "application/json", "EV-none"),
    ],
)
def test_no_way_of_writing_a_request_keeps_it_out_of_the_audit_log(
    site: Site, body: bytes, media: str, shown: Any
) -> None:
    site.http.post("/api/v1/subscribers/Writer/redeliver", content=body, headers={"content-type": media})

    details = site.get("/audit", limit=1)["entries"][0]["details"]
    assert details == shown if isinstance(shown, dict) else shown in details["body"]


def test_one_event_is_delivered_again_however_many_wait(site: Site, story: dict[str, Any]) -> None:
    name = story["project"]
    site.post("/subscribers/Writer/pause", None)
    try:
        events = [{"project_id": name, "type": "PROJECT_CREATED", "actor": "t"} for _ in range(ENOUGH + 1)]
        site.post("/events/batch", events)
        assert site.post("/subscribers/Writer/redeliver", {"event_id": story["root"]["event_id"]}) == {"made": 1}
    finally:
        site.post("/subscribers/Writer/resume", None)


def test_metrics_are_what_the_store_has_counted(site: Site, story: dict[str, Any]) -> None:
    def value(name: str) -> float:
        lines = site.http.get("/metrics").text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))

    before = value('eventbus_events_published_total{type="QA_REPORT"}')
    for _ in range(3):
        site.published()

    assert value('eventbus_events_published_total{type="QA_REPORT"}') == before + 3
    assert value('eventbus_up{server="redis"}') == value('eventbus_up{server="database"}') == 1
    assert value('eventbus_workers{state="alive"}') == 1
    assert value('eventbus_deliveries_ended_total{state="done",subscriber="Writer"}') >= 1
    text = site.http.get("/metrics").text
    assert story["project"] not in text and story["root"]["event_id"] not in text


def test_the_document_names_every_operation(site: Site) -> None:
    document = site.get("/openapi.json")

    names = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]
    assert len(names) == len(set(names)) and {"publish_event", "stream_events", "get_causation_tree"} <= set(names)


def test_the_document_says_what_every_operation_may_answer_and_how_ids_and_cloudevents_are_written(site: Site) -> None:
    paths = site.get("/openapi.json")["paths"]

    for operation in (each for path in paths.values() for each in path.values()):
        assert {"400", "401", "403", "408", "413", "429", "503"} <= operation["responses"].keys()
        in_path = [each for each in operation["parameters"] if each["in"] == "path"]
        assert all("%2F" in each["description"] for each in in_path)
    publish = paths["/api/v1/events"]["post"]
    assert {each["name"] for each in publish["parameters"] if each["in"] == "header"} >= {"ce-specversion", "ce-id"}
    assert "*/*" in publish["requestBody"]["content"] and not publish["requestBody"]["required"]


@pytest.mark.parametrize("name", ["a/b", "a/chain", "chain", "/", "a%2Fb", "a b?c#d&é"])
def test_an_id_in_a_path_is_what_it_says_whatever_it_holds(site: Site, name: str) -> None:
    id = f"{uuid.uuid4().hex}/{name}"
    site.published(event_id=id)
    part = quote(id, safe="")

    assert site.get(f"/events/{part}")["event_id"] == id
    assert [event["event_id"] for event in site.get(f"/events/{part}/chain")["events"]] == [id]
    assert site.problem("GET", f"/api/v1/events/{id}/nothing".replace("%", "%25"), 404)
