"""The event: an immutable, past-tense fact, validated once, where it enters.

How it is carried over the wire is `events.encoding`'s affair; what it becomes once it has a place in history
is `events.records.RecordedEvent`.
"""

from __future__ import annotations

import json
import math
import os
import re
import sys
import time
from datetime import UTC, datetime
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, field_validator, model_validator
from pydantic_core import to_json

from events.context import handling
from events.errors import InvalidEvent
from events.shown import shown
from events.types import EventType, TypeName, is_well_formed, named

MAX_NAME_CHARS = 200
MAX_DEPTH = 100
MAX_PRIORITY = 9
_STRICT = json.JSONEncoder(allow_nan=False, ensure_ascii=False)  # made anew by each call it would take half its time


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
        payload: a JSON object, or a pydantic model, of which it becomes the JSON. Numbers must be finite; text may
            hold any character but U+0000.
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
        if isinstance(fields.get("payload"), BaseModel):
            fields["payload"] = _as_json(fields["payload"])
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
            return in_utc(value)
        except OverflowError:
            raise ValueError(f"must be a moment that UTC can tell, not {value.isoformat()}") from None

    @field_validator("payload", "metadata")
    @classmethod
    def _strict_json(cls, value: dict[str, JsonValue]) -> dict[str, JsonValue]:
        if not value or _is_ordinary(value):
            return value
        try:
            text = _STRICT.encode(value)
            text.encode()
        except UnicodeEncodeError:
            raise ValueError("must be text that UTF-8 can encode, but has a lone surrogate") from None
        except RecursionError:
            raise ValueError("is nested too deeply; put deep structures behind blackboard_pointer") from None
        except ValueError as error:
            raise ValueError(f"must be JSON that every reader accepts (finite numbers): {error}") from None
        if "\\u0000" in text and _has_nul(value):
            raise ValueError("must not contain the character U+0000, which PostgreSQL cannot store")
        if depth_of(value) > MAX_DEPTH:
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
        payload: dict[str, Any] | BaseModel | None = None,
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


def _as_json(model: BaseModel) -> Any:
    """Return what a model's own validation takes again, defaults included."""
    return model.model_dump(mode="json", by_alias=True, round_trip=True)


def _is_priority(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -MAX_PRIORITY <= value <= MAX_PRIORITY


def in_utc(moment: datetime) -> datetime:
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
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        return float(value)
    except OverflowError:  # only in what was written by hand: a whole number of over 300 digits
        return math.copysign(math.inf, value > 0 or -1)


def _is_ordinary(value: dict[str, JsonValue]) -> bool:
    """Whether it is surely JSON that every reader accepts; what may not be is looked at closely, which takes longer."""
    try:
        text = to_json(value, inf_nan_mode="constants")
    except ValueError:
        return False
    return (
        b"\\u0000" not in text
        and b"NaN" not in text
        and b"Infinity" not in text
        and not _has_too_many_digits(text)
        and (text.count(b"{") + text.count(b"[") <= MAX_DEPTH or depth_of(value) <= MAX_DEPTH)
    )


def _has_too_many_digits(text: bytes) -> bool:
    """Whether digits follow each other that are more than Python reads as one number."""
    most = sys.get_int_max_str_digits()  # 0 where it reads all
    return 0 < most < len(text) and re.search(rb"(?<!\d)\d{%d}" % (most + 1), text) is not None


def _has_nul(value: JsonValue) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, list):
        return any(map(_has_nul, value))
    if isinstance(value, dict):
        return any(_has_nul(key) or _has_nul(item) for key, item in value.items())
    return False


def depth_of(value: JsonValue) -> int:
    """Return how many objects and arrays are within each other; 0 of anything else.

    Raises:
        RecursionError: many more than an event may have.
    """
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth_of, value), default=0)
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
            message = f"must be{message.removeprefix('Input should be')}, not {shown(problem['input'], 120)}"
        sentences.setdefault(name, f"{name} {message}.".strip())
    return list(sentences.values())
