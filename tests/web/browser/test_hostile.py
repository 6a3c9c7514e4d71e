"""Everything that comes from data is text: planted markup, quotes, text that runs the other way, very long names."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlencode

import pytest
from playwright.sync_api import expect

from tests.web.browser.ground import HOSTILE_ID, HOSTILE_LATER, HOSTILE_NAME, LONG_NAME, SCRIPT, Ground
from tests.web.browser.visitor import Visitor, overflow

WIDTHS = (1280, 360)


def paths(ground: Ground) -> dict[str, str]:
    letter = ground.ask("/dead-letters")["dead_letters"][0]["name"]
    return {
        "/": "",
        "/projects": "img src=x",
        f"/project?{urlencode({'id': HOSTILE_NAME})}": HOSTILE_NAME,
        f"/project?{urlencode({'id': LONG_NAME})}": LONG_NAME,
        "/events": HOSTILE_NAME,
        f"/events?{urlencode({'project': HOSTILE_NAME, 'actor': HOSTILE_NAME})}": HOSTILE_NAME,
        f"/event?{urlencode({'id': HOSTILE_ID})}": SCRIPT,
        f"/graph?{urlencode({'id': HOSTILE_ID})}": HOSTILE_NAME,
        "/dead-letters": "onload=planted()",
        f"/dead-letters?{urlencode({'error': SCRIPT, 'project': HOSTILE_NAME})}": "onload=planted()",
        f"/dead-letter?{urlencode({'name': letter})}": SCRIPT,
        f"/subscriptions?{urlencode({'search': HOSTILE_NAME})}": "",
        f"/projects?{urlencode({'search': SCRIPT})}": SCRIPT,
        "/deliveries": HOSTILE_NAME,
        f"/deliveries?{urlencode({'project': HOSTILE_NAME, 'subscriber': 'Hostile'})}": HOSTILE_NAME,
        "/scheduled": HOSTILE_LATER,
        f"/scheduled?{urlencode({'project': HOSTILE_NAME})}": HOSTILE_NAME,
        "/audit": "",
    }


@pytest.mark.parametrize("width", WIDTHS)
def test_planted_markup_is_shown_as_text_and_breaks_no_page(
    width: int, visit: Callable[..., Visitor], hostile_ground: Ground
) -> None:
    visitor = visit(hostile_ground.url, width=width)
    for path, text in paths(hostile_ground).items():
        page = visitor.go(path)
        page.wait_for_load_state("load")

        assert text in page.locator("main").text_content(), path
        assert page.evaluate("window.planted === undefined"), path
        assert page.locator("main img, main script, main svg[onload]").count() == 0, path
        assert overflow(page) <= 0, path


def test_a_graph_of_hostile_events_is_drawn_and_told_as_text(
    visit: Callable[..., Visitor], hostile_ground: Ground
) -> None:
    page = visit(hostile_ground.url).go(f"/graph?{urlencode({'id': HOSTILE_ID})}")

    expect(page.locator(".graph-node")).to_contain_text(HOSTILE_NAME)
    page.locator("[data-by=colour]").select_option("actor")
    expect(page.locator(".graph-legend")).to_contain_text(HOSTILE_NAME)


def test_hostile_events_that_are_followed_live_are_text(visit: Callable[..., Visitor], hostile_ground: Ground) -> None:
    page = visit(hostile_ground.url).go("/events")
    rows = page.locator("[data-rows] tr")
    before = rows.count()
    with page.expect_response(lambda answer: "/events/stream" in answer.url):
        page.get_by_role("button", name="Live").click()

    hostile_ground.ask("/events", {"type": "CALM", "project_id": HOSTILE_NAME, "actor": HOSTILE_NAME, "payload": {}})

    expect(rows).to_have_count(before + 1)
    assert HOSTILE_NAME in (rows.first.text_content() or "")
    assert page.evaluate("window.planted === undefined")


def test_a_dialog_about_a_hostile_scheduled_event_shows_text(
    visit: Callable[..., Visitor], hostile_ground: Ground
) -> None:
    page = visit(hostile_ground.url).go("/scheduled")
    page.locator("td.pick input").check()
    page.get_by_role("button", name="Take back").click()

    expect(page.get_by_role("dialog").locator(".preview")).to_contain_text(HOSTILE_NAME)
    assert page.evaluate("window.planted === undefined")


def test_a_dialog_about_hostile_letters_shows_text(visit: Callable[..., Visitor], hostile_ground: Ground) -> None:
    page = visit(hostile_ground.url).go(f"/event?{urlencode({'id': HOSTILE_ID})}")
    page.get_by_role("button", name="Redeliver", exact=True).click()

    expect(page.get_by_role("dialog")).to_contain_text("Hostile gets it as a new delivery")
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
