"""Reading what Redis keeps in hashes, sets and numbers: of what a hand wrote there comes one named error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from events.errors import EventBusError, MalformedEntry


@contextmanager
def kept(key: str) -> Iterator[None]:
    """Turn what reading a key's content raises into an error that names the key, and never what is in it.

    Raises:
        MalformedEntry: the key does not hold what this project writes there.
    """
    try:
        yield
    except EventBusError:
        raise
    except (ValueError, OverflowError, TypeError, LookupError) as error:
        raise MalformedEntry(
            f"The key {key!r} does not hold what this project writes there ({type(error).__name__}), and nobody else "
            "may write there. Restore it; or delete it, and run `eventbus doctor --repair`."
        ) from None
