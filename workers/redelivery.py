"""Delivers events again to one subscriber, from SQL and Redis joined, a page at a time, until all is handed over.

It can be stopped and killed anywhere: how far it has come is in the subscriber's record, and asking the same again
goes on from there. It adds nothing while many deliveries wait, and no faster than it is told to.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from typing import Any

from events.backfill import ENOUGH, UNPUBLISHED
from events.errors import (
    CertificateRefused,
    InvalidFilter,
    LoginRefused,
    MalformedEntry,
    RedeliveryRefused,
    RedisUnavailable,
)
from events.namespace import Namespace
from events.records import RecordedEvent
from events.redelivery import Under, begin, give_up, hand_over, look, once
from store.filter import EventFilter, check_text
from store.registry import Registry
from store.replay import Replay

PAGE = 200
LATER_S = 0.1
SHOWN = 5
_BY_PATH = {"payload", "metadata"}
_TEXTS = {"project_id", "actor", "correlation_id"}


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be delivered again.

    Attributes:
        wanted: which events. after: only those after this position.
    """

    wanted: EventFilter = field(default_factory=EventFilter)
    after: int = 0

    def text(self) -> str:
        """Return it as JSON: what was given, and nothing else."""
        asked = {one.name: getattr(self.wanted, one.name) for one in fields(self.wanted)}
        given = {name: value for name, value in asked.items() if value not in (None, (), {})}
        for name in _BY_PATH & given.keys():
            given[name] = sorted(([list(path), value] for path, value in given[name].items()), key=lambda pair: pair[0])
        if self.after:
            given["after"] = self.after
        return json.dumps(given, default=datetime.isoformat, sort_keys=True)

    @classmethod
    def read(cls, text: str) -> Question:
        """Return the question that a redelivery under way keeps."""
        try:
            return cls._read(json.loads(text))
        except (ValueError, OverflowError, TypeError, LookupError, AttributeError, RecursionError):
            raise MalformedEntry(
                "The redelivery under way was asked for in words that this version does not read, or a hand has "
                "written them: give it up with `eventbus replay --to SUBSCRIBER --abandon`, and ask again."
            ) from None

    @classmethod
    def _read(cls, given: dict[str, Any]) -> Question:
        """Raise whatever comes of a value that `text` does not write."""
        after = given.pop("after", 0)
        for name in ("start_time", "end_time"):
            if name in given:
                given[name] = datetime.fromisoformat(given[name]).astimezone(UTC)
        for name in _BY_PATH & given.keys():
            given[name] = {tuple(path): value for path, value in given[name]}
        given["types"] = tuple(given.get("types", ()))
        texts = [*given["types"], *(given[name] for name in _TEXTS & given.keys())]
        if type(after) is not int or after < 0 or not all(isinstance(text, str) for text in texts):
            raise ValueError
        return cls(EventFilter(**given), after)


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """What a redelivery would do.

    Attributes:
        count: events that would be delivered. first: the first few of them.
        unpublished: events left out because they were persisted without being published.
    """

    count: int
    first: tuple[RecordedEvent, ...]
    unpublished: int


