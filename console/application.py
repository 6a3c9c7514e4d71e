"""The application in this process: for its payload models and its document, never to run its handlers.

Worker processes load it to run it (`workers/process.py`); what supervises them never does (`console/probe.py`).
"""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

import typer

from console.exits import MISTAKE

if TYPE_CHECKING:
    from events.bus import EventBus
    from events.schemas import Schemas
    from events.settings import Settings


def loaded(target: str | None) -> EventBus:
    """Load the application and return its bus; what it prints meanwhile goes to stderr.

    Raises:
        InvalidSettings: it cannot be found, or is no bus.
        typer.Exit: it raised, and its traceback was shown.
    """
    import events.bus  # noqa: F401 - before an application's own `store.py` can be taken for ours
    from events.errors import EventBusError
    from workers.loading import load_app

    with contextlib.redirect_stdout(sys.stderr):
        try:
            bus: EventBus = load_app(target)
        except EventBusError:
            raise
        except (Exception, SystemExit):
            sys.excepthook(*sys.exc_info())
            raise typer.Exit(MISTAKE) from None
    return bus


def payload_models(settings: Settings) -> Schemas | None:
    """Return the payload models of the application that EVENTBUS_APP names; None when it names none.

    Raises:
        InvalidSettings, typer.Exit: as `loaded` does.
    """
    return loaded(settings.app).schemas if settings.app else None


def publishing_bus() -> EventBus:
    """Return a bus that publishes into the environment's servers, by the models of the application if there is one.

    It is not the application's own bus: that would declare its subscribers before it published.

    Raises:
        InvalidSettings, typer.Exit: as `loaded` does.
    """
    from events.bus import EventBus
    from events.settings import Settings

    settings = Settings.from_env()
    models = payload_models(settings)
    bus = EventBus(settings)
    if models is not None:
        bus.schemas.adopt(models)
    return bus
