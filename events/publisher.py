"""Publishing, now or later: events in, positions or refusals out, one script call for many.

Invariant: an event is in history, under its id, and in the queue of each subscriber of its type,
or in none of these. Publishing again after any error is safe: the id makes it idempotent.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from events.connection import Sent, mapped, send
from events.due import Due, Scheduled, moment
from events.encoding import digest, encoded
from events.errors import (
    EventBusError,
    EventIdConflict,
    HistoryReset,
    InvalidEvent,
    PublishRefused,
    RedisUnavailable,
    ScriptFailed,
    TooManyRoutes,
)
from events.event import Event
from events.namespace import Namespace
from events.schemas import Schemas
from events.scripts import Argument

MAX_BATCH_EVENTS = 500
MAX_BATCH_BYTES = 4_000_000


@dataclass(frozen=True, slots=True)
class Receipt:
    """An acknowledged publish.

    Attributes:
        event_id: the event's id.
        position: its place in history.
        is_new: False when history had it already; nothing was delivered again.
    """

    event_id: str
    position: int
    is_new: bool


Answer = Receipt | Scheduled | EventBusError


Request = tuple[int, Event, list[Argument]]
"""An event's number among those that were submitted, the event, and the arguments by which a script publishes it."""


@dataclass(slots=True)
class Call:
    """Events that one script call takes; `size` is the bytes of their bodies."""

    script: str
    origin: str
    requests: list[Request] = field(default_factory=list)
    size: int = 0

    def arguments(self) -> list[Argument]:
        """Return the arguments of all its events."""
        return [argument for _, _, arguments in self.requests for argument in arguments]


@dataclass(slots=True)
class Prepared:
    """Events on their way: their answers so far, and the call that is to be made for the rest, if it is one."""

    answers: list[Answer | None]
    call: Call | None = None

    def result(self) -> list[Answer]:
        """Return the answers, when all calls are made."""
        return [answer for answer in self.answers if answer is not None]


class Publisher:
    """Publishes into one namespace. Threads may share it.

    Args:
        namespace: where to.
        max_event_bytes: largest encoded event. max_routes: most subscribers of one type.
        resend_s: seconds for which a publish whose reply was lost is sent again.
        schemas: what payloads are held against; nothing unless given.
    """

    def __init__(
        self,
        namespace: Namespace,
        max_event_bytes: int,
        max_routes: int,
        resend_s: float = 2.0,
        schemas: Schemas | None = None,
    ) -> None:
        self._namespace = namespace
        self._max_event_bytes = max_event_bytes
        self._max_routes = max_routes
        self._resend_s = resend_s
        self._schemas = schemas or Schemas()

    def publish_many(
        self, events: Sequence[Event], origin: str = "publish", dues: Sequence[Due] | None = None
    ) -> list[Answer]:
        """Publish events in their order, or schedule them; each is answered by itself.

        Args:
            origin: `publish`, or the name of the delivery whose handler publishes.
            dues: when each is to be published; all at once without. One that is due is published.

        Returns:
            A receipt (or that it is scheduled) or the reason of refusal per event, in the same order. A
            server that cannot be reached is the answer of every event of the batch it failed for: those
            may have arrived.
        """
        prepared = Prepared([None] * len(events))
        under_way: tuple[Call, Sent | None] | None = None
        try:
            for call in self._calls(prepared, events, origin, dues):
                before, under_way = under_way, None
                if before:
                    self._finish(prepared, *before)
                under_way = call, self._begin(call)  # Redis works on it while the next one is encoded
            before, under_way = under_way, None
            if before:
                self._finish(prepared, *before)
        finally:
            if under_way and under_way[1]:
                under_way[1].give_up()
        return prepared.result()

    def prepare(
        self, events: Sequence[Event], origin: str = "publish", dues: Sequence[Due] | None = None
    ) -> Prepared | None:
        """Encode events that one script call takes; None when they take several, without encoding the others.

        Returns:
            Them, without a call when each was refused.
        """
        prepared = Prepared([None] * len(events))
        prepared.call = next(self._calls(prepared, events, origin, dues), None)
        taken = len(prepared.call.requests) if prepared.call else 0
        return prepared if taken == prepared.answers.count(None) else None

    def _calls(
        self, prepared: Prepared, events: Sequence[Event], origin: str, dues: Sequence[Due] | None
    ) -> Iterator[Call]:
        script = "schedule" if dues else "publish"
        call = Call(script, origin)
        for number, event in enumerate(events):
            try:
                arguments = _sendable(event, self._max_event_bytes, self._schemas)
            except InvalidEvent as error:
                prepared.answers[number] = error
                continue
            size = len(arguments[-1])  # type: ignore[arg-type]
            if call.requests and (len(call.requests) == MAX_BATCH_EVENTS or call.size + size > MAX_BATCH_BYTES):
                yield call
                call = Call(script, origin)
            call.requests.append((number, event, [dues[number].text, *arguments] if dues else arguments))
            call.size += size
        if call.requests:
            yield call

    def command(self, call: Call) -> tuple[Argument, ...]:
        """Return a call as a command for whoever has a connection; the namespace is open."""
        return self._namespace.command(call.script, self._max_routes, call.origin, *call.arguments())

    def is_ready(self) -> bool:
        """Whether the namespace is open, as far as this process knows."""
        return self._namespace.is_open

    def read(self, prepared: Prepared, call: Call, replies: Sequence[bytes]) -> list[Request]:
        """Note what a call's replies say of its events; return those that are to be sent again."""
        later = []
        for request, reply in zip(call.requests, replies, strict=True):
            if reply == b"LATER":
                later.append(request)
            else:
                number, event, _ = request
                prepared.answers[number] = _answer(event, reply, self._max_routes)
        return later

    def _begin(self, call: Call) -> Sent | None:
        """Send a call whose replies are taken later; None when it has to be sent otherwise."""
        if not self.is_ready():
            return None
        client = self._namespace.client
        with suppress(RedisUnavailable, ScriptFailed), mapped(client):  # the latter where connecting is refused
            return send(client, *self.command(call))
        return None

    def _finish(self, prepared: Prepared, call: Call, sent: Sent | None = None) -> None:
        try:
            later = self.read(prepared, call, self._replies(call, sent))
        except EventBusError as error:
            for number, _, _ in call.requests:
                prepared.answers[number] = error
            return
        if later:
            self._finish(prepared, Call(call.script, call.origin, later))

    def _replies(self, call: Call, sent: Sent | None) -> list[bytes]:
        """Return a call's replies; it is sent, and again when they are lost, which is harmless."""
        deadline = time.monotonic() + self._resend_s
        pause = 0.02
        while True:
            try:
                replies = self._taken(sent) if sent else None
                if isinstance(replies, list):
                    return replies
                replies = self._namespace.call(call.script, self._max_routes, call.origin, *call.arguments())
                return list(replies)
            except HistoryReset:
                raise
            except RedisUnavailable as error:
                if time.monotonic() + pause > deadline:
                    raise RedisUnavailable(f"{error} Publishing again after this error is safe.") from None
            sent = None
            time.sleep(pause)
            pause = min(pause * 2, 0.5)

    def _taken(self, sent: Sent) -> Any:
        """Return what Redis replied; nothing where it refused, because it did not know the script or is full."""
        with suppress(ScriptFailed), mapped(self._namespace.client):
            return sent.reply()


