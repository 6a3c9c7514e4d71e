"""What Redis is asked before a handler starts: whether a suspect may, and what a join has seen.

Whether this process still wants to start it, in a pause or a drain, is the engine's.
"""

from __future__ import annotations

import logging

from events.deliveries import Deliveries
from events.errors import EventBusError
from workers.about import about
from workers.attempt import Attempt, JoinIncomplete, NotStartedAgain, require_an_attempt

MAX_SUSPECT_STARTS = 2

log = logging.getLogger("eventbus.worker")


def may_start(attempt: Attempt, deliveries: Deliveries) -> bool:
    """Count the start of a suspect; False when Redis cannot, or when another worker has the delivery.

    Raises:
        NotStartedAgain: it killed its workers, or has no attempt left.
    """
    if attempt.lease.starts < MAX_SUSPECT_STARTS:
        require_an_attempt(attempt)
    if not attempt.lease.suspect:
        return True
    try:
        starts = deliveries.begin(attempt.lease)
    except EventBusError as error:
        log.warning("%r waits: %s", attempt, error, extra=about(attempt.lease))
        return False
    if starts == 0:
        attempt.abandoned = True
        return False
    if starts > MAX_SUSPECT_STARTS:
        raise NotStartedAgain(
            "It killed its worker three times: each time the process died, or fell silent, while it ran."
        )
    return True


def has_joined(attempt: Attempt, deliveries: Deliveries) -> bool:
    """Fetch what a join has seen. Retried from the dead letters it runs with what there is.

    Raises:
        JoinIncomplete: something is missing, and the subscriber wants all or nothing.
    """
    join, lease = attempt.subscription.options.join, attempt.lease
    if join is None:
        return True
    try:
        attempt.joined = deliveries.joined(lease)
    except EventBusError as error:
        log.warning("%r waits: %s", attempt, error, extra=about(attempt.lease))
        return False
    if join.partial == "dead" and not attempt.joined.complete and not lease.frame.redelivery:
        raise JoinIncomplete(f"The join is not complete: {attempt.joined.lack}.")
    return True
