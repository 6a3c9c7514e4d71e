"""Payload models of event types, by version: what a payload has to be when it is published, and what it is read as.

    publish    metadata.schema_version, absent: the newest ── its model, strictly ──> the event, its version written
    read       metadata.schema_version, absent: 1 ── upcasters, one version each ──> the newest model

One `Schemas` per bus. The payload itself is never changed: what is published is what was given, so that a digest
outlives the model. It is not a registry that processes share: each knows what its own code says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, TypeGuard

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, to_json

from events.errors import InvalidEvent, InvalidSchema, PayloadUnreadable
from events.event import Event
from events.types import is_well_formed

VERSION = "schema_version"
FIRST = 1
MAX_PROBLEMS = 20

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]


@dataclass(slots=True)
class Versions:
    """The versions of one type's payload.

    Attributes:
        kind: the type's name.
        models: by version. upcasters: by the version whose payload they take.
    """

    kind: str
    models: dict[int, type[BaseModel]] = field(default_factory=dict)
    upcasters: dict[int, Upcaster] = field(default_factory=dict)

    @property
    def newest(self) -> int:
        """The newest version that has a model; 0 when none has."""
        return max(self.models, default=0)

    @property
    def oldest_readable(self) -> int:
        """The oldest version from which upcasters lead to the newest."""
        version = self.newest
        while version - 1 in self.upcasters:
            version -= 1
        return version

    def checked(self, event: Event) -> Event:
        """See `Schemas.checked`."""
        version = event.metadata.get(VERSION)
        if version is None:
            version = self.newest
            event = event.model_copy(update={"metadata": {**event.metadata, VERSION: version}})
        if not _is_version(version):
            raise InvalidEvent([f"metadata.{VERSION} must be a whole number of at least 1, not {version!r:.80}."])
        model = self.models.get(version)
        if model is None and version not in self.upcasters:
            raise InvalidEvent(
                [
                    f"metadata.{VERSION} is {version}, and {self.kind} has {_listed(self.models)} here: "
                    "nobody could read it."
                ]
            )
        if model is not None and not is_elsewhere(event):
            problems = _problems(model, event.payload, strict=True)[1]
            if problems:
                raise InvalidEvent(problems)
        return event

    def read(self, event: Event, payload: dict[str, Any] | None) -> BaseModel:
        """See `Schemas.read`."""
        if payload is None:
            payload = event.payload
            if is_elsewhere(event):
                raise self._unreadable(
                    event,
                    f"its payload lies at {event.blackboard_pointer!r}; pass it as the second argument, for example "
                    "`await bus.payload_of(event)`",
                )
        made, problems = _problems(self.models[self.newest], self._upcast(event, payload), strict=None)
        if made is None:
            raise self._unreadable(event, " ".join(problems).removesuffix("."), problems)
        return made

    def _upcast(self, event: Event, payload: dict[str, Any]) -> dict[str, Any]:
        version = event.metadata.get(VERSION, FIRST)
        if not _is_version(version):
            raise self._unreadable(event, f"its {VERSION} is {version!r:.80}, which is no version")
        if version > self.newest:
            raise self._unreadable(
                event, f"it has version {version}, and this process knows {_listed(self.models)}: deploy what reads it"
            )
        payload = deepcopy(payload) if version != self.newest else payload
        for step in range(version, self.newest):
            upcaster = self.upcasters.get(step)
            if upcaster is None:
                raise self._unreadable(event, f"no upcaster leads from version {step} to {step + 1}")
            try:
                payload = upcaster(payload)
            except Exception as error:
                said = f"the upcaster from version {step} failed: {type(error).__name__}: {error}"
                raise self._unreadable(event, said) from error
            if not isinstance(payload, dict):
                raise self._unreadable(
                    event, f"the upcaster from version {step} returned a {type(payload).__name__}, not a dict"
                )
        return payload

    def _unreadable(self, event: Event, why: str, problems: list[str] | None = None) -> PayloadUnreadable:
        return PayloadUnreadable(f"The payload of {event.event_id} ({self.kind}) cannot be read: {why}.", problems)


class Schemas:
    """What one bus knows about payloads. Threads may share it; what is registered counts from then on."""

    def __init__(self) -> None:
        self._by_type: dict[str, Versions] = {}

    @property
    def types(self) -> Mapping[str, Versions]:
        """The types that have a model, by name."""
        return {kind: versions for kind, versions in self._by_type.items() if versions.models}

    def add_model(self, kind: object, model: object, version: object) -> None:
        """Register the model of one version. Repeating it is harmless.

        Raises:
            InvalidSchema: it is no model, or the version has another one.
        """
        if not isinstance(model, type) or not issubclass(model, BaseModel):
            raise InvalidSchema(f"The payload of {kind!s:.120} must be a pydantic model, a class, not {model!r:.80}.")
        versions, number = self._versions(kind), _checked_version(kind, version)
        known = versions.models.setdefault(number, model)
        if known is not model:
            raise InvalidSchema(
                f"Version {number} of {versions.kind} has a model already, {known.__name__}: give {model.__name__} a "
                "version of its own."
            )

    def add_upcaster(self, kind: object, function: object, from_version: object) -> None:
        """Register what makes the next version's payload of one version's. Repeating it is harmless.

        Raises:
            InvalidSchema: it is not callable, or the version has another one.
        """
        if not callable(function):
            raise InvalidSchema(f"An upcaster of {kind!s:.120} must be callable with a dict, not {function!r:.80}.")
        versions, number = self._versions(kind), _checked_version(kind, from_version)
        if versions.upcasters.setdefault(number, function) is not function:
            raise InvalidSchema(f"Version {number} of {versions.kind} has an upcaster already; one leads from it.")

    def adopt(self, others: Schemas) -> None:
        """Know what others know instead, from now on and whatever is registered there later."""
        self._by_type = others._by_type

    def checked(self, event: Event) -> Event:
        """Return the event to publish: its payload fits the model of its version, which its metadata name.

        An event whose type has no model is returned as it is. Checking again changes nothing.

        Raises:
            InvalidEvent: one sentence per bad field of the payload; they show no text of it.
        """
        versions = self._by_type.get(event.type.value)
        return event if versions is None or not versions.models else versions.checked(event)

    def read(self, event: Event, payload: dict[str, Any] | None = None) -> BaseModel:
        """Return an event's payload as the newest model of its type. Neither of the two is changed.

        Args:
            payload: what lies elsewhere; the event's own unless given.

        Raises:
            PayloadUnreadable: saying why.
        """
        versions = self._by_type.get(event.type.value)
        if versions is None or not versions.models:
            raise PayloadUnreadable(
                f"The payload of {event.event_id} cannot be read: {event.type.value} has no model here; register one "
                f'with @bus.payload("{event.type.value}").'
            )
        return versions.read(event, payload)

    def _versions(self, kind: object) -> Versions:
        name = str(getattr(kind, "value", kind))
        if not is_well_formed(name):
            raise InvalidSchema(
                f"{name[:120]!r} cannot name an event type: write a letter, then A-Z a-z 0-9 _ . : -. A payload's "
                "model is that of one type."
            )
        return self._by_type.setdefault(name, Versions(name))


def is_elsewhere(event: Event) -> bool:
    """Tell whether what an event says lies where it points to, and not in it."""
    return not event.payload and event.blackboard_pointer is not None


def _is_version(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= FIRST


def _checked_version(kind: object, version: object) -> int:
    if not _is_version(version):
        raise InvalidSchema(f"A version of {kind!s:.120} must be a whole number of at least 1, not {version!r:.80}.")
    return version


def _listed(models: Mapping[int, object]) -> str:
    numbers = [str(number) for number in sorted(models)]
    return f"version {numbers[0]}" if len(numbers) == 1 else f"versions {', '.join(numbers)}"


def _problems(
    model: type[BaseModel], payload: dict[str, Any], *, strict: bool | None
) -> tuple[BaseModel | None, list[str]]:
    """Hold a payload against a model, as JSON; return what it makes of it, or one sentence per bad field.

    Args:
        strict: True takes nothing for what it is not; None leaves it to the model.
    """
    try:
        return model.model_validate_json(to_json(payload), strict=strict), []
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False)
    except Exception as error:  # of a validator, or of what an upcaster made that is no JSON
        return None, [f"payload could not be held against {model.__name__}: {type(error).__name__}: {error}."]
    sentences = dict.fromkeys(_sentence(problem, model) for problem in found[:MAX_PROBLEMS])
    more = len(found) - MAX_PROBLEMS
    return None, [*sentences, *([f"And {more} more fields are wrong."] if more > 0 else [])]


_NOUN = re.compile(r"[A-Z]\w* (?:should|must) ")


def _sentence(problem: ErrorDetails, model: type[BaseModel]) -> str:
    message, kind = problem["msg"], problem["type"]
    if kind == "missing":
        message = "is missing"
    elif kind == "extra_forbidden":
        message = f"is not a field of {model.__name__}"
    else:
        message = _NOUN.sub("must ", message.removeprefix("Value error, ").removeprefix("Assertion failed, "), count=1)
        message = message.rstrip(".") + _instead(problem)
    return f"{'.'.join(['payload', *map(str, problem['loc'])])} {message}."


def _instead(problem: ErrorDetails) -> str:
    """Say what was there: a number as it is, of anything longer only what it is. Logs show no payloads."""
    value, kind = problem["input"], problem["type"]
    if kind in ("value_error", "assertion_error"):
        return ""
    if value is None or isinstance(value, bool | int | float):
        return f", not {to_json(value).decode():.80}"
    if kind.endswith("_type"):
        return (
            f", not {'a string' if isinstance(value, str) else 'an array' if isinstance(value, list) else 'an object'}"
        )
    return ""
