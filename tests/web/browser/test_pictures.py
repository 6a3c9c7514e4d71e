"""The pictures of the README, of a real demo run. With `--pictures` they are kept in docs/images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.web.browser.ground import Ground
from tests.web.browser.test_pages import path_of
from tests.web.browser.visitor import Visitor

# Page and height of its picture.
PICTURES = {"overview": 900, "project": 820, "graph": 850, "letters": 560}
MOST_COLOURS = 256
MOST_BYTES = 150_000


@pytest.mark.parametrize("page", PICTURES)
def test_a_picture_is_taken(page: str, visit: Callable[..., Visitor], ground: Ground, pictures: Path) -> None:
    visitor = visit(height=PICTURES[page])
    shown = visitor.go(path_of(page, ground.url))
    if page == "overview":
        expect(shown.locator("[data-chart=spend] canvas")).to_be_visible()
        expect(shown.locator("[data-value=published]")).not_to_have_text("")
    if page == "graph":
        expect(shown.locator(".graph canvas")).to_be_visible()
        shown.locator("[data-by=colour]").select_option("actor")
    if page == "letters":
        expect(shown.get_by_label("Choose all shown")).to_be_visible()  # comes with the scripts
    shown.evaluate("() => document.fonts.ready")
    shown.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    path = pictures / f"{page}.png"
    path.parent.mkdir(exist_ok=True)
    shown.screenshot(path=path)

    with Image.open(path) as taken:
        assert taken.size == (1280, PICTURES[page])
        assert len(taken.convert("RGB").getcolors(1 << 24) or ()) > MOST_COLOURS, "there is nothing on it"
        taken.convert("RGB").quantize(MOST_COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
    assert path.stat().st_size < MOST_BYTES
