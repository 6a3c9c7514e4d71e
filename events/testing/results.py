"""What came of a test's events: read from the store, when everything is archived. Reading changes nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from events.backend import Backend
from events.event import Event
from events.records import AttemptState, DeadLetter, LetterFilter, RecordedEvent
from store.deliveries import DeliveryFilter
from store.filter import event_filter
from store.rows import measures_of
from store.tree import DEFAULT_CURRENCY, CausationTree

_FAILED = (AttemptState.RETRIED, AttemptState.DEAD, AttemptState.LOST)


@dataclass(frozen=True, slots=True)
class Delivered:
    """What became of one event at one subscriber.

    Attributes:
        subscriber: whose delivery it is. event: what was delivered.
        state: `waiting`, `done`, `dead`, `discarded` or `dropped`.
        attempts: how many tries were made.
        errors: why tries failed, one line for each, the first first.
    """

    subscriber: str
    event: Event
    state: str
    attempts: int
    errors: tuple[str, ...] = ()


class Results:
    """Reads one namespace. Its answers are exact when the bus is idle."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def recorded(self, types: Iterable[object] | None = None) -> list[RecordedEvent]:
        """Return all events in history order, or those of some types, at their positions."""
        return list(self._backend.replay.iterate(event_filter(event_types=types)))

    def tree(self, event: Event | str) -> CausationTree:
        """Return everything that an event set off."""
        return self._backend.blackboard.causation.tree(event if isinstance(event, str) else event.event_id)

    def caused_by(self, event: Event | str) -> list[Event]:
        """Return what an event set off, directly and through others, in history order."""
        top, *below = (tree.event.position for _, tree in self.tree(event).walk())
        wanted = set(below) - {top}
        return [recorded.event for recorded in self.recorded() if recorded.position in wanted]

    def deliveries(self, wanted: DeliveryFilter) -> list[Delivered]:
        """Return deliveries in the order of their events."""
        stored = self._backend.blackboard.deliveries
        events = {recorded.position: recorded.event for recorded in self.recorded()}
        found = []
        for one in stored.iterate(wanted):
            tries = [
                outcome
                for outcome in stored.attempts(one.event_position)
                if (outcome.subscriber, outcome.redelivery) == (one.subscriber, one.redelivery)
            ]
            errors = tuple(outcome.error for outcome in tries if outcome.state in _FAILED)
            event = events.get(one.event_position)
            if event is not None:
                found.append(Delivered(one.subscriber, event, one.state, one.attempts, errors))
        return found

    def dead_letters(self, after: int = 0) -> list[DeadLetter]:
        """Return the dead letters after a position, with their tracebacks, oldest first."""
        letters = self._backend.blackboard.dead_letters
        positions = [letter.position for letter in letters.iterate(LetterFilter(after=after))]
        return [letter for _, letter in sorted(letters.find(positions).items())]

    def costs(self, event: Event | str | None = None) -> dict[str, float]:
        """Return what events cost, by currency: an event with all that it set off, or all there are."""
        if event is not None:
            return self.tree(event).cost_by_currency
        micros: dict[str, int] = {}
        for recorded in self.recorded():
            cost, currency, _ = measures_of(recorded.event)
            if cost is not None:
                micros[currency or DEFAULT_CURRENCY] = micros.get(currency or DEFAULT_CURRENCY, 0) + cost
        return {currency: amount / 1e6 for currency, amount in sorted(micros.items())}
