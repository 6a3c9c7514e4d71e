"""Everything here that reads bytes of others, as functions of bytes; and the errors that each may answer with.

A target that reads an entry of a stream gets its id and fields as one text, separated by `SEPARATOR`. What a target
returns is used as its readers use it: an event that cannot be measured or written again is as bad as none.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from console.bulk import _event as event_of_a_line
from console.commands.export import _last_position
from console.exits import Mistake
from console.options import event_filter, moment, span
from events.beats import read_beat
from events.connection import connect
from events.dead_letters import read_letter
from events.due import read_due
from events.encoding import decode, digest, encode
from events.errors import EventBusError
from events.event import Event
from events.frame import lease_of
from events.keys import Keys
from events.records import Outcome, RecordedEvent
from events.roster import worker_of
from events.settings import Settings, variable
from events.stream import read_event, read_outcome
from examples.storyboard.story import StoryError, load_story
from store.engine import open_engine
from store.line_files import LineWriter
from store.paths import conditions_of, holds, read_path
from store.pointers import Pointer
from store.rows import Unstorable, dead_letter_row, event_row, outcome_row, rejected_row
from store.sources import count_lines, from_file
from workers.cron import Cron
from workers.redelivery import Question

SEPARATOR = b"\x1e"
NOW = datetime(2026, 1, 31, tzinfo=UTC)


@dataclass(frozen=True)
class Target:
    """Something that reads bytes.

    Attributes:
        run: reads them. errors: what it may raise. examples: good bytes, to be damaged.
    """

    run: Callable[[bytes], object]
    errors: tuple[type[Exception], ...]
    examples: tuple[bytes, ...]


def body(data: bytes) -> None:
    use(decode(data))
    use(decode(data, "EV-root"))


def queue_entry(data: bytes) -> None:
    lease = lease_of("S", b"5-0", 1, data, suspect=False)
    assert lease.fault or lease.event, "A lease is of an event, or has a fault."
    repr(lease), lease.attempt, lease.delivery, lease.frame.name
    if not lease.fault:
        use(lease.event)
    if lease.fault:
        assert b"secret" not in lease.fault.encode(errors="replace"), "A fault shows what was queued."


def history_entry(data: bytes) -> None:
    entry_id, fields = entry(data)
    record = read_event(entry_id, fields)
    if isinstance(record, RecordedEvent):
        use(record.event)
        event_row("n", record)
    else:
        assert record.reason.strip(), "Nobody knows why it was set aside."
        rejected_row("n", "history", record)


def outcome(data: bytes) -> None:
    entry_id, fields = entry(data)
    record = read_outcome(entry_id, fields)
    if isinstance(record, Outcome):
        outcome_row("n", record)
        dead_letter_row("n", record)
    else:
        assert record.reason.strip(), "Nobody knows why it was set aside."
        rejected_row("n", "outcomes", record)


def dead_letter(data: bytes) -> None:
    letter = read_letter("S", *entry(data))
    repr(letter), letter.delivery, letter.name


def beat(data: bytes) -> None:
    read_beat(data).encode()
    worker = worker_of(data[:20], float(len(data)), data, 10**15)
    repr(worker), worker.is_alive, [worker.before(run.for_s) for run in worker.said.busy]


def settings(data: bytes) -> None:
    texts = [part.decode("utf-8", "surrogateescape") for part in data.split(SEPARATOR)]
    names = [variable(name) for name in Settings.__dataclass_fields__]
    found = Settings.from_env(dict(zip(names, texts, strict=False)))
    repr(found), Keys(found.namespace)("lane", "S", "p")


def redis_url(data: bytes) -> None:
    url = Settings(redis_url=text(data)).redis_url
    if url:
        connect(url, 2.0).close()


def database_url(data: bytes) -> None:
    url = Settings(database_url=text(data)).database_url
    if url:
        open_engine(url).dispose()


def import_file(data: bytes) -> None:
    with named("in.jsonl", data) as path:
        count_lines(path)
        for row in from_file(path):
            if not row.reason:
                Event(**row.fields)


def packed_import_file(data: bytes) -> None:
    with named("in.jsonl.gz", data) as path:
        count_lines(path)
        list(from_file(path))


def export_to_go_on_with(data: bytes) -> None:
    for name in ("out.jsonl", "out.jsonl.gz"):
        with named(name, data) as path, LineWriter(path, resume=True) as writer:
            if writer.last is not None:
                _last_position(path, writer.last)


def line_to_publish(data: bytes) -> None:
    use(event_of_a_line(data))


def fields_of_an_event(data: bytes) -> None:
    """Values that JSON does not have come from Python code."""
    given = given_by_code(json_of(data))
    if isinstance(given, dict):
        use(Event(**given))


def story(data: bytes) -> None:
    with named("story.txt", data) as path:
        load_story(path)


def cron(data: bytes) -> None:
    first, _, zone = text(data).partition("|")
    found = Cron(first, zone or "UTC")
    found.after(NOW)
    found.latest(datetime(2025, 12, 31, tzinfo=UTC), NOW, 3)


def when(data: bytes) -> None:
    said = text(data)
    moment("--at", said, spans=False) if "-" in said else span("--delay", said)
    read_due(None, moment("--since", said))


def delay(data: bytes) -> None:
    read_due(given_by_code(json_of(data)), None)


def filters(data: bytes) -> None:
    project, kind, path, since = (text(data).split("\x1e") + [""] * 3)[:4]
    found = event_filter(
        project or None, [kind] if kind else None, None, None, since or None, None, [path] if path else None
    )
    found.matches(Event(project_id="p", type="A", actor="x", payload={"a": [1, {"b": 2}]}))


def path_in_a_payload(data: bytes) -> None:
    path = read_path(text(data))
    holds({"a": [1, {"b": 2.5}]}, path, 1)
    conditions_of("payload", {text(data): 3})


def pointer(data: bytes) -> None:
    found = Pointer.read(text(data))
    assert Pointer.read(str(found)) == found


def use(event: Event) -> None:
    """Do with an event what the bus does with every one."""
    repr(event), event.priority, event.cost, event.latency_ms, digest(event)
    body = encode(event)
    if b"Infinity" not in body:  # of a number beyond all floats, which JSON can write and nothing else holds
        assert decode(body).event_id == event.event_id


def entry(data: bytes) -> tuple[bytes, dict[bytes, bytes]]:
    """Split an entry's id and fields; a stream's ids are two numbers, whatever else is in it."""
    first, *rest = data.split(SEPARATOR)
    number = min(int(first), 2**64 - 1) if first[:30].isdigit() and len(first) <= 30 else 5
    return b"%d-0" % number, dict(zip(rest[::2], rest[1::2], strict=False))


def text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


class NotJson(Exception):
    """Of a target whose bytes stand for what code gives: these stand for nothing."""


def json_of(data: bytes) -> object:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise NotJson(str(error)) from None


def given_by_code(value: object) -> object:
    """Return what code may give where JSON has this: numbers beyond all limits, and what is no JSON."""
    try:
        return _given_by_code(value)
    except RecursionError:
        raise NotJson("It is nested deeper than this goes.") from None


def _given_by_code(value: object) -> object:
    if isinstance(value, dict):
        return {name: _given_by_code(inner) for name, inner in value.items()}
    others = {
        "huge": 10**5000,
        "nan": float("nan"),
        "bytes": b"\xff",
        "set": {1},
        "loop": _LOOP,
        "delta": timedelta.max,
    }
    return others.get(value, value) if isinstance(value, str) else value


_LOOP: list[object] = []
_LOOP.append(_LOOP)


class named:
    """A file with these bytes, in a directory of its own."""

    def __init__(self, name: str, data: bytes) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="eventbus-fuzz-")
        self._path = Path(self._folder.name) / name
        self._path.write_bytes(data)

    def __enter__(self) -> Path:
        return self._path

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()


_BODY = (
    b'{"event_id":"EV-1","project_id":"P","type":"SCENE_WRITTEN","actor":"A","timestamp":"2026-01-31T12:00:00+00:00",'
    b'"causation_id":"EV-0","payload":{"n":[1,2.5,null,true],"secret":"\\u00e9"},"metadata":{"cost":0.25,"latency_ms":3}}'
)
_FRAME = b"5\t0\t0\t1\tSCENE_WRITTEN\tEV-0\tP\t0\t\n" + _BODY
_QUESTION = (
    b'{"after":5,"payload":[[["shot","n"],3]],"project_id":"P","start_time":"2026-01-01T00:00:00+00:00",'
    b'"types":["A","B"]}'
)
_EXPORTED = (
    b'{"position":5,"event_id":"EV-1","project_id":"P","type":"A","actor":"x","causation_id":null,"depth":0,'
    b'"timestamp":"2026-01-31T12:00:00.000000Z","payload":"{\\"a\\":1}","metadata":"{}","origin":"publish"}\n'
)


_BEAT = (
    b'{"host":"h","pid":1,"started_at":1.5,"subscribers":{"S":2},"types":{"S":["A"]},"paused":["S"],'
    b'"busy":[{"subscriber":"S","for_s":2}]}'
)
_FIELDS = b'{"project_id":"P","type":"A","actor":"x","metadata":{"cost":"huge"}}'


def _joined(*parts: bytes) -> bytes:
    return SEPARATOR.join(parts)


def redelivery_under_way(data: bytes) -> None:
    found = Question.read(text(data))
    assert Question.read(found.text()) == found


TARGETS: dict[str, Target] = {
    "body": Target(body, (EventBusError,), (_BODY,)),
    "queue_entry": Target(queue_entry, (EventBusError,), (_FRAME,)),
    "history_entry": Target(
        history_entry, (Unstorable,), (_joined(b"5", b"e", _BODY, b"r", b"EV-0", b"d", b"1", b"s", b"S\tT", b"o", b""),)
    ),
    "outcome": Target(
        outcome,
        (Unstorable,),
        (_joined(b"5", b"o", b"4\tS\t0\t1\tdone\tw\t12\t", b"d", b"0", b"t", b"trace", b"f", b"raw"),),
    ),
    "dead_letter": Target(
        dead_letter,
        (),
        (_joined(b"5", b"f", _FRAME, b"r", b"why", b"a", b"3", b"w", b"host-1", b"t", b"trace", b"o", b"[]"),),
    ),
    "beat": Target(beat, (), (_BEAT,)),
    "settings": Target(
        settings,
        (EventBusError,),
        (_joined(b"redis://h/0", b"any", b"sqlite:///x.db", b"home", b"ns", b"a:b", b"2.5"),),
    ),
    "redelivery_under_way": Target(redelivery_under_way, (EventBusError,), (_QUESTION,)),
    "redis_url": Target(
        redis_url,
        (EventBusError,),
        (
            b"redis://user:word@host:6379/0?socket_timeout=3",
            b"rediss://h?ssl_cert_reqs=none",
            b"unix:///run/x.sock?db=2",
        ),
    ),
    "database_url": Target(
        database_url, (EventBusError,), (b"postgresql://user:word@host:5432/db?sslmode=require", b"sqlite:////tmp/x.db")
    ),
    "import_file": Target(import_file, (EventBusError,), (_EXPORTED, _BODY)),
    "packed_import_file": Target(packed_import_file, (), ()),
    "export_to_go_on_with": Target(export_to_go_on_with, (EventBusError, Mistake), (_EXPORTED,)),
    "line_to_publish": Target(line_to_publish, (EventBusError, Mistake), (_BODY,)),
    "fields_of_an_event": Target(
        fields_of_an_event,
        (EventBusError, NotJson),
        (_BODY, b'{"project_id":"huge","type":"A","actor":"x"}', _FIELDS),
    ),
    "story": Target(story, (StoryError,), ("Title\n\nA fox went out. «Where?»\n".encode(),)),
    "cron": Target(cron, (EventBusError,), (b"0 3 * * *|Europe/Riga", b"*/15 9-17 1,L * MON#2", b"0 0 3 * * *|UTC")),
    "when": Target(when, (EventBusError, Mistake), (b"2026-01-31T12:00:00Z", b"90s", b"1.5h", b"2026-01-31")),
    "delay": Target(delay, (EventBusError, NotJson), (b"3.5", b'"huge"', b'"nan"', b'"delta"', b'"bytes"')),
    "filters": Target(
        filters,
        (EventBusError, Mistake),
        (_joined(b"P", b"A", b"a.1.b=2", b"2026-01-31"), _joined(b"", b"", b'x="y"', b"7d")),
    ),
    "path_in_a_payload": Target(path_in_a_payload, (EventBusError,), (b"a.1.b", b"a\\.b.0")),
    "pointer": Target(pointer, (EventBusError,), (b"bb:P/key@3", b"bb:P%2FQ/a/b%40c")),
}
