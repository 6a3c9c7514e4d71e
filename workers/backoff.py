"""Whether a failed delivery is tried again, and when: exponential, capped, with jitter."""

from __future__ import annotations

import random
from collections.abc import Iterator

from events.errors import Retry
from events.subscriptions import SubscriberOptions

FACTOR = 4


def delay_s(attempt: int, options: SubscriberOptions) -> float:
    """Return the seconds to wait after a failed attempt.

    Args:
        attempt: 1 after the first try.

    Returns:
        `min_backoff * 4**(attempt - 1)`, at most `max_backoff`, spread by `jitter` either way.
    """
    exponent = min(attempt - 1, 30)
    wait: float = min(options.max_backoff, options.min_backoff * FACTOR**exponent)
    return wait * random.uniform(1 - options.jitter, 1 + options.jitter)


def giving_up(error: BaseException, options: SubscriberOptions) -> str | None:
    """Return which option makes a dead letter of the failure at once, as a clause; None when none does."""
    if isinstance(error, Retry):
        return None
    for inner in _leaves(error):
        named = next((kind for kind in options.give_up_on if isinstance(inner, kind)), None)
        if named is not None:
            return f"give_up_on names {named.__name__}"
    for inner in _leaves(error):
        if options.retry_on is not None and not isinstance(inner, options.retry_on):
            return f"retry_on does not name {type(inner).__name__}"
    return None


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """Yield the exceptions that a group holds; any other is its own leaf."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error
