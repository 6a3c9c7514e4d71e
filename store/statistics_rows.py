"""Which rows of the statistics a question is about: a project's, everybody's together or each one's, in a time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Table, false

from events.errors import InvalidFilter
from store.counting import ALL_PROJECTS, TOTAL, WIDTHS_US, Key, start_of
from store.filter import EventFilter, check_text
from store.tables import microseconds


@dataclass(frozen=True, slots=True)
class Rows:
    """Which rows of the statistics a question is about.

    Attributes:
        project_id: None for those of all projects together, or with `is_each` of each by itself.
        first, end: where buckets may begin, microseconds; from and to before; None: anywhere.

    Raises:
        InvalidFilter: no project has such a name.
    """

    project_id: str | None
    grain: str
    first: int | None = None
    end: int | None = None
    is_each: bool = False

    def __post_init__(self) -> None:
        check_text("project_id", self.project_id)

    @classmethod
    def of_time(cls, project_id: str | None, grain: str, start: datetime | None, end: datetime | None) -> Rows:
        """Return the buckets that lie in a time, as `Statistics.series` says."""
        if grain not in WIDTHS_US or grain == TOTAL:
            raise InvalidFilter(f"The grain of a series is 'day' or 'hour', not {grain!r:.80}.")
        wanted = EventFilter(start_time=start, end_time=end)
        first = start_of(grain, microseconds(wanted.start_time)) if wanted.start_time else None
        return cls(project_id, grain, first, microseconds(wanted.end_time) if wanted.end_time else None)

    def __contains__(self, key: Key) -> bool:
        grain, project, start = key[:3]
        is_its = project != ALL_PROJECTS if self.is_each else project == (self.project_id or ALL_PROJECTS)
        is_then = (self.first is None or start >= self.first) and (self.end is None or start < self.end)
        return grain == self.grain and is_its and is_then and self.project_id != ALL_PROJECTS

    def conditions(self, table: Table) -> list[ColumnElement[bool]]:
        """Return the same on the columns of a table."""
        column = table.c
        if self.is_each:
            found = [column.project_id > ALL_PROJECTS]
        elif self.project_id == ALL_PROJECTS:  # no project's name
            found = [false()]
        else:
            found = [column.project_id == (self.project_id or ALL_PROJECTS)]
        found.append(column.grain == self.grain)
        if self.first is not None:
            found.append(column.start >= self.first)
        if self.end is not None:
            found.append(column.start < self.end)
        return found
