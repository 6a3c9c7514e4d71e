"""What a worker process says of itself once a second: written by its engine, read by whoever looks.

It is for people and autoscalers, never for decisions about deliveries, so reading one never fails: what
another version, or a hand, wrote there shows as little as can be read of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

MAX_NUMBER = 10**15


@dataclass(frozen=True, slots=True)
class Run:
    """A handler that runs.

    Attributes:
        subscriber: whose. event_id, type: of the event it handles. attempt: 1 for the first try.
        for_s: seconds for which it had run when this was said.
    """

    subscriber: str = ""
    event_id: str = ""
    type: str = ""
    attempt: int = 0
    for_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Beat:
    """One worker process, as it said of itself last.

    Attributes:
        host, pid: where it runs. started_at: by its own clock, seconds since 1970.
        threads: plain handlers that may run at once. concurrency: async ones that may.
        draining: it starts nothing more.
        subscribers: whose deliveries it handles, and how many of each may run here at once.
        types: per subscriber that it handles the types that its code declares.
        paused: subscribers of whom it starts nothing more, because they are paused.
        running: handlers that run. busy: those that have run longest, longest first, at most ten.
    """

    host: str = ""
    pid: int = 0
    started_at: float = 0.0
    threads: int = 0
    concurrency: int = 0
    draining: bool = False
    subscribers: Mapping[str, int] = field(default_factory=dict)
    types: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    paused: tuple[str, ...] = ()
    running: int = 0
    busy: tuple[Run, ...] = ()

    def encode(self) -> str:
        """Return it as JSON."""
        return json.dumps(asdict(self))


def read_beat(raw: bytes | None) -> Beat:
    """Return what a worker said; fields that are absent or of another kind have their defaults."""
    try:
        found = json.loads(raw or b"{}")
    except (ValueError, RecursionError):
        found = {}
    if not isinstance(found, dict):
        return Beat()
    places, types, runs = found.get("subscribers"), found.get("types"), found.get("busy")
    return Beat(
        **_plain(found, Beat),
        subscribers={
            _printable(name): count for name, count in places.items() if type(count) is int and 0 < count < MAX_NUMBER
        }
        if isinstance(places, dict)
        else {},
        types={_printable(name): _texts(kinds) for name, kinds in types.items() if isinstance(kinds, list)}
        if isinstance(types, dict)
        else {},
        paused=_texts(found.get("paused")),
        busy=tuple(Run(**_plain(run, Run)) for run in runs if isinstance(run, dict)) if isinstance(runs, list) else (),
    )


def _plain(found: Mapping[str, Any], kind: type[Beat] | type[Run]) -> dict[str, Any]:
    """Return the fields that are there and of the kind of their defaults: texts, truths, numbers."""
    plain: dict[str, Any] = {}
    for name, wanted in kind.__dataclass_fields__.items():
        value, default = found.get(name), wanted.default
        if isinstance(default, str) and isinstance(value, str):
            plain[name] = _printable(value)
        elif isinstance(default, bool) or isinstance(value, bool):
            plain |= {name: value} if type(value) is type(default) else {}
        elif isinstance(default, int | float) and isinstance(value, int | float) and abs(value) < MAX_NUMBER:
            plain[name] = type(default)(value)
    return plain


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(_printable(text) for text in value if isinstance(text, str)) if isinstance(value, list) else ()


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)
