"""What the API's JSON looks like: for the OpenAPI document. The objects themselves are those of the command line."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from store.audit import Entry
from store.numbers import ActorStatistics, BucketStatistics, DeliveryStatistics, ProjectNumbers, TypeStatistics

Place = Field(description="Place in history: integer microseconds, unique and increasing.")


class EventShape(BaseModel):
    """An event at its position."""

    position: int = Place
    event_id: str
    project_id: str
    type: str
    actor: str
    causation_id: str | None = Field(description="The event that directly caused it.")
    correlation_id: str | None = Field(description="The root of everything that it belongs to.")
    timestamp: datetime
    payload: dict[str, JsonValue]
    blackboard_pointer: str | None
    metadata: dict[str, JsonValue]
    depth: int = Field(description="0 for a root, else one more than its cause's.")
    deliveries: list[str] = Field(description="The subscribers it was delivered to.")
    origin: str = Field(description="`publish`, `direct`, `import`, or the delivery whose handler returned it.")


class NewEvent(BaseModel):
    """An event to publish."""

    model_config = ConfigDict(extra="forbid", title="NewEvent")

    event_id: str | None = Field(None, description="Publishing the same id again stores and delivers it once.")
    project_id: str = Field(min_length=1, max_length=200)
    type: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_.:-]{0,99}$")
    actor: str = Field(min_length=1, max_length=200)
    causation_id: str | None = None
    correlation_id: str | None = None
    timestamp: datetime | None = Field(
        None, description="When it happened; now unless given, UTC unless it says otherwise."
    )
    payload: dict[str, JsonValue] = Field(default_factory=dict)
    blackboard_pointer: str | None = None
    metadata: dict[str, JsonValue] = Field(
        default_factory=dict, description="`cost` and `latency_ms` are numbers of at least 0; `priority` is -9 to 9."
    )


class CloudEvent(BaseModel):
    """A CloudEvent, version 1.0, in the structured mode; see docs/http_api.md for what becomes of its attributes."""

    model_config = ConfigDict(extra="allow")

    specversion: str = Field(pattern=r"^1\.0$")
    id: str
    source: str
    type: str
    subject: str | None = None
    time: datetime | None = None
    datacontenttype: str | None = None
    data: Any = None


class Published(BaseModel):
    """An acknowledged publish."""

    event_id: str
    position: int = Place
    is_new: bool = Field(description="False when it was published before; nothing was delivered again.")


class Planned(BaseModel):
    """An event that is held until it is due."""

    event_id: str
    due: datetime
    is_new: bool


class Refused(BaseModel):
    """An event of a batch that was not published."""

    event_id: str | None
    error: dict[str, Any] = Field(description="A problem, as of a single publish.")


class BatchAnswer(BaseModel):
    """What became of each event of a batch, in its order."""

    answers: list[Published | Planned | Refused]
    published: int
    known: int
    refused: int


class EventPage(BaseModel):
    """A stretch of history."""

    events: list[EventShape]
    last: int = Field(description="Ask for the next page with `after` set to this.")
    complete: bool = Field(description="Nothing followed when the page was read.")
    earlier: bool = Field(description="With `newest`: more that matches is before these; ask with `before`.")


class EventList(BaseModel):
    """Events in history order."""

    events: list[EventShape]


class TreeNode(BaseModel):
    """One event of a causation tree with what it and all below it amount to; a parent comes before its children."""

    level: int
    position: int
    event_id: str
    project_id: str
    type: str
    actor: str
    causation_id: str | None
    timestamp: datetime
    cost: float | None
    currency: str | None
    latency_ms: float | None
    waiting: int
    dead: int
    count: int
    cost_total: float
    cost_by_currency: dict[str, float]
    latency_total_ms: float
    elapsed_ms: float
    waiting_total: int
    dead_total: int
    critical: bool


class Tree(BaseModel):
    """A causation tree."""

    root: str = Field(description="The event that was asked for.")
    count: int = Field(description="Its events, of which `nodes` may leave some out.")
    nodes: list[TreeNode]
    missing: list[dict[str, Any]] = Field(description="Events whose cause is neither in history nor in the store.")


class AttemptShape(BaseModel):
    """How one attempt ended, or what was decided about a dead letter."""

    position: int
    ended_at: datetime
    redelivery: int
    attempt: int
    state: str
    worker: str
    elapsed_us: int
    error: str


class DeliveryShape(BaseModel):
    """One event to one subscriber."""

    name: str
    event_position: int
    subscriber: str
    redelivery: int
    state: str
    attempts: int
    settled_position: int | None
    settled_at: datetime | None
    event_id: str | None
    type: str | None
    project_id: str | None
    outcomes: list[AttemptShape] | None = None


class SpanShape(BaseModel):
    """How long a delivery waited for one attempt, and how long that ran."""

    subscriber: str
    name: str = Field(description="The delivery.")
    event_id: str
    type: str
    attempt: int = Field(description="1 for the first; the next one's number while it waits.")
    state: str = Field(description="How the attempt ended; `waiting` while it has not.")
    waited_from: datetime
    began: datetime | None
    ended: datetime | None
    error: str


class MarkShape(BaseModel):
    """The moment at which an actor's event was published."""

    actor: str
    event_id: str
    type: str
    at: datetime


