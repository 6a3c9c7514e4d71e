"""What an operator does with a mouse: each action through the API, with a look at what will happen before it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from playwright.sync_api import Locator, Page, expect

from tests.waiting import wait_until
from tests.web.browser.ground import Ground
from tests.web.browser.visitor import Visitor


def episode(ground: Ground, number: int, project: str) -> str:
    """Publish an episode whose subtitles fail, if its number can be divided by three; return the event's id."""
    event = {"type": "EPISODE_CUT", "project_id": project, "actor": "Editor", "payload": {"episode": number}}
    return str(ground.ask("/events", event)["event_id"])


def letters(ground: Ground, project: str, **more: object) -> list[Any]:
    found: list[Any] = ground.ask(f"/dead-letters?{urlencode({'project': project, **more})}")["dead_letters"]
    return found


def dead_in(ground: Ground, project: str, count: int) -> list[Any]:
    wait_until(lambda: len(letters(ground, project)) == count, 60, f"{count} dead letters of {project}")
    return letters(ground, project)


def dialog(page: Page) -> Locator:
    return page.get_by_role("dialog")


def test_chosen_letters_are_discarded_after_a_preview_with_a_reason(
    visit: Callable[..., Visitor], ground: Ground
) -> None:
    for number in (30, 33):
        episode(ground, number, "discarded-show")
    names = {letter["name"] for letter in dead_in(ground, "discarded-show", 2)}
    page = visit().go("/dead-letters?project=discarded-show")

    page.get_by_label("Choose all shown").check()
    page.get_by_role("button", name="Discard", exact=True).click()
    expect(dialog(page)).to_contain_text("Would discard 2 dead letters.")
    assert all(name in (dialog(page).text_content() or "") for name in names)
    assert len(letters(ground, "discarded-show")) == 2, "nothing is done before it is said"
    dialog(page).get_by_label("Why").fill("recut")
    dialog(page).get_by_role("button", name="Discard").click()

    expect(page.get_by_role("status")).to_contain_text("Discarded 2 dead letters.")
    expect(page.locator("main")).to_contain_text("No dead letter matches.")
    page.get_by_role("link", name="Decided").click()
    expect(page.locator("tbody")).to_contain_text("discarded-show")
    entry = ground.ask("/audit?limit=20")["entries"]
    assert any(one["action"] == "discard_dead_letters" and one["details"].get("reason") == "recut" for one in entry)


def test_a_preview_and_what_came_of_it_are_told_in_chinese(visit: Callable[..., Visitor], ground: Ground) -> None:
    episode(ground, 42, "chinese-show")
    dead_in(ground, "chinese-show", 1)
    page = visit(language="zh-CN").go("/dead-letters?project=chinese-show")

    page.locator("td.pick input").check()
    page.get_by_role("button", name="丢弃", exact=True).click()
    expect(dialog(page)).to_contain_text("将丢弃 1 封死信。")
    assert "Would" not in (dialog(page).text_content() or "")
    dialog(page).get_by_role("button", name="丢弃").click()

    expect(page.get_by_role("status")).to_contain_text("已丢弃 1 封死信。")


def test_a_refusal_is_told_in_chinese_by_its_kind_first(visit: Callable[..., Visitor]) -> None:
    page = visit(language="zh-CN", expects=("400",)).go("/subscriptions?search=Platform")

    page.get_by_role("button", name="Platform 的限额").click()
    dialog(page).get_by_label("同时最多").fill("many")
    dialog(page).get_by_role("button", name="设置").click()

    expect(dialog(page).get_by_role("alert")).to_have_text(re.compile("^无法读懂这个请求：.*'many'"))


def test_scheduled_events_are_taken_back_after_a_look_at_which(visit: Callable[..., Visitor], ground: Ground) -> None:
    for number in (1, 2):
        event = {"type": "EPISODE_CUT", "project_id": "later-show", "actor": "Editor", "payload": {"episode": number}}
        ground.ask(f"/events?delay={number}h", event)
    page = visit().go("/scheduled?project=later-show")
    rows = page.locator("#scheduled tbody tr")
    expect(rows).to_have_count(2)

    rows.first.get_by_role("checkbox").check()
    page.get_by_role("button", name="Take back").click()
    expect(dialog(page)).to_contain_text("EPISODE_CUT · later-show")
    assert len(ground.ask("/scheduled?project=later-show")["scheduled"]) == 2, "nothing is done before it is said"
    dialog(page).get_by_role("button", name="Take back").click()

    expect(page.get_by_role("status")).to_contain_text("The event will not be published.")
    expect(rows).to_have_count(1)
    assert len(ground.ask("/scheduled?project=later-show")["scheduled"]) == 1
    entries = ground.ask("/audit?limit=20")["entries"]
    assert any(one["action"] == "cancel_scheduled_event" for one in entries)


