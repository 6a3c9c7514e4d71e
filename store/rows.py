"""Turns records into rows and rows into records, and finds the values that no database may hold.

A row that is not storable is found here first, so that SQLite and PostgreSQL agree about it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from pydantic_core import to_json
from sqlalchemy import ColumnElement, RowMapping, Text, cast
from sqlalchemy.sql.base import ReadOnlyColumnCollection

from events.encoding import constructed
from events.event import MAX_NAME_CHARS, Event
from events.records import OPEN, Outcome, RecordedEvent, Rejected
from events.types import named
from store.tables import events, read_json

RAW_CHARS = 65_536
REDACTED = "[redacted]"
_BIGGEST = 2**63 - 1
_BIGGEST_INTEGER = 2**31 - 1
# U+0000 in JSON text: the escape, not preceded by an odd number of backslashes.
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
# Numbers that jsonb does not give back as they were written: with an exponent, and minus zero. Two patterns, because
# one of both takes several times as long to find nothing.
_EXPONENT = re.compile(r"[0-9][eE][-+0-9]")
_MINUS_ZERO = re.compile(r"-0(?:\.0*)?(?![.0-9])")
_JSON = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def recorded_columns(of: ReadOnlyColumnCollection[str, Any]) -> tuple[ColumnElement[Any], ...]:
    """Return what an event is made of, of columns with the names of `events`, in the order in which `recorded` takes
    them: JSON as text, which is read where it becomes part of an event, and tells before how large that is."""
    return (
        of.position, of.depth, cast(of.deliveries, Text), of.origin, of.exact, of.event_id, of.project_id, of.type,
        of.actor, of.causation_id, of.correlation_id, of.timestamp, of.blackboard_pointer, cast(of.payload, Text),
        cast(of.metadata, Text),
    )  # fmt: skip


RECORDED = recorded_columns(events.c)
_NAMES = ("event_id", "project_id", "type", "actor", "causation_id", "correlation_id", "blackboard_pointer")


class Unstorable(ValueError):
    """A record holds a value that the store cannot keep; the sentence says which."""


def event_row(namespace: str, recorded: RecordedEvent, *, is_read: bool = False) -> dict[str, Any]:
    """Return the event as a row of `events`.

    Args:
        is_read: it was read from its encoded form, which holds no value that JSON has not: it takes less to write.

    Raises:
        Unstorable: a name too long, a number out of range, U+0000, a lone surrogate, NaN.
    """
    event, written = recorded.event, _quick_json_text if is_read else json_text
    try:
        cost_micros, currency, latency_us = measures_of(event)
        row: dict[str, Any] = {
            "namespace": namespace,
            "position": _whole("position", recorded.position),
            "event_id": event.event_id,
            "project_id": event.project_id,
            "type": event.type.value,
            "actor": event.actor,
            "causation_id": event.causation_id,
            "correlation_id": event.correlation_id or event.event_id,
            "depth": _whole("depth", recorded.depth, _BIGGEST_INTEGER),
            "timestamp": event.timestamp if event.timestamp.tzinfo is UTC else event.timestamp.astimezone(UTC),
            "payload": written("payload", event.payload),
            "blackboard_pointer": event.blackboard_pointer,
            "metadata": written("metadata", event.metadata),
            "cost_micros": cost_micros,
            "currency": currency,
            "latency_us": latency_us,
            "origin": recorded.origin,
            "deliveries": _names_text(recorded.deliveries),
        }
        row["exact"] = exact_of(row["payload"], row["metadata"])
    except OverflowError as error:
        raise Unstorable(f"Its timestamp cannot be told in UTC: {error}.") from None
    _check_names(row)
    _check_text("origin", recorded.origin)
    return row


def measures_of(event: Event) -> tuple[int | None, str | None, int | None]:
    """Return an event's cost in millionths, the cost's currency, and its latency in microseconds.

    Raises:
        Unstorable: a number out of range.
    """
    if not event.metadata:
        return None, None, None
    cost_micros = _scaled("metadata.cost", event.cost, 1_000_000)
    return cost_micros, _currency(event), _scaled("metadata.latency_ms", event.latency_ms, 1000)


def recorded_event(row: RowMapping | Mapping[str, Any]) -> RecordedEvent:
    """Return the event that a row of `events` holds, its JSON parsed."""
    fields = {name: row[name] for name in Event.model_fields}
    fields["type"] = named(row["type"])
    if row["exact"] is not None:
        fields |= read_json(row["exact"])
    return RecordedEvent(row["position"], constructed(fields), row["depth"], tuple(row["deliveries"]), row["origin"])


def recorded(
    position: int,
    depth: int,
    deliveries: str,
    origin: str,
    exact: str | None,
    event_id: str,
    project_id: str,
    kind: str,
    actor: str,
    causation_id: str | None,
    correlation_id: str,
    timestamp: datetime,
    blackboard_pointer: str | None,
    payload: str,
    metadata: str,
) -> RecordedEvent:
    """Return the event of which these are the columns `RECORDED`."""
    fields = {
        "event_id": event_id,
        "project_id": project_id,
        "type": named(kind),
        "actor": actor,
        "causation_id": causation_id,
        "correlation_id": correlation_id,
        "timestamp": timestamp,
        "payload": read_json(payload),
        "blackboard_pointer": blackboard_pointer,
        "metadata": read_json(metadata),
    }
    if exact is not None:
        fields |= read_json(exact)
    return RecordedEvent(position, constructed(fields), depth, tuple(read_json(deliveries)), origin)


def size_of_row(row: Sequence[Any]) -> int:
    """Return how many bytes the payload and metadata have of which `RECORDED` are a row."""
    payload, metadata = row[-2:]
    return len(payload.encode()) + len(metadata.encode())


def outcome_row(namespace: str, outcome: Outcome) -> dict[str, Any]:
    """Return the outcome as a row of `outcomes`.

    Text that describes (worker, error) is repaired rather than refused: a handler's error must not
    cost the record of its attempt.

    Raises:
        Unstorable: a name or number that cannot be kept.
    """
    _check_name("subscriber", outcome.subscriber)
    _whole("letter", outcome.letter)
    return {
        "namespace": namespace,
        "position": _whole("position", outcome.position),
        "event_position": _whole("event_position", outcome.event_position),
        "subscriber": outcome.subscriber,
        "redelivery": _whole("redelivery", outcome.redelivery, _BIGGEST_INTEGER),
        "attempt": _whole("attempt", outcome.attempt, _BIGGEST_INTEGER),
        "state": str(outcome.state),
        "worker": printable(outcome.worker),
        "elapsed_us": _whole("elapsed_us", outcome.elapsed_us),
        "error": printable(outcome.error),
    }


def dead_letter_row(namespace: str, outcome: Outcome) -> dict[str, Any]:
    """Return the dead letter that an outcome makes as a row of `dead_letters`; texts are repaired as in `outcome_row`.

    Raises:
        Unstorable: a name or number that cannot be kept.
    """
    attempt = outcome_row(namespace, outcome)
    kept = {name: attempt[name] for name in ("namespace", "event_position", "subscriber", "redelivery", "worker")}
    return kept | {
        "position": outcome.letter,
        "attempts": attempt["attempt"],
        "reason": attempt["error"],
        "traceback": printable(outcome.traceback),
        "output": printable(outcome.output),
        "raw": printable(outcome.raw[:RAW_CHARS]),
        "resolution": OPEN,
    }


def rejected_row(namespace: str, stream: str, rejected: Rejected) -> dict[str, Any]:
    """Return the entry as a row of `rejected`; any text can be kept."""
    return {
        "namespace": namespace,
        "stream": stream,
        "entry_id": printable(rejected.entry_id)[:MAX_NAME_CHARS],
        "reason": printable(rejected.reason),
        "raw": printable(rejected.raw[:RAW_CHARS]),
    }


def rejection(record: RecordedEvent | Outcome, reason: str, *, is_redacted: bool = False) -> Rejected:
    """Set a record aside, with as much of it as can be shown; nothing of an event's that is redacted."""
    if is_redacted:
        return Rejected(f"{record.position}-0", reason, REDACTED)
    if isinstance(record, Outcome):
        return Rejected(f"{record.position}-0", reason, repr(record)[:RAW_CHARS])
    fields = record.event.model_dump(mode="python", warnings=False)
    fields["type"] = record.event.type.value
    raw = json.dumps(fields, default=str, ensure_ascii=True)
    return Rejected(f"{record.position}-0", reason, raw[:RAW_CHARS])


