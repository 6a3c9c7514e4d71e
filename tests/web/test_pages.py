"""The console's pages as they are sent, without a browser: forms and links say again what was asked."""

from __future__ import annotations

import re
import uuid
from html import unescape
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from console.web.pages.outline import MOST_VALUES, Node, outlined
from console.web.pages.projects import states
from store.numbers import DeliveryNumbers, ProjectNumbers
from tests.waiting import wait_until
from tests.web.site import Site


def page(site: Site, path: str, status: int = 200) -> str:
    """The HTML of a page."""
    answer = site.http.get(path, headers={"Accept": "text/html"})
    assert answer.status_code == status, answer.text
    return answer.text


def links(html: str, text: str) -> list[str]:
    """The addresses of the links that hold a text."""
    found = re.findall(r'<a\b[^>]*\bhref="([^"]*)"[^>]*>((?:(?!</a>).)*)</a>', html, re.DOTALL)
    return [unescape(address) for address, inner in found if text in inner]


def fields(html: str) -> list[tuple[str, str]]:
    """The names and values of the form that filters events, as a browser sends them again."""
    (form,) = re.findall(r'<form class="filters"(.*?)</form>', html, re.DOTALL)
    inputs = re.findall(r'<input\b[^>]*\bname="(\w+)" value="([^"]*)"', form)
    return [(name, unescape(value)) for name, value in inputs if value]


def asked(address: str) -> dict[str, list[str]]:
    return parse_qs(urlsplit(address).query)


@pytest.fixture(scope="module")
def long(site: Site) -> str:
    """A project with two roots and more events than its page shows: of two types, by two actors."""
    name = f"long-{uuid.uuid4().hex[:8]}"
    root = site.published(project_id=name, type="LONG_BEGUN", actor="Ada")["event_id"]
    events = [
        {"project_id": name, "type": ("NOTED", "SEEN")[n % 2], "actor": ("Ada", "Grace")[n % 2], "causation_id": root}
        for n in range(220)
    ]
    site.post("/events/batch", events)
    site.published(project_id=name, type="LONG_REVISED", actor="Ada")
    return name


def test_older_events_of_a_project_are_those_of_its_filters(site: Site, long: str) -> None:
    html = page(site, f"/project?{urlencode({'id': long, 'type': 'NOTED', 'actor': 'Ada', 'since': '2h'})}")

    (older,) = links(html, "Older")

    assert {name: values for name, values in asked(older).items() if name != "before"} == {
        "project": [long], "type": ["NOTED"], "actor": ["Ada"], "since": ["2h"],
    }  # fmt: skip
    html = page(site, older)
    assert "NOTED" in html and "Grace" not in "".join(re.findall(r"<tbody.*?</tbody>", html, re.DOTALL))


def test_several_types_and_every_other_filter_of_an_address_are_asked_again_by_show(site: Site, long: str) -> None:
    given = [
        ("project", long), ("type", "NOTED"), ("type", "SEEN"), ("payload", 'a="x, b=1"'), ("payload", 'b="y"'),
        ("metadata", "c=1"),
    ]  # fmt: skip

    sent = fields(page(site, f"/events?{urlencode(given)}"))

    assert sent == [("project", long), ("type", "NOTED, SEEN"), *given[3:]]
    assert fields(page(site, f"/events?{urlencode(sent)}")) == sent, "Show asks the same"
    of_types = page(site, f"/events?{urlencode([('project', long), ('type', 'NOTED, SEEN')])}")
    (older,) = links(of_types, "Older")
    assert asked(older)["type"] == ["NOTED", "SEEN"]
    assert "LONG_BEGUN" not in "".join(re.findall(r"<tbody.*?</tbody>", of_types, re.DOTALL))


@pytest.mark.parametrize("path", ["/dead-letters?type=A&type=B", "/dead-letters?type=A%2C+B&subscriber=X%2CY"])
def test_several_values_of_a_filter_of_dead_letters_are_shown_together_and_asked_one_by_one(
    site: Site, path: str
) -> None:
    assert ("type", "A, B") in fields(page(site, path))


