"""What the API's JSON looks like, as far as it is about subscribers and workers: for the OpenAPI document."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class LimitShape(BaseModel):
    """A limit of a subscriber; null is none."""

    holds: float | None
    declared: float | None
    is_set: bool = Field(description="An operator set it; it goes before the code's.")


class SubscriberShape(BaseModel):
    """How a subscriber stands."""

    subscriber: str
    state: str = Field(description="`live`, `paused`, `back-filling` or `dropping`.")
    paused: bool
    filled_to: int | None
    types: list[str]
    undeclared_types: list[str]
    ordering: str | None
    concurrency: LimitShape
    rate: LimitShape
    ready: int
    running: int
    waiting: int
    waiting_is_a_lower_bound: bool
    delayed: int
    parked: int
    dead: int
    oldest_s: float | None
    quiet_s: float | None
    workers: list[str]
    idle: bool
    orphaned: bool


class SubscriberList(BaseModel):
    """Subscribers by name."""

    subscribers: list[SubscriberShape]


class LagShape(BaseModel):
    """What waits for a subscriber, and who is there to do it: for autoscalers."""

    unsettled: int = Field(description="Ready, waiting, running and delayed: none of it may be without a worker.")
    lag: int
    ready: int
    waiting: int
    is_lower_bound: bool
    running: int
    delayed: int
    dead: int
    oldest_s: float | None
    oldest_is_lower_bound: bool
    workers: int
    capacity: int
    paused: bool


class RunShape(BaseModel):
    """What a worker is at."""

    subscriber: str
    event_id: str
    type: str
    attempt: int
    since: datetime


class WorkerShape(BaseModel):
    """A worker process."""

    consumer: str
    host: str
    pid: int
    alive: bool
    draining: bool
    started_at: datetime | None = Field(description="By its own clock; null where it has not said so.")
    seen_at: datetime
    silent_s: float
    threads: int
    concurrency: int
    subscribers: dict[str, int]
    running: int
    busy: list[RunShape]


class WorkerList(BaseModel):
    """Worker processes."""

    workers: list[WorkerShape]


class Limits(BaseModel):
    """Limits to set: a number, null for none, or `code` for what the code says. What is left out stays."""

    model_config = ConfigDict(extra="forbid")

    concurrency: int | Literal["code"] | None = Field(None, description="Most that are ready or run at once.")
    rate: float | Literal["code"] | None = Field(None, description="How many may begin in a second.")


class Redeliver(BaseModel):
    """Which event is to be delivered again."""

    model_config = ConfigDict(extra="forbid")

    event_id: str = Field(min_length=1, max_length=200)
    reason: str = Field("", max_length=2000, description="Why; the outcomes keep it.")


class Redelivered(BaseModel):
    """What came of it."""

    made: int = Field(description="Deliveries that were made: 1, or 0 when the subscriber does not take it.")


class Steering(BaseModel):
    """A subscriber after a change."""

    subscriber: SubscriberShape
    taken_back: int = Field(description="Deliveries that were ready for workers and wait again.")
    unheeded: list[str] = Field(description="Of a pause: workers that have not said that they heed it.")
    trouble: str | None = Field(description="Why the database does not have it too; null: it has.")
    warnings: list[str] = Field(description="The same as sentences: what somebody should know.")
