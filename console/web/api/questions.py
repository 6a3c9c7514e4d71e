"""Parameters that several operations share, and what they ask for. Written as on the command line."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from console.options import event_filter, moment
from events.errors import InvalidFilter
from events.records import END, LetterFilter
from store.filter import EventFilter
from store.tables import microseconds
from store.tally import STATES

MAX_PAGE = 1000
MAX_POSITION = 2**63 - 1
Limit = Field(100, ge=1, le=MAX_PAGE, description="At most so many.")
Since = Field(
    None, description="From then: ISO 8601, UTC unless it says otherwise, or a span before now like 15m, 24h, 7d."
)
Until = Field(None, description="Until then, exclusive; likewise.")


class Nothing(BaseModel):
    """No parameters."""

    model_config = ConfigDict(extra="forbid")


class Events(BaseModel):
    """Which events."""

    model_config = ConfigDict(extra="forbid")

    project: str | None = Field(None, description="Only of this project.")
    type: list[str] = Field(default_factory=list, description="Only of this type; repeat it for several.")
    actor: str | None = Field(None, description="Only by this actor.")
    correlation: str | None = Field(None, description="Only what this root event set off.")
    since: str | None = Since
    until: str | None = Until
    payload: list[str] = Field(
        default_factory=list,
        description="Only with this at a path of the payload: PATH=JSON, e.g. scene.number=3; repeatable.",
    )
    metadata: list[str] = Field(default_factory=list, description="The same of the metadata, e.g. priority=5.")

    def wanted(self) -> EventFilter:
        """Return the filter.

        Raises:
            Mistake, InvalidFilter: a value cannot be read, or can match nothing.
        """
        return event_filter(
            self.project,
            self.type,
            self.actor,
            self.correlation,
            self.since,
            self.until,
            self.payload,
            self.metadata,
            written="{}",
        )


class Page(Events):
    """Which events, and which stretch of them."""

    after: int = Field(
        0, ge=0, le=MAX_POSITION, description="A position, exclusive: go on after the last page's `last`."
    )
    limit: int = Limit
    newest: bool = Field(
        False, description="The last `limit` events instead, in history order; `after` does not go with it."
    )
    before: int | None = Field(
        None, ge=0, le=MAX_POSITION, description="With `newest`: the last ones before this position, exclusive."
    )


class Tree(BaseModel):
    """How much of a tree."""

    model_config = ConfigDict(extra="forbid")

    depth: int | None = Field(None, ge=0, le=100_000, description="Levels below the event; all unless given.")
    limit: int = Field(
        10_000, ge=1, le=100_000, description="At most so many events; `count` tells how many there are."
    )


class Deliveries(BaseModel):
    """Which deliveries."""

    model_config = ConfigDict(extra="forbid")

    subscriber: str | None = Field(None, description="Only of this subscriber.")
    project: str | None = Field(None, description="Only of this project.")
    state: str | None = Field(None, description=f"Only in this state: {', '.join(STATES)}.")
    after: str | None = Field(None, description="Go on after the last page's `next`, POSITION:SUBSCRIBER:REDELIVERY.")
    limit: int = Limit


class Scheduled(BaseModel):
    """Which scheduled events."""

    model_config = ConfigDict(extra="forbid")

    project: str | None = Field(None, description="Only of this project.")
    type: list[str] = Field(default_factory=list, description="Only of this type; repeat it for several.")
    after: str | None = Field(None, description="Go on after the last page's `next`, DUE:EVENT_ID.")
    limit: int = Limit


class LetterQuestion(BaseModel):
    """Which dead letters."""

    model_config = ConfigDict(extra="forbid")

    subscriber: list[str] = Field(default_factory=list, description="Only of this subscriber; repeat it for several.")
    type: list[str] = Field(default_factory=list, description="Only of this event type; repeat it for several.")
    project: str | None = Field(None, description="Only of this project.")
    since: str | None = Since
    until: str | None = Until
    error: str = Field("", max_length=1000, description="Only with this text in their reason, whichever case.")
    name: list[str] = Field(
        default_factory=list, description="Only so named: by delivery, event id, or the letter's own position."
    )

    def wanted(self) -> LetterFilter:
        """Return the filter; what is given up from now on is not in it.

        Raises:
            Mistake: a moment cannot be read.
        """
        since, until = moment("since", self.since), moment("until", self.until)
        if since and until and since > until:
            raise InvalidFilter(f"The time range is reversed: since ({since.isoformat()}) is after until.")
        return LetterFilter(
            subscribers=tuple(self.subscriber),
            types=tuple(self.type),
            project_id=self.project,
            after=max(0, microseconds(since) - 1) if since else 0,
            before=microseconds(until) if until else END,
            error=self.error,
            names=frozenset(self.name),
        )


class Letters(LetterQuestion):
    """Which dead letters, and how many."""

    decided: bool = Field(False, description="Those about which somebody has decided, or that are lost, instead.")
    limit: int = Limit


class LetterOrder(LetterQuestion):
    """What is to be done with which dead letters."""

    all: bool = Field(False, description="Without any condition: every open dead letter is meant.")
    dry_run: bool = Field(False, description="Only say what would be done.")
    limit: int | None = Field(None, ge=1, description="At most so many.")
    reason: str = Field("", max_length=2000, description="Why; the outcomes keep it.")


class Series(BaseModel):
    """Which numbers by time."""

    model_config = ConfigDict(extra="forbid")

    project: str | None = Field(None, description="Only of this project.")
    grain: Literal["day", "hour"] = Field("day", description="The width of a bucket, in UTC.")
    since: str | None = Since
    until: str | None = Until


class Timeline(BaseModel):
    """Which project's timeline, and how much of it."""

    model_config = ConfigDict(extra="forbid")

    project: str = Field(description="The project.")
    limit: int = Field(1000, ge=1, le=5000, description="At most so many events, the newest.")


class OfProject(BaseModel):
    """Of which project."""

    model_config = ConfigDict(extra="forbid")

    project: str | None = Field(None, description="Only of this project; of all unless given.")


def given(model: BaseModel) -> dict[str, Any]:
    """Return the conditions of a question that were given."""
    return {name: value for name, value in model if value not in (None, "", [], False)}
