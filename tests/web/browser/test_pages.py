"""Every page: complete without scripts, fit for a phone, without a serious fault for who cannot see or point."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from urllib.parse import urlencode

import pytest
from playwright.sync_api import expect

from tests.web.browser.ground import Ground
from tests.web.browser.visitor import Visitor, overflow

PAGES = (
    "overview", "projects", "project", "events", "event", "graph", "letters", "letter", "subscriptions", "workers",
    "deliveries", "scheduled", "audit", "api",
)  # fmt: skip
EDGES = """(place) => {
  const { left, right } = document.querySelector(place).getBoundingClientRect();
  return [left, right];
}"""
SERIOUS = ("serious", "critical")


@cache
def path_of(page: str, ground_url: str) -> str:
    """Return the path of a page, of what the ground has most of."""
    ground = Ground(None, int(ground_url.rpartition(":")[2]))  # type: ignore[arg-type]
    if page in ("project", "event", "graph"):
        event = ground.ask("/events?type=SCENE_WRITTEN&limit=1")["events"][0]
        found = {"id": event["project_id" if page == "project" else "event_id"]}
        return f"/{page}?{urlencode(found)}"
    if page == "letter":
        letter = ground.ask("/dead-letters?limit=1")["dead_letters"][0]
        return f"/dead-letter?{urlencode({'name': letter['name']})}"
    # Not simply the newest events: other tests publish thousands.
    return {"overview": "/", "letters": "/dead-letters", "events": "/events?type=SCENE_WRITTEN"}.get(page, f"/{page}")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("page", PAGES)
def test_axe_finds_no_serious_fault(
    page: str, scheme: str, visit: Callable[..., Visitor], ground: Ground, axe: str
) -> None:
    visitor = visit(scheme=scheme)
    shown = visitor.go(path_of(page, ground.url))
    expect(shown.locator("h1")).to_be_visible()
    if page == "graph":
        expect(shown.locator(".graph canvas")).to_be_visible()
    shown.evaluate(axe)  # the browser's own tools may: the page's policy is about the page
    found = shown.evaluate("axe.run(document, {resultTypes: ['violations']})")

    faults = [
        f"{fault['id']}: {node['html'][:200]} {node['failureSummary'][:300]}"
        for fault in found["violations"]
        if fault["impact"] in SERIOUS
        for node in fault["nodes"][:3]
    ]
    assert faults == [], json.dumps(faults, indent=1)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_readable_on_a_phone(page: str, visit: Callable[..., Visitor], ground: Ground) -> None:
    shown = visit(width=360, height=740).go(path_of(page, ground.url))

    expect(shown.locator("h1")).to_be_visible()
    assert overflow(shown) <= 0


@pytest.mark.parametrize(
    ("page", "matters"),
    [
        ("letters", "td.error a"), ("subscriptions", "[data-steer][data-subscriber]"),
        ("deliveries", "td .chip"), ("projects", "td.time"), ("event", ".delivery td .chip"),
        ("overview", "#subscribers td:nth-child(8)"), ("audit", "h1"), ("api", "h1"),
    ],
)  # fmt: skip
def test_on_a_phone_what_matters_is_on_the_screen_and_so_is_the_name_of_the_page(
    page: str, matters: str, visit: Callable[..., Visitor], ground: Ground
) -> None:
    shown = visit(width=390, height=844).go(path_of(page, ground.url))
    expect(shown.locator("html[data-ready]")).to_be_attached()

    for place in (matters, ".side nav [aria-current]"):
        # In one look: what lives is exchanged in between.
        left, right = shown.evaluate(EDGES, place)
        assert 0 <= left < right <= 390, (place, left, right)
    rows = shown.get_by_role("row")
    assert rows.count() == shown.locator("tr:visible").count(), "a row of a table, whatever it looks like"
    assert rows.get_by_role("cell").count() == shown.locator("td:not(:empty):visible").count()


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_complete_without_scripts(page: str, visit: Callable[..., Visitor], ground: Ground) -> None:
    shown = visit(scripts=False).go(path_of(page, ground.url))
    told = shown.locator("main").inner_text()

    expected = {
        "overview": "Newsletter is paused", "projects": "demo-", "project": "ImageGen", "events": "SCENE_WRITTEN",
        "event": "scene_id", "graph": "PROJECT_FINALIZED", "letters": "ends before it begins",
        "letter": "Traceback", "subscriptions": "Newsletter", "workers": "REVIEW_WANTED", "audit": "pause_subscriber",
        "deliveries": "RequirementParser", "scheduled": "EPISODE_PLANNED",
        "api": "/api/v1/events/stream",
    }  # fmt: skip
    assert expected[page] in told
    assert shown.locator("main button:visible:not([type=submit])").filter(has_text="Live").count() == 0


@pytest.mark.parametrize("page", PAGES)
def test_a_page_speaks_chinese(page: str, visit: Callable[..., Visitor], ground: Ground) -> None:
    shown = visit(language="zh-CN").go(path_of(page, ground.url))

    assert shown.locator("html").get_attribute("lang") == "zh"
    expect(shown.get_by_role("link", name="概览")).to_be_visible()


def test_what_is_not_there_is_told_in_a_sentence(visit: Callable[..., Visitor]) -> None:
    visitor = visit(expects=("404",))
    visitor.page.goto(f"{visitor.url}/event?id=EV-none")

    expect(visitor.page.locator("main")).to_contain_text("There is no event 'EV-none' in history or store")
    visitor.page.goto(f"{visitor.url}/nowhere")
    expect(visitor.page.locator("h1")).to_have_text("There is no such thing")


def test_a_filter_that_cannot_be_read_is_told_beside_the_form(visit: Callable[..., Visitor]) -> None:
    visitor = visit(expects=("400",))
    visitor.page.goto(f"{visitor.url}/events?since=yesterday-ish&actor=Editor")

    expect(visitor.page.get_by_role("alert")).to_contain_text("yesterday-ish")
    expect(visitor.page.get_by_label("Actor")).to_have_value("Editor")
