"""The AsyncAPI document of an application: its types, their payloads, who receives them and who has sent them.

    channel      one per event type; `*` is that of subscribers to every type
    message      one per version that has a model, `v1`, `v2`; `event` where none has
    operation    SUBSCRIBER.TYPE receives; publish:TYPE sends, as far as the store has seen
    server       the Redis of the settings, without user, password and query; none where it is the embedded one

Nothing here connects. Source: AsyncAPI 3.0.0, whose schemas are a superset of JSON Schema draft 7.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pydantic.errors import PydanticUserError
from pydantic.json_schema import models_json_schema

from console.exits import Mistake
from events.event import MAX_NAME_CHARS, MAX_PRIORITY
from events.schemas import FIRST, VERSION, Schemas, Versions
from events.settings import Settings, without_password
from events.subscriptions import Subscription

if TYPE_CHECKING:
    from pydantic import BaseModel

_REF = "#/components/schemas/{model}"
_EVENT = "eventbus.Event"  # a point is in no class's name
_EXTENSION = "x-eventbus"
MAX_ACTORS = 50

_NAME = {"type": "string", "minLength": 1, "maxLength": MAX_NAME_CHARS}
ENVELOPE: dict[str, Any] = {
    "title": "Event",
    "description": "An event as it is stored and delivered. What is empty is left out. A payload that is too large "
    "lies where blackboard_pointer says.",
    "type": "object",
    "required": ["event_id", "project_id", "type", "actor", "timestamp"],
    "properties": {
        "event_id": {**_NAME, "description": "Unique; publishing it again stores and delivers it once."},
        "project_id": _NAME,
        "type": {"type": "string", "pattern": "^[A-Za-z][A-Za-z0-9_.:-]{0,99}$"},
        "actor": {**_NAME, "description": "Who did it."},
        "causation_id": {**_NAME, "description": "The event that directly caused this one."},
        "correlation_id": {**_NAME, "description": "The root of everything that one event set off."},
        "timestamp": {"type": "string", "format": "date-time"},
        "payload": {"type": "object"},
        "blackboard_pointer": {**_NAME, "description": "Where larger state lies."},
        "metadata": {
            "type": "object",
            "properties": {
                VERSION: {"type": "integer", "minimum": FIRST, "description": "The payload's version; absent: 1."},
                "cost": {"type": "number", "minimum": 0},
                "latency_ms": {"type": "number", "minimum": 0},
                "priority": {"type": "integer", "minimum": -MAX_PRIORITY, "maximum": MAX_PRIORITY},
            },
        },
    },
}


def document(
    subscriptions: Iterable[Subscription],
    schemas: Schemas,
    settings: Settings,
    *,
    title: str,
    release: str,
    senders: Iterable[tuple[str, str]] = (),
) -> dict[str, Any]:
    """Return the document.

    Args:
        title, release: of the application.
        senders: types and actors that have published them.

    Raises:
        Mistake: JSON Schema cannot tell a model.
    """
    subscriptions, actors = list(subscriptions), _by_type(senders)
    types = schemas.types
    references, definitions = _definitions(types)
    servers = _servers(settings)
    named = {kind for subscription in subscriptions for kind in _kinds(subscription)} | types.keys() | actors.keys()
    channels = {
        kind: {
            "address": kind,
            "title": "Every type of event" if kind == "*" else kind,
            **({"servers": [{"$ref": f"#/servers/{name}"} for name in servers]} if servers else {}),
            "messages": _messages(kind, types.get(kind), references),
        }
        for kind in sorted(named)
    }
    found = {
        "asyncapi": "3.0.0",
        "info": {
            "title": title,
            "version": release,
            "description": "Every event is published once into one ordered history and delivered, at least once, to "
            "each subscriber of its type.",
        },
        "defaultContentType": "application/json",
        "servers": servers,
        "channels": channels,
        "operations": {
            **{f"{one.name}.{kind}": _receive(one, kind) for one in subscriptions for kind in one.types},
            **{f"publish:{kind}": _send(kind, actors[kind]) for kind in sorted(actors)},
        },
        "components": {"schemas": {_EVENT: ENVELOPE, **definitions}},
        _EXTENSION: {"namespace": settings.namespace},
    }
    return {name: part for name, part in found.items() if part}


def _by_type(senders: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for kind, actor in sorted(senders):
        found.setdefault(kind, []).append(actor)
    return found


def _kinds(subscription: Subscription) -> list[str]:
    """Return the types of which a subscriber gets events, those that a join gathers included."""
    join = subscription.options.join
    return [*subscription.types, *(join.of if join else ())]


def _definitions(types: Mapping[str, Versions]) -> tuple[dict[Any, Any], dict[str, Any]]:
    """Return where each model's schema is, and all schemas by name; pydantic keeps equal names apart."""
    models: dict[type[BaseModel], str] = {}
    for kind, versions in types.items():
        models |= {model: f"version {number} of {kind}" for number, model in versions.models.items()}
    try:
        found, definitions = models_json_schema([(model, "validation") for model in models], ref_template=_REF)
    except (PydanticUserError, ValueError, TypeError) as error:
        named = ", ".join(f"{model.__name__} ({which})" for model, which in models.items())
        said = str(error).partition("\n")[0].rstrip(".")
        raise Mistake(f"JSON Schema cannot tell one of the models {named}: {said}.") from error
    return {model: schema for (model, _), schema in found.items()}, definitions.get("$defs", {})


