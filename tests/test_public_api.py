"""The names that applications build on. A change here is a change for every user: say so in CHANGELOG.md."""

from __future__ import annotations

import base64
import hashlib
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Callable
from configparser import ConfigParser
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

import events
import events.errors
import events.factory
import events.testing
import events.testing_pytest
import store.blackboard
import store.inbox
import store.outbox
import store.persistence
from events.bus import EventBus
from events.context import Handling
from events.due import Scheduled
from events.encoding import decode, digest, encode
from events.event import Event, new_event_id
from events.keys import GROUP, SUFFIX, Keys
from events.publisher import Receipt
from events.records import AttemptState, DeadLetter, Outcome, RecordedEvent
from events.scripts import NAMES, sources
from events.settings import Settings
from events.subscriber import CallbackSubscriber, EventSubscriber
from events.subscriptions import SubscriberOptions
from events.testing import CrashReport, Delivered, TestBus, Tried, crash_test, crash_test_async
from events.types import EventType
from store.exporting import COLUMNS
from store.numbers import (
    ActorStatistics,
    BucketStatistics,
    DeliveryNumbers,
    DeliveryStatistics,
    ProjectNumbers,
    ProjectStatistics,
    TypeStatistics,
)
from store.pointers import Pointer
from store.state import Entry
from store.statistics import Statistics
from store.tables import metadata
from store.tree import CausationTree, MissingLink, TreeEvent

ROOT = Path(__file__).parent.parent


def shape(function: Callable[..., Any]) -> str:
    """Return the parameters as a caller sees them: names, kinds and defaults, without annotations."""
    signature = inspect.signature(function)
    bare = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in signature.parameters.values()]
    return str(signature.replace(parameters=bare, return_annotation=inspect.Signature.empty))


def public_methods(cls: type) -> dict[str, str]:
    found = inspect.getmembers(cls, lambda member: inspect.isfunction(member) or isinstance(member, property))
    return {name: shape(m) if callable(m) else "property" for name, m in found if not name.startswith("_")}


def test_the_package_gives_these_names() -> None:
    assert sorted(events.__all__) == [
        "CallbackSubscriber", "Discard", "Event", "EventBus", "EventBusError", "EventSubscriber", "EventType", "Retry",
        "Settings", "TimeLimitExceeded", "publish",
    ]  # fmt: skip
    assert set(events.__all__) <= set(dir(events))
    assert all(getattr(events, name) is not None for name in events.__all__)
    with pytest.raises(AttributeError, match="module 'events' has no attribute 'Nothing'"):
        events.Nothing  # noqa: B018


