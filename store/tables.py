"""The legend of every column. Migrations make the tables; this file says what they mean.

Every table is shared by namespaces: `namespace` leads every key. Positions are the clock's integer
microseconds. Text is `text`: lengths are checked where events are made.

    events         one row per event, at its position; never updated
    event_index    event id -> position: uniqueness and lookup (`events` is partitioned by position
                   on PostgreSQL, and a partitioned table cannot hold a unique id)
    outcomes       one row per attempt; never updated
    deliveries     one row per delivery: what became of it, folded from events and outcomes
    dead_letters   one row per delivery given up: why, in full, and what was done about it
    rejected       entries of a stream that cannot be stored, with the reason
    archive        one row per stream: how far it is archived; its lock makes one writer
    subscriptions  who is subscribed to what, to declare a lost Redis namespace again
    outbox         events that callers' own transactions have committed, until they are in `events`
    inbox          what handlers' own transactions have committed, one row per event and subscriber
    blackboard     the projects' shared state: one row per version of a key
    redactions     one row per event of which something was redacted: when, and what
    audit          one row per thing that somebody did through the web process

Two tables are sums over the others, written in the same transactions; docs/statistics.md says what always holds:

    event_statistics     counts, costs, latencies of events
    delivery_statistics  states, attempts, failures, running times of deliveries
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic_core import from_json
from sqlalchemy import BigInteger, Column, Identity, Index, Integer, LargeBinary, MetaData, Numeric, Table, Text, text
from sqlalchemy.dialects.postgresql import TIMESTAMP
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine, UserDefinedType

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Moment(TypeDecorator[datetime]):
    """An aware moment in UTC, exact to the microsecond: `timestamptz`; on SQLite the microseconds since 1970."""

    impl = BigInteger
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(TIMESTAMP(timezone=True) if dialect.name == "postgresql" else BigInteger())

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        return value if value is None or dialect.name == "postgresql" else microseconds(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.astimezone(UTC) if isinstance(value, datetime) else _EPOCH + value * _MICROSECOND


class Whole(TypeDecorator[int]):
    """A whole number of any size: `numeric`; on SQLite its digits as text."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(Numeric() if dialect.name == "postgresql" else Text())

    def process_bind_param(self, value: int | None, dialect: Dialect) -> Any:
        return value if value is None or dialect.name == "postgresql" else str(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> int | None:
        return None if value is None else int(value)


class _PostgresJson(UserDefinedType[str]):
    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "JSONB"


class JsonText(TypeDecorator[Any]):
    """JSON: takes text, gives the parsed value. `jsonb` on PostgreSQL.

    jsonb rewrites numbers (1e300, -0.0), so that an event's digest would no longer be its own: what it would
    not give back as it was written is kept in `events.exact` too.
    """

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(_PostgresJson() if dialect.name == "postgresql" else Text())

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        return read_json(value) if isinstance(value, str) else value


def read_json(text: str) -> Any:
    """Return the value of JSON that was stored."""
    try:
        return from_json(text, allow_inf_nan=False)
    except ValueError:  # nested deeper than the quick reader goes
        return json.loads(text)


def microseconds(moment: datetime) -> int:
    """Return an aware moment as integer microseconds since 1970, exactly."""
    return (moment - _EPOCH) // _MICROSECOND


metadata = MetaData()

events = Table(
    "events",
    metadata,
    Column("namespace", Text, primary_key=True),
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("event_id", Text, nullable=False),
    Column("project_id", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("causation_id", Text),  # the direct cause; it need not be stored
    Column("correlation_id", Text, nullable=False),  # the root's id
    Column("depth", Integer, nullable=False),  # 0 for a root
    Column("timestamp", Moment, nullable=False),  # when it happened, by its publisher's clock
    Column("payload", JsonText, nullable=False),
    Column("blackboard_pointer", Text),
    Column("metadata", JsonText, nullable=False),
    Column("cost_micros", BigInteger),  # metadata.cost in millionths, rounded; null when it has none
    Column("currency", Text),  # metadata.currency of a cost; null means USD
    Column("latency_us", BigInteger),  # metadata.latency_ms in microseconds, rounded
    Column("origin", Text, nullable=False),  # publish, direct, import, or the delivery that returned it
    Column("deliveries", JsonText, nullable=False),  # subscribers' names at publish, a sorted list
    Column("exact", Text),  # payload and metadata as they were written, where jsonb would change them
    # replay of one project
    Index("events_project", "namespace", "project_id", "position"),
    # replay of a few types
    Index("events_type", "namespace", "type", "position"),
    # replay of one actor
    Index("events_actor", "namespace", "actor", "position"),
    # replay of everything one root set off
    Index("events_correlation", "namespace", "correlation_id", "position"),
    # replay of a time range
    Index("events_timestamp", "namespace", "timestamp", "position"),
    # children and trees; roots have no cause and are not in it
    Index(
        "events_causation",
        "namespace",
        "causation_id",
        "position",
        postgresql_where=text("causation_id IS NOT NULL"),
        sqlite_where=text("causation_id IS NOT NULL"),
    ),
)

event_index = Table(
    "event_index",
    metadata,
    Column("namespace", Text, primary_key=True),
    Column("event_id", Text, primary_key=True),
    Column("position", BigInteger, nullable=False),
)

outcomes = Table(
    "outcomes",
    metadata,
    Column("namespace", Text, primary_key=True),
    Column("position", BigInteger, primary_key=True, autoincrement=False),  # the outcome's own
    Column("event_position", BigInteger, nullable=False),  # 0: the entry was too malformed to tell
    Column("subscriber", Text, nullable=False),
    Column("redelivery", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),  # 1 for the first try
    Column("state", Text, nullable=False),  # an AttemptState
    Column("worker", Text, nullable=False),
    Column("elapsed_us", BigInteger, nullable=False),
    Column("error", Text, nullable=False),
    # the attempts at an event's deliveries, in order
    Index("outcomes_delivery", "namespace", "event_position", "position"),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("namespace", Text, primary_key=True),
    Column("event_position", BigInteger, primary_key=True, autoincrement=False),
    Column("subscriber", Text, primary_key=True),
    Column("redelivery", Integer, primary_key=True, autoincrement=False),
    Column("state", Text, nullable=False),  # waiting, done, dead, discarded, dropped
    Column("attempts", Integer, nullable=False),  # the highest attempt that has an outcome
    Column("settled_position", BigInteger),  # position of the outcome that ended it
    # its event's; null until the event is archived
    Column("project_id", Text),
    Column("type", Text),
    Column("actor", Text),
    # a subscriber's deliveries, in order
    Index("deliveries_subscriber", "namespace", "subscriber", "event_position", "redelivery"),
    # what waits, and what ended otherwise than well: few, whatever the history
    Index(
        "deliveries_state",
        "namespace",
        "state",
        "event_position",
        "subscriber",
        "redelivery",
        postgresql_where=text("state <> 'done'"),
        sqlite_where=text("state <> 'done'"),
    ),
)

dead_letters = Table(
    "dead_letters",
    metadata,
    Column("namespace", Text, primary_key=True),
    Column("position", BigInteger, primary_key=True, autoincrement=False),  # its own: its entry in Redis's dead:<S>
    Column("event_position", BigInteger, nullable=False),  # 0: the entry was too malformed to tell
    Column("subscriber", Text, nullable=False),
    Column("redelivery", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("worker", Text, nullable=False),
    Column("reason", Text, nullable=False),  # one line
    Column("traceback", Text, nullable=False),  # this and the next two are empty once purged
    Column("output", Text, nullable=False),  # returned events that could not be published, JSON; or empty
    Column("raw", Text, nullable=False),  # what was queued, when it could not be read; else empty
    Column("resolution", Text, nullable=False),  # open, retried, discarded, purged, dropped
    # of the outcome that says so; null while open, and when it was purged after Redis had lost it
    Column("resolved_position", BigInteger),
    # the dead letters of one event, and whether one is open
    Index("dead_letters_delivery", "namespace", "event_position", "resolution", "position"),
    # those that nobody has decided about, and their events
    Index("dead_letters_resolution", "namespace", "resolution", "position", "event_position"),
)

rejected = Table(
    "rejected",
    metadata,
    Column("namespace", Text, primary_key=True),
    Column("stream", Text, primary_key=True),  # history, outcomes
    Column("entry_id", Text, primary_key=True),
    Column("reason", Text, nullable=False),
    Column("raw", Text, nullable=False),
)

archive = Table(
    "archive",
    metadata,
    Column("namespace", Text, primary_key=True),
    # history, outcomes; direct, deliveries, lives, outbox: see store/cursors.py
    Column("stream", Text, primary_key=True),
    Column("position", BigInteger, nullable=False),  # everything up to here is in SQL
    Column("last_entry", Text, nullable=False),  # id of the last entry looked at
)

subscriptions = Table(
    "subscriptions",
    metadata,
    Column("namespace", Text, primary_key=True),
    Column("subscriber", Text, primary_key=True),
    Column("types", JsonText, nullable=False),  # names, a sorted list
    Column("options", JsonText, nullable=False),  # what its code declares of the record, an object
    # what operators set, and where a back-fill began: fields of the record, an object
    Column("steering", JsonText, nullable=False, server_default="{}"),
)

outbox = Table(
    "outbox",
    metadata,
    # in the order of `add`, not of commits: a row with a smaller id may appear later
    Column("id", BigInteger().with_variant(Integer, "sqlite"), Identity(), primary_key=True),
    Column("namespace", Text, nullable=False),
    Column("event_id", Text, nullable=False),
    Column("body", Text, nullable=False),  # the encoded event
    Column("size_bytes", Integer, nullable=False),  # of the body in UTF-8
    Column("state", Text, nullable=False),  # pending, published, refused
    Column("attempts", Integer, nullable=False),  # how often it was published or refused
    Column("error", Text, nullable=False),  # why it was refused, a sentence; else empty
    Column("added_at", Moment, nullable=False),  # by the clock of who added it
    Column("tried_at", Moment),  # when it was published or refused last, by the relay's clock
    Column("position", BigInteger),  # where it was published; null before
    # one row for an id
    Index("outbox_event", "namespace", "event_id", unique=True),
    # what is pending, in order
    Index("outbox_state", "namespace", "state", "id"),
    # SQLite would give the id of a deleted row again, which a slow relay still takes for the old one's
    sqlite_autoincrement=True,
)

inbox = Table(
    "inbox",
    metadata,
    Column("namespace", Text, primary_key=True),
    Column("subscriber", Text, primary_key=True),
    Column("event_id", Text, primary_key=True),
    Column("step", Text, primary_key=True),  # which of a handler's transactions; empty where it has one
    Column("delivery", Text, nullable=False),  # `<position>:<subscriber>:<redelivery>` of the attempt that did it
    Column("handled_at", Moment, nullable=False),  # by the worker's clock
    # what goes with an event that is pruned
    Index("inbox_event", "namespace", "event_id"),
)

blackboard = Table(
    "blackboard",
    metadata,
    Column("namespace", Text, primary_key=True),
    Column("project_id", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("version", BigInteger, primary_key=True, autoincrement=False),  # 1 for the first; no gap
    Column("kind", Text, nullable=False),  # json, bytes, deleted, redacted; the last two have no value
    Column("value", JsonText),  # of kind json
    Column("exact", Text),  # the JSON as it was written, where jsonb would change it
    Column("data", LargeBinary),  # of kind bytes
    Column("size_bytes", BigInteger, nullable=False),  # of the JSON in UTF-8, or of the bytes
    Column("written_at", Moment, nullable=False),  # by the writer's clock
    Column("actor", Text),  # who wrote it, if it said so
    Column("event_id", Text),  # the event while whose handling it was written
)

redactions = Table(
    "redactions",
    metadata,
    Column("namespace", Text, primary_key=True),
    Column("event_id", Text, primary_key=True),
    Column("paths", JsonText, nullable=False),  # what was replaced, a sorted list; ["payload"]: all of it
    Column("redacted_at", Moment, nullable=False),  # the last time
)

audit = Table(
    "audit",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), Identity(), primary_key=True),
    Column("namespace", Text, nullable=False),
    Column("at", Moment, nullable=False),  # by the clock of who logs
    Column("who", Text, nullable=False),  # what somebody calls himself
    Column("address", Text, nullable=False),  # where the request came from
    Column("action", Text, nullable=False),  # the operation's name
    Column("target", Text, nullable=False),  # the path of the request
    Column("details", JsonText, nullable=False),  # what was asked, an object, without payloads
    Column("status", Integer, nullable=False),  # the HTTP status of the answer; 0: none was given
    # the newest first
    Index("audit_place", "namespace", "id"),
    sqlite_autoincrement=True,
)

event_statistics = Table(
    "event_statistics",
    metadata,
    Column("namespace", Text, primary_key=True),
    Column("grain", Text, primary_key=True),  # total, day, hour; before the project, so that totals lie together
    Column("project_id", Text, primary_key=True),  # empty: of all projects together
    Column("start", BigInteger, primary_key=True, autoincrement=False),  # microseconds since 1970; 0 for a total
    Column("type", Text, primary_key=True),
    Column("actor", Text, primary_key=True),
    Column("events", BigInteger, nullable=False),
    Column("priced", BigInteger, nullable=False),  # events that have a cost
    Column("cost_micros", JsonText, nullable=False),  # millionths by currency, an object
    Column("timed", BigInteger, nullable=False),  # events that have a latency
    Column("latency_us", Whole, nullable=False),  # their sum
    Column("latency_bins", JsonText, nullable=False),  # how many are in each bin of store/bins.py, an object
    Column("first_time", Moment, nullable=False),
    Column("last_time", Moment, nullable=False),
)

delivery_statistics = Table(
    "delivery_statistics",
    metadata,
    Column("namespace", Text, primary_key=True),
    Column("grain", Text, primary_key=True),  # total, day, hour; before the project, so that totals lie together
    Column("project_id", Text, primary_key=True),  # empty: of all projects together
    Column("start", BigInteger, primary_key=True, autoincrement=False),  # microseconds since 1970; 0 for a total
    Column("subscriber", Text, primary_key=True),
    # of their events; both are empty while these are not archived, where they never are, and of what was pruned
    # before schema 0008
    Column("type", Text, primary_key=True),
    Column("actor", Text, primary_key=True),
    Column("waiting", BigInteger, nullable=False),  # deliveries in each state
    Column("done", BigInteger, nullable=False),
    Column("dead", BigInteger, nullable=False),
    Column("discarded", BigInteger, nullable=False),
    Column("dropped", BigInteger, nullable=False),
    Column("attempts", BigInteger, nullable=False),  # the sum of theirs
    Column("failures", BigInteger, nullable=False),  # outcomes that are retried, dead, lost
    Column("timed", BigInteger, nullable=False),  # outcomes that say how long a handler ran
    Column("elapsed_us", Whole, nullable=False),  # the sum of these times
    Column("elapsed_bins", JsonText, nullable=False),  # how many are in each bin of store/bins.py, an object
)
