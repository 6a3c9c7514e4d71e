"""The fable, told once for all tests that only look at the result."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest

from examples.storyboard import FABLE, load_story
from tests.storyboard.driver import SHORT, run


class Told(NamedTuple):
    out: Path
    events: list[Any]

    def of(self, kind: str) -> list[Any]:
        return [event for event in self.events if event.type == kind]


@pytest.fixture(scope="session")
def fable(tmp_path_factory: pytest.TempPathFactory) -> Told:
    out, story = tmp_path_factory.mktemp("fable") / "out", load_story(FABLE)
    return Told(out, run(story.title, story.text, out))


@pytest.fixture(scope="session")
def tale(tmp_path_factory: pytest.TempPathFactory) -> Told:
    out = tmp_path_factory.mktemp("tale") / "out"
    return Told(out, run("Fox and Crow", SHORT, out))