def test_live_goes_on_where_the_newest_page_ends_and_is_not_offered_on_older_ones(site: Site, long: str) -> None:
    newest = page(site, f"/events?project={long}")
    (after,) = re.findall(r'data-after="(\d+)"', newest)
    few = [event["position"] for event in site.get("/events", project=long, newest=True, limit=5)["events"]]
    (older,) = links(newest, "Older")
    before = page(site, older)

    assert int(after) >= few[-1] and "data-live-switch" in newest
    assert "data-live-switch" not in before and "data-stream" not in before
    assert "data-live-switch" not in page(site, links(before, "Newer")[0]), "a hundred more may follow"
    assert "data-live-switch" in page(site, f"/events?project={long}&after={few[0]}"), "it ends where history does"


def test_an_event_is_found_by_its_id_or_its_position_and_one_that_is_not_there_is_told(site: Site) -> None:
    id = f"{uuid.uuid4().hex}/a b&c"
    position = site.published(event_id=id)["position"]

    for text in (id, f"  {id} ", str(position)):
        answer = site.http.get("/find", params={"id": text})
        assert answer.status_code == 303 and asked(answer.headers["location"]) == {"id": [id]}
    html = page(site, "/find?id=%3Cb%3Enone", 404)
    assert "There is no event &#39;&lt;b&gt;none&#39;" in html and 'value="&lt;b&gt;none"' in html
    assert 'action="/find"' in page(site, "/events")


def test_a_project_and_a_list_lead_to_causation_graphs(site: Site, long: str) -> None:
    html = page(site, f"/project?id={long}")

    (root, *_), (newest, *_) = links(html, "LONG_BEGUN"), links(html, "LONG_REVISED")
    assert root.startswith("/graph?id=") and newest.startswith("/graph?id=") and "221 events" in html
    assert "LONG_BEGUN" in page(site, root)
    short = f"short-{uuid.uuid4().hex[:8]}"
    only = site.published(project_id=short)["event_id"]
    assert f"/graph?id={only}" in links(page(site, f"/project?id={short}"), "Causation graph")
    assert "Causation graphs" not in page(site, f"/project?id={short}"), "it has one, which a button leads to"
    event = site.get("/events", project=long, newest=True, limit=1)["events"][0]["event_id"]
    assert f"/graph?id={event}" in links(page(site, f"/events?project={long}"), "Causation graph")


def test_deliveries_are_shown_by_subscriber_and_state_page_after_page(site: Site) -> None:
    name = f"delivered-{uuid.uuid4().hex[:8]}"
    events = [{"project_id": name, "type": "PROJECT_CREATED", "actor": "t"} for _ in range(102)]
    site.post("/events/batch", [*events, {"project_id": name, "type": "ERROR_DETECTED", "actor": "t"}])
    done = {"project": name, "subscriber": "Writer", "state": "done", "limit": 1000}
    wait_until(lambda: len(site.get("/deliveries", **done)["deliveries"]) == 102, 60, "the archived deliveries")
    wait_until(lambda: site.get("/deliveries", project=name, state="dead")["deliveries"], 60, "the dead one")

    html = page(site, f"/deliveries?{urlencode({'project': name, 'subscriber': 'Writer', 'state': 'done'})}")
    (following,) = links(html, "Next")
    rest = page(site, following)

    assert html.count("<tr ") == 101 and rest.count("<tr ") == 3, "a hundred, two, and the headings"
    assert 'value="done" selected' in rest and links(rest, "First") and not links(rest, "Next")
    dead = page(site, f"/deliveries?project={name}&state=dead")
    (letter,) = links(dead, "chip-dead")
    assert "Broken" in dead and "it cannot" in page(site, letter)
    assert "A delivery is waiting" in page(site, "/deliveries?state=gone", 400)
    assert "POSITION:SUBSCRIBER:REDELIVERY" in page(site, "/deliveries?after=x", 400)


def test_projects_are_shown_page_after_page_in_their_order(site: Site) -> None:
    name = f"paged-{uuid.uuid4().hex[:8]}"
    for number in range(3):
        site.published(project_id=f"{name}-{number}", metadata={"cost": 3 - number})

    html = page(site, f"/projects?{urlencode({'search': name, 'order': 'cost', 'limit': 2})}")
    (following,) = links(html, "Next")
    rest = page(site, following)

    assert links(html, f">{name}-0<") and links(html, f">{name}-1<") and not links(html, f">{name}-2<")
    assert links(rest, f">{name}-2<") and not links(rest, f">{name}-1<")
    assert not links(html, "First") and not links(rest, "Next")
    (first,) = links(rest, "First")
    assert asked(first) == {"search": [name], "order": ["cost"], "limit": ["2"]}
    assert "the `last` of the page before" in unescape(page(site, "/projects?after=x", 400))