class RootShape(BaseModel):
    """An event that set off what a timeline shows."""

    event_id: str
    count: int = Field(description="How many of the timeline's events are its, itself included.")


class Timeline(BaseModel):
    """What happened in a project, by the clock of its history."""

    project_id: str
    is_all: bool = Field(description="False when older events were left out.")
    marks: list[MarkShape]
    spans: list[SpanShape]
    roots: list[RootShape] = Field(description="What set them off, the most events first.")


class DeliveryPage(BaseModel):
    """Deliveries in the order of their events."""

    deliveries: list[DeliveryShape]
    next: str | None = Field(description="Ask for the next page with `after` set to this; null: there is none.")


class ScheduledShape(BaseModel):
    """An event that is to be published later, without its payload. What cannot be read is empty."""

    event_id: str
    due: datetime = Field(description="When it will be published, by the server's clock.")
    type: str
    project_id: str
    causation_id: str
    origin: str = Field(description="`publish`, or the delivery whose handler scheduled it.")


class ScheduledPage(BaseModel):
    """Scheduled events, the next due first."""

    scheduled: list[ScheduledShape]
    next: str | None = Field(description="Ask for the next page with `after` set to this; null: there is none.")
    count: int = Field(description="How many are scheduled, whatever was asked for.")


class ScheduleShape(BaseModel):
    """A cron schedule as workers declared it last."""

    name: str
    cron: str
    timezone: str
    missed: str = Field(description="What becomes of slots that nobody fired in time.")
    last: datetime | None = Field(description="The last slot that was fired; null when none was.")
    next: datetime | None = Field(description="The first slot that is not settled; null when it cannot be read.")
    overdue: bool = Field(description="That slot should have been fired by now.")


class ScheduleList(BaseModel):
    """Cron schedules by name."""

    schedules: list[ScheduleShape]


class LetterShape(BaseModel):
    """A dead letter."""

    name: str
    position: int
    given_up_at: datetime
    subscriber: str
    event_position: int
    redelivery: int
    event_id: str | None
    type: str | None
    project_id: str | None
    attempts: int
    worker: str
    reason: str
    blocks: str | None = Field(description="The ordered lane that waits for a decision about it.")
    resolution: str


class LetterPage(BaseModel):
    """Dead letters, open ones by subscriber and age."""

    dead_letters: list[LetterShape]
    is_all: bool = Field(description="False when there are more: ask with a larger limit or a narrower filter.")


class LetterDossier(LetterShape):
    """All that is known of a dead letter."""

    traceback: str
    output: str
    raw: str
    payload: dict[str, JsonValue] | None
    outcomes: list[AttemptShape]
    decision: AttemptShape | None
    chain: list[EventShape]


class Decisions(BaseModel):
    """What became of the dead letters that an order names."""

    dry_run: bool
    counts: dict[str, int] = Field(description="How many were `settled`, `gone`, `unreadable`, `undeclared`.")
    copies: int = Field(
        description="Of a purge: letters in the database alone, decided before or lost, whose texts are emptied."
    )
    letters: list[dict[str, Any]]
    says: list[str] = Field(description="What was done, or would be, a sentence each.")


class ProjectPage(BaseModel):
    """Projects with their numbers."""

    projects: list[ProjectNumbers]
    is_all: bool = Field(description="Whether no more follow.")
    last: str | None = Field(description="Where this page ends: `after` of the next one; null when it is empty.")


class Series(BaseModel):
    """Numbers by day or hour."""

    project_id: str | None
    grain: str
    buckets: list[BucketStatistics]
    deliveries: list[DeliveryStatistics]


class StatisticsShape(BaseModel):
    """What a project, or all, amounts to."""

    project_id: str | None
    total: TypeStatistics
    types: list[TypeStatistics]
    actors: list[ActorStatistics]
    deliveries: list[DeliveryStatistics]
    open_dead_letters: dict[str, int] = Field(description="Of all projects, by subscriber.")


class AuditPage(BaseModel):
    """Entries of the audit log."""

    entries: list[Entry]
