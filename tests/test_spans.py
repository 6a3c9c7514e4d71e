"""Spans of attempts and publishes: each that was begun ends once and says how; none changes what it is about."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import redis
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider

import workers.attempt
import workers.engine
from events.bus import EventBus
from events.context import handling
from events.encoding import encode
from events.errors import Discard, EventBusError, EventTooLarge
from events.event import Event
from events.namespace import Declared, Namespace, Remembered
from events.publisher import Publisher
from events.records import RecordedEvent
from events.routes import declare
from events.settings import Settings
from events.stream import HistoryStream
from events.subscriptions import SubscriberOptions, Subscription
from events.telemetry import Tracing
from tests.waiting import wait_until
from workers.engine import Engine
from workers.logs import JsonLines
from workers.spans import Spans

LIMIT = 2048
MADE_BY = "00-0af7651916cd43dd8448eb211c8031{:02x}-b7ad6b71692033{:02x}-01"  # of event n


class Recorder(SpanProcessor):
    """Keeps what began and what ended."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.ended: list[ReadableSpan] = []
        provider = TracerProvider()
        provider.add_span_processor(self)
        self.tracing = Tracing(provider.get_tracer("test"), "test")

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        self.begun.append(span.get_span_context().span_id)

    def on_end(self, span: ReadableSpan) -> None:
        self.ended.append(span)

    def named(self, operation: str) -> list[ReadableSpan]:
        return [span for span in list(self.ended) if span.name.split()[0] == operation]

    def told(self, operation: str, attribute: str) -> list[object]:
        return [(span.attributes or {}).get(attribute) for span in self.named(operation)]

    def assert_each_ended_once(self) -> None:
        assert Counter(self.begun) == Counter(_id(span) for span in self.ended)


def _id(span: ReadableSpan) -> int:
    assert span.context is not None
    return span.context.span_id


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """What the engines of this test record their spans with."""
    recorder = Recorder()
    monkeypatch.setattr(workers.engine, "spans_of", lambda settings: Spans(recorder.tracing))
    return recorder


@pytest.fixture
def space(redis_url: str, namespace: str) -> Iterator[Namespace]:
    with redis.Redis.from_url(redis_url) as client:
        yield Namespace(client, namespace, lambda: Remembered(0, ()), may_restore=True)


class Work:
    """An engine, and a thread that takes deliveries from it as Dramatiq's do."""

    def __init__(self, space: Namespace, painter: Subscription, lease_s: float, loop: asyncio.AbstractEventLoop | None):
        settings = Settings(lease_s=lease_s, max_event_bytes=LIMIT)
        self.space = space
        self.engine = Engine(space, settings, {"Painter": painter}, threads=1, declare=lambda: None, loop=loop)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self.engine.open()
        self.engine.receiver.attend("Painter")
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            attempt = self.engine.take("Painter", 0.1)
            if attempt is None:
                continue
            try:
                self.engine.run(attempt)
            except BaseException as error:
                attempt.error = error
            if not attempt.deferred:
                self.engine.finish(attempt)

    def end(self) -> None:
        """Drain without a grace, and close: the end of a worker process."""
        if not self.engine.draining:
            self.engine.drain(0)
            self.engine.close()

    def join(self) -> None:
        self._stop.set()
        self._thread.join(30)

    def take_away(self) -> None:
        """Have another worker own the delivery that runs here."""
        (lease,) = self.engine._held.all()
        self.space.client.xclaim(self.space.keys("queue", "Painter"), "fleet", "other", 0, [lease.entry_id])

    def history(self, kind: str) -> list[Event]:
        entries = HistoryStream(self.space).entries_after("history", "0-0", 1000)
        recorded = [one.event for _, one in entries if isinstance(one, RecordedEvent)]
        return [event for event in recorded if event.type.value == kind]


@contextmanager
def at_work(
    space: Namespace,
    handler: Callable[..., object],
    events: Sequence[Event] | None = None,
    *,
    lease_s: float = 60.0,
    loop: asyncio.AbstractEventLoop | None = None,
    **options: Any,
) -> Iterator[Work]:
    """A worker with one thread and a painter, for whom a shot waits unless events are given."""
    asked = SubscriberOptions(min_backoff=0.0, **options)
    painter = Subscription("Painter", ("SHOT",), handler, asyncio.iscoroutinefunction(handler), asked)
    declare(space, Declared("Painter", ("SHOT",), asked.record()), 100)
    Publisher(space, 1 << 20, 100).publish_many(events or [shot(0)])
    work = Work(space, painter, lease_s, loop)
    work.start()
    try:
        yield work
    finally:
        work.end()
        work.join()


