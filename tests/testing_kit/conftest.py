"""The kit's fixtures, also where this package is not installed but only on the path."""

from events.testing_pytest import event_bus_app, event_bus_kit, event_bus_settings

__all__ = ["event_bus_app", "event_bus_kit", "event_bus_settings"]
