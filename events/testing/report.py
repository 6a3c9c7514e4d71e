"""What a crash test found: every point that was tried, what differs there, and what to do about it."""

from __future__ import annotations

import difflib
import json
import pprint
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field

from events.encoding import digest
from events.errors import NotIdempotent
from events.event import Event

MAX_LINES = 40
REVERSED = "the events in reverse order"
_WIDTH = 100


def _by_id(event: Event) -> Hashable:
    return event.type.value, event.event_id, digest(event)


def _by_content(event: Event) -> Hashable:
    return event.type.value, digest(event)


def _by_cause(event: Event) -> Hashable:
    return event.type.value, event.causation_id


def _by_type(event: Event) -> Hashable:
    return event.type.value


LEVELS: tuple[Callable[[Event], Hashable], ...] = (_by_id, _by_content, _by_cause, _by_type)
"""How exactly events are compared, the finest first; what differs between undisturbed runs is not compared."""


@dataclass(frozen=True, slots=True)
class Left:
    """What a run has left.

    Attributes:
        events: all of history. endings: how each delivery ended, one line for each. state: what `state()` returned.
    """

    events: tuple[Event, ...]
    endings: tuple[str, ...]
    state: object

    def level(self, other: Left) -> Callable[[Event], Hashable]:
        """Return the finest comparison by which both have the same events; the coarsest if there is none."""
        same = (level for level in LEVELS if Counter(map(level, self.events)) == Counter(map(level, other.events)))
        return next(same, LEVELS[-1])


@dataclass(frozen=True, slots=True)
class Differences:
    """In what a disturbed run differs from the undisturbed one; each empty where it does not.

    Attributes:
        missing, extra: its events. endings: of its deliveries. state: lines of a diff.
    """

    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    endings: tuple[str, ...] = ()
    state: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.missing or self.extra or self.endings or self.state)

    def lines(self) -> Iterator[str]:
        """Iterate over the lines that show them; `-` is the undisturbed run."""
        for title, marked in (("events", self._marked()), ("deliveries", self.endings), ("state", self.state)):
            if marked:
                yield f"{title}:"
                yield from (f"  {line}" for line in marked[:MAX_LINES])
                if len(marked) > MAX_LINES:
                    yield f"  ... and {len(marked) - MAX_LINES} lines more"

    def advice(self, what: str) -> Iterator[str]:
        """Iterate over sentences that say what usually helps.

        Args:
            what: how the run was disturbed.
        """
        if what == REVERSED:
            yield (
                "What is left depends on the order of the events, which nobody promises: let the bus keep it for each "
                "key (ordering='project'), or let the handler put each where it belongs."
            )
            return
        if self.extra:
            yield (
                "Events exist that a repetition made again: return them instead of publishing them, or give each an "
                "id made from what is handled, as in event_id=f'{event.event_id}-billed'."
            )
        if self.missing:
            yield (
                "Events are missing, because a repetition found its effect done and did not go on to what follows: "
                "commit both together (outbox.add in the transaction of the effect), or return the event either way."
            )
        if self.state:
            yield (
                "Effects are there more than once, or only in part: in the store's database ask inbox.once(session) "
                "first, in the one transaction that has them all; elsewhere use the event's id as the key under which "
                "an effect is done."
            )
        if self.endings:
            yield "A repetition fails: let it take what it finds done for done, instead of raising."

    def _marked(self) -> tuple[str, ...]:
        return (*(f"- {line}" for line in self.missing), *(f"+ {line}" for line in self.extra))


def differences(plain: Left, other: Left, level: Callable[[Event], Hashable]) -> Differences:
    """Compare what a disturbed run has left with what the undisturbed one has."""
    endings = Counter(plain.endings), Counter(other.endings)
    return Differences(
        missing=_more(plain.events, other.events, level),
        extra=_more(other.events, plain.events, level),
        endings=(
            *(f"- {line}" for line in (endings[0] - endings[1]).elements()),
            *(f"+ {line}" for line in (endings[1] - endings[0]).elements()),
        ),
        state=() if plain.state == other.state else shown(plain.state, other.state),
    )


def shown(plain: object, other: object) -> tuple[str, ...]:
    """Return the lines of a diff of two values."""
    before, after = (pprint.pformat(value, width=_WIDTH).splitlines() for value in (plain, other))
    lines = [line for line in difflib.ndiff(before, after) if not line.startswith("?")]
    return tuple(lines) if before != after else (f"- {plain!r} (compares unequal)", f"+ {other!r}")


def _more(these: Iterable[Event], those: Iterable[Event], level: Callable[[Event], Hashable]) -> tuple[str, ...]:
    """Describe those events of which these have more."""
    left = Counter(map(level, these)) - Counter(map(level, those))
    found = []
    for event in reversed(tuple(these)):  # of equal ones the later are those that are too many
        if left[level(event)] > 0:
            left[level(event)] -= 1
            found.append(f"{event.type.value} {event.event_id} {json.dumps(event.payload)[:200]}")
    return tuple(reversed(found))


@dataclass(frozen=True, slots=True)
class Tried:
    """One disturbed run.

    Attributes:
        what: how it was disturbed. differences: in what it differs from the undisturbed one.
        was_reached: False when the handler did not come to that point this time.
    """

    what: str
    differences: Differences = field(default_factory=Differences)
    was_reached: bool = True


@dataclass(frozen=True, slots=True)
class CrashReport:
    """Whether a handler is idempotent, as far as was tried.

    Attributes:
        subscriber: whose handler it is. tried: every disturbed run, in order.
        notes: what was not tried, and why.
    """

    subscriber: str
    tried: tuple[Tried, ...]
    notes: tuple[str, ...] = ()

    @property
    def is_idempotent(self) -> bool:
        """Whether every disturbed run has left what the undisturbed one has."""
        return self.first is None

    @property
    def first(self) -> Tried | None:
        """The first run that differs; None when none does."""
        return next((one for one in self.tried if one.differences), None)

    def raise_if_not(self) -> None:
        """Do nothing if the handler is idempotent.

        Raises:
            NotIdempotent: with the whole report as its text.
        """
        if not self.is_idempotent:
            raise NotIdempotent(str(self))

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        count, wrong = len(self.tried), [one for one in self.tried if one.differences]
        if not wrong:
            yield f"{self.subscriber} is idempotent, as far as {count} disturbed runs tell:"
        else:
            yield (
                f"{self.subscriber} is not idempotent: {len(wrong)} of {count} disturbed runs leave something else "
                "than an undisturbed one."
            )
            yield f"The first is {wrong[0].what}:"
            yield from (f"  {line}" for line in wrong[0].differences.lines())
            yield from wrong[0].differences.advice(wrong[0].what)
            yield "All that was tried:"
        yield from (f"  {_verdict(one):<11} {one.what}" for one in self.tried)
        yield from self.notes


def _verdict(one: Tried) -> str:
    if not one.was_reached:
        return "not reached"
    return "differs" if one.differences else "the same"
