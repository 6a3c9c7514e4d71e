"""The causation graph: chosen, zoomed, exported, followed, and five thousand events of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Page, expect

from tests.waiting import wait_until
from tests.web.browser.ground import Ground
from tests.web.browser.visitor import Visitor

MANY = 5_000


def graph_of(visitor: Visitor, id: str) -> Page:
    page = visitor.go(f"/graph?{urlencode({'id': id})}")
    expect(page.locator(".graph canvas")).to_be_visible()
    expect(page.locator(".graph-node h3, .graph-node p").first).to_be_visible()
    return page


def event(project: str, cause: str | None = None, **fields: Any) -> dict[str, Any]:
    return {
        "type": "NOTED", "project_id": project, "actor": "Noter", "payload": {}, "causation_id": cause, **fields,
    }  # fmt: skip


def inks(page: Page) -> int:
    """Return how many pixels of the canvas are drawn."""
    return int(
        page.evaluate(
            """() => { const canvas = document.querySelector('.graph canvas');
            const { width, height } = canvas;
            const copy = Object.assign(document.createElement('canvas'), { width, height });
            const context = copy.getContext('2d', { willReadFrequently: true });
            context.drawImage(canvas, 0, 0);
            const { data } = context.getImageData(0, 0, width, height);
            let count = 0; for (let at = 3; at < data.length; at += 4) if (data[at]) count++; return count; }"""
        )
    )


def test_an_event_is_chosen_with_its_totals_by_keys_and_opened(visit: Callable[..., Visitor], ground: Ground) -> None:
    scene = ground.ask("/events?type=SCENE_WRITTEN&limit=1")["events"][0]
    page = graph_of(visit(), scene["event_id"])
    tree = {node["event_id"]: node for node in ground.ask(f"/events/{scene['event_id']}/tree")["nodes"]}
    expect(page.locator(".graph-node")).to_contain_text("SCENE_WRITTEN")
    expect(page.locator(".graph-node")).to_contain_text(f"${tree[scene['event_id']]['cost_total']:.3f}".rstrip("0"))
    drawn = inks(page)
    assert drawn > 1000

    canvas = page.locator(".graph canvas")
    canvas.focus()
    page.keyboard.press("ArrowLeft")
    expect(page.locator(".graph-node")).not_to_contain_text("SCENE_WRITTEN")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    for key in ("+", "+", "-", "0"):
        page.keyboard.press(key)
    told = page.locator(".graph-node h3").inner_text()
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text(told)


# Nodes that the view in which a tree is opened places outside a canvas of some size, or so near its edge that going
# there by keys would move all: trees of a root alone, a chain, a fan and many levels.
OUTSIDE = """async ([width, height]) => {
  const { fitted, place, showing } = await import('/static/js/graph/view.js');
  const wrong = [];
  for (const [columns, rows] of [[0, 0], [1, 0], [63, 0], [1, 2000], [9, 40], [60, 60], [3, 5000]]) {
    const view = fitted({ columns, rows }, width, height);
    for (const node of [{ column: 0, row: rows / 2 }, { column: columns, row: 0 }, { column: columns, row: rows }]) {
      const [x, y] = place(view, node);
      const moved = showing(view, node, width, height);
      if (x < 12 || x > width - 12 || y < 12 || y > height - 12) wrong.push(["outside", columns, rows, x, y]);
      if (moved.x !== view.x || moved.y !== view.y) wrong.push(["moved", columns, rows, x, y]);
    }
  }
  return wrong;
}"""
PICTURE = "() => document.querySelector('.graph canvas').toDataURL()"
DRAWN = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"


@pytest.mark.parametrize("width", [390, 1380])
def test_a_graph_opens_with_all_of_it_seen_and_keys_bring_into_view_what_is_not(
    width: int, visit: Callable[..., Visitor], ground: Ground
) -> None:
    scene = ground.ask("/events?type=SCENE_WRITTEN&limit=1")["events"][0]
    page = graph_of(visit(width=width), scene["correlation_id"])
    canvas = page.locator(".graph canvas")
    page.evaluate(DRAWN)
    opened = page.evaluate(PICTURE)
    box = canvas.bounding_box()
    assert box is not None

    canvas.press("0")
    page.evaluate(DRAWN)
    assert page.evaluate(PICTURE) == opened, "it opens as Fit shows it"
    assert page.evaluate(OUTSIDE, [box["width"], box["height"]]) == []

    for _ in range(40):
        canvas.press("Shift+ArrowLeft")
    page.evaluate(DRAWN)
    assert inks(page) == 0
    canvas.press("ArrowRight")
    page.evaluate(DRAWN)
    assert inks(page) > 0, "the event that was chosen by a key is in view"


def test_a_click_chooses_a_drag_moves_and_the_wheel_zooms(visit: Callable[..., Visitor], ground: Ground) -> None:
    root = ground.ask("/events", event("clicked-show"))["event_id"]
    page = graph_of(visit(), str(root))
    box = page.locator(".graph canvas").bounding_box()
    assert box is not None
    page.keyboard.press("Escape")
    page.locator(".graph canvas").press("Escape")
    expect(page.locator(".graph-node")).to_contain_text("Choose an event")
    # Where a lone root is: its label, to its right, is in the middle with it.
    x, y = box["x"] + box["width"] / 2 - 72, box["y"] + box["height"] / 2

    page.mouse.click(x, y)
    expect(page.locator(".graph-node h3")).to_have_text("NOTED")
    page.locator(".graph canvas").press("Escape")
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 200, y + 60, steps=4)
    page.mouse.up()
    page.mouse.click(x + 200, y + 60)
    expect(page.locator(".graph-node h3")).to_have_text("NOTED")
    page.mouse.wheel(0, -300)  # about the pointer, which stays on the event
    page.locator(".graph canvas").press("Escape")
    page.mouse.click(x + 200, y + 60)
    expect(page.locator(".graph-node h3")).to_have_text("NOTED")


def test_a_graph_grows_while_it_is_looked_at(visit: Callable[..., Visitor], ground: Ground) -> None:
    root = str(ground.ask("/events", event("growing-show"))["event_id"])
    visitor = visit()
    with visitor.page.expect_response(lambda answer: "/events/stream" in answer.url):
        page = graph_of(visitor, root)
    expect(page.locator("#outline tbody tr")).to_have_count(1)

    ground.ask("/events", event("growing-show", root, metadata={"cost": 2}))

    expect(page.locator("#outline tbody tr")).to_have_count(2)
    expect(page.locator(".graph-node")).to_contain_text("$2.00")


def test_five_thousand_events_are_drawn_moved_and_exported(
    visit: Callable[..., Visitor], ground: Ground, tmp_path: Path, measured: Callable[[str], None]
) -> None:
    root = publish_many(ground)
    page = graph_of(visit(), root)
    expect(page.locator(".tile strong").first).to_have_text(f"{MANY:,}")
    expect(page.locator(".graph-node")).to_contain_text(f"{MANY:,}")
    assert inks(page) > 5_000

    box = page.locator(".graph canvas").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 300, box["y"] + 200)
    began, steps = time.monotonic(), 60
    page.mouse.down()
    page.mouse.move(box["x"] + 420, box["y"] + 240, steps=steps)
    page.mouse.up()
    for _ in range(10):
        page.mouse.wheel(0, -120)
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    measured(f"{steps} moves and 10 zooms of {MANY:,} events: {time.monotonic() - began:.1f} s")

    for name, beginning in (("SVG", b"<?xml"), ("PNG", b"\x89PNG")):
        with page.expect_download() as begun:
            page.get_by_role("button", name=name).click()
        path = tmp_path / begun.value.suggested_filename
        begun.value.save_as(path)
        assert path.read_bytes().startswith(beginning)
        if name == "SVG":
            assert path.read_text().count("<circle") == MANY


def publish_many(ground: Ground) -> str:
    """Publish a tree of `MANY` events, three levels deep; return its root."""
    root = "EV-root-of-many"
    events = [event("large-show", event_id=root)]
    events += [event("large-show", root, event_id=f"EV-many-{n}", metadata={"cost": n % 7}) for n in range(49)]
    events += [
        event("large-show", f"EV-many-{n % 49}", event_id=f"EV-leaf-{n}", metadata={"cost": 0.01, "latency_ms": n})
        for n in range(MANY - 50)
    ]
    ground.ask("/events/batch", events)
    wait_until(lambda: ground.ask(f"/events/{root}/tree?limit=1")["count"] == MANY, 60, "the tree to be known")
    return root
