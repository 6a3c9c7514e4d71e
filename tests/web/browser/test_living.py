"""What lives on a page: events as they come, the keyboard, colours and language that are remembered, the login."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import expect

from tests.waiting import wait_until
from tests.web.browser.ground import Ground, free_port
from tests.web.browser.visitor import Visitor

OPERATOR, READER = "operator-token-of-the-tests", "reader-token-of-the-tests"


@pytest.fixture(scope="module")
def guarded(ground: Ground) -> Iterator[Ground]:
    """The same ground, served to who names a token."""
    port = free_port()
    variables = {"EVENTBUS_WEB_TOKEN": OPERATOR, "EVENTBUS_WEB_READ_TOKEN": READER}
    other = Ground(ground.place, port).serve(port, **variables)
    yield other
    other.close()


def spent_of_late(ground: Ground) -> float:
    """What the spend chart draws, all its hours together."""
    buckets = ground.ask("/statistics/series?grain=hour&since=24h")["buckets"]
    return float(sum(bucket["cost_total"] for bucket in buckets))


def log_in(visitor: Visitor, token: str, name: str = "Ada") -> None:
    page = visitor.page
    page.get_by_label("Your name").fill(name)
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Log in").click()


def test_events_that_are_followed_come_on_top_each_once(visit: Callable[..., Visitor], ground: Ground) -> None:
    page = visit().go("/events?project=followed-show")
    expect(page.locator("main")).to_contain_text("No event matches.")
    live = page.get_by_role("button", name="Live")
    with page.expect_response(lambda answer: "/events/stream" in answer.url):
        live.click()

    for number in (1, 2, 3):
        event = {"type": "NOTED", "project_id": "followed-show", "actor": f"Noter {number}", "payload": {}}
        ground.ask("/events", event)

    rows = page.locator("[data-rows] tr")
    expect(rows).to_have_count(3)
    expect(rows.first).to_contain_text("Noter 3")
    live.click()  # stops, and goes on after the last one
    ground.ask("/events", {"type": "NOTED", "project_id": "followed-show", "actor": "Noter 4", "payload": {}})
    live.click()
    expect(rows).to_have_count(4)
    expect(rows.first).to_contain_text("Noter 4")
    rows.first.get_by_role("link").first.click()
    expect(page.locator("h1")).to_have_text("NOTED")


def test_live_begins_with_what_came_since_the_page_was_loaded(visit: Callable[..., Visitor], ground: Ground) -> None:
    def note(actor: str) -> None:
        ground.ask("/events", {"type": "NOTED", "project_id": "gap-show", "actor": actor, "payload": {}})

    note("Before")
    page = visit().go("/events?project=gap-show")
    rows = page.locator("[data-rows] tr")
    expect(rows).to_have_count(1)
    note("Meanwhile")

    page.get_by_role("button", name="Live").click()

    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text("Meanwhile")
    rows.first.get_by_role("link", name="Causation graph").click()
    expect(page.locator("h1")).to_have_text("Causation graph")


def test_an_event_is_found_by_its_id(visit: Callable[..., Visitor], ground: Ground) -> None:
    event = {"type": "NOTED", "project_id": "found-show", "actor": "Noter", "payload": {}}
    id = str(ground.ask("/events", event)["event_id"])
    visitor = visit(expects=("404",))
    page = visitor.go("/events")

    page.get_by_label("Find an event").fill("EV-none")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("There is no event 'EV-none'")
    page.get_by_label("Find an event").fill(id)
    page.get_by_role("button", name="Find").click()

    expect(page.locator("h1")).to_have_text("NOTED")


def test_the_overview_draws_each_subscribers_lag_and_age_and_the_workers_as_they_change(
    visit: Callable[..., Visitor], ground: Ground
) -> None:
    page = visit().go("/")
    row = page.locator("#subscribers tr", has_text="Newsletter")  # it is paused, and an episode waits for it
    for what in ("lag", "oldest_s"):
        line = row.locator(f"[data-spark={what}] .spark-line")
        expect(line).to_have_attribute("d", re.compile(r"^M[\d.]+ [\d.]+L"))
    drawn = row.locator("[data-spark=lag] .spark-line").get_attribute("d") or ""
    for chart in ("oldest", "workers"):
        expect(page.locator(f"[data-chart={chart}] canvas")).to_be_visible()
    expect(page.locator("[data-value=alive]")).to_have_text(re.compile("^[1-9]"))
    expect(page.locator("[data-value=oldest]")).to_contain_text(re.compile(r"\d (s|min|h)$"))

    expect(row.locator("[data-spark=lag] .spark-line")).not_to_have_attribute("d", drawn)


def test_spend_is_drawn_again_each_minute(visit: Callable[..., Visitor], ground: Ground) -> None:
    visitor = visit()
    visitor.page.clock.install()
    page = visitor.go("/")
    chart = page.locator("[data-chart=spend] .u-over")
    expect(chart).to_be_visible()
    area = chart.bounding_box()
    assert area is not None
    spent = page.locator("[data-value=cost]")
    page.mouse.move(area["x"] + area["width"] - 4, area["y"] + 20)
    expect(spent).not_to_have_text("")
    before, cost = spent.inner_text(), spent_of_late(ground)
    event = {"type": "NOTED", "project_id": "spend-show", "actor": "Noter", "payload": {}, "metadata": {"cost": 7}}
    ground.ask("/events", event)
    wait_until(lambda: spent_of_late(ground) > cost + 6, 60, "the cost in the statistics")

    page.clock.fast_forward("01:01")

    expect(spent).not_to_have_text(before)


def test_the_overview_shows_what_changes_without_being_loaded_again(
    visit: Callable[..., Visitor], ground: Ground
) -> None:
    page = visit().go("/")
    expect(page.locator("[data-chart=throughput] canvas")).to_be_visible()
    expect(page.locator("[data-chart=spend] canvas")).to_be_visible()
    page.evaluate("window.isTheSame = true")
    published = int((page.locator(".tile strong").first.text_content() or "").replace(",", ""))

    ground.ask("/events", {"type": "NOTED", "project_id": "overview-show", "actor": "Noter", "payload": {}})

    expect(page.locator(".tile strong").first).not_to_have_text(f"{published:,}")
    assert page.evaluate("window.isTheSame")


def test_every_page_is_reached_by_the_keyboard(visit: Callable[..., Visitor]) -> None:
    page = visit().go("/")
    for key, heading in (
        ("p", "Projects"), ("e", "Events"), ("d", "Dead letters"), ("s", "Subscriptions"), ("w", "Workers"),
        ("v", "Deliveries"), ("h", "Scheduled"), ("a", "Audit log"), ("i", "Event bus API"), ("o", "Overview"),
    ):  # fmt: skip
        page.keyboard.press("g")
        page.keyboard.press(key)
        expect(page.locator("h1")).to_contain_text(heading)
        expect(page.locator("[data-keys]")).to_be_visible()  # its keys are heard
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("Next and previous row")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_rows_and_the_search_field_are_reached_by_the_keyboard(visit: Callable[..., Visitor]) -> None:
    page = visit().go("/projects")
    expect(page.locator("[data-keys]")).to_be_visible()
    page.keyboard.press("/")
    expect(page.get_by_label("Name holds")).to_be_focused()
    page.keyboard.type("demo-")
    page.keyboard.press("Enter")

    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page.locator("[data-keys]")).to_be_visible()
    page.keyboard.press("j")
    expect(page.locator("tbody a").first).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_contain_text("demo-")


def test_colours_and_language_are_remembered(visit: Callable[..., Visitor]) -> None:
    page = visit().go("/projects")
    ground_colour = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground_colour)
    with page.expect_response(lambda answer: answer.url.endswith("/preferences")):
        page.get_by_role("button", name="Dark").click()

    assert page.evaluate(ground_colour) != light
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.get_by_role("button", name="中文").click()
    expect(page.locator("h1")).to_have_text("项目")
    page.goto(page.url)
    expect(page.locator("html")).to_have_attribute("lang", "zh")


def test_who_has_no_token_logs_in_and_comes_to_where_he_wanted(visit: Callable[..., Visitor], guarded: Ground) -> None:
    visitor = visit(guarded.url, expects=("401",))
    page = visitor.go("/subscriptions?search=Video")
    expect(page.locator("h1")).to_have_text("Log in to the event bus")

    log_in(visitor, "a-token-that-is-none")
    expect(page.get_by_role("alert")).to_contain_text("This is no token of this bus.")
    log_in(visitor, OPERATOR)

    expect(page.locator("h1")).to_have_text("Subscriptions")
    expect(page.get_by_role("button", name="Pause VideoGen")).to_be_visible()
    (cookie,) = [one for one in visitor.context.cookies() if one["name"] == "eventbus_session"]
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Lax")
    page.get_by_role("button", name="Log out").click()
    expect(page.locator("h1")).to_have_text("Log in to the event bus")
    visitor.go("/")
    expect(page.locator("h1")).to_have_text("Log in to the event bus")


def test_a_reader_sees_no_button_that_he_may_not_press(visit: Callable[..., Visitor], guarded: Ground) -> None:
    visitor = visit(guarded.url, expects=("401",))
    visitor.go("/")
    log_in(visitor, READER, "Grace")
    page = visitor.page
    expect(page.locator(".me")).to_contain_text("Grace · reader")

    guarded.ask("/events?delay=6h", {"type": "NOTED", "project_id": "reader-show", "actor": "me"}, OPERATOR)
    for path in ("/subscriptions", "/dead-letters", "/workers", "/scheduled"):
        visitor.go(path)
        expect(page.locator("tbody tr").first).to_be_visible()
        assert page.locator("main :is(button, input[type=checkbox]):visible").all_inner_texts() in (
            ["Show"], ["Live", "Show"], ["Live"], [],
        )  # fmt: skip
    visitor.go("/dead-letters")
    page.locator("td.error a").first.click()
    expect(page.locator("pre.trace")).to_be_visible()
    assert page.locator("main button:visible").count() == 0
    page.locator("dd a[href^='/event?']").click()
    expect(page.locator("#deliveries")).to_contain_text("attempt")
    assert page.locator("main button:visible").count() == 0


def test_a_login_leads_to_no_other_site(visit: Callable[..., Visitor], guarded: Ground) -> None:
    for elsewhere in ("//example.org/", "https://example.org/", "/\\example.org"):
        visitor = visit(guarded.url)
        visitor.page.goto(f"{guarded.url}/login?to={elsewhere}")
        log_in(visitor, READER)
        expect(visitor.page.locator("h1")).to_have_text("Overview")
        assert visitor.page.url == f"{guarded.url}/"
