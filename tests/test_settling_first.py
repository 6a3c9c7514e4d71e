"""Ends are settled before they are told: who keeps logs and spans may block or fail, and nothing is done again."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider

import workers.engine
from events.event import Event
from events.namespace import Namespace, Remembered
from events.telemetry import Tracing
from tests.test_spans import Work, at_work, shot
from tests.waiting import wait_until
from workers.spans import Spans

COUNT = 10
LAST = f"e{COUNT - 1}"


@pytest.fixture
def space(redis_url: str, namespace: str) -> Iterator[Namespace]:
    with redis.Redis.from_url(redis_url) as client:
        yield Namespace(client, namespace, lambda: Remembered(0, ()), may_restore=True)


class Gate:
    """Where a worker's thread is held up until the test lets it go on."""

    def __init__(self) -> None:
        self.held, self.open = threading.Event(), threading.Event()

    def hold(self) -> None:
        self.held.set()
        self.open.wait(60)


class StuckLog(logging.Handler):
    """A pipe that nobody reads."""

    def __init__(self, gate: Gate) -> None:
        super().__init__()
        self._gate = gate

    def emit(self, record: logging.LogRecord) -> None:
        self._gate.hold()


class FailingLog(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise OSError("no space is left for logs")


class StuckExporter(SpanProcessor):
    """One that exports each span of an attempt at once, over a network that does not answer."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self.ended: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        if span.name.startswith("process") and event_of(span) == LAST:
            self._gate.hold()
        self.ended.append(span)


@contextmanager
def logging_to(handler: logging.Handler) -> Iterator[None]:
    log = logging.getLogger("eventbus.worker")
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)


def event_of(span: ReadableSpan) -> object:
    return (span.attributes or {}).get("messaging.message.id")


def but_the_last(events: list[Event]) -> dict[str, object]:
    return {event.event_id: ValueError("no paint") for event in events if event.event_id == LAST}


def assert_all_are_settled(work: Work) -> None:
    """Each has an outcome, and the one that failed waits for nobody."""
    outcomes, queue = work.space.keys("outcomes"), work.space.keys("queue", "Painter")
    wait_until(lambda: work.space.client.xlen(outcomes) == COUNT, 30, "each attempt of the batch to be settled")
    assert work.space.client.xlen(queue) == 0


def test_a_log_that_takes_no_line_holds_up_no_settlement(space: Namespace) -> None:
    gate = Gate()

    with (
        logging_to(StuckLog(gate)),
        at_work(space, but_the_last, [shot(n) for n in range(COUNT)], batch=COUNT, max_attempts=1) as work,
    ):
        try:
            assert gate.held.wait(30)
            assert_all_are_settled(work)
        finally:
            gate.open.set()


def test_a_log_that_fails_makes_nothing_run_again(space: Namespace) -> None:
    with (
        logging_to(FailingLog()),
        at_work(space, but_the_last, [shot(n) for n in range(COUNT)], batch=COUNT, max_attempts=1) as work,
    ):
        assert_all_are_settled(work)
        wait_until(lambda: not len(work.engine._running), 30, "the thread to be free again")


def test_an_exporter_that_does_not_answer_holds_up_no_settlement_and_the_span_ends_when_its_work_did(
    space: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, provider = Gate(), TracerProvider()
    exporter = StuckExporter(gate)
    provider.add_span_processor(exporter)
    tracing = Tracing(provider.get_tracer("test"), "test")
    monkeypatch.setattr(workers.engine, "spans_of", lambda settings: Spans(tracing))

    with at_work(space, but_the_last, [shot(n) for n in range(COUNT)], batch=COUNT, max_attempts=1) as work:
        try:
            assert gate.held.wait(30)
            assert_all_are_settled(work)
        finally:
            gate.open.set()

    ends = {(one.name.split()[0], event_of(one)): one.end_time or 0 for one in exporter.ended}
    assert all(ends["process", f"e{n}"] <= ends["settle", f"e{n}"] for n in range(COUNT))
