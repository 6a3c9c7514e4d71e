"""Traces: one tells a whole story across processes; exported by OTLP to a real receiver; off, nothing is made."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from events.bus import EventBus
from events.errors import InvalidSettings
from events.event import Event
from events.settings import Settings
from events.telemetry import Tracing
from tests.fleet.fleet import World
from tests.waiting import wait_until

PUBLISHER = """
import asyncio
from events.bus import EventBus
from events.event import Event
from opentelemetry import trace

bus = EventBus()

async def main():
    with trace.get_tracer("app").start_as_current_span("the request"):
        await bus.publish(Event(type="TRACED", project_id="film", actor="t", event_id="EV-traced"))
    await bus.disconnect()

asyncio.run(main())
trace.get_tracer_provider().force_flush()
"""


class Collector:
    """Takes spans by OTLP over HTTP, and keeps them by name and subscriber."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                request = ExportTraceServiceRequest()
                request.ParseFromString(self.rfile.read(int(self.headers["content-length"])))
                for of_resource in request.resource_spans:
                    for of_scope in of_resource.scope_spans:
                        collector.spans += of_scope.spans
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def named(self, name: str) -> list[Any]:
        return [span for span in self.spans if span.name == name]

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    found = Collector()
    yield found
    found.close()


def attributes(span: Any) -> dict[str, Any]:
    found = {}
    for each in span.attributes:
        kind = each.value.WhichOneof("value")
        found[each.key] = getattr(each.value, kind)
    return found


def traced_bus(world: World, exporter: SpanExporter | None = None) -> EventBus:
    """A bus that makes spans, in this process, whose own provider is left alone."""
    provider = TracerProvider()
    if exporter is not None:
        provider.add_span_processor(SimpleSpanProcessor(exporter))
    bus = EventBus(world.settings)
    bus._tracing = Tracing(provider.get_tracer("test"), world.settings.namespace)
    return bus


def test_one_trace_tells_a_whole_story_across_processes(world: World, collector: Collector) -> None:
    environment = {"EVENTBUS_TRACING": "opentelemetry", "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
    environment["OTEL_BSP_SCHEDULE_DELAY"] = "200"
    fleet = world.start_fleet(2, "tests.fleet.traced:bus", **environment)
    publisher = world.run([sys.executable, "-c", PUBLISHER], "publisher", **environment)
    assert publisher.wait(60) == 0, world.log("publisher")
    assert fleet.poll() is None

    wait_until(lambda: len(collector.named("settle TRACED_LAST")) == 2, 30, f"the last settlement; {world.log()}")

    spans = {span.span_id: span for span in collector.spans}

    def path(span: Any) -> list[str]:
        found = []
        while span is not None:
            found.append(span.name)
            span = spans.get(span.parent_span_id)
        return found[::-1]

    assert len({span.trace_id for span in collector.spans}) == 1
    last = collector.named("process TRACED_LAST")
    story = [
        "the request", "publish TRACED", "process TRACED", "process TRACED_AGAIN", "publish TRACED_LAST",
        "process TRACED_LAST",
    ]  # fmt: skip
    assert [path(span) for span in last] == [story, story]
    assert [attributes(span)["eventbus.attempt"] for span in sorted(last, key=lambda s: s.start_time_unix_nano)] == [
        1,
        2,
    ]
    assert {attributes(span)["eventbus.outcome"] for span in last} == {"retried", "dead"}
    assert all(span.status.code == 2 and attributes(span)["error.type"] == "ValueError" for span in last)
    (first,) = collector.named("process TRACED")
    assert attributes(first) | {
        "messaging.system": "eventbus", "messaging.operation.type": "process", "messaging.destination.name": "TRACED",
        "messaging.consumer.group.name": "First", "messaging.message.id": "EV-traced", "eventbus.project_id": "film",
        "eventbus.outcome": "done",
    } == attributes(first)  # fmt: skip
    assert not any("payload" in key for span in collector.spans for key in attributes(span))
    (settled,) = collector.named("settle TRACED")
    assert attributes(settled)["eventbus.verdict"] == "settled" and settled.parent_span_id == first.span_id


def test_publishing_the_same_event_with_another_trace_is_the_same_event(world: World) -> None:
    event = Event(type="QA_REPORT", project_id="film", actor="t", event_id="EV-same")
    plain = world.bus.publish_many_sync([event])[0]
    traced = traced_bus(world)
    try:
        again = traced.publish_many_sync([event])[0]
    finally:
        traced.close()

    assert again.position == plain.position and again.is_new is False  # type: ignore[union-attr]


def test_an_event_keeps_the_context_that_it_came_with(world: World) -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    traced = traced_bus(world)
    try:
        events = [
            Event(type="QA_REPORT", project_id="kept", actor="t", metadata={"traceparent": parent}),
            Event(type="QA_REPORT", project_id="kept", actor="t"),
        ]
        traced.publish_many_sync(events)
        found = list(traced.backend.replay.iterate())
    finally:
        traced.close()

    kept, given = (recorded.event.metadata["traceparent"] for recorded in found)
    assert kept == parent and str(given).startswith("00-") and given != parent


def test_nothing_is_made_unless_it_is_asked_for(world: World) -> None:
    world.bus.publish_sync(Event(type="QA_REPORT", project_id="film", actor="t"))

    (recorded,) = world.backend.replay.iterate()
    assert recorded.event.metadata == {}
    with pytest.raises(InvalidSettings, match="EVENTBUS_TRACING must be opentelemetry or nothing, not 'zipkin'"):
        Settings(tracing="zipkin")


def test_a_failed_publish_ends_its_span_with_the_error(world: World) -> None:
    exporter = InMemorySpanExporter()
    bus = traced_bus(world, exporter)
    first = Event(type="QA_REPORT", project_id="film", actor="t", event_id="EV-conflict")
    try:
        bus.publish_many_sync([first, first.model_copy(update={"payload": {"n": 1}})])
    finally:
        bus.close()

    (span,) = exporter.get_finished_spans()
    assert span.status.is_ok is False and span.attributes is not None
    assert span.attributes["error.type"] == "EventIdConflict" and span.attributes["messaging.batch.message_count"] == 2


def test_a_worker_that_stops_exports_the_span_of_what_it_leaves_behind(world: World, collector: Collector) -> None:
    environment = {"EVENTBUS_TRACING": "opentelemetry", "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
    fleet = world.start_fleet(1, "tests.fleet.traced:bus", grace_s=0.2, **environment)
    world.bus.publish_sync(Event(type="TRACED_STUCK", project_id="film", actor="t"))
    wait_until(lambda: world.redis.llen("ran:Stuck"), 30, f"the handler to start; {world.log()}")

    fleet.terminate()

    (left,) = wait_until(lambda: collector.named("process TRACED_STUCK"), 30, f"its span; {world.log()}")
    assert attributes(left)["eventbus.outcome"] == "lost" and left.status.code == 2


def test_a_worker_does_not_wait_for_long_for_a_collector_that_does_not_answer(world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        environment = {"EVENTBUS_TRACING": "opentelemetry", "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}
        environment["OTEL_EXPORTER_OTLP_TIMEOUT"] = "600"
        fleet = world.start_fleet(1, "tests.fleet.traced:bus", **environment)
        world.bus.publish_sync(Event(type="TRACED_AGAIN", project_id="film", actor="t"))
        world.until_settled("Second", "Failing")

        fleet.terminate()

        assert fleet.wait(30) == 0, world.log()