def test_the_seeds_import_lines_work() -> None:
    code = """
from events import Event, EventType, EventSubscriber, CallbackSubscriber, EventBus, publish
from events.factory import EventBusFactory, EventBusManager
from store.persistence import EventPersistence
from store.blackboard import Blackboard, BlackboardFactory
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_the_bus_has_these_methods() -> None:
    question = (
        "project_id=None, start_time=None, end_time=None, event_types=None, actor=None, correlation_id=None, "
        "payload=None, metadata=None"
    )
    assert public_methods(EventBus) == {
        "publish": "(self, event, *, delay=None, at=None, durable=False)",
        "publish_large": "(self, event, *, delay=None, at=None, durable=False)",
        "publish_many": "(self, events, *, delay=None, at=None, durable=False)",
        "publish_sync": "(self, event, *, delay=None, at=None, durable=False)",
        "publish_many_sync": "(self, events, *, delay=None, at=None, durable=False)",
        "cancel": "(self, event_id)",
        "every": "(self, cron, factory=None, *, name=None, timezone='UTC', missed='last')",
        "schedules": "property",
        "subscribe": "(self, agent, types, **options)",
        "subscriber": "(self, name, types, **options)",
        "join": "(self, name, after, of, *, timeout=86400.0, partial='run', **options)",
        "unsubscribe": "(self, agent, types=None)",
        "subscriptions": "property",
        "start_consuming": "(self, *, threads=None, archive=True)",
        "stop_consuming": "(self, *, grace_s=None)",
        "disconnect": "(self)",
        "close": "(self)",
        "blackboard": "property",
        "payload_of": "(self, event)",
        "payload": "(self, type, model=None, *, version=1)",
        "upcaster": "(self, type, function=None, *, from_version)",
        "checked": "(self, event)",
        "read": "(self, event, payload=None)",
        "get_causation_chain": "(self, event_id)",
        "get_causation_children": "(self, event_id)",
        "get_causation_tree": "(self, event_id)",
        "replay_events": f"(self, {question})",
        "iter_events": f"(self, after=0, *, {question})",
        "redeliver": "(self, subscriber, after=0, *, rate=None, reason='', progress=None, **filters)",
    }
    assert shape(EventBus.__init__) == "(self, settings=None)"


def test_the_methods_that_wait_are_coroutines_and_the_plain_calls_are_not() -> None:
    waits = {
        "publish", "publish_large", "publish_many", "payload_of", "start_consuming", "stop_consuming", "disconnect",
        "replay_events", "get_causation_children", "get_causation_tree", "redeliver",
    }  # fmt: skip
    assert {name for name in public_methods(EventBus) if inspect.iscoroutinefunction(getattr(EventBus, name))} == waits
    assert inspect.isasyncgenfunction(EventBus.iter_events)
    persistence = store.persistence.EventPersistence
    assert inspect.isasyncgenfunction(persistence.iter_events)
    assert {name for name in public_methods(persistence)} - {"iter_events"} == {
        name for name in public_methods(persistence) if inspect.iscoroutinefunction(getattr(persistence, name))
    }


def test_the_factories_have_these_shapes() -> None:
    assert shape(events.factory.EventBusFactory.create) == "(settings=None, blackboard=None)"
    assert inspect.iscoroutinefunction(events.factory.EventBusFactory.create)
    assert shape(events.factory.EventBusManager.__init__) == "(self, settings=None, subscribers=())"
    assert {"__aenter__", "__aexit__"} <= set(vars(events.factory.EventBusManager))
    assert shape(store.blackboard.BlackboardFactory.create) == "(settings=None)"
    assert shape(store.persistence.EventPersistence.__init__) == "(self, blackboard)"
    assert {"__enter__", "__exit__", "close"} <= set(vars(store.blackboard.Blackboard))


def test_the_persistence_has_these_methods() -> None:
    assert public_methods(store.persistence.EventPersistence) == {
        "persist_event": "(self, event)",
        "persist_events": "(self, events)",
        "get_events": "(self, project_id=None, event_types=None, start_time=None, end_time=None, actor=None, "
        "correlation_id=None, after=None, limit=None, payload=None, metadata=None)",
        "iter_events": "(self, after=0, *, project_id=None, start_time=None, end_time=None, event_types=None, "
        "actor=None, correlation_id=None, payload=None, metadata=None)",
        "get_event_statistics": "(self, project_id=None)",
        "get_project_statistics": "(self, limit=20)",
        "get_event_series": "(self, project_id=None, grain='day', start_time=None, end_time=None)",
        "get_delivery_statistics": "(self, project_id=None)",
    }


def test_the_outbox_and_the_inbox_are_these_functions() -> None:
    assert shape(store.outbox.add) == "(session, event, *, settings=None)"
    assert shape(store.inbox.once) == "(session, delivery=None, *, step='')"
    assert shape(store.inbox.forget) == "(session, subscriber, event_ids=None, *, settings=None)"
    assert [field.name for field in fields(Handling)] == [
        "event", "subscriber", "attempt", "delivery", "namespace", "published",
    ]  # fmt: skip


def test_the_blackboard_has_these_calls() -> None:
    page = "limit=100)"
    shapes = public_methods(store.blackboard.Blackboard)
    assert {name: shapes[name] for name in shapes if shapes[name] != "property"} == {
        "put": "(self, project_id, key, value, *, actor=None)",
        "get": "(self, pointer)",
        "newest": "(self, project_id, key)",
        "compare_and_set": "(self, project_id, key, expected_version, value, *, actor=None)",
        "delete": "(self, project_id, key, *, actor=None)",
        "history": f"(self, project_id, key, *, before=None, {page}",
        "keys": f"(self, project_id, *, after='', {page}",
        "offload": "(self, event, over_bytes=None)",
        "payload_of": "(self, event)",
        "run": "(self, call, *args, **kwargs)",
        "close": "(self)",
    }
    assert [field.name for field in fields(Entry)] == [
        "project_id", "key", "version", "kind", "size_bytes", "written_at", "actor", "event_id", "value",
    ]  # fmt: skip
    assert str(Pointer("P/1@%", "scenes/3@%", 7)) == "bb:P%2F1%40%25/scenes/3%40%25@7"


def test_an_event_has_these_fields_and_methods() -> None:
    assert list(Event.model_fields) == [
        "event_id", "project_id", "type", "actor", "causation_id", "correlation_id", "timestamp", "payload",
        "blackboard_pointer", "metadata",
    ]  # fmt: skip
    assert shape(Event.caused) == (
        "(self, type, *, actor=None, payload=None, cost=None, latency_ms=None, blackboard_pointer=None, metadata=None)"
    )
    assert isinstance(Event.cost, property) and isinstance(Event.latency_ms, property)
    assert [shape(f) for f in (encode, decode, digest, new_event_id)] == [
        "(event)", "(body, correlation_id=None)", "(event)", "()",
    ]  # fmt: skip


def test_the_wire_format_of_an_event_is_this() -> None:
    event = Event(
        event_id="EV-1", project_id="P", type="X", actor="a", timestamp="2024-01-02T03:04:05.000006Z", payload={"n": 1},
        causation_id="EV-0", metadata={"cost": 0.5},
    )  # fmt: skip

    assert encode(event) == (
        b'{"event_id":"EV-1","project_id":"P","type":"X","actor":"a","timestamp":"2024-01-02T03:04:05.000006+00:00",'
        b'"causation_id":"EV-0","payload":{"n":1},"metadata":{"cost":0.5}}'
    )
    said = b'["P","X","a","EV-0",{"n":1},null]'
    assert digest(event) == base64.b64encode(hashlib.blake2b(said, digest_size=9).digest()).decode()


def test_the_vocabulary_is_this() -> None:
    assert " ".join(EventType) == (
        "PROJECT_CREATED PROJECT_FINALIZED SCENE_WRITTEN SHOT_PLANNED KEYFRAME_REQUESTED IMAGE_GENERATED "
        "DNA_BANK_UPDATED PROMPT_ADJUSTMENT PREVIEW_VIDEO_REQUESTED PREVIEW_VIDEO_READY FINAL_VIDEO_REQUESTED "
        "FINAL_VIDEO_READY QA_REPORT CONSISTENCY_FAILED MUSIC_COMPOSED VOICE_RENDERED SHOT_APPROVED "
        "USER_APPROVAL_REQUIRED USER_APPROVED USER_REVISION_REQUESTED USER_REJECTED HUMAN_GATE_TRIGGERED "
        "COST_OVERRUN_WARNING IMAGE_EDIT_REQUESTED IMAGE_EDITED ERROR_DETECTED ERROR_CORRECTED "
        "ERROR_CORRECTION_REQUESTED USER_ERROR_REPORTED"
    )


def test_the_values_have_these_fields() -> None:
    assert [field.name for field in fields(Receipt)] == ["event_id", "position", "is_new"]
    assert [field.name for field in fields(Scheduled)] == ["event_id", "due", "is_new"]
    assert [field.name for field in fields(CausationTree)] == [
        "event", "children", "count", "costs_micros", "latency_us", "end_us", "slowest", "waiting", "dead", "missing",
    ]  # fmt: skip
    assert TreeEvent._fields == (
        "position", "event_id", "project_id", "type", "actor", "causation_id", "timestamp", "cost_micros", "currency",
        "latency_us", "waiting", "dead",
    )  # fmt: skip
    assert [field.name for field in fields(MissingLink)] == ["event_id", "position", "causation_id"]
    assert [field.name for field in fields(RecordedEvent)] == ["position", "event", "depth", "deliveries", "origin"]
    assert [field.name for field in fields(Outcome)] == [
        "position", "event_position", "subscriber", "redelivery", "attempt", "state", "worker", "elapsed_us", "error",
        "letter", "traceback", "output", "raw",
    ]  # fmt: skip
    assert [*AttemptState] == [
        "done", "retried", "dead", "discarded", "dropped", "lost", "interrupted", "redelivered", "purged",
    ]  # fmt: skip
    assert [field.name for field in fields(DeadLetter)] == [
        "position", "subscriber", "event_position", "redelivery", "attempts", "worker", "reason", "event", "traceback",
        "output", "raw", "entry_id", "lane", "resolution", "resolved_position",
    ]  # fmt: skip


def test_statistics_have_these_fields_and_methods() -> None:
    numbers = [
        "count", "cost_total", "cost_average", "cost_by_currency", "latency_average_ms", "latency_p50_ms",
        "latency_p95_ms", "latency_p99_ms", "first_time", "last_time",
    ]  # fmt: skip
    handled = {TypeStatistics: "type", ActorStatistics: "actor", ProjectNumbers: "project_id"}
    assert {kind: [field.name for field in fields(kind)] for kind in handled} == {
        kind: [*numbers, "deliveries", name] for kind, name in handled.items()
    }
    assert [field.name for field in fields(BucketStatistics)] == [*numbers, "start"]
    assert [field.name for field in fields(ProjectStatistics)] == ["project_id", "types", "total", "actors"]
    deliveries = [
        "waiting", "done", "dead", "discarded", "dropped", "attempts", "failures", "elapsed_average_ms",
        "elapsed_p50_ms", "elapsed_p95_ms", "elapsed_p99_ms",
    ]  # fmt: skip
    assert [field.name for field in fields(DeliveryNumbers)] == deliveries
    assert [field.name for field in fields(DeliveryStatistics)] == [*deliveries, "subscriber", "start"]
    assert public_methods(Statistics) == {
        "project": "(self, project_id=None)",
        "projects": "(self, limit=20, *, search='', order='cost')",
        "projects_after": "(self, after, limit, *, search='', order='cost')",
        "sums": "(self)",
        "senders": "(self)",
        "series": "(self, project_id=None, grain='day', start=None, end=None)",
        "deliveries": "(self, project_id=None)",
        "delivery_series": "(self, project_id=None, grain='day', start=None, end=None)",
    }


def test_a_subscriber_has_these_options() -> None:
    assert {field.name: field.default for field in fields(SubscriberOptions)} == {
        "ordering": None,
        "on_dead": "skip",
        "max_attempts": 5,
        "min_backoff": 45.0,
        "max_backoff": 3600.0,
        "jitter": 0.25,
        "retry_on": None,
        "give_up_on": (),
        "time_limit": 600.0,
        "concurrency": None,
        "rate_limit": None,
        "batch": None,
        "join": None,
        "start": "now",
    }
    assert EventSubscriber.__abstractmethods__ == {"handle_event"}
    assert shape(CallbackSubscriber.__init__) == "(self, name, callback)"


def test_the_settings_are_these() -> None:
    assert {field.name: field.default for field in fields(Settings)} == {
        "redis_url": None,
        "redis_trust": None,
        "database_url": None,
        "home": ".eventbus",
        "namespace": "eventbus",
        "app": None,
        "lease_s": 60.0,
        "dedupe_s": 86_400.0,
        "max_event_bytes": 1_048_576,
        "max_routes": 100,
        "reset_wait_s": 10.0,
        "timeout_s": 5.0,
        "grace_s": 25.0,
        "processes": 2,
        "max_events_per_process": 0,
        "threads": 8,
        "concurrency": 400,
        "history_margin_s": 60.0,
        "archive_batch": 5000,
        "sql_pool_size": 5,
        "tracing": None,
        "web_port": 8080,
        "web_token": None,
        "web_read_token": None,
        "log_format": None,
    }


def test_the_error_tree_is_the_one_drawn_in_its_file() -> None:
    drawn: dict[str, str] = {}
    path: list[str] = []
    for line in (events.errors.__doc__ or "").splitlines():
        found = re.match(r"    ((?:[│ ]   )*)(?:[├└]── )?([A-Z][A-Za-z]+)(?: |$)", line)
        if found:
            depth = (len(found[1]) // 4) + (1 if "──" in line else 0)
            path[depth:] = [found[2]]
            drawn[found[2]] = path[depth - 1] if depth else "Exception"
    actual = {
        name: cls.__bases__[0].__name__
        for name, cls in vars(events.errors).items()
        if isinstance(cls, type) and issubclass(cls, Exception) and cls.__module__ == "events.errors"
    }

    assert {name: base for name, base in actual.items() if name not in ("Discard", "Retry")} == drawn
    assert sorted(drawn) == [
        "CertificateRefused", "DropRefused", "EmbeddedServerError", "EventBusError", "EventIdConflict",
        "EventNotFound", "EventTooLarge", "HandlersFailed", "HistoryReset", "InvalidEvent", "InvalidFilter",
        "InvalidImport", "InvalidSchedule", "InvalidSchema", "InvalidSettings", "InvalidSubscription",
        "InvalidValue", "LoginRefused", "MalformedEntry", "NotDurable", "NotIdempotent", "NotIdle",
        "NotMigrated", "PayloadUnreadable", "PublishRefused", "RedeliveryRefused", "RedisUnavailable",
        "ScriptFailed", "StoreUnavailable", "TooManyRoutes", "Unavailable", "UnknownSubscriber",
        "ValueNotFound", "VersionConflict",
    ]  # fmt: skip
    assert (actual["Discard"], actual["Retry"]) == ("Exception", "Exception")
    assert events.errors.TimeLimitExceeded.__bases__ == (BaseException,)
    assert shape(events.errors.Retry.__init__) == "(self, after=None, reason='', *, at_least=False)"
    assert shape(events.errors.Discard.__init__) == "(self, reason='')"


@pytest.mark.parametrize(
    ("name", "builtin"),
    [
        ("InvalidEvent", ValueError),
        ("InvalidFilter", ValueError),
        ("InvalidSchedule", ValueError),
        ("InvalidSchema", ValueError),
        ("PayloadUnreadable", ValueError),
        ("InvalidSettings", ValueError),
        ("InvalidSubscription", ValueError),
        ("InvalidImport", ValueError),
        ("InvalidValue", ValueError),
        ("EventNotFound", LookupError),
        ("ValueNotFound", LookupError),
        ("UnknownSubscriber", LookupError),
        ("MalformedEntry", ValueError),
        ("Unavailable", ConnectionError),
        ("NotIdle", TimeoutError),
        ("NotIdempotent", AssertionError),
    ],
)
def test_errors_are_also_pythons_own(name: str, builtin: type[Exception]) -> None:
    assert issubclass(getattr(events.errors, name), builtin)


def test_the_kit_for_tests_is_this() -> None:
    expected = "deadline_s=None, skip_s=inf, raises=None, allow_dead=False"
    assert sorted(events.testing.__all__) == [
        "CrashReport", "Delivered", "Killed", "Point", "TestBus", "Tried", "crash_test", "crash_test_async",
    ]  # fmt: skip
    bus = public_methods(EventBus)
    assert {name: form for name, form in public_methods(TestBus).items() if bus.get(name) != form} == {
        "run_until_idle": f"(self, *, {expected})",
        "run_until_idle_sync": f"(self, *, {expected})",
        "events": "(self, *types)",
        "caused_by": "(self, event)",
        "tree": "(self, event)",
        "unheard": "(self)",
        "deliveries": "(self, subscriber=None, *, state=None)",
        "dead_letters": "(self)",
        "costs": "(self, event=None)",
        "environment": "property",
        "database_url": "property",
        "skipped_s": "property",
    }
    assert shape(TestBus) == "(app=None, *, deadline_s=30.0, **settings)"
    form = (
        "(subscriber, event, *, bus=None, setup=None, state=None, engines=(), types=None, reorder=True, "
        "deadline_s=30.0, **options)"
    )
    assert (shape(crash_test), shape(crash_test_async)) == (form, form)
    assert public_methods(CrashReport) == {
        "first": "property", "is_idempotent": "property", "raise_if_not": "(self)",
    }  # fmt: skip
    assert [field.name for field in fields(CrashReport)] == ["subscriber", "tried", "notes"]
    assert [field.name for field in fields(Tried)] == ["what", "differences", "was_reached"]
    assert [field.name for field in fields(Delivered)] == ["subscriber", "event", "state", "attempts", "errors"]
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert setup["options.entry_points"]["pytest11"].strip() == "eventbus = events.testing_pytest"
    assert sorted(name for name in vars(events.testing_pytest) if name.startswith("event_bus")) == [
        "event_bus_app", "event_bus_kit", "event_bus_settings",
    ]  # fmt: skip


# what operators and other programs see


def test_the_keys_are_these() -> None:
    assert SUFFIX == {
        "meta": "meta",
        "clock": "clock",
        "history": "history",
        "archived": "archived",
        "id": "id:",
        "routes": "routes:",
        "subscribers": "subscribers",
        "sub": "sub:",
        "queue": "queue:",
        "lane": "lane:",
        "lanes": "lanes:",
        "held": "held:",
        "delayed": "delayed:",
        "dead": "dead:",
        "suspects": "suspects:",
        "outcomes": "outcomes",
        "workers": "workers",
        "beats": "beats",
        "join": "join:",
        "joined": "joined:",
        "joins": "joins:",
        "running": "running:",
        "scheduled": "scheduled",
        "envelopes": "envelopes",
        "schedules": "schedules",
        "slots": "slots:",
    }
    assert GROUP == "fleet"
    assert Keys("eventbus")("lane", "Editor", "P1") == "{eventbus}:lane:Editor:P1"
    assert Keys("eventbus")("history") == "{eventbus}:history"


def test_every_key_is_in_the_legend() -> None:
    import events.keys

    for suffix in SUFFIX.values():
        assert re.search(rf"^    {re.escape(suffix)}[ <]", events.keys.__doc__ or "", re.MULTILINE), suffix


def test_the_scripts_are_these_and_each_has_a_file() -> None:
    assert sorted(NAMES) == [
        "agenda", "archived", "begin", "cancel", "declare", "drop", "fill", "hasten", "mend", "names", "open", "plan",
        "position", "promote", "publish", "reap", "redeliver", "release", "renew", "resolve", "schedule", "settle",
        "slot", "steer", "tail", "undeclare", "waits",
    ]  # fmt: skip
    assert {path.stem for path in (ROOT / "events" / "lua").glob("*.lua")} == {*NAMES, "library"}
    assert sources().keys() == set(NAMES)


def test_the_tables_are_these() -> None:
    assert {table.name: [column.name for column in table.columns] for table in metadata.sorted_tables} == {
        "events": [
            "namespace", "position", "event_id", "project_id", "type", "actor", "causation_id", "correlation_id",
            "depth", "timestamp", "payload", "blackboard_pointer", "metadata", "cost_micros", "currency", "latency_us",
            "origin", "deliveries", "exact",
        ],
        "event_index": ["namespace", "event_id", "position"],
        "outcomes": [
            "namespace", "position", "event_position", "subscriber", "redelivery", "attempt", "state", "worker",
            "elapsed_us", "error",
        ],
        "deliveries": [
            "namespace", "event_position", "subscriber", "redelivery", "state", "attempts", "settled_position",
            "project_id", "type", "actor",
        ],
        "dead_letters": [
            "namespace", "position", "event_position", "subscriber", "redelivery", "attempts", "worker", "reason",
            "traceback", "output", "raw", "resolution", "resolved_position",
        ],
        "rejected": ["namespace", "stream", "entry_id", "reason", "raw"],
        "archive": ["namespace", "stream", "position", "last_entry"],
        "subscriptions": ["namespace", "subscriber", "types", "options", "steering"],
        "outbox": [
            "id", "namespace", "event_id", "body", "size_bytes", "state", "attempts", "error", "added_at", "tried_at",
            "position",
        ],
        "inbox": ["namespace", "subscriber", "event_id", "step", "delivery", "handled_at"],
        "blackboard": [
            "namespace", "project_id", "key", "version", "kind", "value", "exact", "data", "size_bytes", "written_at",
            "actor", "event_id",
        ],
        "redactions": ["namespace", "event_id", "paths", "redacted_at"],
        "audit": ["id", "namespace", "at", "who", "address", "action", "target", "details", "status"],
        "event_statistics": [
            "namespace", "grain", "project_id", "start", "type", "actor", "events", "priced", "cost_micros", "timed",
            "latency_us", "latency_bins", "first_time", "last_time",
        ],
        "delivery_statistics": [
            "namespace", "grain", "project_id", "start", "subscriber", "type", "actor", "waiting", "done", "dead",
            "discarded", "dropped", "attempts", "failures", "timed", "elapsed_us", "elapsed_bins",
        ],
    }  # fmt: skip


def test_the_columns_of_an_export_are_these() -> None:
    assert " ".join(f"{name}:{kind}" for name, kind in COLUMNS.items()) == (
        "position:int64 event_id:string project_id:string type:string actor:string causation_id:string? "
        "correlation_id:string depth:int32 timestamp:string payload:string blackboard_pointer:string? metadata:string "
        "cost_micros:int64? currency:string? latency_us:int64? origin:string deliveries:string"
    )


def test_the_command_and_its_subcommands_are_these() -> None:
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert setup["options.entry_points"]["console_scripts"].strip() == "eventbus = console.main:main"

    done = subprocess.run(
        [sys.executable, "-m", "console.main", "--help"], cwd=ROOT, capture_output=True, text=True, timeout=60,
        env=os.environ | {"COLUMNS": "120"},
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    listed = re.findall(r"^[ │]{2,}([a-z]+) {2,}\S", done.stdout.partition("Commands")[2], re.MULTILINE)
    assert sorted(listed) == [
        "archive", "asyncapi", "bench", "chain", "completion", "dead", "deliveries", "demo", "dev", "doctor",
        "export", "import", "lag", "migrate", "prune", "publish", "redact", "replay", "scheduled", "schedules",
        "show", "stats", "subscriptions", "tail", "top", "tree", "web", "worker", "workers",
    ]  # fmt: skip


def test_the_process_types_of_the_procfile_are_these() -> None:
    lines = (ROOT / "Procfile").read_text().splitlines()

    assert dict(line.split(": ", 1) for line in lines) == {
        "release": "eventbus migrate",
        "web": "eventbus web --host 0.0.0.0",
        "worker": "eventbus worker",
        "archiver": "eventbus archive",
    }