class Redelivery:
    """Redeliveries to one subscriber. One is under way at a time; any number of processes may drive it.

    Args:
        who, why: kept with each delivery.
        rate: most events a second; None is no limit.

    Raises, in every method:
        UnknownSubscriber: nobody declares the subscriber.
        RedeliveryRefused: it joins, is being back-filled, or takes none of the types.
        RedisUnavailable, ScriptFailed, HistoryReset, StoreUnavailable, NotMigrated: `run(None)` goes on.
    """

    def __init__(
        self,
        namespace: Namespace,
        registry: Registry,
        replay: Replay,
        name: str,
        *,
        who: str = "",
        why: str = "",
        rate: float | None = None,
    ) -> None:
        check_text("subscriber", name)
        if rate is not None and not 0 < rate < 1e9:
            raise InvalidFilter(f"The rate of a redelivery must be events a second, more than 0, not {rate!r:.40}.")
        self._namespace = namespace
        self._registry = registry
        self._replay = replay
        self._name = name
        self._who, self._why = who, why
        self._rate = rate
        self.stop = threading.Event()

    def look(self) -> Under:
        """Return how far the one that is under way has come; its `number` is 0 when none is."""
        return look(self._namespace, self._name)

    def rehearse(self, question: Question) -> Rehearsed:
        """Count what would be delivered; nothing is written."""
        wanted = self._narrowed(question, self.look())
        count = unpublished = 0
        first: list[RecordedEvent] = []
        for recorded in self._replay.iterate(wanted, question.after):
            if recorded.origin in UNPUBLISHED:
                unpublished += 1
                continue
            count += 1
            if len(first) < SHOWN:
                first.append(recorded)
        return Rehearsed(count, tuple(first), unpublished)

    def run(self, question: Question | None, progress: Callable[[Under], None] = lambda under: None) -> Under:
        """Deliver what the question asks for, or go on with what is under way, until its end or `stop`.

        Args:
            question: None goes on with whatever is under way.
            progress: called after each step, and while it waits for the subscriber.

        Returns:
            How it ended: `ended`; `none` when somebody else has ended it meanwhile, Redis has lost it, or there is
            nothing to go on with; `going` when it was stopped.

        Raises:
            RedeliveryRefused: also when one that asked something else is under way.
            RedisUnavailable: it may have ended all the same, with a step whose reply was lost, where nobody could ask
                afterwards; then the same question begins anew, while None finds nothing to go on with.

        Guarantee: each event is delivered once in one redelivery, however often this is killed and called again.
        """
        under = self._begun(question)
        asked = Question.read(under.question) if under.is_there else Question()
        started, before, number = time.monotonic(), under.made, under.number
        progress(under)
        while under.is_there and under.verdict != "ended" and not self.stop.is_set():
            if under.waiting >= ENOUGH:
                self.stop.wait(LATER_S)
                looked = self.look()
                under = looked if looked.number == number else under._replace(waiting=0)  # the step will tell
                progress(under)
                continue
            if not self._is_time(started, under.made - before):
                continue
            stepped = self._step(under, asked)
            if stepped.number != number:  # somebody else has ended it, or has begun another one since
                return under._replace(verdict="none")
            under = stepped
            progress(under)
        return under

    def once(self, recorded: RecordedEvent) -> int:
        """Deliver one event again, in one step: nothing can be interrupted, and what is under way is not in its way.

        Returns:
            1, or 0 when it was persisted without being published.

        Raises:
            RedisUnavailable: it may have been delivered: this knows nothing of an earlier call, and called again it
                delivers once more.
        """
        self._narrowed(Question(EventFilter(types=(recorded.event.type.value,))), self.look())
        number = self._registry.next_number()
        try:
            return int(once(self._namespace, self._name, number, recorded, self._who, self._why))
        except (LoginRefused, CertificateRefused):
            raise
        except RedisUnavailable as error:
            raise RedisUnavailable(
                f"{error} {recorded.event.event_id!r:.200} may have been delivered to {self._name!r} again, as "
                f"redelivery {number}: look at its deliveries before you ask once more."
            ) from None

    def abandon(self) -> Under:
        """Give up what is under way; what it has delivered stays delivered."""
        return give_up(self._namespace, self._name, self.look().number)

    def _begun(self, question: Question | None) -> Under:
        under = self.look()
        if question is None:
            return under
        if not under.is_there:
            self._narrowed(question, under)
            number = self._registry.next_number()
            under = begin(self._namespace, self._name, number, question.after, question.text())
        if under.question != question.text():
            raise RedeliveryRefused(
                f"Another redelivery to {self._name!r} is under way, or was interrupted: it asked {under.question}, "
                f"has made {under.made} deliveries, and has come to position {under.cursor}. Go on with it "
                f"(`eventbus replay --to {self._name} --resume`) or give it up (--abandon) first."
            )
        return under

    def _step(self, under: Under, asked: Question) -> Under:
        limit = PAGE if self._rate is None else max(1, min(PAGE, int(self._rate)))
        page = self._replay.page(self._narrowed(asked, under), under.cursor, limit)
        is_last = page.complete or page.last >= under.end
        looked = under.end if is_last else page.last
        events = [recorded for recorded in page.events if recorded.position <= under.end]
        looked = max(looked, under.cursor)
        try:
            return hand_over(self._namespace, self._name, under, looked, events, self._who, self._why)
        except RedisUnavailable:
            # Perhaps only the reply was lost. After the last step this has ended then, and who asks again begins anew.
            found = self.look()
            if found.number == under.number:
                raise
            made = under.made + sum(one.origin not in UNPUBLISHED for one in events)
            return under._replace(verdict="ended", cursor=looked, made=made) if is_last else found

    def _is_time(self, started: float, made: int) -> bool:
        """Tell whether the rate allows more by now; wait for it a moment."""
        early_s = 0.0 if self._rate is None else started + made / self._rate - time.monotonic()
        if early_s > 0.0:
            self.stop.wait(min(early_s, 1.0))
        return early_s <= 1.0

    def _narrowed(self, question: Question, under: Under) -> EventFilter:
        """Return the filter with the types that the subscriber takes."""
        if "*" in under.types:
            return question.wanted
        types = tuple(filter(under.takes, question.wanted.types or under.types))
        if not types:
            taken = f"takes {', '.join(under.types)}" if under.types else "takes no events of any type"
            asked = f", not {', '.join(question.wanted.types)}" if under.types and question.wanted.types else ""
            raise RedeliveryRefused(f"{self._name!r} {taken}{asked}: there is nothing to deliver to it again.")
        return replace(question.wanted, types=types)


def not_taken(question: Question, under: Under) -> tuple[str, ...]:
    """Return the types that were asked for and that the subscriber does not take: their events are left out."""
    return tuple(kind for kind in question.wanted.types if not under.takes(kind))