def shot(n: int) -> Event:
    made_by = MADE_BY.format(n, n)
    return Event(
        event_id=f"e{n}", type="SHOT", project_id="p", actor="a", payload={"n": n}, metadata={"traceparent": made_by}
    )


def answering(answer: object) -> Callable[[Event], object]:
    def plain(event: Event) -> object:
        if isinstance(answer, BaseException):
            raise answer
        return answer

    return plain


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "async"])
@pytest.mark.parametrize(
    ("answer", "outcomes"),
    [
        (None, ["done"]),
        (ValueError("no paint"), ["retried", "dead"]),
        (Discard("nothing to paint"), ["discarded"]),
        (Unspeakable(), ["retried", "dead"]),
    ],
    ids=["none", "raises", "discards", "raises what has no words"],
)
def test_an_attempt_that_is_settled_says_its_outcome_and_its_settlement_the_answer(
    space: Namespace, recorder: Recorder, answer: object, outcomes: list[str], is_async: bool
) -> None:
    plain = answering(answer)

    async def awaiting(event: Event) -> object:
        return plain(event)

    with at_work(space, awaiting if is_async else plain, max_attempts=2):
        wait_until(lambda: len(recorder.named("settle")) == len(outcomes), 30, "the last settlement")

    assert recorder.told("process", "eventbus.outcome") == outcomes
    assert recorder.told("settle", "eventbus.verdict") == ["settled"] * len(outcomes)
    went_well = [span.status.is_ok for span in recorder.named("process")]
    assert went_well == [outcome not in ("retried", "dead") for outcome in outcomes]
    recorder.assert_each_ended_once()


@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "async"])
def test_an_attempt_that_a_stopping_worker_interrupts_says_so(
    space: Namespace, recorder: Recorder, is_async: bool
) -> None:
    begun = threading.Event()

    def plain(event: Event) -> None:
        begun.set()
        pause = threading.Event()
        while not pause.wait(0.01):
            pass

    async def awaiting(event: Event) -> None:
        begun.set()
        await asyncio.sleep(600)

    with at_work(space, awaiting if is_async else plain) as work:
        assert begun.wait(30)
        work.end()

        assert recorder.told("process", "eventbus.outcome") == ["interrupted"]
        assert recorder.told("settle", "eventbus.verdict") == ["settled"]
        recorder.assert_each_ended_once()


def test_an_attempt_that_outlives_its_process_is_lost(space: Namespace, recorder: Recorder) -> None:
    begun, release = threading.Event(), threading.Event()

    def plain(event: Event) -> None:
        begun.set()
        release.wait(120)

    with at_work(space, plain) as work:
        assert begun.wait(30)
        work.end()
        try:
            assert recorder.told("process", "eventbus.outcome") == ["lost"]
            assert not recorder.named("process")[0].status.is_ok
        finally:
            release.set()
    recorder.assert_each_ended_once()


@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "async"])
def test_an_attempt_whose_delivery_another_worker_has_taken_over_is_lost(
    space: Namespace, recorder: Recorder, is_async: bool
) -> None:
    begun, release = threading.Event(), threading.Event()

    def plain(event: Event) -> None:
        begun.set()
        release.wait(120)

    async def awaiting(event: Event) -> None:
        begun.set()
        while not release.is_set():
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0.01)

    with at_work(space, awaiting if is_async else plain, lease_s=3, max_attempts=1) as work:
        assert begun.wait(30)
        work.take_away()
        try:
            wait_until(lambda: recorder.named("process"), 30, "the span to end though the handler has not")
        finally:
            release.set()

    assert recorder.told("process", "eventbus.outcome") == ["lost"] and not recorder.named("settle")
    recorder.assert_each_ended_once()


def test_an_attempt_that_hangs_and_is_given_up_is_lost(space: Namespace, recorder: Recorder) -> None:
    release = threading.Event()

    def plain(event: Event) -> None:
        release.wait(120)

    with at_work(space, plain, lease_s=1, time_limit=0.1, max_attempts=1):
        try:
            wait_until(lambda: recorder.named("process"), 30, "the span to end though the handler has not")
        finally:
            release.set()

    assert set(recorder.told("process", "eventbus.outcome")) == {"lost"}
    recorder.assert_each_ended_once()


