"""Opening the servers for a command, and closing them however it ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from events.backend import Backend
    from events.errors import EventBusError
    from events.settings import Settings


@contextmanager
def reading(*, may_restore: bool = False, undone: str = "nothing more was done") -> Iterator[Backend]:
    """Enter the servers that the environment names, to ask them something.

    Args:
        may_restore: a namespace that Redis has lost may be declared again.
        undone: what was not done when it is lost, and nobody has declared it again.

    Raises:
        EventBusError: there is nothing to ask: no server is named, and the embedded ones' directory is
            not here. It is not made, because whoever asks has been somewhere else before.
    """
    from events.errors import EventBusError
    from events.settings import Settings

    settings = Settings.from_env()
    home = Path(settings.home).expanduser()
    if not settings.redis_url and not home.exists():
        raise EventBusError(
            f"There is no event bus in {home.absolute()}: go to the directory where one was used, set EVENTBUS_HOME "
            "or REDIS_URL to it, or begin one here with `eventbus demo`, `dev` or `publish`."
        )
    with opened(settings, may_restore=may_restore, undone=undone) as backend:
        yield backend


@contextmanager
def opened(
    settings: Settings, *, may_restore: bool = False, undone: str = "nothing more was done"
) -> Iterator[Backend]:
    """Enter servers; nothing connects before it is used. See `reading`."""
    from events.backend import Backend
    from events.errors import HistoryReset

    backend = Backend(settings, may_restore=may_restore)
    try:
        yield backend
    except HistoryReset:
        raise lost(backend, undone) from None
    finally:
        backend.close()


def lost(backend: Backend, undone: str) -> EventBusError:
    """Make the error for a command that needs a namespace which Redis has lost."""
    from events.errors import EventBusError

    return EventBusError(
        f"Redis has lost the namespace {backend.settings.namespace!r} (FLUSHALL, or an empty replica took over), and "
        f"nobody has declared it again: {undone}. Start a worker or an archiver, or run `eventbus doctor --repair`; "
        "then ask again."
    )
