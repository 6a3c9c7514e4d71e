"""Publishing over HTTP: one event or many, as events of ours or as CloudEvents. The id makes it idempotent."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue
from starlette.responses import Response

from console.exits import Mistake
from console.options import moment, span
from console.web.access import Role
from console.web.operations import JSON, Answer, Asked, Operation, json_response
from console.web.problems import problem_object, refused
from console.web.shapes import BatchAnswer, CloudEvent, NewEvent, Planned, Published
from events import cloudevents
from events.due import Scheduled
from events.errors import EventBusError
from events.event import Event
from events.publisher import Answer as PublishAnswer
from events.trace_context import adopted

MAX_BATCH = 10_000
# What reading an event adds to its own fields.
_OF_ITS_PLACE = ("position", "depth", "deliveries", "origin")


class When(BaseModel):
    """When to publish."""

    model_config = ConfigDict(extra="forbid")

    delay: str | None = Field(None, description="Publish it later: a span like 90s, 15m, 24h, 7d.")
    at: str | None = Field(None, description="Publish it at this moment: ISO 8601, UTC unless it says otherwise.")
    durable: bool = Field(False, description="Answer when it is on the disk of Redis too.")


async def publish(asked: Asked) -> Response:
    """Publish the event of the body."""
    event = adopted(await _one(asked), asked.request.headers)
    (answer,) = await _published(asked, [event])
    if isinstance(answer, EventBusError):
        raise answer
    return _response(answer)


async def publish_batch(asked: Asked) -> dict[str, Any]:
    """Publish the events of the body in their order; each is answered by itself."""
    answers: list[dict[str, Any]] = []
    events: list[Event] = []
    places: list[int] = []
    for number, item in enumerate(await _many(asked)):
        try:
            event = _event(item) if not _is_cloudevents(asked) else cloudevents.from_structured(item)
            events.append(adopted(event, asked.request.headers))
            places.append(number)
            answers.append({})
        except (EventBusError, Mistake) as error:
            answers.append({"event_id": _id_of(item), "error": problem_object(error)})
    for number, sent, answer in zip(places, events, await _published(asked, events), strict=True):
        if isinstance(answer, EventBusError):
            answers[number] = {"event_id": sent.event_id, "error": problem_object(answer)}
        else:
            answers[number] = _object(answer)
    return {
        "answers": answers,
        "published": sum(one.get("is_new") is True for one in answers),
        "known": sum(one.get("is_new") is False for one in answers),
        "refused": sum("error" in one for one in answers),
    }


async def _published(asked: Asked, events: list[Event]) -> list[PublishAnswer]:
    query = asked.query
    delay, at = span("delay", query.delay), moment("at", query.at, spans=False)
    if not events:
        return []
    answers: list[PublishAnswer] | None = None
    try:
        answers = await asked.house.bus.publish_many(events, delay=delay, at=at, durable=query.durable)
        return answers
    finally:
        asked.house.audit.published(asked.who, asked.request, [event.event_id for event in events], answers)


async def _one(asked: Asked) -> Event:
    media = _media(asked)
    if media == cloudevents.STRUCTURED:
        return cloudevents.from_structured(await asked.json())
    if cloudevents.is_binary(asked.request.headers):
        return cloudevents.from_binary(asked.request.headers, await asked.request.body())
    if media != JSON:
        raise refused(415, f"The body is {media or 'of no type'!r:.80}: send {JSON} or {cloudevents.STRUCTURED}.")
    return _event(await asked.json())


async def _many(asked: Asked) -> list[Any]:
    if _media(asked) not in (JSON, cloudevents.BATCH):
        raise refused(415, f"The body is {_media(asked) or 'of no type'!r:.80}: send {JSON} or {cloudevents.BATCH}.")
    found = await asked.json()
    if not isinstance(found, list):
        raise Mistake(f"The body must be a JSON array of events, not {_kind(found)}.")
    if len(found) > MAX_BATCH:
        raise Mistake(f"The body holds {len(found):,} events: send at most {MAX_BATCH:,} at once.")
    return found


def _is_cloudevents(asked: Asked) -> bool:
    return _media(asked) == cloudevents.BATCH


def _media(asked: Asked) -> str:
    return asked.request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _event(found: Any) -> Event:
    """Return the event that an object describes; what reading one adds is left out, so that it can be sent back."""
    if not isinstance(found, dict):
        raise Mistake(f"An event is a JSON object, not {_kind(found)}.")
    own = {name: value for name, value in found.items() if name not in _OF_ITS_PLACE}
    for name in ("event_id", "timestamp"):
        if own.get(name, "") is None:
            del own[name]
    if "self" in own:
        raise Mistake("It has a field that no event has: 'self'.")
    return Event(**own)


def _id_of(item: Any) -> str | None:
    found = item.get("event_id", item.get("id")) if isinstance(item, dict) else None
    return found[:200] if isinstance(found, str) else None


def _kind(found: Any) -> str:
    names = {dict: "an object", list: "an array", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(found), "a number")


def _object(answer: Any) -> dict[str, Any]:
    if isinstance(answer, Scheduled):
        return {"event_id": answer.event_id, "due": answer.due, "is_new": answer.is_new}
    return {"event_id": answer.event_id, "position": answer.position, "is_new": answer.is_new}


def _response(answer: Any) -> Response:
    status = 202 if isinstance(answer, Scheduled) else 201 if answer.is_new else 200
    return json_response(_object(answer), status)


# In the binary mode the body is the data, of any media type; with `ce-specversion` JSON is data too, and no event.
_BODY: dict[str, Any] = {JSON: NewEvent | JsonValue, cloudevents.STRUCTURED: CloudEvent, "*/*": JsonValue}
_TRACED = {
    "traceparent": "W3C Trace Context: what handles an event that has no `metadata.traceparent` continues this trace.",
    "tracestate": "Goes with `traceparent`.",
}
_HEADERS = _TRACED | {
    "ce-specversion": "`1.0`: the request is a CloudEvent in the binary mode. Its data is the body, of the media type "
    "in `Content-Type`; without a body it has none. Each attribute is a header `ce-` and its name, the value "
    "percent-encoded where it is not printable ASCII.",
    "ce-id": "The event's id.",
    "ce-source": "Its actor.",
    "ce-type": "Its type.",
    "ce-subject": "Its project.",
    "ce-time": "Its timestamp, RFC 3339.",
}
_BATCH_BODY: dict[str, Any] = {JSON: list[NewEvent], cloudevents.BATCH: list[CloudEvent]}

OPERATIONS = (
    Operation(
        method="POST",
        path="/events",
        name="publish_event",
        tag="Publishing",
        summary="Publish an event, or schedule it.",
        about="When it is answered with 200 or 201 the event is in history and in the queue of every subscriber of its "
        "type. Sending it again after any failure is safe: the id makes it idempotent. CloudEvents are taken in the "
        "structured mode by their media type, and in the binary mode by their `ce-` headers.",
        call=publish,
        query=When,
        body=_BODY,
        headers=_HEADERS,
        answers={
            201: Answer("It is published.", Published),
            200: Answer("It was published before; nothing was delivered again.", Published),
            202: Answer("It is scheduled.", Planned),
        },
        refusals=(409, 415, 422),
        needs=Role.OPERATOR,
    ),
    Operation(
        method="POST",
        path="/events/batch",
        name="publish_events",
        tag="Publishing",
        summary="Publish many events in their order.",
        about="Each event is answered by itself: one that is refused keeps none of the others back.",
        call=publish_batch,
        query=When,
        body=_BATCH_BODY,
        answers={200: Answer("What became of each.", BatchAnswer)},
        refusals=(415,),
        needs=Role.OPERATOR,
    ),
)