class Never:
    """What a plain handler returns to be awaited."""

    def __await__(self) -> Generator[None, None, None]:
        raise AssertionError("nothing awaits it")
        yield


def test_an_attempt_whose_loop_has_ended_before_it_is_handed_back(space: Namespace, recorder: Recorder) -> None:
    loop = asyncio.new_event_loop()
    loop.close()

    with at_work(space, answering(Never()), loop=loop):
        wait_until(lambda: recorder.named("settle"), 30, "the hand-back to be settled")

    assert recorder.told("process", "eventbus.outcome") == ["handed_back"]
    recorder.assert_each_ended_once()


def test_an_attempt_whose_end_fails_is_lost(
    space: Namespace, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ValueError("what nobody thought of")

    monkeypatch.setattr(workers.engine, "conclusion", broken)

    with at_work(space, answering(None)):
        wait_until(lambda: recorder.named("process"), 30, "the attempt to end")

    assert recorder.told("process", "eventbus.outcome") == ["lost"]
    recorder.assert_each_ended_once()


class Broken(SpanProcessor):
    """An application's own processor that fails at everything."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        raise LookupError("on_start")

    def on_end(self, span: ReadableSpan) -> None:
        raise LookupError("on_end")


@pytest.mark.parametrize("fails_at", ["on_start", "on_end"])
def test_what_tracing_fails_at_keeps_nothing_from_being_published_handled_and_settled(
    space: Namespace, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_at: str
) -> None:
    if fails_at == "on_end":
        monkeypatch.setattr(Broken, "on_start", SpanProcessor.on_start)
    provider = TracerProvider()
    provider.add_span_processor(Broken())
    tracing = Tracing(provider.get_tracer("test"), "test")
    monkeypatch.setattr(workers.engine, "spans_of", lambda settings: Spans(tracing))

    with at_work(space, answering(Event(type="FRAME", project_id="p", actor="a"))) as work:
        wait_until(lambda: work.history("FRAME"), 30, "the shot to be handled and settled")
    with traced_bus(redis_url, space, tmp_path, tracing) as bus:
        assert bus.publish_sync(Event(event_id="e9", type="OTHER", project_id="p", actor="a")) == "e9"


# publishing


@contextmanager
def traced_bus(redis_url: str, space: Namespace, home: Path, tracing: Tracing | None) -> Iterator[EventBus]:
    bus = EventBus(Settings(redis_url=redis_url, namespace=space.keys.namespace, home=str(home), max_event_bytes=LIMIT))
    bus._tracing = tracing
    try:
        yield bus
    finally:
        bus.close()


def test_a_publish_that_is_refused_before_it_is_sent_ends_its_span(
    redis_url: str, space: Namespace, recorder: Recorder, tmp_path: Path
) -> None:
    with traced_bus(redis_url, space, tmp_path, recorder.tracing) as bus:
        pass
    with pytest.raises(EventBusError, match="disconnected"):
        bus.publish_sync(shot(0))

    assert recorder.told("publish", "error.type") == ["EventBusError"]
    recorder.assert_each_ended_once()


def test_a_publish_that_is_never_answered_ends_with_its_bus(recorder: Recorder) -> None:
    answers: Future[Any] = Future()
    recorder.tracing.publishing([shot(0)], lambda carrying: answers)

    recorder.tracing.close()
    answers.set_result([])

    assert recorder.told("publish", "error.type") == ["unanswered"]
    recorder.assert_each_ended_once()


def sized(size: int, **fields: Any) -> Event:
    """An event that encodes to exactly so many bytes."""
    given = {"event_id": f"EV-{size}", "type": "FRAME", "project_id": "film", "actor": "a", "payload": {"text": ""}}
    given |= {"correlation_id": f"EV-{size}"}  # which publish would find, and whoever reads it sees
    bare = Event(**{**given, **fields})
    return bare.model_copy(update={"payload": {"text": "x" * (size - len(encode(bare)))}})


def publish_one(bus: EventBus, event: Event) -> object:
    return bus.publish_sync(event)


def publish_many(bus: EventBus, event: Event) -> object:
    (answer,) = bus.publish_many_sync([event])
    if isinstance(answer, Exception):
        raise answer
    return answer


def publish_awaited(bus: EventBus, event: Event) -> object:
    async def awaited() -> object:
        for n in range(1000):
            await bus.publish(Event(type="OTHER", project_id="p", actor="a", payload={"warm": n}))
            if bus._here.sender()._link is not None:
                break
        return await bus.publish(event)

    return asyncio.run(awaited())


def publish_many_awaited(bus: EventBus, event: Event) -> object:
    (answer,) = asyncio.run(bus.publish_many([event]))
    if isinstance(answer, Exception):
        raise answer
    return answer


WAYS = [publish_one, publish_many, publish_awaited, publish_many_awaited]
CONTEXT = len(',"metadata":{"traceparent":""}') + len(MADE_BY.format(0, 0))


@pytest.mark.parametrize("way", WAYS)
def test_an_event_that_has_no_room_for_a_context_is_published_without_one(
    redis_url: str, space: Namespace, recorder: Recorder, tmp_path: Path, way: Callable[[EventBus, Event], object]
) -> None:
    sizes = [LIMIT - CONTEXT, LIMIT - CONTEXT + 1, LIMIT - 1, LIMIT]
    with traced_bus(redis_url, space, tmp_path, recorder.tracing) as bus:
        for size in sizes:
            assert way(bus, sized(size))
        found = [recorded.event for recorded in bus.backend.replay.iterate() if recorded.event.type.value == "FRAME"]

    assert [len(encode(event)) for event in found] == [LIMIT, *sizes[1:]], "what is sent is what was measured"
    assert ["traceparent" in event.metadata for event in found] == [True, False, False, False]


@pytest.mark.parametrize("way", WAYS)
def test_an_event_over_the_limit_is_refused_with_the_same_sentence_as_without_tracing(
    redis_url: str, space: Namespace, recorder: Recorder, tmp_path: Path, way: Callable[[EventBus, Event], object]
) -> None:
    said = []
    for tracing in (recorder.tracing, None):
        with traced_bus(redis_url, space, tmp_path, tracing) as bus, pytest.raises(EventTooLarge) as refused:
            way(bus, sized(LIMIT + 1))
        said.append(str(refused.value))

    assert said[0] == said[1] and f"{LIMIT + 1} bytes, over the limit of {LIMIT}" in said[0]


def test_a_context_that_an_event_has_brought_is_not_left_out_for_its_size(
    redis_url: str, space: Namespace, recorder: Recorder, tmp_path: Path
) -> None:
    brought = {"metadata": {"traceparent": MADE_BY.format(7, 7)}}
    with traced_bus(redis_url, space, tmp_path, recorder.tracing) as bus:
        bus.publish_sync(sized(LIMIT, **brought))
        with pytest.raises(EventTooLarge, match=f"{LIMIT + 1} bytes"):
            bus.publish_sync(sized(LIMIT + 1, **brought))
        (found,) = bus.backend.replay.iterate()

    assert found.event.metadata == brought["metadata"]


def test_a_returned_event_that_has_no_room_for_a_context_is_published_without_one(
    space: Namespace, recorder: Recorder
) -> None:
    sizes = [LIMIT - CONTEXT, LIMIT - CONTEXT + 1, LIMIT - 1, LIMIT]

    def plain(event: Event) -> list[Event]:
        return [sized(size, causation_id=event.event_id, correlation_id=event.event_id) for size in sizes]

    with at_work(space, plain) as work:
        wait_until(lambda: recorder.named("settle"), 30, "the shot to be settled")
        found = work.history("FRAME")

    assert [len(encode(event)) for event in found] == [LIMIT, *sizes[1:]]
    assert ["traceparent" in event.metadata for event in found] == [True, False, False, False]


def test_a_returned_event_over_the_limit_is_kept_with_a_dead_letter_that_names_its_own_size(
    space: Namespace, recorder: Recorder
) -> None:
    def plain(event: Event) -> Event:
        return sized(LIMIT + 1, causation_id=event.event_id, correlation_id=event.event_id)

    with at_work(space, plain) as work:
        wait_until(lambda: recorder.named("settle"), 30, "the shot to be settled")
        ((_, letter),) = space.client.xrange(space.keys("dead", "Painter"))

    assert f"{LIMIT + 1} bytes, over the limit of {LIMIT}".encode() in b" ".join(letter.values())
    assert recorder.told("process", "eventbus.outcome") == ["dead"] and work.history("FRAME") == []


def test_returned_events_that_have_no_room_together_for_a_context_are_published_without_one(
    space: Namespace, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers.attempt, "MAX_RETURNED_BYTES", 3000)

    def plain(event: Event) -> list[Event]:
        return [sized(1500, event_id=f"f{n}", causation_id="e0", correlation_id="e0") for n in range(2)]

    with at_work(space, plain) as work:
        wait_until(lambda: recorder.named("settle"), 30, "the shot to be settled")
        found = work.history("FRAME")

    assert [event.metadata for event in found] == [{}, {}]
    assert recorder.told("process", "eventbus.outcome") == ["done"]


# batches


class Seen:
    """What handlers of batches saw: the current span, the context of handlers, and the fields of a line they log."""

    def __init__(self) -> None:
        self.spans: list[int] = []
        self.contexts: list[object] = []
        self.fields: list[set[str]] = []

    def note(self) -> None:
        line = JsonLines().format(logging.makeLogRecord({"msg": "painting"}))
        self.spans.append(trace.get_current_span().get_span_context().span_id)
        self.contexts.append(handling.get())
        self.fields.append(set(json.loads(line)))


def handlers(seen: Seen) -> dict[str, Callable[[list[Event]], object]]:
    """The same handler of batches in each way in which it may be written."""

    def plain(events: list[Event]) -> object:
        seen.note()
        return [event.caused("FRAME", actor="Painter") for event in events]

    async def awaiting(events: list[Event]) -> object:
        await asyncio.sleep(0)
        return plain(events)

    return {"plain": plain, "async": awaiting, "awaitable": lambda events: awaiting(events)}


@pytest.mark.parametrize("written", ["plain", "async", "awaitable"])
def test_a_handler_of_batches_has_the_same_contexts_however_it_is_written(
    space: Namespace, recorder: Recorder, written: str
) -> None:
    seen, count = Seen(), 5

    with at_work(space, handlers(seen)[written], [shot(n) for n in range(count)], batch=10) as work:
        wait_until(lambda: len(recorder.named("settle")) == count, 30, "all to be settled")
        frames = work.history("FRAME")

    calls = {_id(span): span for span in recorder.named("handle")}
    assert sorted(seen.spans) == sorted(calls) and all(span.parent is None for span in calls.values())
    assert sum(map(int, recorder.told("handle", "messaging.batch.message_count"))) == count  # type: ignore[call-overload]
    assert set(seen.contexts) == {None}
    assert seen.fields == [{"time", "level", "logger", "message", "pid"}] * len(calls)

    attempts = {(span.attributes or {})["messaging.message.id"]: span for span in recorder.named("process")}
    for n in range(count):
        span = attempts[f"e{n}"]
        assert span.parent is not None and MADE_BY.format(n, n)[36:52] == f"{span.parent.span_id:016x}"
        (call,) = (link.context.span_id for link in span.links)
        assert _id(span) in {link.context.span_id for link in calls[call].links}
    for frame in frames:
        assert str(frame.metadata["traceparent"])[36:52] == f"{_id(attempts[frame.causation_id or '']):016x}"
    recorder.assert_each_ended_once()


def test_the_call_of_a_batch_tells_how_many_of_its_events_failed(space: Namespace, recorder: Recorder) -> None:
    def plain(events: list[Event]) -> dict[str, object]:
        return {event.event_id: ValueError("no paint") for event in events if event.event_id == "e0"}

    with at_work(space, plain, [shot(n) for n in range(3)], batch=10, max_attempts=1):
        wait_until(lambda: len(recorder.named("settle")) == 3, 30, "all to be settled")

    (failed,) = (span for span in recorder.named("handle") if not span.status.is_ok)
    assert failed.status.description is not None and failed.status.description.startswith("1 of ")
    assert sorted(map(str, recorder.told("process", "eventbus.outcome"))) == ["dead", "done", "done"]


def test_nothing_of_tracing_is_called_while_it_is_off(
    redis_url: str, space: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[str] = []
    for part in (Tracing, Spans):
        for name in [name for name, value in vars(part).items() if callable(value)]:
            monkeypatch.setattr(part, name, lambda *_, name=name, **__: called.append(name))

    with at_work(space, answering(Event(type="FRAME", project_id="p", actor="a"))) as work:
        wait_until(lambda: work.history("FRAME"), 30, "the shot to be handled and settled")
    with traced_bus(redis_url, space, tmp_path, None) as bus:
        asyncio.run(bus.publish(Event(type="OTHER", project_id="p", actor="a")))
        bus.publish_sync(Event(type="OTHER", project_id="p", actor="a"))

    assert called == []
