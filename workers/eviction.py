"""What a worker says, once, about a server that would delete what it was given to keep.

A Redis with any `maxmemory-policy` but `noeviction` deletes keys when it is full: queues with their
deliveries, ids, history. `eventbus doctor` says the same to whoever asks.
"""

from __future__ import annotations

import logging

from events.errors import EventBusError
from events.inspection import Inspection
from events.namespace import Namespace

log = logging.getLogger("eventbus.worker")


def warn_of_eviction(namespace: Namespace) -> None:
    """Log a warning when the server evicts; a server that does not tell its policy keeps nobody from starting."""
    try:
        policy = Inspection(namespace).server().maxmemory_policy
    except EventBusError as error:
        log.info("The server's maxmemory-policy cannot be read: %s", error)
        return
    if policy not in ("", "noeviction"):
        log.warning(
            "The server's maxmemory-policy is %s: when it is full it deletes events and deliveries. "
            "Set `maxmemory-policy noeviction` in its configuration.",
            policy,
        )
