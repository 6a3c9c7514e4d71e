"""Payloads as models: what an application says about its types, and asks for when it reads them.

Composition: the part of `events.bus.EventBus` that registers models and upcasters (`events.schemas`) and reads by them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, overload

from pydantic import BaseModel

from events.event import Event
from events.schemas import Schemas, Upcaster

Model = TypeVar("Model", bound=BaseModel)
Function = TypeVar("Function", bound=Upcaster)


class Typed:
    """Knows models of payloads.

    Attributes:
        schemas: what is registered.
    """

    schemas: Schemas

    @overload
    def payload(self, type: object, model: type[Model], *, version: int = 1) -> type[Model]: ...
    @overload
    def payload(self, type: object, *, version: int = 1) -> Callable[[type[Model]], type[Model]]: ...
    def payload(self, type: object, model: Any = None, *, version: int = 1) -> Any:
        """Register a pydantic model as one version of an event type's payload; without a model, a decorator.

        From then on this bus publishes no event of the type whose payload does not fit its version.

        Args:
            version: a whole number, from 1.

        Raises:
            InvalidSchema: it is no model, or the version has another one.
        """
        if model is None:
            return lambda decorated: self.payload(type, decorated, version=version)
        self.schemas.add_model(type, model, version)
        return model

    @overload
    def upcaster(self, type: object, function: Function, *, from_version: int) -> Function: ...
    @overload
    def upcaster(self, type: object, *, from_version: int) -> Callable[[Function], Function]: ...
    def upcaster(self, type: object, function: Any = None, *, from_version: int) -> Any:
        """Register what makes a payload of the next version of one of `from_version`; without it, a decorator.

        Args:
            function: gets a dict of its own, which it may change, and returns a dict.

        Raises:
            InvalidSchema: it is not callable, or the version has another one.
        """
        if function is None:
            return lambda decorated: self.upcaster(type, decorated, from_version=from_version)
        self.schemas.add_upcaster(type, function, from_version)
        return function

    def checked(self, event: Event) -> Event:
        """Return an event as `publish` would publish it: checked, with its `schema_version`; for the outbox.

        Raises:
            InvalidEvent: one sentence per bad field of the payload.
        """
        return self.schemas.checked(event)

    def read(self, event: Event, payload: dict[str, Any] | None = None) -> Any:
        """Return an event's payload as the newest model of its type, whatever version it was published with.

        Args:
            payload: where it is not in the event: what `payload_of` returns.

        Returns:
            The model; `event.payload` stays what was stored.

        Raises:
            PayloadUnreadable: no model, a version that is not known here, an upcaster that is missing or fails, or
                fields that do not fit.
        """
        return self.schemas.read(event, payload)
