"""OpenTelemetry spans for publishing, processing and settling; off unless `EVENTBUS_TRACING` asks for it.

    publish SCENE_WRITTEN          a call of publish; its context travels in the event, `metadata.traceparent` (W3C)
      └ process SCENE_WRITTEN      one attempt of one subscriber, in whatever process; what its handler does is below
          ├ publish ...            what it publishes itself
          ├ settle SCENE_WRITTEN   from the handler's end to Redis's answer; events that it returned go with it
          └ process ...            the attempts at these

So one trace tells a whole story. Without a provider of the application's own, one is made that exports by OTLP, as the
`OTEL_` variables say. Source: OpenTelemetry's semantic conventions for messaging; W3C Trace Context.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from events.context import Handling
from events.errors import EventBusError, InvalidSettings
from events.event import Event
from events.frame import Lease
from events.settings import Settings

if TYPE_CHECKING:
    from asyncio import Future as LoopFuture

    from opentelemetry.trace import Span, SpanKind, Tracer

OPENTELEMETRY = "opentelemetry"
PARENT, STATE = "traceparent", "tracestate"
FLUSH_MS = 3000
SYSTEM = "eventbus"


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
    """Makes the spans of one process. Threads may share it."""

    def __init__(self, tracer: Tracer, namespace: str) -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._tracer = tracer
        self._namespace = namespace
        self._propagator = TraceContextTextMapPropagator()
        self._settling: dict[int, Span] = {}

    def publishing(self, events: Sequence[Event]) -> tuple[list[Event], Callable[[Any], None]]:
        """Begin the span of a publish.

        Returns:
            The events with its context, unless they have one; and what ends it, to be called with the done future of
            their answers.
        """
        from opentelemetry.trace import SpanKind

        kinds = {event.type.value for event in events}
        kind = kinds.pop() if len(kinds) == 1 else None
        span = self._span("publish", "send", kind, SpanKind.PRODUCER, events[0] if len(events) == 1 else None)
        if len(events) > 1:
            span.set_attribute("messaging.batch.message_count", len(events))
        return self._with_context(events, span), lambda answered: _published(span, answered)

    def processing(self, handling: Handling, lease: Lease) -> Processing:
        """Begin the span of an attempt, below the one in whose context its event was made."""
        from opentelemetry.trace import SpanKind

        event = handling.event
        carrier = {name: str(event.metadata[name]) for name in (PARENT, STATE) if name in event.metadata}
        parent = self._propagator.extract(carrier)
        span = self._span("process", "process", event.type.value, SpanKind.CONSUMER, event, parent)
        span.set_attribute("messaging.consumer.group.name", handling.subscriber)
        span.set_attribute("eventbus.attempt", handling.attempt)
        span.set_attribute("eventbus.delivery", handling.delivery)
        return Processing(self, span, event, lease)

    def settled(self, lease: Lease, verdict: str) -> None:
        """End the span of a settlement that Redis has answered."""
        span = self._settling.pop(id(lease), None)
        if span is not None:
            span.set_attribute("eventbus.verdict", verdict)
            span.end()

    def flush(self) -> None:
        """Export what is kept, for a process that ends."""
        from opentelemetry import trace

        with suppress(AttributeError):  # a provider without a queue has nothing to flush
            trace.get_tracer_provider().force_flush(FLUSH_MS)

    def settling(self, lease: Lease, event: Event, parent: Any) -> None:
        """Begin the span of a settlement."""
        from opentelemetry.trace import SpanKind

        self._settling[id(lease)] = self._span("settle", "settle", event.type.value, SpanKind.CLIENT, event, parent)

    def _span(
        self, name: str, operation: str, kind: str | None, span_kind: SpanKind, event: Event | None, parent: Any = None
    ) -> Span:
        attributes = {
            "messaging.system": SYSTEM,
            "messaging.operation.name": name,
            "messaging.operation.type": operation,
            "eventbus.namespace": self._namespace,
        }
        if kind is not None:
            attributes["messaging.destination.name"] = kind
        if event is not None:
            attributes |= _about(event)
        return self._tracer.start_span(f"{name} {kind}" if kind else name, parent, span_kind, attributes)

    def _with_context(self, events: Sequence[Event], span: Span) -> list[Event]:
        from opentelemetry.trace import set_span_in_context

        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, set_span_in_context(span))
        if not carrier:
            return list(events)
        return [
            event if PARENT in event.metadata else event.model_copy(update={"metadata": {**event.metadata, **carrier}})
            for event in events
        ]


class Processing:
    """The span of one attempt."""

    def __init__(self, tracing: Tracing, span: Span, event: Event, lease: Lease) -> None:
        from opentelemetry.trace import set_span_in_context

        self._tracing = tracing
        self._span = span
        self._event = event
        self._lease = lease
        self._context = set_span_in_context(span)

    def enter(self) -> Any:
        """Make it the current span of the running context; a context of its own needs no `leave`."""
        from opentelemetry import context

        return context.attach(self._context)

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Enter it, and leave it."""
        from opentelemetry import context

        token = self.enter()
        try:
            yield
        finally:
            context.detach(token)

    def carried(self, events: Sequence[Event]) -> list[Event]:
        """Return events that the attempt returned with its context, unless they have one."""
        return self._tracing._with_context(events, self._span)

    def ended(self, state: str, reason: str, error: BaseException | None) -> None:
        """End it, and begin the span of its settlement."""
        from opentelemetry.trace import Status, StatusCode

        self._span.set_attribute("eventbus.outcome", state)
        if error is not None:
            self._span.record_exception(error)
            self._span.set_attribute("error.type", type(error).__qualname__)
        if state in ("retried", "dead", "lost"):
            self._span.set_status(Status(StatusCode.ERROR, reason))
        self._span.end()
        self._tracing.settling(self._lease, self._event, self._context)


def _about(event: Event) -> dict[str, Any]:
    found: dict[str, Any] = {"messaging.message.id": event.event_id, "eventbus.project_id": event.project_id}
    if event.correlation_id:
        found["messaging.message.conversation_id"] = event.correlation_id
    if event.causation_id:
        found["eventbus.causation_id"] = event.causation_id
    if event.cost is not None:
        found["eventbus.cost"] = event.cost
    return found


def _published(span: Span, answered: Future[Any] | LoopFuture[Any]) -> None:
    """End the span of a publish with what came of it."""
    from opentelemetry.trace import Status, StatusCode

    if answered.cancelled():
        span.set_attribute("error.type", "CancelledError")
    else:
        error = answered.exception()
        answers = () if error else answered.result()
        refused = next((answer for answer in answers if isinstance(answer, EventBusError)), error)
        if refused is not None:
            span.set_status(Status(StatusCode.ERROR, str(refused)))
            span.set_attribute("error.type", type(refused).__qualname__)
    span.end()


def _exporting() -> Any:
    """Return a provider that exports by OTLP, as the `OTEL_` variables say."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create())
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider
