"""A browser that minds every error, and the ground that it looks at."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.programs import axe_source
from tests.web.browser.ground import Ground, hostile, shared
from tests.web.browser.visitor import Visitor

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


def chromium() -> str:
    """Return where Chromium is; where it is not, that is said by name."""
    program = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if program is None:
        pytest.skip("Not run: Chromium is not installed.")
    return program


# Not of the session: while Playwright is there, no other test of this process may run an event loop.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        # In a container it runs as root, without the sandbox that needs another user.
        found = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(scope="session")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """The one ground of this run, shared by its test processes."""
    chromium()
    base = tmp_path_factory.getbasetemp()
    is_worker = base.name.startswith("popen-")
    with shared((base.parent if is_worker else base) / "console") as found:
        yield found


@pytest.fixture(scope="session")
def hostile_ground(ground: Ground) -> Iterator[Ground]:
    with hostile(ground) as found:
        yield found


@pytest.fixture(scope="session")
def axe() -> str:
    """The source of axe-core."""
    return axe_source()


@pytest.fixture
def visit(browser: Browser, ground: Ground) -> Iterator[Callable[..., Visitor]]:
    """Returns a visitor: `visit(url, width=..., scheme=..., language=...)`. At the end none may have met an error."""
    visitors: list[Visitor] = []

    def begin(url: str = "", **how: object) -> Visitor:
        visitors.append(Visitor(browser, url or ground.url, **how))  # type: ignore[arg-type]
        return visitors[-1]

    yield begin
    for one in visitors:
        one.close()
    assert [error for one in visitors for error in one.errors] == []


@pytest.fixture
def pictures(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Where pictures go: with `--pictures` to docs/images, for the README."""
    if request.config.getoption("--pictures"):
        return Path(__file__).parents[3] / "docs" / "images"
    return tmp_path
