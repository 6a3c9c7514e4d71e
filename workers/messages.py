"""A delivery as Dramatiq's message: what its middleware and logs see, and `CurrentMessage` shows to handlers."""

from __future__ import annotations

from typing import Any

import dramatiq
from dramatiq.middleware import Interrupt

from events.errors import TimeLimitExceeded
from events.subscriptions import Subscription
from workers.attempt import Attempt

# Whatever a handler raises: the engine logs it once, with what follows.
_EXPECTED = (Exception, Interrupt, TimeLimitExceeded)


def actor_name(subscription: Subscription, kind: str) -> str:
    """Name the actor that handles events of that type for the subscriber."""
    return f"{subscription.name}.{kind if kind in subscription.types else '*'}"


def message_of(attempt: Attempt) -> dramatiq.Message[Any]:
    """Return the message that hands over this attempt; its id is the delivery's."""
    lease = attempt.lease
    return dramatiq.Message(
        queue_name=lease.subscriber,
        actor_name=actor_name(attempt.subscription, lease.frame.type),
        args=(attempt,),
        kwargs={},
        options={"throws": _EXPECTED},
        message_id=lease.delivery,
        message_timestamp=lease.frame.position // 1000,
    )
