"""Who is on stage: subscribers of every kind, event types and projects, and an event as plain data."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple

from events.encoding import digest, encode
from events.event import Event

TYPES = ("A", "B", "C")
PROJECTS = ("p1", "p2", "p3")
MAX_ROUTES = 100
MAX_EVENT_BYTES = 1 << 20

_WHEN = datetime(2024, 1, 1, tzinfo=UTC)


class Role(NamedTuple):
    """A subscriber on stage, as its record in Redis says it."""

    types: tuple[str, ...]
    window: int | None = 160
    ordering: str = ""
    on_dead: str = "skip"
    rate: float | None = None
    batch: int | None = None

    def record(self) -> dict[str, str]:
        """Return the record's fields."""
        numbers = {"concurrency": self.window, "rate": self.rate, "batch": self.batch}
        said = {name: "" if number is None else str(number) for name, number in numbers.items()}
        return {"ordering": self.ordering, "dead": self.on_dead, **said}


CAST: dict[str, Role] = {
    "plain": Role(("A", "B"), window=4),
    "serial": Role(("A",), window=1),
    "project": Role(("A", "B"), window=4, ordering="project"),
    "thread": Role(("A", "C"), window=3, ordering="correlation"),
    "keyed": Role(("B", "C"), window=3, ordering="order_key"),
    "pair": Role(("B",), window=2, ordering="project"),
    "blocker": Role(("C", "B"), ordering="project", on_dead="block"),
    "every": Role(("*",), window=6),
    "guest": Role(("C",), window=2),
}


class Stage(NamedTuple):
    """What a run begins with. Small casts meet on the same deliveries more often.

    Attributes:
        cast: the subscribers. ahead: the store knows positions an hour ahead of the server's clock.
    """

    cast: tuple[str, ...]
    ahead: bool

    def __str__(self) -> str:
        return f"with {', '.join(self.cast)}{', an hour behind the store' if self.ahead else ''}"


class Spec(NamedTuple):
    """An event as data that prints, compares and replays: `n` is its payload."""

    id: str
    type: str
    project: str
    cause: str = ""
    correlation: str = ""
    key: str = ""
    n: int = 0
    priority: int = 0

    def __str__(self) -> str:
        said = {name: value for name, value in self._asdict().items() if value and name not in ("id", "n")}
        more = "".join(f" {name}={value}" for name, value in said.items())
        return f"[{self.id}{more} n={self.n}]"


@lru_cache(maxsize=10_000)
def event_of(spec: Spec) -> Event:
    """Return the event that the spec says."""
    return Event(
        event_id=spec.id,
        type=spec.type,
        project_id=spec.project,
        actor="player",
        causation_id=spec.cause or None,
        correlation_id=spec.correlation or None,
        payload={"n": spec.n},
        metadata={"priority": spec.priority} | ({"order_key": spec.key} if spec.key else {}),
        timestamp=_WHEN,
    )


@lru_cache(maxsize=10_000)
def digest_of(spec: Spec) -> str:
    """Return the event's digest."""
    return digest(event_of(spec))


@lru_cache(maxsize=10_000)
def body_of(spec: Spec) -> bytes:
    """Return the event's bytes on the wire."""
    return encode(event_of(spec))