def test_a_project_that_is_at_work_says_so_though_something_of_it_is_dead() -> None:
    def said(**deliveries: int) -> list[str]:
        return states(ProjectNumbers(project_id="p", deliveries=DeliveryNumbers(**deliveries)))

    assert said(done=1, waiting=2, dead=3) == ["running", "dead"]
    assert (said(dead=3), said(waiting=1), said(done=1)) == (["dead"], ["running"], ["done"])


def test_headings_of_numbers_are_written_alike_and_a_moment_says_once_where_it_is_read(site: Site, long: str) -> None:
    heads = re.findall(r'<th scope="col"[^>]*>([^<]*)</th>', page(site, "/projects"))
    event = site.get("/events", project=long, limit=1)["events"][0]["event_id"]
    (facts,) = re.findall(r'<dl class="facts">(.*?)</dl>', page(site, f"/event?id={event}"), re.DOTALL)

    assert len(heads) == 8 and all(head[0].isupper() for head in heads)
    assert facts.count("UTC") == 1


def test_a_large_payload_is_shown_by_its_first_values_with_the_way_to_all_of_it(site: Site) -> None:
    objects = [{"number": n, "text": "x" * 40, "is_last": False} for n in range(7_000)]
    id = f"EV-large/{uuid.uuid4().hex}"
    site.published(event_id=id, payload={"objects": objects, "after": "the large one"})

    html = page(site, f"/event?{urlencode({'id': id})}")

    assert len(html) < 200_000 and html.count("<details") < MOST_VALUES, "a page like others"
    assert "The first 500 of 28,002 values are shown." in html and "the large one" in html and "7,000 items" in html
    (whole,) = links(html, "The whole document")
    answer = site.http.get(whole, headers={"Accept": "text/html"})
    assert answer.status_code == 200 and len(answer.json()["payload"]["objects"]) == 7_000


@pytest.mark.parametrize(
    ("document", "shown"),
    [
        ({"a": 1, "b": [], "c": {}}, {"a": 1, "b": [], "c": {}}),
        ([1, 2, 3, 4, 5, 6, 7, 8, 9], [1, 2, 3, 4, 5, 6]),
        ({"a": [1, 2, 3, 4, 5, 6, 7], "b": 8, "c": 9}, {"a": [1, 2, 3], "b": 8, "c": 9}),
        ([[1, 2], [3, 4], [5, 6]], [[1, 2], [3, 4]]),
        ([[[[[[[["deep"]]]]]]]], [[[[[[[]]]]]]]),
        ("text", "text"),
    ],
)
def test_of_a_document_so_many_values_are_shown_in_their_order(document: Any, shown: Any) -> None:
    found = outlined(document, 6)

    assert as_shown(found.root) == shown
    assert found.is_all == (document == shown) and found.count == outlined(document, 100).shown


def as_shown(node: Node) -> Any:
    if isinstance(node.value, dict):
        return {inner.key: as_shown(inner) for inner in node.inner}
    return [as_shown(inner) for inner in node.inner] if isinstance(node.value, list) else node.value


def test_what_is_scheduled_is_shown_with_its_moment(site: Site) -> None:
    id, later = f"EV-{uuid.uuid4().hex}", f"later-{uuid.uuid4().hex[:8]}"
    event = {"event_id": id, "project_id": later, "type": "NOTED", "actor": "me"}
    assert site.http.post("/api/v1/events?at=2031-02-03T04:05:06Z", json=event).status_code == 202

    html = page(site, f"/scheduled?project={later}")

    assert id in html and "2031-02-03 04:05:06" in html and "Take back" in html
    assert "No scheduled event matches." in page(site, f"/scheduled?project={later}&type=SEEN")
    assert "DUE:EVENT_ID" in page(site, "/scheduled?after=x", 400)


def test_what_is_refused_is_told_to_a_reader_of_chinese_by_its_kind_first(site: Site) -> None:
    answer = site.http.get("/events?since=yesterday-ish", headers={"Accept-Language": "zh", "Accept": "text/html"})

    assert answer.status_code == 400
    assert re.search(r'role="alert">无法读懂这个请求：<bdi lang="en">[^<]*yesterday-ish', answer.text)
