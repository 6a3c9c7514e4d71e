"""Somebody with a browser: goes to pages, and remembers every error that the browser tells."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Page, expect

DEADLINE_MS = 60_000
expect.set_options(timeout=DEADLINE_MS)


class Visitor:
    """One browser context.

    Attributes:
        page: what he looks at. errors: what the console said, scripts threw, and pages were refused.
    """

    def __init__(
        self, browser: Browser, url: str, *, width: int = 1280, height: int = 860, scheme: Any = "light",
        language: str = "en-GB", scripts: bool = True, expects: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        self.url = url
        self.errors: list[str] = []
        self._expects = expects
        self.context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, locale=language,
            java_script_enabled=scripts, reduced_motion="reduce",
        )  # fmt: skip
        self.context.set_default_timeout(DEADLINE_MS)
        self.page: Page = self.context.new_page()
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.errors.append(f"thrown: {error}"))

    def go(self, path: str) -> Page:
        """Go to a page, and wait until it has done what it does at first."""
        answer = self.page.goto(self.url + path, wait_until="load")
        assert answer is not None and answer.status == 200, f"{path}: {answer and answer.status}"
        return self.page

    def close(self) -> None:
        self.context.close()

    def _console(self, message: ConsoleMessage) -> None:
        told = message.text
        if message.type in ("error", "warning") and not any(text in told for text in self._expects):
            self.errors.append(f"{message.type}: {told} ({message.location.get('url')})")


def overflow(page: Page) -> int:
    """Return by how many pixels a page is wider than its window."""
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))
