"""Events as bytes: how one is written on the wire and read again, and what tells two apart.

What a publisher validated is not validated again where it is read; but whatever the bytes are, what comes of them
is an event or `MalformedEntry`.
"""

from __future__ import annotations

import hashlib
import json
from binascii import b2a_base64
from datetime import datetime
from typing import Any

from pydantic_core import from_json, to_json

from events.errors import EventTooLarge, MalformedEntry
from events.event import MAX_DEPTH, Event, depth_of, in_utc
from events.types import is_well_formed, named


class IfRoom(str):
    """A value of an event's metadata that is left out where the event would be too large with it."""


def encode(event: Event) -> bytes:
    """Return the event as UTF-8 JSON, without fields that are null or empty."""
    body: dict[str, Any] = {
        "event_id": event.event_id,
        "project_id": event.project_id,
        "type": event.type.value,
        "actor": event.actor,
        "timestamp": event.timestamp.isoformat(),
    }
    for name in ("causation_id", "correlation_id", "payload", "blackboard_pointer", "metadata"):
        value = getattr(event, name)
        if value:
            body[name] = value
    return to_json(body)


def encoded(event: Event, max_event_bytes: int) -> bytes:
    """Return the event as `encode` does, if it is not too large; where it is, without what is `IfRoom`.

    Raises:
        EventTooLarge: naming the event's size, without what is `IfRoom`, and the limit, in bytes.
    """
    body = encode(event)
    if len(body) > max_event_bytes:
        body = encode(_without_if_room(event))
    if len(body) > max_event_bytes:
        raise EventTooLarge(
            [
                f"It encodes to {len(body)} bytes, over the limit of {max_event_bytes} (EVENTBUS_MAX_EVENT_BYTES): "
                f"keep large content outside and name it in blackboard_pointer (event {event.event_id})."
            ]
        )
    return body


def decode(body: bytes | str, correlation_id: str | None = None) -> Event:
    """Read an event that `encode` wrote; what its publisher validated is not validated again.

    Args:
        correlation_id: the root that publish found, which the body need not carry; empty where it is the event.

    Raises:
        MalformedEntry: when the bytes are not such an event. The sentence never shows payloads.
    """
    try:
        fields = from_json(body, allow_inf_nan=False)
    except ValueError:
        fields = _slowly(body)
    if not isinstance(fields, dict):
        raise MalformedEntry(f"The body is a JSON {type(fields).__name__}, not an object.")
    get = fields.get
    event_id, project_id, kind, actor = get("event_id"), get("project_id"), get("type"), get("actor")
    payload, metadata = get("payload", {}), get("metadata", {})
    causation_id, pointer = get("causation_id"), get("blackboard_pointer")
    correlation_id = event_id if correlation_id == "" else correlation_id or get("correlation_id")
    if not (
        isinstance(event_id, str)
        and isinstance(project_id, str)
        and isinstance(kind, str)
        and isinstance(actor, str)
        and isinstance(payload, dict)
        and isinstance(metadata, dict)
        and (causation_id is None or isinstance(causation_id, str))
        and (correlation_id is None or isinstance(correlation_id, str))
        and (pointer is None or isinstance(pointer, str))
        and event_id
        and is_well_formed(kind)
    ):
        raise MalformedEntry(
            "The body is JSON but not an event: event_id, project_id, type or actor is missing or wrong."
        )
    try:
        timestamp = in_utc(datetime.fromisoformat(fields["timestamp"]))
    except (KeyError, TypeError, ValueError, OverflowError):
        raise MalformedEntry("The body is JSON but not an event: its timestamp is missing or not ISO 8601.") from None
    return constructed(
        {
            "event_id": event_id,
            "project_id": project_id,
            "type": named(kind),
            "actor": actor,
            "causation_id": causation_id or None,
            "correlation_id": correlation_id or None,
            "timestamp": timestamp,
            "payload": payload,
            "blackboard_pointer": pointer or None,
            "metadata": metadata,
        }
    )


def constructed(fields: dict[str, Any]) -> Event:
    """Return an event of fields that were valid before; as `model_construct` does, which takes several times as long.

    Args:
        fields: all of them, in their order.
    """
    event = Event.__new__(Event)
    _set(event, "__dict__", fields)
    _set(event, "__pydantic_fields_set__", _FIELDS)
    _set(event, "__pydantic_extra__", None)
    _set(event, "__pydantic_private__", None)
    return event


def digest(event: Event) -> str:
    """Return 12 characters over what the event says: base64 of 72 bits.

    Covers project, type, actor, causation, payload and pointer; not the timestamp, correlation or
    metadata, which differ when the same fact is measured or published a second time.
    """
    said = [
        event.project_id,
        event.type.value,
        event.actor,
        event.causation_id,
        event.payload,
        event.blackboard_pointer,
    ]
    bits = hashlib.blake2b(_CANONICAL.encode(said).encode(), digest_size=9).digest()
    return b2a_base64(bits, newline=False).decode()


def _without_if_room(event: Event) -> Event:
    kept = {name: value for name, value in event.metadata.items() if not isinstance(value, IfRoom)}
    return event.model_copy(update={"metadata": kept})


def _slowly(body: bytes | str) -> Any:
    """Read JSON that the quick reader refuses: nested deeper than it goes, or wrong.

    Raises:
        MalformedEntry: saying what is wrong.
    """
    try:
        text = body.decode() if isinstance(body, bytes) else body
        fields = _STRICT.decode(text)
        if "\\ud" in text or "\\uD" in text:  # encode writes no such escapes; half a pair cannot be written again
            json.dumps(fields, ensure_ascii=False).encode()
        depth = depth_of(fields)
    except (ValueError, RecursionError) as error:
        raise MalformedEntry(f"The body is not JSON ({_shown(error)}).") from None
    if depth > MAX_DEPTH + 1:  # no publisher may send it, and what holds it could not be written again
        raise MalformedEntry(f"The body is JSON nested {depth} levels deep; an event has at most {MAX_DEPTH + 1}.")
    return fields


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


# What a digest is taken over: another text would make every event that is published again another one.
_CANONICAL = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"))
_STRICT = json.JSONDecoder(parse_constant=_refuse_constant)
# An event is frozen: this is how pydantic itself sets what it is made of. One set of its fields' names serves all
# events, because nothing adds to it (a copy that is changed gets its own); many an event is smaller than that set.
_set = object.__setattr__
_FIELDS = set(Event.model_fields)


def _shown(error: Exception) -> str:
    """Say why bytes are not JSON, without the bytes: a UnicodeEncodeError quotes none either."""
    return "a lone surrogate" if isinstance(error, UnicodeEncodeError) else str(error)
