"""From which position on events in SQL are needed by something that Redis has: what is older may be pruned.

What SQL says itself (a delivery that waits, an open dead letter) is not looked at here; only what it cannot say:
which events a back-fill or a redelivery will read, which an archiver will read again, which an outcome tells of that
is not archived, and deliveries that a back-fill has made, of which SQL hears with their first outcome.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from events.errors import RedeliveryRefused, UnknownSubscriber
from events.mending import ground, lanes, unsettled
from events.namespace import Namespace
from events.records import END, Outcome
from events.redelivery import look
from events.standing import standings
from events.stream import HistoryStream

_PAGE = 1000


def needed_from(namespace: Namespace, stored: int) -> int:
    """Return the first position that is needed, or may be; `END` when none is.

    Args:
        stored: how far SQL has history.

    Raises:
        RedisUnavailable, ScriptFailed, HistoryReset.
    """
    # Outcomes last: what has been settled meanwhile is told there, or archived.
    cursors = [*_read_later(namespace), *_made_by_back_fills(namespace), *_told(HistoryStream(namespace), stored)]
    return min(cursors, default=END - 1) + 1


def _read_later(namespace: Namespace) -> Iterator[int]:
    """Iterate over the positions that back-fills and redeliveries have come to."""
    for found in standings(namespace):
        if found.filled_to is not None:
            yield found.filled_to
            continue
        with suppress(RedeliveryRefused, UnknownSubscriber):  # a join, or one that is being dropped
            under = look(namespace, found.queue.subscriber)
            if under.number:
                yield under.cursor


def _made_by_back_fills(namespace: Namespace) -> Iterator[int]:
    """Iterate over a position before the oldest delivery of each subscriber that ever had a back-fill."""
    names = [found.queue.subscriber for found in standings(namespace)]
    filled = [name for name in names if ground(namespace, name).first_redelivery]
    known = lanes(namespace) if filled else {}
    for name in filled:
        positions = [position for position, _ in unsettled(namespace, name, known.get(name, ())) if position > 0]
        if positions:
            yield min(positions) - 1


def _told(history: HistoryStream, stored: int) -> Iterator[int]:
    """Iterate over how far events may go that no archiver will read again, or learn something new about.

    An archiver that died before it told Redis has left what the next one reads again, and would store again.
    """
    _, archived = history.clock_and_archived()
    if archived < stored:
        yield archived
    last = "0-0"
    while entries := history.entries_after("outcomes", last, _PAGE):
        last = entries[-1][0]
        positions = [one.event_position for _, one in entries if isinstance(one, Outcome) and one.event_position > 0]
        if positions:
            yield min(positions) - 1
