"""What the console's pages needed of the API: a project in time, history backwards, ids with slashes in paths."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from tests.waiting import wait_until
from tests.web.site import Site

MOMENTS = ("waited_from", "began", "ended")


def timeline(site: Site, project: str, count: int) -> dict[str, Any]:
    """Return a project's timeline, once so many attempts have ended."""

    def found() -> dict[str, Any] | None:
        told: dict[str, Any] = site.get("/timeline", project=project)
        return told if sum(span["ended"] is not None for span in told["spans"]) >= count else None

    return wait_until(found, 60, f"{count} attempts of {project}")


def test_a_timeline_tells_who_waited_and_ran_and_what_was_published(site: Site) -> None:
    root = site.published(project_id="in-time", type="PROJECT_CREATED", actor="Author")["event_id"]

    found = timeline(site, "in-time", 1)

    (span,) = found["spans"]
    assert (span["subscriber"], span["event_id"], span["attempt"], span["state"]) == ("Writer", root, 1, "done")
    assert [span[name] for name in MOMENTS] == sorted(span[name] for name in MOMENTS)
    assert [(mark["actor"], mark["type"]) for mark in found["marks"]] == [
        ("Author", "PROJECT_CREATED"), ("Writer", "SCENE_WRITTEN"),
    ]  # fmt: skip
    assert found["marks"][0]["at"] == span["waited_from"]
    assert found["is_all"]


def test_a_timeline_shows_what_failed_and_what_was_delivered_again(site: Site) -> None:
    event = site.published(project_id="failed-in-time", type="ERROR_DETECTED")["event_id"]
    timeline(site, "failed-in-time", 1)

    site.post("/subscribers/Broken/redeliver", {"event_id": event})
    found = timeline(site, "failed-in-time", 2)

    first, second = found["spans"]
    assert [span["state"] for span in (first, second)] == ["dead", "dead"]
    assert "it cannot" in first["error"]
    assert second["name"].rpartition(":")[0] == first["name"].rpartition(":")[0]
    assert second["waited_from"] > first["ended"], "the second waits from when it was ordered"


def test_a_timeline_of_too_many_events_has_the_newest(site: Site) -> None:
    for number in range(4):
        site.published(project_id="long", event_id=f"EV-long-{number}")

    found = site.get("/timeline", project="long", limit=2)

    assert [mark["event_id"] for mark in found["marks"]] == ["EV-long-2", "EV-long-3"]
    assert not found["is_all"]
    assert site.get("/timeline", project="nobody's")["marks"] == []


def test_history_is_read_backwards_page_by_page(site: Site) -> None:
    ids = [site.published(project_id="backwards")["event_id"] for _ in range(7)]
    read: list[str] = []
    page = site.get("/events", project="backwards", newest=True, limit=3)
    while page["events"]:
        read = [event["event_id"] for event in page["events"]] + read
        assert page["earlier"] == (len(read) < 7)
        before = page["events"][0]["position"]
        page = site.get("/events", project="backwards", newest=True, limit=3, before=before)

    assert read == ids
    problem = site.problem("GET", "/api/v1/events?before=5", 400)
    assert problem["detail"] == "`before` goes with `newest`: add it."


def test_an_id_that_holds_slashes_is_found_by_its_path(site: Site) -> None:
    id = "EV-a/b c/../d?#%"
    site.published(project_id="slashes", event_id=id)
    site.published(project_id="slashes", causation_id=id, event_id="EV-below")
    path = f"/events/{quote(id, safe='')}"

    assert site.get(path)["event_id"] == id
    assert [event["event_id"] for event in site.get(f"{path}/children")["events"]] == ["EV-below"]
    assert site.get(f"{path}/tree")["count"] == 2