def order_key_of(event: Event) -> str:
    """Return what orders the event for subscribers with `ordering="order_key"`; empty where it names nothing."""
    order_key = event.metadata.get("order_key")
    return "" if order_key is None else str(order_key).replace("\t", " ").replace("\n", " ")


def event_arguments(event: Event, max_event_bytes: int, *, is_derived: bool = False) -> list[Argument]:
    """Return the 9 arguments by which a script publishes the event; the last is its body.

    Args:
        is_derived: for `settle`: no other work than this delivery's makes this id, whatever the content.

    Raises:
        EventTooLarge: naming the event's size and the limit, in bytes.
    """
    body = encoded(event, max_event_bytes)
    return [
        event.event_id,
        f"~{digest(event)}" if is_derived else digest(event),
        event.type.value,
        event.causation_id or "",
        event.correlation_id or "",
        event.project_id,
        order_key_of(event),
        str(event.priority),
        body,
    ]


def _sendable(event: Event, max_event_bytes: int, schemas: Schemas) -> list[Argument]:
    """Return what `event_arguments` does of the event as it is to be published, of which a call can be made.

    Raises:
        InvalidEvent: whatever is wrong with the event, which so fails alone; `EventTooLarge` as there.
    """
    try:
        arguments = event_arguments(schemas.checked(event), max_event_bytes)
        "".join(arguments[:-1])  # type: ignore[arg-type]  # one that is no text would fail the whole call
    except InvalidEvent:
        raise
    except Exception as error:
        raise InvalidEvent([f"It was changed after it was made, and cannot be encoded: {error}."]) from error
    return arguments


def _answer(event: Event, reply: bytes, max_routes: int) -> Answer:
    refused = refusal(reply, max_routes)
    if refused:
        return refused
    if reply.startswith(b"scheduled\t"):
        _, due, new = reply.split(b"\t")
        return Scheduled(event.event_id, moment(int(due)), new == b"1")
    position, _, new = reply.partition(b"\t")
    return Receipt(event.event_id, int(position), new == b"1")


def refusal(reply: bytes, max_routes: int) -> EventBusError | None:
    """Turn a script's refusal into its error; None when the reply is not one."""
    word, *rest = reply.decode().split("\t")
    if word == "CONFLICT":
        elsewhere = {"0": " in the same batch", "scheduled": " that is scheduled"}
        at = elsewhere.get(rest[1], f" (at position {rest[1]})")
        return EventIdConflict(
            f"The event id {rest[0]!r} is taken by an event with another content{at}. Nothing was published: "
            "give the new event an id of its own."
        )
    if word == "ROUTES":
        return TooManyRoutes(
            f"The type {rest[0]!r} has {rest[1]} subscribers, over the limit of {max_routes} (EVENTBUS_MAX_ROUTES). "
            "Nothing was published: let one subscriber pass the event on, or raise the limit."
        )
    if word == "JOINS":
        return PublishRefused(
            f"An event of the type {rest[0]!r} would be in {rest[1]} open joins at once, over the limit of {rest[2]}: "
            "joins around joins, as when what is joined begins anew again and again. Nothing was published: publish "
            "it without a cause in them, or let fewer types begin a join."
        )
    if word == "DELIVERIES":
        return PublishRefused(
            f"The returned events make {rest[0]} deliveries, over the limit of {rest[1]} for one handler. "
            "Nothing was published: return fewer events, or publish them in several steps."
        )
    return None
