"""Payloads that are too large for an event: the blackboard has them, and the event says where.

    bb:PROJECT/payloads/EVENT_ID@1

The key follows from the event's id, so that publishing the same event again finds the same value, and the
event's digest stays its own. (An event that a handler returns gets its final id later: the key has the one it was
made with.) What prunes or redacts the event does the same to the value its pointer names, if that is one of these
in its own project: to hand the pointer on to another event is to share its fate.
"""

from __future__ import annotations

import json
from typing import Any

from events.encoding import encode
from events.errors import EventIdConflict, InvalidEvent, InvalidValue, ValueNotFound, VersionConflict
from events.event import Event
from store.pointers import SCHEME, Pointer
from store.rows import json_text
from store.state import State

PREFIX = "payloads/"


def key_of(event_id: str) -> str:
    """Return the key at which an event's payload lies."""
    return f"{PREFIX}{event_id}"


def offload(state: State, event: Event, over_bytes: int) -> Event:
    """Put an event's payload on the blackboard if the encoded event has more than so many bytes.

    Returns:
        The event with an empty payload and the pointer; the event itself when it is small enough.

    Raises:
        InvalidEvent: it is too large, and points to something else already.
        EventIdConflict: another payload lies there under its id.
        InvalidValue: over the blackboard's limit, or the project's and event's names are too long for a pointer.
        StoreUnavailable, NotMigrated: it may or may not have been put; repeating is safe.
    """
    if len(encode(event)) <= over_bytes:
        return event
    if event.blackboard_pointer is not None:
        raise InvalidEvent(
            [
                f"It is too large, and its blackboard_pointer is {event.blackboard_pointer!r} already: "
                "put the rest of the payload there too."
            ]
        )
    place = Pointer(event.project_id, key_of(event.event_id))
    try:
        version = state.compare_and_set(place.project_id, place.key, 0, event.payload, actor=event.actor)
    except VersionConflict as conflict:
        version = conflict.current
        _check_same(state, Pointer(place.project_id, place.key, version), event)
    pointer = str(Pointer(place.project_id, place.key, version))
    return event.model_copy(update={"payload": {}, "blackboard_pointer": pointer})


def payload_of(state: State, event: Event) -> dict[str, Any]:
    """Return an event's payload, from the blackboard if that is where it went.

    Raises:
        ValueNotFound: it was pruned, redacted or deleted.
        StoreUnavailable, NotMigrated.
    """
    place = None if event.payload else place_of(event.project_id, event.blackboard_pointer)
    if place is None:
        return event.payload
    found: dict[str, Any] = state.get(place).value
    return found


def place_of(project_id: str, pointer: str | None) -> Pointer | None:
    """Return where `offload` has put the payload of an event of that project and pointer; None if it has not."""
    if pointer is None or not pointer.startswith(SCHEME):
        return None
    try:
        place = Pointer.read(pointer)
    except InvalidValue:
        return None  # an application's own
    return place if place.project_id == project_id and place.key.startswith(PREFIX) else None


def _check_same(state: State, place: Pointer, event: Event) -> None:
    try:
        found = state.get(place).value
    except ValueNotFound:
        return  # redacted: what is published again is not looked at, and does not undo it
    if found != json.loads(json_text("payload", event.payload)):
        raise EventIdConflict(
            f"The event_id {event.event_id!r} is taken: another payload lies at {str(place)!r}. "
            "Publish a new event with a new id."
        )
