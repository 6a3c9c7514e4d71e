"""W3C Trace Context between processes: in an event's metadata, and in headers of HTTP. It needs no package.

What is no context counts as none, as the standard has it: tracing is never a reason to refuse the work.
Source: W3C Trace Context, `traceparent` and `tracestate`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from events.encoding import IfRoom
from events.event import Event

PARENT, STATE = "traceparent", "tracestate"
_PARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_STATE = re.compile(r"[ -~]{1,512}")


def context_of(carrier: Mapping[str, object]) -> dict[str, str]:
    """Return the context that metadata or headers carry, by the names of its headers; empty where there is none.

    Args:
        carrier: with names in lower case, or that finds them in any.
    """
    parent, state = carrier.get(PARENT), carrier.get(STATE)
    if not isinstance(parent, str) or not _PARENT.fullmatch(parent):
        return {}
    if not isinstance(state, str) or not _STATE.fullmatch(state):
        return {PARENT: parent}
    return {PARENT: parent, STATE: state}


def adopted(event: Event, headers: Mapping[str, str]) -> Event:
    """Return an event with the context of the request that brought it, if it has none of its own and has room."""
    given = {} if PARENT in event.metadata else context_of(headers)
    if not given:
        return event
    metadata = {**event.metadata, **{name: IfRoom(value) for name, value in given.items()}}
    return event.model_copy(update={"metadata": metadata})
