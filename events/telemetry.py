"""OpenTelemetry spans; off unless `EVENTBUS_TRACING` asks for it. Those of publishing are made here.

    publish SCENE_WRITTEN          a call of publish; its context travels in the event, `metadata.traceparent` (W3C)
      └ process SCENE_WRITTEN      one attempt of one subscriber, in whatever process; what its handler does is below
          ├ publish ...            what it publishes itself
          ├ settle SCENE_WRITTEN   from the handler's end to Redis's answer; events that it returned go with it
          └ process ...            the attempts at these

    handle SCENE_WRITTEN           one call of a handler of batches, in a trace of its own; what it does is below
      ~ process SCENE_WRITTEN      linked, both ways: the attempt at each of its events, each in that event's trace

So one trace tells a whole story, through batches too. A span that was begun ends once: with its work, or else in
`Tracing.close`. What goes wrong with a span is logged, and keeps nothing from being published, handled or settled.
Without a provider of the application's own, one is made that exports by OTLP, as the `OTEL_` variables say. Workers'
spans are made in `workers.spans`. Source: OpenTelemetry's semantic conventions for messaging; W3C Trace Context.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from events.encoding import IfRoom
from events.errors import EventBusError, InvalidSettings
from events.event import Event
from events.settings import Settings
from events.trace_context import PARENT, STATE, context_of

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Link, Span, SpanKind, Tracer

FLUSH_S = 3.0
SYSTEM = "eventbus"

Answered = TypeVar("Answered", Future[Any], asyncio.Future[Any])

log = logging.getLogger("eventbus.tracing")


def tracing_of(settings: Settings) -> Tracing | None:
    """Return what traces this process's work; None where nobody asked for it.

    Raises:
        InvalidSettings: it is asked for in a way that is unknown, or the packages are not installed.
    """
    if settings.tracing is None:
        return None
    try:
        from opentelemetry import trace
    except ImportError:
        raise InvalidSettings(
            "EVENTBUS_TRACING=opentelemetry needs packages that are not installed: "
            "`pip install 'multi-agent-event-bus[opentelemetry]'`."
        ) from None
    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        trace.set_tracer_provider(_exporting())
    return Tracing(trace.get_tracer("eventbus"), settings.namespace)


class Tracing:
    """Makes the spans of one bus or one engine. Threads may share it."""

    _flushing: ClassVar[threading.Thread | None] = None  # exports what is kept, for whoever closes

    def __init__(self, tracer: Tracer, namespace: str) -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._tracer = tracer
        self._namespace = namespace
        self._propagator = TraceContextTextMapPropagator()
        self._open: dict[int, tuple[Span, Mapping[str, str]]] = {}  # by the id of the span; what to say in `close`

    def publishing(self, events: Sequence[Event], submit: Callable[[list[Event]], Answered]) -> Answered:
        """Submit events in a span, which ends with their answers.

        Args:
            submit: called once, with the events that carry the span's context.
        """
        span, carrying = None, list(events)
        with harmless("begin"):
            span = self._publish_span(events)
            carrying = self.carried(events, span)
        if span is None:
            return submit(carrying)
        try:
            answered = submit(carrying)
        except BaseException as error:
            self._refused(span, error)
            raise
        answered.add_done_callback(partial(self._published, span))
        return answered

    def carried(self, events: Sequence[Event], span: Span) -> list[Event]:
        """Return events with a span's context; one that brought a context keeps it, one that has no room gets none."""
        from opentelemetry.trace import set_span_in_context

        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, set_span_in_context(span))
        if not carrier:
            return list(events)
        given = {name: IfRoom(value) for name, value in carrier.items()}
        return [
            event if PARENT in event.metadata else event.model_copy(update={"metadata": {**event.metadata, **given}})
            for event in events
        ]

    def origin(self, event: Event) -> Context:
        """Return the context in which an event was made; an empty one where it carries none."""
        carrier = {name: str(event.metadata[name]) for name in (PARENT, STATE) if name in event.metadata}
        return self._propagator.extract(carrier)

    def begin(
        self,
        operation: str,
        of: Sequence[Event],
        kind: SpanKind,
        told: Mapping[str, Any],
        *,
        unended: Mapping[str, str],
        parent: Context | None = None,
        links: Sequence[Link] = (),
    ) -> Span:
        """Begin a span, named after the operation and the type of its events, if they have one type.

        Args:
            of: the events, one at least. told: attributes besides those that say what it is about.
            unended: the attributes that it gets where nobody ends it. parent: the current context unless given.
        """
        types = {event.type.value for event in of}
        attributes: dict[str, Any] = {
            "messaging.system": SYSTEM,
            "messaging.operation.name": operation,
            "eventbus.namespace": self._namespace,
            **(_about(of[0]) if len(of) == 1 else {"messaging.batch.message_count": len(of)}),
            **told,
        }
        name = operation
        if len(types) == 1:
            (attributes["messaging.destination.name"],) = types
            name = f"{operation} {attributes['messaging.destination.name']}"
        span = self._tracer.start_span(name, parent, kind, attributes, links)
        self._open[id(span)] = span, unended
        return span

    def is_open(self, span: Span) -> bool:
        """Whether nobody has ended a span."""
        return id(span) in self._open

    def end(
        self,
        span: Span,
        told: Mapping[str, Any],
        *,
        problem: str | None = None,
        error: BaseException | None = None,
        at_ns: int | None = None,
    ) -> bool:
        """End a span, unless it has ended; return whether this call did.

        Args:
            told: attributes that say how. problem: why it failed, if it did. error: an exception to record.
            at_ns: when its work was over, nanoseconds since 1970; None is now.
        """
        from opentelemetry.trace import Status, StatusCode

        if self._open.pop(id(span), None) is None:
            return False
        with harmless("describe"):
            span.set_attributes(told)
            if problem is not None:
                span.set_status(Status(StatusCode.ERROR, problem))
            if error is not None:
                span.record_exception(error)
        with harmless("end"):
            span.end(at_ns)
        return True

    def close(self) -> None:
        """End what nobody has ended, and export what is kept; an exporter is waited for `FLUSH_S` seconds at most."""
        for span, unended in list(self._open.values()):
            self.end(span, unended, problem="The process let go of it before its end.")
        if Tracing._flushing is None or not Tracing._flushing.is_alive():  # else an exporter hangs, waited for before
            Tracing._flushing = threading.Thread(target=_flush, name="eventbus-tracing", daemon=True)
            Tracing._flushing.start()
            Tracing._flushing.join(FLUSH_S)

    def _publish_span(self, events: Sequence[Event]) -> Span:
        from opentelemetry.trace import SpanKind

        told = {"messaging.operation.type": "send"}
        return self.begin("publish", events, SpanKind.PRODUCER, told, unended={"error.type": "unanswered"})

    def _published(self, span: Span, answered: Future[Any] | asyncio.Future[Any]) -> None:
        """End the span of a publish with what came of it."""
        if answered.cancelled():
            self.end(span, {"error.type": "CancelledError"})
            return
        error = answered.exception()
        answers = () if error else answered.result()
        refused = next((answer for answer in answers if isinstance(answer, EventBusError)), error)
        if refused is None:
            self.end(span, {})
        else:
            self._refused(span, refused)

    def _refused(self, span: Span, error: BaseException) -> None:
        self.end(span, {"error.type": type(error).__qualname__}, problem=str(error))


