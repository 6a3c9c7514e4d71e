"""Lending a test's servers to buses that the application made: for a while they publish, consume and ask there.

A bus keeps its subscribers, its identity and its settings otherwise; its own connections rest meanwhile, and are
what it has again afterwards. The process's default bus, which `events.publish` uses, is lent the test's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from events import default
from events.bus import EventBus
from events.errors import EventBusError, InvalidSettings
from events.settings import Settings

_ITS_OWN = ("settings", "backend", "_tracing", "_lock", "_sender", "_here", "_consuming", "_undeclared")


class Lent:
    """What was lent, until `take_back`.

    Args:
        buses: that get the servers. settings: which servers, and which namespace.
        declares: whether each writes its routes there before it publishes.
        standing_in: what `events.publish` uses meanwhile; None leaves that as it is.

    Raises:
        EventBusError: one of them consumes.
    """

    def __init__(
        self, buses: Sequence[EventBus], settings: Settings, *, declares: bool, standing_in: EventBus | None
    ) -> None:
        for bus in buses:
            if declares and bus._consuming is not None:
                raise EventBusError("The application's bus consumes already: call its stop_consuming before the test.")
        self._theirs = [(bus, {name: getattr(bus, name) for name in _ITS_OWN}) for bus in buses]
        self._stands_in = standing_in is not None
        self._before = default.lend(standing_in) if standing_in is not None else None
        for bus in buses:
            bus.settings = settings
            bus._connect_later()
            bus._undeclared = list(bus.subscriptions) if declares else []

    def take_back(self) -> None:
        """Let each bus have what it had; a second time does nothing."""
        theirs, self._theirs = self._theirs, []
        for bus, had in theirs:
            _end(bus)
            for name, value in had.items():
                setattr(bus, name, value)
        if self._stands_in:
            default.lend(self._before)
            self._stands_in = False


def _end(bus: EventBus) -> None:
    """End what a bus does on servers that were lent to it; not the bus, as its own `close` may."""
    if bus._consuming is not None:
        bus._consuming.stop(0.0)
    EventBus.close(bus)


def lent_of(app: Any) -> list[EventBus]:
    """Return the application's bus as a list: a bus, `module:attribute`, or None, which is none.

    Raises:
        InvalidSettings, ImportError: as `workers.loading.load_app`.
    """
    from workers.loading import load_app

    found = load_app(app) if isinstance(app, str) else app
    if found is not None and not isinstance(found, EventBus):
        raise InvalidSettings(
            f"TestBus takes the application's EventBus, or 'module:attribute' of it, not {found!r:.80}."
        )
    return [] if found is None else [found]
