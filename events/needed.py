"""From which position on events in SQL are needed by something that Redis has: what is older may be pruned.

What SQL says itself (a delivery that waits, an open dead letter) is not looked at here; only what it cannot say:
which events a back-fill or a redelivery will read, which an archiver will read again, which an outcome tells of that
is not archived, and deliveries that a back-fill has made, of which SQL hears with their first outcome. Which dead
letters Redis has is told too, for SQL to find those that it was never told of, or has lost.
"""

from __future__ import annotations

from collections.abc import Iterator

from events.dead_letters import DeadLetters
from events.digits import whole
from events.inspection import Inspection
from events.mending import ground, unsettled
from events.namespace import Namespace
from events.records import END, Outcome
from events.redelivery import under_way
from events.stream import HistoryStream

_PAGE = 1000


def needed_from(namespace: Namespace, stored: int) -> int:
    """Return the first position that is needed, or may be; `END` when none is.

    Args:
        stored: how far SQL has history.

    Raises:
        RedisUnavailable, ScriptFailed.
    """
    # Outcomes last: what has been settled meanwhile is told there, or archived.
    cursors = [*_delivered_later(namespace), *_told(HistoryStream(namespace), stored)]
    return min(cursors, default=END - 1) + 1


def open_letters(namespace: Namespace) -> Iterator[dict[int, int]]:
    """Iterate over the dead letters that nobody has decided about, a page at a time: their events' positions by theirs.

    One whose event nobody can tell is left out. Their bodies stay in Redis.

    Raises:
        RedisUnavailable, ScriptFailed.
    """
    for name in DeadLetters(namespace).subscribers():
        at, is_whole = b"", False
        while not is_whole:
            at, pairs = namespace.scripts.call("names", ["", name, "letters", "", at, _PAGE])
            is_whole = not at
            positions = [[whole(part) for part in pair.split(b":")] for pair in pairs]
            if found := {letter: event for letter, event in positions if letter and event}:
                yield found


def _delivered_later(namespace: Namespace) -> Iterator[int]:
    """Iterate over the positions that back-fills and redeliveries have come to, or whose deliveries have ended to."""
    names = Inspection(namespace).subscribers()
    for cursor, _ in under_way(namespace, names).values():
        yield cursor
    for name in names:
        found = ground(namespace, name)
        if found.filled_to is not None:
            yield found.filled_to
        if first := found.first_redelivery:
            # One that publish made has a row in SQL. Every lane that holds something is listed, or held.
            made = [place for place, redelivery in unsettled(namespace, name, ()) if redelivery >= first and place > 0]
            if made:
                yield min(made) - 1


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
