"""A bus for one test: it handles what is published, in the test's process, until nothing moves.

Composition: it wires the worker's engine, the shared servers and what reads the store; `events.testing` is its door.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from events.backend import Backend
from events.bus import EventBus
from events.context import handling
from events.errors import EventBusError, InvalidSettings, InvalidSubscription
from events.event import Event
from events.records import DeadLetter
from events.settings import Settings, variable
from events.subscriptions import Subscription
from events.testing.expecting import HOW, Expected, Types, check
from events.testing.lending import Lent, lent_of
from events.testing.results import Delivered, Results
from events.testing.run import Runner
from events.testing.servers import remove_database, remove_namespace, shared, url_of
from events.testing.watch import Watch
from store.deliveries import DeliveryFilter
from store.tree import CausationTree
from workers.consuming import Consuming

FOR_EVER = float("inf")
TIMEOUT_S = 30.0  # for an answer of a server; machines that run tests are overloaded now and then

log = logging.getLogger("eventbus.testing")


class TestBus(EventBus):
    """A bus for one test: a namespace and a database of its own, on the servers that all tests share.

    It is an `EventBus`: subscribe, publish and ask as ever. Nothing is handled before the first `run_until_idle`;
    from then on handlers run as in a worker, also between runs, until something is subscribed or the end. Use it
    as a context manager, plain or async, or call `close`. While it is open `events.publish` publishes to it.

    Args:
        app: the application's bus, or `module:attribute` of it: its subscribers are tested, and whatever it is
            asked for meanwhile, publishing included, happens on the test's servers.
        deadline_s: real seconds that a run may take.
        settings: fields of `Settings` that are not to be the defaults, e.g. `max_event_bytes=4096`; the environment
            is not read. With `redis_url` or `database_url` these servers are used; the database has to be migrated.

    Raises:
        EmbeddedServerError: the shared Valkey does not start.
        EventBusError: the application's bus consumes.
        InvalidSettings: a setting is none, or `app` is no bus.
    """

    __test__ = False  # pytest takes what begins with Test for tests

    def __init__(self, app: Any = None, *, deadline_s: float = 30.0, **settings: Any) -> None:
        self.database: Path | None = None
        given: dict[str, Any] = {"namespace": f"test-{secrets.token_hex(8)}", "timeout_s": TIMEOUT_S, **settings}
        if not {"redis_url", "database_url"} <= settings.keys():
            servers = shared()
            given = {"redis_url": servers.redis_url, "home": str(servers.home), **given}
            if "database_url" not in settings:
                self.database = servers.new_database()
                given["database_url"] = url_of(self.database)
        unknown = settings.keys() - {field.name for field in fields(Settings)}
        if unknown:
            raise InvalidSettings(
                f"TestBus knows no setting {min(unknown)!r}: it takes the fields of events.settings.Settings."
            )
        super().__init__(Settings(**given))
        self.deadline_s = deadline_s
        self.apps = lent_of(app)
        self._lent = Lent(self.apps, self.settings, declares=True, standing_in=self)
        self.watch = Watch()
        self._runner: Runner | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._told = 0
        self._is_closed = False
        self._take_from_apps()

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables by which other code, an `EventBus()` or a subprocess, finds this bus's servers."""
        named = ("redis_url", "database_url", "namespace", "home")
        return {variable(name): str(getattr(self.settings, name)) for name in named}

    @property
    def database_url(self) -> str:
        """The database of this test, for engines of your own: outbox and inbox work there."""
        return self.backend.database_url()

    @property
    def skipped_s(self) -> float:
        """How much time the runs have skipped, in seconds."""
        return self._runner.skipped_s if self._runner else 0.0

    # run

    async def run_until_idle(
        self,
        *,
        deadline_s: float | None = None,
        skip_s: float = FOR_EVER,
        raises: Types | None = None,
        allow_dead: bool | str | Iterable[str] = False,
    ) -> None:
        """Run the handlers until nothing moves any more; async ones on this event loop.

        What waits for its time (retries, scheduled events, time-outs of joins, rates) is brought forward when
        nothing else moves. What waits for a decision stays: a paused subscriber, a key that a dead letter blocks.

        Args:
            deadline_s: real seconds, the bus's unless given.
            skip_s: most seconds to skip in this run; what is due later stays where it is. 0 skips nothing.
            raises: an exception type, or several: something has to be given up because of it, and nothing because
                of another.
            allow_dead: True, or names of subscribers: whose deliveries may become dead letters.

        Raises:
            HandlersFailed: deliveries became dead letters, from the handler's own exception; or, with `raises`,
                none did.
            NotIdle: the deadline has passed; the text names what runs and what waits.
            EventBusError: it is called in a handler.
        """
        try:
            await asyncio.to_thread(self._bring_to_rest, asyncio.get_running_loop(), deadline_s, skip_s)
        finally:
            if self._runner is not None:
                self._runner.cancel()
        self._check(raises, allow_dead)

    def run_until_idle_sync(
        self,
        *,
        deadline_s: float | None = None,
        skip_s: float = FOR_EVER,
        raises: Types | None = None,
        allow_dead: bool | str | Iterable[str] = False,
    ) -> None:
        """Run from a test without an event loop, as `run_until_idle` does; async handlers get a loop of their own."""
        self._bring_to_rest(None, deadline_s, skip_s)
        self._check(raises, allow_dead)

    # results

    def events(self, *types: object) -> list[Event]:
        """Return all events of this test in history order, or those of some types."""
        return [recorded.event for recorded in self._results.recorded(types or None)]

    def caused_by(self, event: Event | str) -> list[Event]:
        """Return what an event set off, directly and through others, in history order.

        Raises:
            EventNotFound: no event has that id.
        """
        return self._results.caused_by(event)

    def tree(self, event: Event | str) -> CausationTree:
        """Return what an event set off as a tree, with costs and latencies for each part of it."""
        return self._results.tree(event)

    def deliveries(self, subscriber: str | None = None, *, state: str | None = None) -> list[Delivered]:
        """Return what became of each event at each subscriber, in history order; exact when the bus is idle.

        Args:
            subscriber: only its deliveries.
            state: only those that are `waiting`, `done`, `dead`, `discarded` or `dropped`.

        Raises:
            InvalidSubscription: nobody has that name.
        """
        if subscriber is not None:
            self._check_known(subscriber)
        return self._results.deliveries(DeliveryFilter(subscriber=subscriber, state=state))

    def unheard(self) -> list[Event]:
        """Return the events that no subscriber got, in history order: results, or types that somebody mistyped."""
        heard = {one.event.event_id for one in self._results.deliveries(DeliveryFilter())}
        return [event for event in self.events() if event.event_id not in heard]

    def dead_letters(self) -> list[DeadLetter]:
        """Return what was given up so far, oldest first, with tracebacks."""
        return self._results.dead_letters()

    def costs(self, event: Event | str | None = None) -> dict[str, float]:
        """Return what events cost, by currency: all of them, or one with all that it set off."""
        return self._results.costs(event)

    # end

    def close(self) -> None:
        """Stop the handlers, and forget everything; closing twice is harmless. What runs gets no grace."""
        if self._is_closed:
            return
        self._is_closed = True
        self._lent.take_back()
        consuming, self._consuming = self._consuming, None
        is_busy = bool(self.watch.running())
        super().close()
        # A worker that waits for Redis takes up to a second to end, and has nothing to do: the next test need not wait.
        ending = threading.Thread(target=self._end, args=(consuming,), name="eventbus-testing-end")
        ending.start()
        if is_busy:
            ending.join()

    async def disconnect(self) -> None:
        """Send what was submitted, and `close`."""
        await self._here.sender().flush()
        await asyncio.to_thread(self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.disconnect()

    # inside

    @property
    def _results(self) -> Results:
        self._check_open()
        return Results(self.backend)

    def _take_from_apps(self) -> None:
        known = {subscription.name for subscription in self.subscriptions}
        for app in self.apps:
            for subscription in app.subscriptions:
                if subscription.name not in known:
                    self._add(subscription)

    def _begin(self, loop: asyncio.AbstractEventLoop | None) -> Runner:
        """Start the handlers unless they run; make and return what brings the namespace to rest."""
        self._check_open()
        if handling.get() is not None:
            raise EventBusError("run_until_idle was called from inside a handler, which it would wait for.")
        if self._loop is not None and self._loop is not loop:
            self._stop_handlers()
        if self._consuming is None:
            self._consuming, self._loop = self._started(loop), loop
        if self._runner is None:
            self._runner = Runner(self.backend, self.watch)
        return self._runner

    def _add(self, subscription: Subscription) -> None:
        """Subscribe, between runs too: the handlers are stopped, and start again with the next run."""
        self._stop_handlers()
        super()._add(subscription)

    def _stop_handlers(self) -> None:
        consuming, self._consuming = self._consuming, None
        if consuming is not None:
            consuming.stop(0.0)

    def _started(self, loop: asyncio.AbstractEventLoop | None) -> Consuming:
        """Return what `start_consuming` would run, without its archiver: the runner archives when nothing moves."""
        self._take_from_apps()
        self._declare()
        watched = [self.watch.watched(one) for one in self.subscriptions]
        servers = Backend(self.settings, may_restore=True)
        consuming = Consuming(self.settings, servers, watched, threads=self.settings.threads, loop=loop)
        consuming.start()
        return consuming

    def _bring_to_rest(
        self, loop: asyncio.AbstractEventLoop | None, deadline_s: float | None = None, skip_s: float = FOR_EVER
    ) -> None:
        """Do what `run_until_idle` does, in this thread, and judge nothing; async handlers run on that loop."""
        self._begin(loop).run(deadline_s=self.deadline_s if deadline_s is None else deadline_s, skip_s=skip_s)

    def _check(self, raises: Types | None, allow_dead: bool | str | Iterable[str], how: str = HOW) -> None:
        """Compare the dead letters since the last time with what is expected; as `run_until_idle` does."""
        expected = Expected.of(raises, allow_dead)
        for name in expected.subscribers or ():
            self._check_known(name)
        letters = self._results.dead_letters(self._told)
        self._told = max([self._told, *(letter.position for letter in letters)])
        check(letters, expected, self.watch, how)

    def _check_known(self, name: str) -> None:
        """Refuse a name that nobody subscribes by: a slip of the pen would make a test that cannot fail."""
        known = {one.name for one in self.subscriptions} | {one.subscriber for one in self.backend.registry.all()}
        if name not in known:
            has = f"those of this bus are {', '.join(sorted(known))}" if known else "this bus has none"
            raise InvalidSubscription(f"No subscriber is named {name!r}: {has}.")

    def _check_open(self) -> None:
        if self._is_closed:
            raise EventBusError(
                "This test's bus is closed, and what it held is gone: ask it before its `with` block ends."
            )

    def _submit(self, *args: Any) -> Any:
        self._check_open()
        return super()._submit(*args)

    def _submit_here(self, *args: Any) -> Any:
        self._check_open()
        return super()._submit_here(*args)

    def _end(self, consuming: Consuming | None) -> None:
        backend = Backend(self.settings)
        try:
            if consuming is not None:
                consuming.stop(0.0)
            remove_namespace(backend.namespace)
        except Exception:
            log.exception("The bus of a test did not end well; what is left of it goes with the process.")
        finally:
            backend.close()
            if self.database is not None:
                remove_database(self.database)
