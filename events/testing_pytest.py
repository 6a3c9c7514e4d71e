"""The pytest plugin: fixtures that every test has where this package is installed. Nothing is started before one asks.

    def test_a_scene_is_written(event_bus_kit): ...

Composition: it gives `events.testing` to pytest, and nothing else imports it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from events.testing.bus import TestBus


@pytest.fixture
def event_bus_app() -> Any:
    """The application under test: its bus, or `module:attribute`. Define a fixture of this name to name yours."""
    return None


@pytest.fixture
def event_bus_settings() -> dict[str, Any]:
    """Fields of `Settings` for `event_bus_kit`, such as `database_url`. Define a fixture of this name to give yours."""
    return {}


@pytest.fixture
def event_bus_kit(
    event_bus_app: Any, event_bus_settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> Iterator[TestBus]:
    """A bus for one test, plain or async; see `events.testing`. The environment names its servers meanwhile."""
    from events.testing.bus import TestBus  # here, because pytest loads this file for everybody

    with TestBus(event_bus_app, **event_bus_settings) as bus:
        for name, value in bus.environment.items():
            monkeypatch.setenv(name, value)
        yield bus
