"""When a failed delivery is tried again: exponential, capped, with jitter."""

from __future__ import annotations

import random

from events.subscriptions import SubscriberOptions

FACTOR = 4
JITTER = 0.25


def delay_s(attempt: int, options: SubscriberOptions) -> float:
    """Return the seconds to wait after a failed attempt.

    Args:
        attempt: 1 after the first try.

    Returns:
        `min_backoff * 4**(attempt - 1)`, at most `max_backoff`, spread by a quarter either way
        so that deliveries that failed together do not come back together.
    """
    exponent = min(attempt - 1, 30)
    wait: float = min(options.max_backoff, options.min_backoff * FACTOR**exponent)
    return wait * random.uniform(1 - JITTER, 1 + JITTER)
