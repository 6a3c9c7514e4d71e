"""Which events a reader wants: the same question for rows and for what Redis still holds."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import ColumnElement

from events.errors import InvalidFilter
from events.event import Event
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

    Raises:
        InvalidFilter: the time range is reversed. One that is empty (start is end) matches nothing.
    """

    project_id: str | None = None
    types: tuple[str, ...] = ()
    actor: str | None = None
    correlation_id: str | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None

    def __post_init__(self) -> None:
        if isinstance(self.types, str):
            raise InvalidFilter(f"The types of a filter are a sequence of names, not the string {self.types!r}.")
        object.__setattr__(self, "types", tuple(str(getattr(name, "value", name)) for name in self.types))
        object.__setattr__(self, "start_time", _utc("start_time", self.start_time))
        object.__setattr__(self, "end_time", _utc("end_time", self.end_time))
        if self.start_time and self.end_time and self.start_time > self.end_time:
            raise InvalidFilter(
                f"The time range is reversed: start_time {self.start_time.isoformat()} is after "
                f"end_time {self.end_time.isoformat()}."
            )

    def matches(self, event: Event) -> bool:
        """Tell whether an event meets the conditions."""
        return (
            (self.project_id is None or event.project_id == self.project_id)
            and (not self.types or event.type.value in self.types)
            and (self.actor is None or event.actor == self.actor)
            and (self.correlation_id is None or (event.correlation_id or event.event_id) == self.correlation_id)
            and (self.start_time is None or event.timestamp >= self.start_time)
            and (self.end_time is None or event.timestamp < self.end_time)
        )

    def conditions(self, namespace: str) -> list[ColumnElement[bool]]:
        """Return the same conditions on rows of `events`."""
        column, found = events.c, [events.c.namespace == namespace]
        for name in ("project_id", "actor", "correlation_id"):
            if (value := getattr(self, name)) is not None:
                found.append(column[name] == value)
        if self.types:
            found.append(column.type.in_(self.types))
        if self.start_time is not None:
            found.append(column.timestamp >= self.start_time)
        if self.end_time is not None:
            found.append(column.timestamp < self.end_time)
        return found


def _utc(name: str, moment: datetime | None) -> datetime | None:
    if moment is None:
        return None
    if not isinstance(moment, datetime):
        raise ValueError(f"{name} must be a datetime, not {moment!r:.80}.")
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