def json_text(name: str, value: Any) -> str:
    """Return JSON that every reader accepts.

    Raises:
        Unstorable: NaN, infinity, U+0000, a lone surrogate, or nested too deeply.
    """
    try:
        text = _JSON.encode(value)
    except (ValueError, TypeError, RecursionError) as error:
        raise Unstorable(f"Its {name} is not JSON that a database can keep: {error}.") from None
    if "\\u0000" in text and _NUL.search(text):
        raise Unstorable(f"Its {name} holds the character U+0000, which a database cannot keep.")
    _check_text(name, text)
    return text


def _quick_json_text(name: str, value: dict[str, Any]) -> str:
    """Return what `json_text` does, numbers perhaps written otherwise, in a fifth of its time.

    Of what was read from JSON: it would also write what is none, and numbers that nobody reads again.
    """
    if not value:
        return "{}"
    try:
        text = to_json(value, inf_nan_mode="constants").decode()
    except ValueError:  # a lone surrogate, nested deeper than it goes, no JSON at all
        return json_text(name, value)
    if "\\u0000" in text or "NaN" in text or "Infinity" in text:
        return json_text(name, value)
    return text


@lru_cache(maxsize=256)
def _names_text(subscribers: tuple[str, ...]) -> str:
    """Return the JSON list of an event's deliveries; most events have the same few."""
    for subscriber in subscribers:
        _check_name("deliveries", subscriber)
    return json_text("deliveries", subscribers)


