"""The crash test: runs a handler again and again, kills it at every door, and compares what is left.

    undisturbed, twice ──> what is the same both times is what can be compared; and the doors
    for each door: begin anew, kill there, let the bus deliver again ──┐
    begin anew, run to the end, deliver the same delivery again        ├──> compare
    begin anew, publish the events in reverse order                   ─┘

A kill is settled as a failed attempt that is tried again at once: the same delivery, the next attempt, as after a
worker's death. Each run has a namespace of its own; the test's SQLite database is put back to what it held.

Composition: it drives `events.testing.bus`.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from events.errors import EventBusError, InvalidSubscription
from events.event import Event
from events.mending import ground, mend
from events.subscriber import runs_on_a_loop
from events.subscriptions import Subscription, check_name, check_types, read_options
from events.testing.bus import TestBus
from events.testing.doors import Doors
from events.testing.lending import Lent
from events.testing.report import REVERSED, CrashReport, Differences, Left, Tried, differences, shown
from events.testing.servers import Snapshot, count_rows
from events.testing.watch import Watch

ATTEMPTS = 3
THREADS = 2
UNDISTURBED = "This happened before anything was disturbed: a crash test needs a handler that succeeds when left alone."
_AS_THE_BUS = ("redis_url", "database_url", "home", "max_event_bytes", "max_routes")


def crash_test(
    subscriber: Any,
    event: Event | Iterable[Event],
    *,
    bus: TestBus | None = None,
    setup: Callable[[], object] | None = None,
    state: Callable[[], object] | None = None,
    engines: Collection[Any] = (),
    types: Iterable[object] | None = None,
    reorder: bool = True,
    deadline_s: float = 30.0,
    **options: Any,
) -> CrashReport:
    """Tell whether a handler is idempotent: kill it at each of its publishes and commits, repeat it, compare.

    Events and how deliveries end are compared, and what `state` returns; without it, how many rows the application's
    own tables in the bus's SQLite database have, which finds what is doubled, not what is changed.

    Args:
        subscriber: an agent, a handler, or the name of one of the bus's subscribers.
        event: what it handles, of types that it subscribes to; of several, one after another.
        bus: whose database, and whose buses, handlers use; one of its own unless given.
        setup: called before each run, to begin anew what is not in the bus's SQLite database.
        state: called after each run; what it returns is compared by `==`. Let it sort, and leave out times.
        engines: SQLAlchemy engines whose commits are doors; those of all unless given.
        types: what an agent subscribes to; the events' own unless given.
        reorder: also handle several events in reverse order.
        deadline_s: real seconds for each run.
        options: as `EventBus.subscribe` takes them.

    Returns:
        Every run with its differences; `raise_if_not()` makes an error of them.

    Raises:
        HandlersFailed: undisturbed, the handler gives up.
        EventBusError: two undisturbed runs differ in what `state` returns; it is called on an event loop.
        InvalidSubscription: what is given is no handler, or an event is of a type that it does not get.
        NotIdle: a run did not end in time.
    """
    if asyncio._get_running_loop() is not None:
        raise EventBusError("crash_test blocks, and an event loop runs here: write `await crash_test_async(...)`.")
    trials = _Trials(_listed(event), setup, state, engines, reorder, deadline_s, None)
    return trials.of(subscriber, bus, types, options)


async def crash_test_async(
    subscriber: Any,
    event: Event | Iterable[Event],
    *,
    bus: TestBus | None = None,
    setup: Callable[[], object] | None = None,
    state: Callable[[], object] | None = None,
    engines: Collection[Any] = (),
    types: Iterable[object] | None = None,
    reorder: bool = True,
    deadline_s: float = 30.0,
    **options: Any,
) -> CrashReport:
    """Tell whether a handler is idempotent, as `crash_test` does; handlers, `setup` and `state` run on this loop."""
    loop = asyncio.get_running_loop()
    trials = _Trials(_listed(event), setup, state, engines, reorder, deadline_s, loop)
    return await asyncio.to_thread(trials.of, subscriber, bus, types, options)


@dataclass(slots=True)
class _Trials:
    """All runs of one crash test."""

    events: list[Event]
    setup: Callable[[], object] | None
    state: Callable[[], object] | None
    engines: Collection[Any]
    reorder: bool
    deadline_s: float
    loop: asyncio.AbstractEventLoop | None

    def of(
        self, subscriber: Any, bus: TestBus | None, types: Iterable[object] | None, options: dict[str, Any]
    ) -> CrashReport:
        own = TestBus() if bus is None else None
        bus = bus or own
        assert bus is not None
        try:
            kinds = types or list(dict.fromkeys(event.type.value for event in self.events))
            subscription = _subscription(subscriber, bus, kinds, options)
            _check_heard(subscription, self.events)
            snapshot = Snapshot(bus.database) if bus.database is not None else None
            try:
                return _Stage(self, bus, snapshot, _for_trials(subscription)).report()
            finally:
                if snapshot is not None:
                    snapshot.put_back()
                    snapshot.close()
        finally:
            if own is not None:
                own.close()

    def call(self, function: Callable[[], object] | None) -> object:
        """Call what the user gave, where the test runs: on its loop, or in this thread."""
        if function is None:
            return None

        async def called() -> object:
            result = function()
            return await result if inspect.isawaitable(result) else result

        if self.loop is not None:
            return asyncio.run_coroutine_threadsafe(called(), self.loop).result()
        result = function()
        return asyncio.run(_awaited(result)) if inspect.isawaitable(result) else result

    def doors(self, kill_at: int | None = None) -> Doors:
        return Doors(kill_at, [getattr(engine, "sync_engine", engine) for engine in self.engines])


@dataclass(slots=True)
class _Stage:
    """Where the runs take place, one after another."""

    trials: _Trials
    bus: TestBus
    snapshot: Snapshot | None
    subscription: Subscription
    uncounted: set[str] = field(default_factory=set)  # tables whose rows no two runs have alike

    def report(self) -> CrashReport:
        events, doors = self.trials.events, self.trials.doors()
        plain = self._run(events, doors, may_fail=False)
        level = plain.level(second := self._run(events, self.trials.doors(), may_fail=False))
        if plain.state != second.state:
            plain = self._steady(plain, second)
        tried = []
        for number, point in enumerate(doors.passed):
            killing = self.trials.doors(number)
            left = self._run(events, killing)
            found = differences(plain, left, level) if killing.killed_at else Differences()
            tried.append(Tried(f"killed {killing.killed_at or point}", found, killing.killed_at is not None))
        left = self._run(events, self.trials.doors(), again=True)
        tried.append(Tried("the same delivery again after it was done", differences(plain, left, level)))
        notes = self._reordered(plain, level, tried)
        return CrashReport(self.subscription.name, tuple(tried), (*notes, *self._left_out(plain)))

    def _steady(self, plain: Left, second: Left) -> Left:
        """Leave out the tables in which two undisturbed runs differ; what `state` returns has to be alike."""
        if self.trials.state is not None:
            raise EventBusError(_unsteady(plain, second))
        counts, others = self._counts(plain), self._counts(second)
        self.uncounted |= {table for table in counts | others if counts.get(table) != others.get(table)}
        return replace(plain, state={table: rows for table, rows in counts.items() if table not in self.uncounted})

    def _counts(self, left: Left) -> dict[str, int]:
        return left.state if isinstance(left.state, dict) else {}

    def _left_out(self, plain: Left) -> Iterator[str]:
        if self.trials.state is not None:
            return
        if tables := ", ".join(self._counts(plain)):
            yield (
                f"Only events, how deliveries ended, and how many rows {tables} has were compared: give state= to "
                "compare what is in them, and what the handler does elsewhere."
            )
        else:
            yield (
                "Only events and how deliveries ended were compared: give state= to compare what the handler does "
                "elsewhere."
            )
        if self.uncounted:
            named = ", ".join(sorted(self.uncounted))
            yield f"Rows of {named} were not counted: their number differs between undisturbed runs too."

    def _reordered(self, plain: Left, level: Any, tried: list[Tried]) -> tuple[str, ...]:
        events, ordering = self.trials.events, self.subscription.options.ordering
        if len(events) < 2 or not self.trials.reorder:
            return ()
        if ordering:
            return (f"The order was not reversed: the bus keeps it for each key (ordering={ordering!r}).",)
        left = self._run(events[::-1], self.trials.doors())
        tried.append(Tried(REVERSED, differences(plain, left, level)))
        return ()

    def _run(self, events: Sequence[Event], doors: Doors, *, may_fail: bool = True, again: bool = False) -> Left:
        """Begin anew, handle the events, and return what is left."""
        trials = self.trials
        if self.snapshot is not None:
            self.snapshot.put_back()
        trials.call(trials.setup)
        same = {name: getattr(self.bus.settings, name) for name in _AS_THE_BUS}
        with TestBus(deadline_s=trials.deadline_s, threads=THREADS, **same) as bus:
            bus.watch = Watch(doors)
            lent = Lent([self.bus, *self.bus.apps], bus.settings, declares=False, standing_in=None)
            try:
                with doors.open():
                    bus._add(self.subscription)
                    for event in events:
                        bus.publish_sync(event)
                    bus._bring_to_rest(trials.loop)
                    if not may_fail:
                        bus._check(None, False, how=UNDISTURBED)
                    if again:
                        self._deliver_again(bus)
                        bus._bring_to_rest(trials.loop)
                endings = tuple(_ending(one.subscriber, one.event, one.state, one.errors) for one in bus.deliveries())
                return Left(tuple(bus.events()), endings, self._state())
            finally:
                lent.take_back()

    def _state(self) -> object:
        """Return what the user's `state` does; without one, how many rows the application's own tables have."""
        if self.trials.state is not None or self.bus.database is None:
            return self.trials.call(self.trials.state)
        counts = count_rows(self.bus.database)
        return {table: rows for table, rows in counts.items() if table not in self.uncounted}

    def _deliver_again(self, bus: TestBus) -> None:
        """Put the deliveries back under their own names, as a Redis does that has lost its last second."""
        namespace, name = bus.backend.namespace, self.subscription.name
        found = [bus.backend.replay.find(event.event_id) for event in self.trials.events]
        lost = sorted((one for one in found if one is not None), key=lambda one: one.position)
        while lost:
            done = mend(namespace, name, ground(namespace, name).mends, [(0, one) for one in lost])
            lost = lost[max(1, done.put_back) :]


def _check_heard(subscription: Subscription, events: Iterable[Event]) -> None:
    for event in events:
        if not subscription.takes(event.type.value):
            raise InvalidSubscription(
                f"{subscription.name} gets no {event.type.value} (event {event.event_id}), but "
                f"{', '.join(subscription.types)}: pass events of these types."
            )


def _subscription(subscriber: Any, bus: TestBus, types: Iterable[object], options: dict[str, Any]) -> Subscription:
    """Find the subscription of an agent, a handler or a name on the bus, or make one of it."""
    handler = getattr(subscriber, "handle_event", subscriber)
    for known in bus.subscriptions:
        if known.name == subscriber or known.handler == handler:
            return known
    if isinstance(subscriber, type):
        raise InvalidSubscription(
            f"{subscriber.__name__} is a class: pass an agent made of it, {subscriber.__name__}()."
        )
    if not callable(handler):
        raise InvalidSubscription(
            f"{subscriber!r:.80} is no handler: pass an agent, a function, or the name of one of the bus's "
            f"subscribers ({', '.join(one.name for one in bus.subscriptions) or 'it has none'})."
        )
    unnamed = type(subscriber) if hasattr(subscriber, "handle_event") else handler
    name = check_name(getattr(subscriber, "name", None) or getattr(unnamed, "__name__", "Handler"))
    return Subscription(name, check_types(types), handler, runs_on_a_loop(handler), read_options(name, options))


def _for_trials(subscription: Subscription) -> Subscription:
    """Let it be tried again at once whatever it raises, one delivery at a time: a crash asks no option."""
    options = replace(
        subscription.options,
        max_attempts=max(ATTEMPTS, subscription.options.max_attempts),
        min_backoff=0, max_backoff=0, retry_on=None, give_up_on=(), concurrency=1, rate_limit=None, start="now",
    )  # fmt: skip
    return replace(subscription, options=options)


def _ending(subscriber: str, event: Event, state: str, errors: tuple[str, ...]) -> str:
    why = f": {errors[-1]}" if state == "dead" and errors else ""
    return f"{subscriber} {state} {event.type.value} {event.event_id}{why}"


def _unsteady(one: Left, other: Left) -> str:
    lines = "\n".join(f"  {line}" for line in shown(one.state, other.state)[:20])
    return (
        f"state() returns something else after each undisturbed run, so nothing can be compared:\n{lines}\n"
        "Leave out what no two runs have in common (times, random ids), or let setup= begin anew what is not in the "
        "bus's own SQLite database."
    )


def _listed(event: Event | Iterable[Event]) -> list[Event]:
    events = [event] if isinstance(event, Event) else list(event)
    if not events or not all(isinstance(one, Event) for one in events):
        raise TypeError("crash_test takes an Event, or a list of Events that is not empty.")
    return events


async def _awaited(result: Any) -> object:
    return await result
