"""The spans of one engine's attempts and settlements, in processes that make spans (`events/telemetry.py`).

    process    from the handler's start to its end
    settle     from there to Redis's answer
    handle     one call of a handler of batches, with the attempts in it

How a span of an attempt has ended, `eventbus.outcome`:

    done discarded retried dead interrupted    the outcome that is settled
    handed_back    the handler was not called after all; another worker may
    lost           nothing is settled here, and what comes of the attempt is void: another worker has the delivery, the
                   handler hangs and was given up, or the process ended before the handler
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any

from events.event import Event
from events.frame import Lease
from events.settings import Settings
from events.telemetry import Tracing, harmless, tracing_of

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span

    from events.deliveries import Settlement
    from workers.attempt import Attempt

HANDED_BACK, LOST = "handed_back", "lost"
_FAILED = ("retried", "dead", LOST)
_VOID = "Another worker has the delivery, or it was given up here: what comes of this attempt is void."
_LOST = {"eventbus.outcome": LOST, "error.type": LOST}
_UNANSWERED = {"eventbus.verdict": "unanswered", "error.type": "unanswered"}


def spans_of(settings: Settings) -> Spans | None:
    """Return what makes an engine's spans; None where nobody asked for them.

    Raises:
        InvalidSettings: as `tracing_of`.
    """
    tracing = tracing_of(settings)
    return None if tracing is None else Spans(tracing)


class Spans:
    """Begins and ends them. Nothing in here raises; threads may share it."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing
        self._settling: dict[int, Span] = {}  # by the id of the lease

    def begin(self, attempt: Attempt) -> None:
        """Begin the spans of an attempt, and of those that it leads, whose handler is about to be called."""
        started = [one for one in attempt.batch if one.started_at]
        with harmless("begin"):
            call = self._call(started) if attempt.subscription.options.batch else None
            for one in started:
                one.trace = self._processing(one, call)

    def settling(self, attempt: Attempt) -> None:
        """Begin the span of an attempt's settlement; that of the attempt is over with this moment.

        It is only noted, for `end`: ending a span may export it, and the settlement does not wait for that.
        """
        processing = attempt.trace
        if processing is not None and processing.over():
            with harmless("begin"):
                self._settling[id(attempt.lease)] = self._settle(attempt.lease.event, processing.context)

    def end(self, attempt: Attempt, settlement: Settlement) -> None:
        """End an attempt's span with what becomes of the delivery."""
        if attempt.trace is not None:
            attempt.trace.ended(settlement.state or "", settlement.reason, attempt.error)

    def settled(self, lease: Lease, verdict: str) -> None:
        """End the span of a settlement that Redis has answered."""
        span = self._settling.pop(id(lease), None)
        if span is not None:
            self._tracing.end(span, {"eventbus.verdict": verdict})

    def close(self) -> None:
        """End what nobody has ended; what runs still is lost, what was sent has no answer."""
        self._tracing.close()

    def _call(self, started: Sequence[Attempt]) -> Call:
        from opentelemetry.context import Context
        from opentelemetry.trace import SpanKind

        events = [attempt.lease.event for attempt in started]
        count = {"messaging.batch.message_count": len(events)}
        group = {"messaging.consumer.group.name": started[0].lease.subscriber}
        span = self._tracing.begin("handle", events, SpanKind.INTERNAL, count | group, unended={}, parent=Context())
        return Call(self._tracing, span, len(events))

    def _processing(self, attempt: Attempt, call: Call | None) -> Processing:
        from opentelemetry.trace import Link, SpanKind

        event = attempt.lease.event
        told = {
            "messaging.operation.type": "process",
            "messaging.consumer.group.name": attempt.lease.subscriber,
            "eventbus.attempt": attempt.lease.attempt,
            "eventbus.delivery": attempt.lease.delivery,
        }
        links = [Link(call.span.get_span_context())] if call else []
        parent = self._tracing.origin(event)
        span = self._tracing.begin(
            "process", [event], SpanKind.CONSUMER, told, unended=_LOST, parent=parent, links=links
        )
        if call:
            call.span.add_link(span.get_span_context())
        return Processing(self._tracing, span, call)

    def _settle(self, event: Event, parent: Context) -> Span:
        from opentelemetry.trace import SpanKind

        told = {"messaging.operation.type": "settle"}
        return self._tracing.begin("settle", [event], SpanKind.CLIENT, told, unended=_UNANSWERED, parent=parent)


class Call:
    """The span of one call of a handler of batches; it ends with the last of the attempts in it.

    Attributes:
        context: where it is the current span.
    """

    def __init__(self, tracing: Tracing, span: Span, count: int) -> None:
        from opentelemetry.trace import set_span_in_context

        self._tracing = tracing
        self.span = span
        self.context = set_span_in_context(span)
        self._count = self._left = count
        self._failed = 0
        self._lock = Lock()

    def ended(self, *, failed: bool, at_ns: int | None) -> None:
        """Note the end of one of its attempts; `at_ns` as in `Tracing.end`."""
        with self._lock:
            self._left -= 1
            self._failed += failed
            if self._left:
                return
        problem = f"{self._failed} of {self._count} attempts failed." if self._failed else None
        self._tracing.end(self.span, {}, problem=problem, at_ns=at_ns)


class Processing:
    """The span of one attempt. Whoever ends it first has ended it.

    Attributes:
        context: where it is the current span.
    """

    def __init__(self, tracing: Tracing, span: Span, call: Call | None) -> None:
        from opentelemetry.trace import set_span_in_context

        self._tracing = tracing
        self._span = span
        self._call = call
        self._over_ns: int | None = None
        self.context = set_span_in_context(span)

    def enter(self) -> Any:
        """Make it, or the call that it is part of, the current span of the running context; return the token of that.

        A context of its own need not be left.
        """
        from opentelemetry import context

        return context.attach(self._call.context if self._call else self.context)

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
        """Return events that the attempt returned, with its context where they have none and have room."""
        return self._tracing.carried(events, self._span)

    def over(self) -> bool:
        """Note that it is over now, for whoever ends it later; return whether it had not ended."""
        self._over_ns = time.time_ns()
        return self._tracing.is_open(self._span)

    def ended(self, state: str, reason: str, error: BaseException | None) -> None:
        """End it, unless it has ended.

        Args:
            state: of the outcome; empty where there is none, because the handler was not called.
            error: what the handler raised.
        """
        failed = state in _FAILED
        told = {"eventbus.outcome": state or HANDED_BACK}
        if failed:
            told["error.type"] = state if error is None else type(error).__qualname__
        self._end(told, reason if failed else None, error)

    def lost(self) -> None:
        """End it, unless it has ended, as one of which nothing comes here."""
        self._end(_LOST, _VOID)

    def _end(self, told: dict[str, str], problem: str | None, error: BaseException | None = None) -> None:
        ended = self._tracing.end(self._span, told, problem=problem, error=error, at_ns=self._over_ns)
        if ended and self._call is not None:
            self._call.ended(failed=problem is not None, at_ns=self._over_ns)
