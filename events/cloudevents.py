"""CloudEvents 1.0: events of other systems as events of ours, and the other way round.

    id                ->  event_id          subject  ->  project_id (or the extension `projectid`)
    source            ->  actor             time     ->  timestamp
    type              ->  type              data     ->  payload; what is no object lies in it under `data`
    causationid       ->  causation_id      correlationid  ->  correlation_id
    blackboardpointer ->  blackboard_pointer
    any other         ->  metadata, under its name: `cost`, `priority`, `traceparent`, ...; `latencyms` as `latency_ms`,
                          `schemaversion` as `schema_version`

Ids are unique in a namespace here, whatever the source. Source: CloudEvents 1.0.2, its JSON format and HTTP binding.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote, unquote

from events.errors import InvalidEvent
from events.event import Event

STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
_PREFIX = "ce-"
_VERSION = "1.0"
_FIELDS = {
    "id": "event_id", "type": "type", "source": "actor", "subject": "project_id", "time": "timestamp",
    "causationid": "causation_id", "correlationid": "correlation_id", "blackboardpointer": "blackboard_pointer",
}  # fmt: skip
_METADATA = {"latencyms": "latency_ms", "schemaversion": "schema_version"}
_BODY = ("specversion", "datacontenttype", "dataschema", "data", "data_base64", "projectid")
_NUMBERS = ("cost", "latency_ms", "priority", "schema_version")


def from_structured(found: Any) -> Event:
    """Return the event that a CloudEvent in the JSON format is.

    Raises:
        InvalidEvent: it is no CloudEvent of version 1.0, or not an event of ours.
    """
    if not isinstance(found, dict):
        raise InvalidEvent(["A CloudEvent is a JSON object with specversion, id, source, type and subject."])
    attributes = {name: value for name, value in found.items() if name not in ("data", "data_base64")}
    if "data_base64" in found:
        return _event(attributes, {"data_base64": found["data_base64"]})
    return _event(attributes, _payload(found.get("data")))


def is_binary(headers: Mapping[str, str]) -> bool:
    """Tell whether a request is a CloudEvent in the binary mode."""
    return f"{_PREFIX}specversion" in headers


def from_binary(headers: Mapping[str, str], body: bytes) -> Event:
    """Return the event that a CloudEvent in the binary mode is: attributes in headers, data in the body.

    Args:
        headers: with names in lower case.

    Raises:
        InvalidEvent: it is no CloudEvent of version 1.0, or not an event of ours.
    """
    attributes: dict[str, Any] = {}
    for name, value in headers.items():
        if name.startswith(_PREFIX):
            attributes[name.removeprefix(_PREFIX)] = unquote(value)
    media = headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    return _event(attributes, _data(media, body))


def to_structured(event: Event) -> dict[str, Any]:
    """Return an event as a CloudEvent in the JSON format."""
    return {**attributes_of(event), "datacontenttype": "application/json", "data": event.payload}


def to_headers(event: Event) -> dict[str, str]:
    """Return the headers of an event as a CloudEvent in the binary mode; the body is its payload as JSON."""
    return {
        f"{_PREFIX}{name}": quote(str(value), safe=" !#$&'()*+,/:;<=>?@[\\]^_`{|}~") for name, value in
        attributes_of(event).items()
    }  # fmt: skip


def attributes_of(event: Event) -> dict[str, Any]:
    """Return a CloudEvent's attributes: those of the event that are scalars; others have no place in it."""
    given: dict[str, Any] = {"specversion": _VERSION}
    for name, field in _FIELDS.items():
        value = getattr(event, field)
        if value is not None:
            given[name] = value.value if name == "type" else _moment(value) if name == "time" else value
    taken = {*given, *_BODY}
    for key, value in event.metadata.items():
        name = {own: theirs for theirs, own in _METADATA.items()}.get(key, key)
        is_name = name.isascii() and name.isalnum() and name == name.lower()
        if is_name and name not in taken and isinstance(value, str | int | float | bool):
            given[name] = value
    return given


def _moment(value: datetime) -> str:
    return value.isoformat().replace("+00:00", "Z")


def _event(attributes: Mapping[str, Any], payload: dict[str, Any]) -> Event:
    version = attributes.get("specversion")
    if version != _VERSION:
        raise InvalidEvent([f"specversion must be {_VERSION!r}, not {version!r:.40}."])
    for name in ("id", "source", "type"):
        if not attributes.get(name):
            raise InvalidEvent([f"A CloudEvent needs the attribute {name}, and this has none."])
    fields: dict[str, Any] = {"payload": payload}
    metadata: dict[str, Any] = {}
    for name, value in attributes.items():
        if value is None:  # as if it were not there
            continue
        if name in _FIELDS:
            fields[_FIELDS[name]] = value
        elif name not in _BODY:
            key = _METADATA.get(name, name)
            metadata[key] = _number(value) if key in _NUMBERS else value
    if attributes.get("projectid") is not None:
        fields["project_id"] = attributes["projectid"]
    if "project_id" not in fields:
        raise InvalidEvent(
            ["A CloudEvent's subject (or its extension projectid) names the project, and this has none."]
        )
    return Event(**fields, metadata=metadata)


def _payload(data: Any) -> dict[str, Any]:
    if data is None:
        return {}
    return data if isinstance(data, dict) else {"data": data}


def _data(media: str, body: bytes) -> dict[str, Any]:
    """Return a payload for the data of the binary mode."""
    if not body:
        return {}
    try:
        if media == "application/json" or media.endswith("+json"):
            return _payload(json.loads(body))
        if media.startswith("text/"):
            return {"data": body.decode()}
    except (ValueError, RecursionError) as error:
        raise InvalidEvent([f"The data is not {media}: {error}."]) from None
    return {"data_base64": base64.b64encode(body).decode()}


def _number(value: Any) -> Any:
    """Return the number that a header's text is; anything else as it is, for the event to refuse."""
    if not isinstance(value, str):
        return value
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value
