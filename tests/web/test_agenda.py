"""What is to be published later, over HTTP: listed page by page, taken back; the crons that workers run."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import pytest

from events.slots import Slots
from tests.fleet.fleet import World
from tests.web.site import Site


def later(site: Site, project: str, minutes: int, type: str = "NOTED") -> str:
    """Schedule an event; return its id."""
    event = {"event_id": f"EV-{uuid.uuid4().hex}", "project_id": project, "type": type, "actor": "me"}
    answer = site.http.post(f"/api/v1/events?delay={minutes}m", json=event)
    assert answer.status_code == 202, answer.text
    return event["event_id"]


def test_scheduled_events_are_listed_by_their_moments_page_by_page(site: Site) -> None:
    name = f"later-{uuid.uuid4().hex[:8]}"
    ids = [later(site, name, minutes) for minutes in (300, 100, 200, 400)]
    other = later(site, name, 500, "SEEN")
    in_order = [ids[1], ids[2], ids[0], ids[3], other]

    first = site.get("/scheduled", project=name, limit=3)
    second = site.get("/scheduled", project=name, limit=3, after=first["next"])

    assert [one["event_id"] for one in first["scheduled"] + second["scheduled"]] == in_order
    assert second["next"] is None and first["count"] >= 5
    one = first["scheduled"][0]
    assert (one["type"], one["project_id"], one["origin"]) == ("NOTED", name, "publish")
    assert datetime.fromisoformat(one["due"]) > datetime.now(UTC) + timedelta(minutes=90)
    assert [one["event_id"] for one in site.get("/scheduled", project=name, type=["SEEN"])["scheduled"]] == [other]


def test_a_page_goes_on_where_the_last_one_ended_though_that_event_was_taken_back(site: Site) -> None:
    name = f"later-{uuid.uuid4().hex[:8]}"
    ids = [later(site, name, minutes) for minutes in (100, 200, 300)]
    first = site.get("/scheduled", project=name, limit=2)

    assert site.http.delete(f"/api/v1/scheduled/{ids[1]}").status_code == 204

    rest = site.get("/scheduled", project=name, after=first["next"])
    assert [one["event_id"] for one in rest["scheduled"]] == [ids[2]]


@pytest.mark.parametrize("after", ["x", "1", ":EV-1", "1:", "-1:EV-1", "9" * 30 + ":EV-1"])
def test_what_is_no_place_is_refused(site: Site, after: str) -> None:
    said = site.problem("GET", "/api/v1/scheduled", 400, params={"after": after})["detail"]

    assert "DUE:EVENT_ID" in said and repr(after) in said


def test_cron_schedules_are_listed_with_their_last_and_next_slot(site: Site, served_world: World) -> None:
    slots = Slots(served_world.backend.namespace, 100)
    slots.plan("nightly", "0 3 * * *", "Europe/Berlin", "last", begins=True)

    (found,) = [one for one in site.get("/schedules")["schedules"] if one["name"] == "nightly"]

    assert (found["cron"], found["timezone"], found["missed"]) == ("0 3 * * *", "Europe/Berlin", "last")
    assert found["last"] is None and datetime.fromisoformat(found["next"]) > datetime.now(UTC)
    assert found["overdue"] is False
