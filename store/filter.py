"""Which events a reader wants: the same question for rows and for what Redis still holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sqlalchemy import ColumnElement

from events.errors import InvalidFilter
from events.event import Event
from events.records import END
from store import paths
from store.rows import is_storable
from store.tables import events


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    """Events that meet every given condition; none given, all of them.

    Attributes:
        project_id: of this project.
        types: of one of these types; empty means any.
        actor: by this actor.
        correlation_id: set off by this root.
        start_time: with a timestamp at or after this; a naive one is read as UTC.
        end_time: with a timestamp before this; a naive one is read as UTC.
        payload: with these scalars at these paths of the payload, e.g. `{"scene.number": 3}`; see `store.paths`
            for how a path is written and what is equal. No index serves it: every event that meets the other
            conditions is looked at.
        metadata: the same of the metadata, e.g. `{"priority": 5}`.

    Raises:
        InvalidFilter: the time range is reversed (one that is empty, start is end, matches nothing); a moment that
            UTC cannot tell; U+0000 or a lone surrogate, which no event holds; a path or a value that cannot be
            asked for.
    """

    project_id: str | None = None
    types: tuple[str, ...] = ()
    actor: str | None = None
    correlation_id: str | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None
    payload: paths.Given = field(default_factory=dict, hash=False)
    metadata: paths.Given = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if isinstance(self.types, str) or not isinstance(self.types, Iterable):
            raise InvalidFilter(f"The types of a filter are a sequence of names, not {self.types!r:.80}.")
        object.__setattr__(self, "types", tuple(str(getattr(name, "value", name)) for name in self.types))
        for name in ("project_id", "actor", "correlation_id"):
            check_text(name, getattr(self, name))
        for kind in self.types:
            check_text("types", kind)
        object.__setattr__(self, "start_time", _utc("start_time", self.start_time))
        object.__setattr__(self, "end_time", _utc("end_time", self.end_time))
        if self.start_time and self.end_time and self.start_time > self.end_time:
            raise InvalidFilter(
                f"The time range is reversed: start_time {self.start_time.isoformat()} is after "
                f"end_time {self.end_time.isoformat()}."
            )
        object.__setattr__(self, "payload", paths.conditions_of("payload", self.payload))
        object.__setattr__(self, "metadata", paths.conditions_of("metadata", self.metadata))

    def matches(self, event: Event) -> bool:
        """Tell whether an event meets the conditions."""
        return (
            (self.project_id is None or event.project_id == self.project_id)
            and (not self.types or event.type.value in self.types)
            and (self.actor is None or event.actor == self.actor)
            and (self.correlation_id is None or (event.correlation_id or event.event_id) == self.correlation_id)
            and (self.start_time is None or event.timestamp >= self.start_time)
            and (self.end_time is None or event.timestamp < self.end_time)
            and all(paths.holds(getattr(event, name), path, value) for name, path, value in self._places())
        )

    def conditions(self, namespace: str, dialect: str) -> list[ColumnElement[bool]]:
        """Return the same conditions on rows of `events`, in a dialect of SQL."""
        column, found = events.c, [events.c.namespace == namespace]
        for name in ("project_id", "actor", "correlation_id"):
            if (value := getattr(self, name)) is not None:
                found.append(column[name] == value)
        if self.types:
            found.append(column.type.in_(self.types))
        found += self.time_range()
        found += (paths.condition(column[name], path, value, dialect) for name, path, value in self._places())
        return found

    def time_range(self) -> list[ColumnElement[bool]]:
        """Return the conditions of the time range alone; empty when there is none."""
        found: list[ColumnElement[bool]] = []
        if self.start_time is not None:
            found.append(events.c.timestamp >= self.start_time)
        if self.end_time is not None:
            found.append(events.c.timestamp < self.end_time)
        return found

    def _places(self) -> Iterator[tuple[str, paths.Path, paths.Scalar]]:
        """Iterate over what is asked of payload and metadata: (column, path, value)."""
        for name, asked in (("payload", self.payload), ("metadata", self.metadata)):
            for path, value in asked.items():
                yield name, path, value


def event_filter(
    project_id: str | None = None,
    start_time: datetime | None = None,
    end_time: datetime | None = None,
    event_types: Iterable[object] | None = None,
    actor: str | None = None,
    correlation_id: str | None = None,
    payload: paths.Given | None = None,
    metadata: paths.Given | None = None,
) -> EventFilter:
    """Return what the arguments of the asynchronous edges mean: None is any, and so is `"*"` among the types.

    Raises:
        InvalidFilter: as `EventFilter` does.
    """
    if isinstance(event_types, str) or not isinstance(event_types, Iterable | None):
        raise InvalidFilter(f"event_types must be a list of event types, not {event_types!r:.80}.")
    names = tuple(str(getattr(kind, "value", kind)) for kind in event_types or ())
    return EventFilter(
        project_id=project_id,
        start_time=start_time,
        end_time=end_time,
        types=() if "*" in names else names,
        actor=actor,
        correlation_id=correlation_id,
        payload=payload or {},
        metadata=metadata or {},
    )


def check_text(name: str, value: object) -> None:
    """Refuse what is asked of a column of text, and no database can be asked.

    Raises:
        InvalidFilter: it is neither a text nor None, or holds U+0000 or a lone surrogate.
    """
    if value is not None and not isinstance(value, str):
        raise InvalidFilter(f"{name} of a filter must be a text, not {value!r:.80}.")
    if isinstance(value, str) and not is_storable(value):
        raise InvalidFilter(
            f"{name} of a filter holds U+0000 or a lone surrogate, which no event holds: {value!r:.200}."
        )


def check_position(position: object) -> None:
    """Refuse what is no position in history; what is before its beginning is its beginning.

    Raises:
        InvalidFilter: it is no whole number, or a later one than any event has.
    """
    if isinstance(position, bool) or not isinstance(position, int):
        raise InvalidFilter(f"A position is a whole number of microseconds, not {position!r:.80}.")
    if position > END:
        raise InvalidFilter(f"A position is at most {END}, not {position}.")


def _utc(name: str, moment: datetime | None) -> datetime | None:
    if moment is None:
        return None
    if not isinstance(moment, datetime):
        raise InvalidFilter(f"{name} must be a datetime, not {moment!r:.80}.")
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError:
        raise InvalidFilter(f"{name} must be a moment that UTC can tell, not {moment.isoformat()}.") from None
