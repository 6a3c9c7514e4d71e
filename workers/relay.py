"""The relay: publishes what is in the outbox, in the order of ids among what is committed.

    rows from SQL ──> publish, one script call ──> what became of each, to SQL
                                    │
               a crash here: the rows are as they were, and are published again, which changes nothing

It waits while Redis is away, full or reset, and leaves the rest of a batch for later then, so that nothing
overtakes. An event that Redis or the publisher refuses is passed over, with its reason, and tried again.

What is published and not in the store a minute later is published again, at once after the namespace got a new
epoch: Redis may have lost it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from events.errors import EventBusError, HistoryReset, InvalidEvent, PublishRefused, ScriptFailed
from events.event import Event
from events.namespace import Namespace
from events.publisher import Answer, Publisher, Receipt
from store.outgoing import Batch, Outgoing

AGAIN = timedelta(seconds=60)

log = logging.getLogger("eventbus.relay")


class Relay:
    """Relays the outbox of one namespace; used by one thread.

    Args:
        publisher: of that namespace; it need not send again what fails, the relay does.
    """

    def __init__(self, namespace: Namespace, publisher: Publisher, outgoing: Outgoing) -> None:
        self._namespace = namespace
        self._publisher = publisher
        self._outgoing = outgoing
        self._resets = 0
        self._reset_at = datetime.min.replace(tzinfo=UTC)

    def step(self) -> int:
        """Publish one batch.

        Returns:
            How many events were published or refused, without those for which trying again has changed nothing;
            0 when nothing is to be done, or another relay does it.

        Raises:
            Unavailable, HistoryReset, ScriptFailed: Redis or the store cannot be used now; nothing is lost.
        """
        if self._namespace.resets != self._resets:
            self._resets, self._reset_at = self._namespace.resets, datetime.now(UTC)
        with self._outgoing.batch(max(datetime.now(UTC) - AGAIN, self._reset_at)) as batch:
            known, trouble = self._publish(batch)
        refused = [reason for row, reason in batch.refused.items() if row not in batch.again]
        for reason in refused:
            log.error("An event of the outbox is refused, and is tried again every minute: %s", reason)
        if trouble is not None:
            raise trouble
        return len(batch.published.keys() - known) + len(refused)

    def _publish(self, batch: Batch) -> tuple[set[int], EventBusError | None]:
        """Publish a batch up to the first event that has to wait.

        Returns:
            Rows that were published before, and still are; and why one has to wait, if one has.
        """
        known: set[int] = set()
        answers = self._answers(list(batch.events.values()))
        for row, answer in zip(batch.events, answers, strict=False):
            if isinstance(answer, Receipt):
                batch.published[row] = answer.position
                if row in batch.again and not answer.is_new:
                    known.add(row)
            elif isinstance(answer, EventBusError):
                if not _is_refusal(answer):
                    return known, answer
                batch.refused[row] = _reason(answer, batch.events[row])
        return known, None

    def _answers(self, events: list[Event]) -> Iterator[Answer]:
        if not events:
            return
        answers = self._publisher.publish_many(events)
        if not any(isinstance(answer, ScriptFailed) and not answer.passes for answer in answers):
            yield from answers
            return
        # One key of a wrong type fails a whole call: each by itself, until one has to wait.
        for event in events:
            yield self._publisher.publish_many([event])[0]


def _reason(error: EventBusError, event: Event) -> str:
    said = str(error)
    return said if event.event_id in said else f"{said} (event {event.event_id})"


def _is_refusal(error: EventBusError) -> bool:
    """Whether it is about this event alone; all else passes, and is waited for."""
    if isinstance(error, ScriptFailed):
        return not error.passes
    return isinstance(error, InvalidEvent | PublishRefused) and not isinstance(error, HistoryReset)
