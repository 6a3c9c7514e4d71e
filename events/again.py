"""What a bus delivers again when it is asked: events that one subscriber had, or never got.

Composition: the part of `events.bus.EventBus` that drives redeliveries (`workers.redelivery`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from events.backend import Backend
from events.redelivery import Under
from store.filter import event_filter
from workers.redelivery import Question, Redelivery


class Again:
    """Delivers events again.

    Attributes:
        backend: the servers.
    """

    backend: Backend

    async def redeliver(
        self,
        subscriber: str,
        after: int = 0,
        *,
        rate: float | None = None,
        reason: str = "",
        progress: Callable[[Under], None] | None = None,
        **filters: Any,
    ) -> int:
        """Deliver events of the past to one subscriber again; each is a new delivery, its attempts begin anew.

        What was published before it began is in it, what the subscriber does not take is left out, and so is what
        was persisted without being published. It waits while 2,000 deliveries of the subscriber wait.

        Args:
            after: a position, exclusive. filters: as those of `replay_events`; none means all of history.
            rate: most events a second; None is no limit. reason: kept with each delivery.
            progress: called after each page, in another thread, with how far it has come.

        Returns:
            How many events this redelivery has delivered, those before an interruption included.

        Raises:
            UnknownSubscriber, InvalidFilter: nothing was delivered.
            RedeliveryRefused: likewise; the subscriber joins, is being back-filled, takes none of the types, or
                another redelivery to it is under way.
            RedisUnavailable, StoreUnavailable, HistoryReset: call it again. Had only the last reply been lost, and
                nobody could ask Redis afterwards, that begins anew.

        Guarantee: cancelled or killed anywhere, the same call goes on where it stopped, and repeats nothing.
        """
        backend, question = self.backend, Question(event_filter(**filters), after)
        driver = Redelivery(
            backend.namespace, backend.registry, backend.replay, subscriber, who="bus.redeliver", why=reason, rate=rate
        )
        try:
            under = await asyncio.to_thread(driver.run, question, progress or (lambda under: None))
        except asyncio.CancelledError:
            driver.stop.set()  # the thread ends with the page that it is at
            raise
        return under.made
