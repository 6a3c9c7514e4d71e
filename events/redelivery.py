"""Delivering events again to one subscriber: one step of it, and how far it has come.

    none ──begin──> under way (cursor) ──pages──> none
                                       ──give up─> none
    any ──once: one event alone──> as it was

Whoever asked, and what was asked, is kept in the subscriber's record while it is under way, so that anybody
can go on where it stopped. Any number may: each says from which cursor it has read, and only the first writes.
What is delivered is named `<position>:<subscriber>:<number>`; the number is the redelivery's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from events.backfill import ENOUGH, UNPUBLISHED, parts
from events.connection import mapped
from events.dead_letters import line
from events.errors import RedeliveryRefused
from events.kept import kept
from events.namespace import Namespace
from events.records import RecordedEvent
from events.scripts import Argument
from events.standing import unknown

Verdict = Literal["none", "begun", "going", "stale", "ended", "given", "once"]


class Under(NamedTuple):
    """A redelivery that is under way, or was until now.

    Attributes:
        verdict: of the step that was tried: `none`, there is no such redelivery; `begun`; `going`; `stale`, nothing
            was written, because it did not begin here; `ended`, with this step; `given` up; `once`, one event alone.
        number: the redelivery in the names of its deliveries; 0 when there is none.
        cursor: the position up to which it is done. end: where it ends: the last position when it began.
        made: deliveries that it has made so far. question: what was asked, as `begin` was told.
        types: what the subscriber is routed, by name; `*` stands for every type.
        waiting: deliveries of the subscriber that wait, counted up to `ENOUGH`.
    """

    verdict: Verdict
    number: int
    cursor: int
    end: int
    made: int
    question: str
    types: tuple[str, ...]
    waiting: int

    @property
    def is_there(self) -> bool:
        return self.number > 0

    def takes(self, kind: str) -> bool:
        """Tell whether the subscriber gets events of a type."""
        return kind in self.types or "*" in self.types


def look(namespace: Namespace, name: str) -> Under:
    """Return how far the redelivery to a subscriber has come.

    Raises, as every function here:
        UnknownSubscriber: nobody declares it, or it is being dropped.
        RedeliveryRefused: it joins, or it is being back-filled.
        RedisUnavailable, ScriptFailed, HistoryReset.
    """
    return _call(namespace, name, "look")


def begin(namespace: Namespace, name: str, number: int, cursor: int, question: str) -> Under:
    """Begin a redelivery of what was published so far; one that is under way is left as it is, and returned.

    Args:
        number: from `Registry.next_number`. cursor: a position, exclusive.
        question: what is asked, for whoever goes on.
    """
    return _call(namespace, name, "begin", number, cursor, question)


def give_up(namespace: Namespace, name: str, number: int) -> Under:
    """End a redelivery where it is; what it has delivered stays."""
    return _call(namespace, name, "give up", number)


def hand_over(
    namespace: Namespace, name: str, since: Under, looked: int, events: Sequence[RecordedEvent], who: str, why: str
) -> Under:
    """Deliver what was read after the cursor, and move it.

    Args:
        since: from where it was read.
        looked: the last position that was looked at.
        events: after the cursor and up to there, ascending; those that the subscriber does not take, and those
            that were persisted without being published, are not delivered.
        who, why: for the outcomes, one line each.

    Returns:
        How it stands now; the cursor may be short of `looked` when that was too much for one step.
    """
    under = since
    for part, last in parts([one for one in events if one.origin not in UNPUBLISHED], looked):
        flat: list[Argument] = [argument for one in part for argument in one]
        told = [line(who, 200), line(why, 2000)]
        under = _call(namespace, name, "page", under.number, under.cursor, last, *told, *flat)
        if under.verdict != "going" or under.cursor < last:
            break
    return under


def once(namespace: Namespace, name: str, number: int, recorded: RecordedEvent, who: str, why: str) -> bool:
    """Deliver one event in this step alone, however many deliveries wait; what is under way stays as it is.

    Args:
        number: from `Registry.next_number`.
        who, why: for the outcome, one line each.

    Returns:
        Whether it was: not when the subscriber does not take it, or it was persisted without being published.
    """
    if recorded.origin in UNPUBLISHED:
        return False
    ((arguments,), _) = next(parts([recorded], recorded.position))
    return _call(namespace, name, "once", number, line(who, 200), line(why, 2000), *arguments).made == 1


def under_way(namespace: Namespace, names: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Return for those of the subscribers that have a redelivery under way its cursor, and the deliveries made."""
    with mapped(namespace.client), namespace.client.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.hget(namespace.keys("sub", name), "again")
        found = pipe.execute()
    cursors: dict[str, tuple[int, int]] = {}
    for name, text in zip(names, found, strict=True):
        with kept(namespace.keys("sub", name)):
            if text:
                _, cursor, _, made, _ = text.split(b"\t", 4)
                cursors[name] = int(cursor), int(made)
    return cursors


def _call(namespace: Namespace, name: str, *arguments: Argument) -> Under:
    reply: list[Any] = namespace.call("redeliver", name, ENOUGH, *arguments)
    verdict = reply[0].decode()
    if verdict == "UNKNOWN":
        raise unknown(namespace, name)
    if verdict in _REFUSALS:
        raise RedeliveryRefused(_REFUSALS[verdict].format(name=repr(name)))
    with kept(namespace.keys("sub", name)):
        number, cursor, end, made, question, types = (part.decode() for part in reply[1:7])
        names = tuple(filter(None, types.split("\t")))
        return Under(
            verdict.lower(), int(number or 0), int(cursor), int(end), int(made), question, names, int(reply[7])
        )  # fmt: skip


_REFUSALS = {
    "JOIN": "{name} joins: what a join has seen belongs to the delivery that waits, so nothing can be delivered to it "
    "again. Retry its dead letters with `eventbus dead retry`, or publish a new event.",
    "FILLING": "{name} is being back-filled with history, and gets these events anyway: wait until "
    "`eventbus subscriptions show` calls it live.",
}