def printable(text: str) -> str:
    """Return text that any database can keep: U+0000 and lone surrogates become U+FFFD."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode() if not is_storable(text) else text


def inexact(text: str) -> bool:
    """Tell whether JSON may hold a number that jsonb would not give back as it was written."""
    return _EXPONENT.search(text) is not None or ("-0" in text and _MINUS_ZERO.search(text) is not None)


def exact_of(payload: str, metadata: str) -> str | None:
    """Return both texts in one, when jsonb would change a number in either."""
    if inexact(payload) or inexact(metadata):
        return f'{{"payload":{payload},"metadata":{metadata}}}'
    return None


def is_storable(text: object) -> bool:
    """Tell whether it is a text that a database can keep: it holds neither U+0000 nor a lone surrogate."""
    if not isinstance(text, str) or "\0" in text:
        return False
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_names(row: Mapping[str, Any]) -> None:
    """Check the names in a row: together, which is enough for nearly all, and else one by one."""
    together = "".join([row[name] or "" for name in _NAMES])
    if len(together) <= MAX_NAME_CHARS and together.isascii() and "\0" not in together:
        return
    for name in _NAMES:
        _check_name(name, row[name])


def _check_name(name: str, value: str | None) -> None:
    if value is None:
        return
    if len(value) > MAX_NAME_CHARS:
        raise Unstorable(f"Its {name} has {len(value)} characters; a name has at most {MAX_NAME_CHARS}.")
    _check_text(name, value)


def _check_text(name: str, value: str) -> None:
    if not is_storable(value):
        raise Unstorable(f"Its {name} holds U+0000 or a lone surrogate, which a database cannot keep.")


def _whole(name: str, value: int, biggest: int = _BIGGEST) -> int:
    if not 0 <= value <= biggest:
        told = f"{value:.6e}" if abs(value) < 1e300 else "of over 300 digits"  # a float cannot tell it
        raise Unstorable(f"Its {name} is {told}; it must be from 0 to {biggest}.")
    return value


def _scaled(name: str, value: float | None, scale: int) -> int | None:
    """Return a measure in its integer unit; one beyond the contract's bounds is refused, not bent."""
    if value is None:
        return None
    if not 0 <= value <= 1e12:
        raise Unstorable(f"Its {name} is {value!r:.40}; it must be from 0 to 1e12.")
    return round(value * scale)


def _currency(event: Event) -> str | None:
    currency = event.metadata.get("currency")
    return currency[:MAX_NAME_CHARS] if event.cost is not None and isinstance(currency, str) else None
