"""Finding the application's bus: `module:attribute`, as EVENTBUS_APP or `--app` names it."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

from events.errors import EventBusError, InvalidSettings

EXAMPLE = "for example `EVENTBUS_APP=pipeline:bus` for `bus = EventBus()` in pipeline.py"


def load_app(target: str | None) -> Any:
    """Import the application and return its bus.

    Args:
        target: `module:attribute`; `bus` is the attribute when none is given. The attribute may be a
            bus, or a function that makes one. The current directory is searched first.

    Raises:
        InvalidSettings: when there is no target, no such attribute, it is not a bus, or the function that
            should make one fails.
        EventBusError: of the function itself.
        ImportError: when the module, or one it imports, is missing.
    """
    if not target:
        raise InvalidSettings(f"There is no application to run: set EVENTBUS_APP or pass --app, {EXAMPLE}.")
    module_name, _, path = target.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    if not module_name or module_name.startswith("."):
        raise InvalidSettings(f"The application {target!r} does not begin with a module's full name; {EXAMPLE}.")
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and module_name.split(".")[0] == error.name.split(".")[0]:
            raise InvalidSettings(
                f"The application's module {module_name!r} cannot be found from {os.getcwd()}."
            ) from None
        raise
    for part in (path or "bus").split("."):
        if not hasattr(found, part):
            raise InvalidSettings(f"The application {target!r} has no attribute {part!r}; name the bus, {EXAMPLE}.")
        found = getattr(found, part)
    if not hasattr(found, "subscriptions") and isinstance(found, Callable):  # type: ignore[arg-type]
        found = _made(target, found)
    if not hasattr(found, "subscriptions"):
        raise InvalidSettings(f"The application {target!r} is a {type(found).__name__}, not an EventBus; {EXAMPLE}.")
    return found


def _made(target: str, function: Callable[[], Any]) -> Any:
    try:
        return function()
    except EventBusError:
        raise
    except Exception as error:
        raise InvalidSettings(
            f"The application {target!r} is a function that fails when it is called without arguments: "
            f"{type(error).__name__}: {str(error).rstrip('.')}."
        ) from error


def chosen(bus: Any, names: list[str] | None) -> tuple[Any, ...]:
    """Return a bus's subscriptions with those names, all when none are named; none where it has only schedules.

    Raises:
        InvalidSettings: naming a subscriber that the application does not have.
    """
    subscriptions: tuple[Any, ...] = tuple(bus.subscriptions)
    if not subscriptions and not bus.schedules:
        raise InvalidSettings("The application's bus has no subscribers: nothing to do for a worker.")
    if not names:
        return subscriptions
    known = {subscription.name for subscription in subscriptions}
    missing = [name for name in names if name not in known]
    if missing:
        raise InvalidSettings(f"The application has no subscriber {missing[0]!r}; it has {', '.join(sorted(known))}.")
    return tuple(subscription for subscription in subscriptions if subscription.name in names)
