"""The event: an immutable, past-tense fact, validated once, where it enters.

`Event(...)` validates; `encode` and `decode` carry it over the wire as JSON. `decode` trusts the
values that a publisher validated and checks only their shapes. What an event becomes once it has
a place in history is `events.records.RecordedEvent`.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from datetime import UTC, datetime
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, field_validator, model_validator
from pydantic_core import from_json

from events.context import handling
from events.errors import EventTooLarge, InvalidEvent, MalformedEntry
from events.types import EventType, TypeName, is_well_formed, named

MAX_NAME_CHARS = 200
MAX_DEPTH = 100
MAX_PRIORITY = 9


def new_event_id() -> str:
    """Return `EV-` and 32 hexadecimal digits: 48 bits of Unix milliseconds, then 80 random bits.

    Ids sort by the time they were made. Source: the layout of UUIDv7, RFC 9562, without its
    version bits.
    """
    return f"EV-{time.time_ns() // 1_000_000:012x}{os.urandom(10).hex()}"


def _default_project() -> str:
    current = handling.get()
    return current.event.project_id if current else ""


def _default_actor() -> str:
    current = handling.get()
    return current.subscriber if current else ""


def _default_cause() -> str | None:
    current = handling.get()
    return current.event.event_id if current else None


def _default_correlation() -> str | None:
    current = handling.get()
    return current.event.correlation_id if current else None


class Event(BaseModel):
    """One fact in a project's life.

    Inside a handler `project_id`, `actor`, `causation_id` and `correlation_id` default to the
    event being handled and the subscriber that handles it.

    Args:
        project_id: the project, 1 to 200 characters.
        type: an `EventType`, a member of any `StrEnum`, or a well-formed name.
        actor: who did it, 1 to 200 characters.
        event_id: unique; publishing the same event twice stores and delivers it once.
        causation_id: the event that directly caused this one.
        correlation_id: the root of everything one event set off; filled at publish.
        timestamp: when it happened, aware; a naive one is read as UTC.
        payload: a JSON object. Numbers must be finite; text may hold any character but U+0000.
        blackboard_pointer: where larger state lives, if it does.
        metadata: a JSON object; `cost` and `latency_ms`, when given, are numbers of at least 0, `priority`
            a whole number from -9 to 9: while events wait, the higher goes first (0 unless given).

    Raises:
        InvalidEvent: with one sentence for each bad field.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    event_id: str = Field(default_factory=new_event_id)
    project_id: str = Field(default_factory=_default_project, validate_default=True)
    type: EventType | TypeName
    actor: str = Field(default_factory=_default_actor, validate_default=True)
    causation_id: str | None = Field(default_factory=_default_cause)
    correlation_id: str | None = Field(default_factory=_default_correlation)
    timestamp: datetime = Field(default_factory=lambda: datetime.now(UTC))
    payload: dict[str, JsonValue] = Field(default_factory=dict)
    blackboard_pointer: str | None = None
    metadata: dict[str, JsonValue] = Field(default_factory=dict)

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise InvalidEvent(_sentences(error)) from None

    @field_validator("type", mode="plain")
    @classmethod
    def _a_type(cls, value: Any) -> EventType | TypeName:
        if not isinstance(value, str):
            raise ValueError(f"must be a string or a member of a StrEnum, not {type(value).__name__}")
        name = value.value if isinstance(value, (EventType, TypeName)) else str(getattr(value, "value", value))
        if not is_well_formed(name):
            raise ValueError(
                f"must be a letter followed by at most 99 of the characters A-Z a-z 0-9 _ . : -, not {name[:120]!r}"
            )
        return named(name)

    @field_validator("event_id", "project_id", "actor", "causation_id", "correlation_id", "blackboard_pointer")
    @classmethod
    def _a_name(cls, value: str | None) -> str | None:
        if value is not None:
            _check_name(value)
        return value

    @field_validator("timestamp", mode="after")
    @classmethod
    def _aware(cls, value: datetime) -> datetime:
        try:
            return _in_utc(value)
        except OverflowError:
            raise ValueError(f"must be a moment that UTC can tell, not {value.isoformat()}") from None

    @field_validator("payload", "metadata")
    @classmethod
    def _strict_json(cls, value: dict[str, JsonValue]) -> dict[str, JsonValue]:
        try:
            text = json.dumps(value, allow_nan=False, ensure_ascii=False)
            text.encode()
        except UnicodeEncodeError:
            raise ValueError("must be text that UTF-8 can encode, but has a lone surrogate") from None
        except RecursionError:
            raise ValueError("is nested too deeply; put deep structures behind blackboard_pointer") from None
        except ValueError as error:
            raise ValueError(f"must be JSON that every reader accepts (finite numbers): {error}") from None
        if "\\u0000" in text and _has_nul(value):
            raise ValueError("must not contain the character U+0000, which PostgreSQL cannot store")
        if _depth(value) > MAX_DEPTH:
            raise ValueError(f"is nested deeper than {MAX_DEPTH} levels; put deep structures behind blackboard_pointer")
        return value

    @model_validator(mode="after")
    def _measured(self) -> Self:
        for name in ("cost", "latency_ms"):
            value = self.metadata.get(name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or value < 0):
                raise ValueError(f"metadata.{name} must be a number of at least 0, not {value!r:.80}")
            if isinstance(value, int | float) and value > 1e12:
                raise ValueError(f"metadata.{name} must be at most 1e12, not {value!r:.80}")
        priority = self.metadata.get("priority")
        if priority is not None and not _is_priority(priority):
            raise ValueError(
                f"metadata.priority must be a whole number from -{MAX_PRIORITY} to {MAX_PRIORITY}, not {priority!r:.80}"
            )
        return self

    @property
    def priority(self) -> int:
        """How urgent its deliveries are while they wait, -9 to 9; the higher goes first, 0 unless given."""
        priority = self.metadata.get("priority")
        return priority if _is_priority(priority) else 0  # type: ignore[return-value]

    @property
    def cost(self) -> float | None:
        """What producing this event cost, in the unit of `metadata.currency` (USD unless given)."""
        return _number(self.metadata.get("cost"))

    @property
    def latency_ms(self) -> float | None:
        """How long producing this event took, in milliseconds."""
        return _number(self.metadata.get("latency_ms"))

    def caused(
        self,
        type: EventType | TypeName | str,
        *,
        actor: str | None = None,
        payload: dict[str, Any] | None = None,
        cost: float | None = None,
        latency_ms: float | None = None,
        blackboard_pointer: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> Event:
        """Make the event that this one caused, in the same project.

        Args:
            actor: who did it; inside a handler the subscriber's name unless given.
            cost: put into `metadata.cost`. latency_ms: put into `metadata.latency_ms`.

        Raises:
            InvalidEvent: as `Event` does.
        """
        measured = dict(metadata or {})
        if cost is not None:
            measured["cost"] = cost
        if latency_ms is not None:
            measured["latency_ms"] = latency_ms
        given: dict[str, Any] = {"actor": actor} if actor is not None else {}
        return Event(
            project_id=self.project_id,
            type=type,
            causation_id=self.event_id,
            correlation_id=self.correlation_id or self.event_id,
            payload=payload or {},
            blackboard_pointer=blackboard_pointer,
            metadata=measured,
            **given,
        )


def _is_priority(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -MAX_PRIORITY <= value <= MAX_PRIORITY


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
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def encoded(event: Event, max_event_bytes: int) -> bytes:
    """Return the event as `encode` does, if it is not too large.

    Raises:
        EventTooLarge: naming the event's size and the limit, in bytes.
    """
    body = encode(event)
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
        correlation_id: the root that publish found, which the body need not carry.

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
    correlation_id = correlation_id or get("correlation_id")
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
        timestamp = _in_utc(datetime.fromisoformat(fields["timestamp"]))
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
    """Return an event of fields that were valid before; as `model_construct` does, which takes four times as long.

    Args:
        fields: all of them, in their order.
    """
    event = Event.__new__(Event)
    event.__setstate__(
        {
            "__dict__": fields,
            "__pydantic_fields_set__": set(fields),
            "__pydantic_extra__": None,
            "__pydantic_private__": None,
        }
    )
    return event


def digest(event: Event) -> str:
    """Return 32 hexadecimal digits over what the event says.

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
    text = json.dumps(said, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


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
    except (ValueError, RecursionError) as error:
        raise MalformedEntry(f"The body is not JSON ({_shown(error)}).") from None
    return fields


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_STRICT = json.JSONDecoder(parse_constant=_refuse_constant)


def _shown(error: Exception) -> str:
    """Say why bytes are not JSON, without the bytes: a UnicodeEncodeError quotes none either."""
    return "a lone surrogate" if isinstance(error, UnicodeEncodeError) else str(error)


def _in_utc(moment: datetime) -> datetime:
    if moment.tzinfo is UTC:
        return moment
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _check_name(value: str) -> None:
    if not value:
        raise ValueError("must not be empty")
    if len(value) > MAX_NAME_CHARS:
        raise ValueError(f"must have at most {MAX_NAME_CHARS} characters, not {len(value)}")
    if not value.isprintable():
        raise ValueError(f"must hold printable characters only, not {value[:120]!r}")


def _number(value: JsonValue) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _has_nul(value: JsonValue) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, list):
        return any(map(_has_nul, value))
    if isinstance(value, dict):
        return any(_has_nul(key) or _has_nul(item) for key, item in value.items())
    return False


def _depth(value: JsonValue) -> int:
    if isinstance(value, dict):
        return 1 + max(map(_depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(_depth, value), default=0)
    return 0


def _sentences(error: ValidationError) -> list[str]:
    """One sentence per bad field; a field with several faults is named once."""
    sentences: dict[str, str] = {}
    for problem in error.errors(include_url=False, include_context=False):
        name = str(problem["loc"][0]) if problem["loc"] else ""
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            message = f"is not a field of an event; the fields are {', '.join(Event.model_fields)}"
        elif problem["type"] == "missing":
            message = "is missing"
        elif problem["type"] in ("recursion_loop", "recursion_depth_exceeded"):
            message = (
                f"is nested deeper than {MAX_DEPTH} levels, or contains itself; "
                "put deep structures behind blackboard_pointer"
            )
        elif name in ("payload", "metadata") and not isinstance(problem["input"], dict) and len(problem["loc"]) == 1:
            message = f"must be a JSON object, not {type(problem['input']).__name__}"
        elif problem["type"] == "invalid-json-value" or len(problem["loc"]) > 1:
            path = ".".join(str(part) for part in problem["loc"][1:] if part not in ("dict", "list", "[key]"))
            message = (
                "must be JSON (objects with string keys, arrays, strings, numbers, true, false, null), "
                f"but {path[:80]!r} is {type(problem['input']).__name__}"
            )
        elif message.startswith("Input should be"):
            message = f"must be{message.removeprefix('Input should be')}, not {problem['input']!r:.120}"
        sentences.setdefault(name, f"{name} {message}.".strip())
    return list(sentences.values())