def _messages(kind: str, versions: Versions | None, references: Mapping[Any, Any]) -> dict[str, Any]:
    if versions is None:
        return {"event": _message(kind, kind, {} if kind == "*" else {"type": {"const": kind}}, {})}
    return {
        f"v{number}": _message(
            kind,
            f"{kind}, version {number}",
            {"type": {"const": kind}, "payload": references[model], "metadata": _version_of(number)},
            {
                VERSION: number,
                "newest": number == versions.newest,
                "readable_here": number >= versions.oldest_readable,
            },
        )
        for number, model in sorted(versions.models.items())
    }


def _message(kind: str, title: str, properties: dict[str, Any], extension: dict[str, Any]) -> dict[str, Any]:
    said: dict[str, Any] = {"name": kind, "title": title} if kind != "*" else {"title": "Any event"}
    reference = {"$ref": _REF.format(model=_EVENT)}
    return {
        **said,
        "contentType": "application/json",
        "correlationId": {"location": "$message.payload#/correlation_id"},
        "payload": {"allOf": [reference, {"properties": properties}]} if properties else reference,
        **({_EXTENSION: extension} if extension else {}),
    }


def _version_of(number: int) -> dict[str, Any]:
    """Return the schema of metadata that name a version; the first may be left out."""
    required = {} if number == FIRST else {"required": [VERSION]}
    return {"type": "object", "properties": {VERSION: {"const": number}}, **required}


def _receive(subscription: Subscription, kind: str) -> dict[str, Any]:
    text = inspect.cleandoc(getattr(subscription.handler, "__doc__", None) or "")
    return {
        "action": "receive",
        "channel": {"$ref": f"#/channels/{kind}"},
        "title": subscription.name,
        **({"description": text} if text else {}),
        _EXTENSION: {"subscriber": subscription.name, **_options(subscription)},
    }


def _options(subscription: Subscription) -> dict[str, Any]:
    """Return the options that others notice: how often, how long, how many at once, in which order."""
    options, join = subscription.options, subscription.options.join
    found = {
        "max_attempts": options.max_attempts,
        "time_limit_s": options.time_limit,
        "ordering": options.ordering,
        "on_dead": options.on_dead if options.ordering else None,
        "concurrency": options.concurrency,
        "rate_limit_per_s": options.rate_limit,
        "batch": options.batch,
        "join": {"of": list(join.of), "timeout_s": join.timeout, "partial": join.partial} if join else None,
    }
    return {name: value for name, value in found.items() if value is not None}


def _send(kind: str, actors: list[str]) -> dict[str, Any]:
    more = len(actors) - MAX_ACTORS
    return {
        "action": "send",
        "channel": {"$ref": f"#/channels/{kind}"},
        "title": f"Published so far by {len(actors)} {'actors' if len(actors) > 1 else 'actor'}",
        _EXTENSION: {"actors": actors[:MAX_ACTORS], **({"more_actors": more} if more > 0 else {})},
    }


def _servers(settings: Settings) -> dict[str, Any]:
    if not settings.redis_url:
        return {}
    scheme, _, rest = without_password(settings.redis_url).partition("://")
    place = rest.rpartition("@")[2]
    host, slash, path = place.partition("/")
    return {
        "redis": {
            "host": host or "localhost",
            "protocol": "redis" if scheme == "unix" else scheme,
            **({"pathname": slash + path} if path else {}),
            "description": f"Streams of the namespace {settings.namespace!r}"
            + (", on a Unix socket." if scheme == "unix" else "."),
        }
    }