def headers_for(event: Event) -> dict[str, str]:
    """Return the headers that let another system continue the trace of what is sent for an event.

    The context is that of the span which is current, an attempt's inside a handler; where there is none, that which
    the event carries; else there are no headers.
    """
    carrier: dict[str, str] = {}
    if "opentelemetry.trace" in sys.modules:  # else nobody here has a span
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        TraceContextTextMapPropagator().inject(carrier)
    return carrier or context_of(event.metadata)


@contextmanager
def harmless(verb: str) -> Iterator[None]:
    """Log what goes wrong with a span, and go on: it must not keep the work that it is about from being done.

    Args:
        verb: what was to be done with the span.
    """
    try:
        yield
    except Exception:
        log.exception("Tracing could not %s a span; what the span is about goes on.", verb)


def _about(event: Event) -> dict[str, Any]:
    found: dict[str, Any] = {"messaging.message.id": event.event_id, "eventbus.project_id": event.project_id}
    if event.correlation_id:
        found["messaging.message.conversation_id"] = event.correlation_id
    if event.causation_id:
        found["eventbus.causation_id"] = event.causation_id
    if event.cost is not None:
        found["eventbus.cost"] = event.cost
    return found


def _exporting() -> Any:
    """Return a provider that exports by OTLP, as the `OTEL_` variables say."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create())
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


def _flush() -> None:
    """Export what the provider keeps. Its own time limit is not kept (opentelemetry-python #4568)."""
    from opentelemetry import trace

    flush = getattr(trace.get_tracer_provider(), "force_flush", None)  # a provider without a queue has none
    with harmless("export"):
        if flush is not None:
            flush(int(FLUSH_S * 1000))