def test_a_letter_is_read_with_its_traceback_and_retried(visit: Callable[..., Visitor], ground: Ground) -> None:
    episode(ground, 36, "retried-show")
    (letter,) = dead_in(ground, "retried-show", 1)
    page = visit().go("/dead-letters?project=retried-show")

    page.locator("td.error a").click()
    expect(page.locator("pre.trace")).to_contain_text("episode 36 ends before it begins")
    page.get_by_role("button", name="Retry").click()
    expect(dialog(page)).to_contain_text("Would retry 1 dead letter.")
    dialog(page).get_by_role("button", name="Retry").click()

    expect(page.get_by_role("status")).to_contain_text("Retried 1 dead letter.")
    expect(page.locator("h1 .chip")).to_have_text("retried")
    # It fails again, as a letter of its own.
    wait_until(lambda: [one["name"] for one in letters(ground, "retried-show")] not in ([], [letter["name"]]), 60, "it")


def test_all_letters_that_match_a_filter_are_purged(visit: Callable[..., Visitor], ground: Ground) -> None:
    episode(ground, 39, "purged-show")
    dead_in(ground, "purged-show", 1)
    page = visit().go("/dead-letters?project=purged-show")

    page.locator("td.pick input").check()
    expect(page.locator("[data-chosen]")).to_have_text("1 chosen")
    page.get_by_role("button", name="Purge").click()
    expect(dialog(page)).to_contain_text("this cannot be undone")
    dialog(page).get_by_role("button", name="Purge").click()

    expect(page.get_by_role("status")).to_contain_text("Purged 1 dead letter.")
    assert letters(ground, "purged-show") == []


def test_an_error_of_the_api_is_shown_in_its_own_sentence(visit: Callable[..., Visitor], ground: Ground) -> None:
    page = visit(expects=("400",)).go("/subscriptions?search=Platform")

    page.get_by_role("button", name="Limits of Platform").click()
    dialog(page).get_by_label("Most at once").fill("many")
    dialog(page).get_by_role("button", name="Set").click()

    expect(dialog(page).get_by_role("alert")).to_contain_text("'many'")
    dialog(page).get_by_label("Most at once").fill("5")
    dialog(page).get_by_role("button", name="Set").click()
    expect(page.get_by_role("status")).to_contain_text("The limits of Platform hold.")
    expect(page.locator("tbody")).to_contain_text("5 at once (set here)")
    ground_limits = ground.ask("/subscribers/Platform")
    assert ground_limits["concurrency"] == {"holds": 5, "declared": 2, "is_set": True}


def test_subscribers_are_paused_and_resumed_together_after_a_preview(
    visit: Callable[..., Visitor], ground: Ground
) -> None:
    page = visit().go("/subscriptions?search=Video")
    for verb, state in (("Pause", "paused"), ("Resume", "live")):
        page.get_by_label("Choose all shown").check()
        page.locator(".bulk").get_by_role("button", name=verb).click()
        expect(dialog(page).locator(".preview")).to_contain_text("VideoGen")
        dialog(page).get_by_role("button", name=verb).click()

        expect(dialog(page)).to_have_count(0)
        expect(page.locator("tr", has_text="VideoGen").locator(".chip").first).to_have_text(state)
    assert not ground.ask("/subscribers/VideoGen")["paused"]


def test_an_event_is_delivered_again_to_one_subscriber(visit: Callable[..., Visitor], ground: Ground) -> None:
    event = episode(ground, 40, "again-show")
    wait_until(lambda: _done(ground, event, "Subtitles"), 60, "the subtitles")
    page = visit().go(f"/event?{urlencode({'id': event})}")

    page.locator(".delivery", has_text="Subtitles").get_by_role("button", name="Redeliver").click()
    dialog(page).get_by_role("button", name="Redeliver").click()

    expect(page.get_by_role("status")).to_contain_text("Delivered again.")
    wait_until(lambda: len(_deliveries(ground, event, "Subtitles")) == 2, 60, "the second delivery")
    page.reload()
    expect(page.locator("#deliveries")).to_contain_text("redelivery 1")


def _deliveries(ground: Ground, event: str, subscriber: str) -> list[Any]:
    found = ground.ask(f"/events/{event}/deliveries")["deliveries"]
    return [one for one in found if one["subscriber"] == subscriber]


def _done(ground: Ground, event: str, subscriber: str) -> bool:
    return [one["state"] for one in _deliveries(ground, event, subscriber)] == ["done"]
