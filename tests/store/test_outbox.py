"""The outbox as SQL sees it: what a caller's transaction adds, and what a relay takes, in which order."""

from __future__ import annotations

import os
import re
import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, create_engine, exc, func, insert, select, text
from sqlalchemy import event as listening
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from events.context import Handling, handling
from events.errors import EventIdConflict, EventTooLarge, InvalidEvent, InvalidSettings, NotMigrated, StoreUnavailable
from events.event import Event
from events.records import RecordedEvent
from events.settings import Settings
from store import inbox, outbox
from store.archive import Archive
from store.direct import DirectWriter
from store.engine import open_engine, reading, writing
from store.outgoing import MOST_BYTES, Outgoing
from store.replay import Replay
from store.tables import outbox as table
from store.tables import rejected
from tests.store.conftest import an_event, store_events
from tests.store.doubles import FakeClock
from tests.waiting import wait_until

SETTINGS = Settings(namespace="test", max_event_bytes=2 * MOST_BYTES)
NEVER = datetime(1970, 1, 1, tzinfo=UTC)


def make(event_id: str, **fields: Any) -> Event:
    return Event(**{"event_id": event_id, "project_id": "film", "type": "SCENE_WRITTEN", "actor": "tester", **fields})


def add(engine: Engine, *events: Event) -> None:
    with Session(engine) as session, session.begin():
        for event in events:
            outbox.add(session, event, settings=SETTINGS)


def states(engine: Engine) -> dict[str, str]:
    query = select(table.c.event_id, table.c.state).where(table.c.namespace == "test").order_by(table.c.id)
    with reading(engine) as connection:
        return dict(tuple(row) for row in connection.execute(query))  # type: ignore[misc]


def relay(outgoing: Outgoing, position: int = 1000, again_before: datetime = NEVER) -> list[str]:
    """Publish a batch, in name only; return its ids in order."""
    with outgoing.batch(again_before) as batch:
        batch.published.update((row, position + n) for n, row in enumerate(batch.events))
    return [event.event_id for event in batch.events.values()]


@pytest.fixture
def outgoing(engine: Engine) -> Outgoing:
    return Outgoing(engine, "test")


# what a caller adds -----------------------------------------------------------------------------


def test_an_event_is_there_when_its_transaction_has_committed_and_not_before(engine, outgoing):
    event = make("e1", payload={"text": "é \\u0000 'x' %s :y", "n": [1e300, 2**70]})
    with Session(engine) as session:
        with session.begin():
            assert outbox.add(session, event, settings=SETTINGS) == "e1"
            assert relay(outgoing) == []
        with outgoing.batch(NEVER) as batch:
            [found] = batch.events.values()

    assert found == event and repr(found.payload) == repr(event.payload)


def test_a_transaction_that_rolls_back_leaves_nothing(engine, outgoing):
    with pytest.raises(KeyError), Session(engine) as session, session.begin():
        outbox.add(session, make("e1"), settings=SETTINGS)
        raise KeyError
    with Session(engine) as session, session.begin():
        with pytest.raises(KeyError), session.begin_nested():
            outbox.add(session, make("e2"), settings=SETTINGS)
            raise KeyError
        outbox.add(session, make("e3"), settings=SETTINGS)

    assert states(engine) == {"e3": "pending"} and relay(outgoing) == ["e3"]


def test_connections_sessions_and_engines_of_the_callers_own_will_do(engine, url, outgoing):
    own = create_engine(url.replace("postgresql://", "postgresql+psycopg2://"))
    sessions = scoped_session(sessionmaker(own))

    with own.begin() as connection:
        outbox.add(connection, make("e1"), settings=SETTINGS)
    outbox.add(sessions, make("e2"), settings=SETTINGS)
    sessions.commit()
    outbox.add(sessions, make("e3"), settings=SETTINGS)
    sessions.remove()
    own.dispose()

    assert relay(outgoing) == ["e1", "e2"]


def test_the_same_event_is_added_once_and_another_content_under_its_id_is_refused(engine, outgoing):
    event = make("e1", payload={"n": 1})
    add(engine, event, event.model_copy(update={"timestamp": datetime.now(UTC) + timedelta(days=1)}))
    add(engine, event)

    with Session(engine) as session, session.begin():
        with pytest.raises(EventIdConflict, match="'e1' is taken, in the outbox or the store"):
            outbox.add(session, make("e1", payload={"n": 2}), settings=SETTINGS)
        outbox.add(session, make("e2"), settings=SETTINGS)

    with Session(engine) as session, session.begin():
        outbox.add(session, make("e1", payload={"n": 2}), settings=Settings(namespace="another"))
    assert states(engine) == {"e1": "pending", "e2": "pending"}


def test_what_the_store_has_is_not_published_again(engine, archive, outgoing):
    store_events(archive, an_event(1), an_event(2))
    persisted = make("e3")
    clock = FakeClock()
    DirectWriter(engine, "test", clock, Replay(engine, "test", None)).store([persisted])

    add(engine, an_event(1).event, persisted)
    with pytest.raises(EventIdConflict):
        add(engine, make("e2", payload={"other": True}))

    assert relay(outgoing) == ["e3"], "it was persisted, and never published"


def test_what_was_archived_after_it_was_added_leaves_the_outbox_unpublished(engine, archive, outgoing):
    add(engine, an_event(1).event, make("e2", payload={"other": True}), make("e3"))
    store_events(archive, an_event(1), an_event(2))

    assert relay(outgoing) == ["e3"]
    assert states(engine) == {"e2": "refused", "e3": "published"}


def test_of_two_transactions_that_add_the_same_event_the_second_waits_for_the_first(engine, url, open_at, outgoing):
    other = open_at(url, timeout_s=30.0)
    for first_commits in (True, False):
        event = make(f"e-{first_commits}")
        with Session(engine) as session:
            outbox.add(session, event, settings=SETTINGS)
            second = threading.Thread(target=add, args=(other, event))
            second.start()
            wait_until(lambda: _waits(engine), 20, "the second to wait")
            assert second.is_alive()
            session.commit() if first_commits else session.rollback()
        second.join(30)

        assert list(states(engine)) == [event.event_id]
        assert relay(outgoing) == [event.event_id]
        with writing(engine) as connection:
            connection.execute(table.delete())


def _waits(engine: Engine) -> bool:
    if engine.dialect.name == "sqlite":
        return True  # who writes second waits for the file
    query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    with engine.connect() as connection:
        return bool(connection.execute(text(query)).scalar())


# what is refused at once ------------------------------------------------------------------------


def changed(**payload: Any) -> Event:
    """An event whose payload was changed after it was checked."""
    event = make("e1")
    event.payload.update(payload)
    return event


@pytest.mark.parametrize(
    ("event", "error", "says"),
    [
        (changed(bad=object()), InvalidEvent, "not JSON"),
        (changed(bad=float("nan")), InvalidEvent, "not JSON"),
        (changed(bad="a\0b"), InvalidEvent, r"U\+0000"),
        (changed(bad="\ud800"), InvalidEvent, "surrogate"),
        (make("e1", payload={"text": "x" * 5000}), EventTooLarge, "over the limit of 4096"),
        ({"event_id": "e1"}, TypeError, "takes an Event, not a dict"),
    ],
)
def test_what_cannot_be_published_or_kept_is_refused_where_it_is_added(engine, event, error, says):
    with Session(engine) as session, session.begin():
        with pytest.raises(error, match=says):
            outbox.add(session, event, settings=Settings(namespace="test", max_event_bytes=4096))
        outbox.add(session, make("e2"), settings=SETTINGS)

    assert states(engine) == {"e2": "pending"}


class AsyncSession:
    """What SQLAlchemy's own has that tells it from a Session; that one needs greenlet, which is not installed."""

    async def run_sync(self, function: Callable[..., Any], *arguments: Any) -> Any: ...


def test_what_is_no_transaction_is_refused_with_advice(engine, backend):
    with pytest.raises(TypeError, match=r"AsyncSession is no synchronous session.*await session\.run_sync"):
        outbox.add(AsyncSession(), make("e1"), settings=SETTINGS)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a Session or a Connection that is in a transaction"):
        outbox.add(engine, make("e1"), settings=SETTINGS)  # type: ignore[arg-type]
    options = {"isolation_level": "AUTOCOMMIT"}
    with engine.connect().execution_options(**options) as connection, pytest.raises(InvalidSettings, match="AUTOCOMM"):
        outbox.add(connection, make("e1"), settings=SETTINGS)
    if backend == "postgres":
        every = create_engine(engine.url, **options)
        with Session(every) as session, pytest.raises(InvalidSettings, match="AUTOCOMMIT"):
            outbox.add(session, make("e1"), settings=SETTINGS)
        every.dispose()
    assert states(engine) == {}


def test_a_database_that_is_not_the_stores_is_named_without_its_password(empty_url, open_at):
    engine = open_at(empty_url)

    with (
        Session(engine) as session,
        pytest.raises(NotMigrated, match=r"run `eventbus migrate`.*store's database") as no,
    ):
        outbox.add(session, make("e1"), settings=SETTINGS)

    assert make_url(empty_url).database in str(no.value)  # type: ignore[operator]


def test_a_session_elsewhere_than_the_given_settings_say_is_refused_where_a_url_can_tell(engine, url, tmp_path):
    same = [url, str(engine.url.render_as_string(hide_password=False)).replace("+psycopg2", "")]
    elsewhere = f"sqlite:///{tmp_path / 'other.db'}"
    if engine.dialect.name == "sqlite":
        same.append(f"sqlite:///{os.path.relpath(engine.url.database)}")
        elsewhere = "postgres://me:s3cret@host/events"

    for n, database_url in enumerate(same):
        with Session(engine) as session, session.begin():
            outbox.add(session, make(f"e{n}"), settings=SETTINGS.with_(database_url=database_url))
    for database_url in (elsewhere, f"sqlite:///{tmp_path / 'other.db'}"):
        with Session(engine) as session, pytest.raises(InvalidSettings, match="only what is in one database") as no:
            outbox.add(session, make("e9"), settings=SETTINGS.with_(database_url=database_url))
        assert "s3cret" not in str(no.value)

    assert list(states(engine)) == [f"e{n}" for n in range(len(same))]


def test_the_databases_own_errors_pass_as_sqlalchemys(engine):
    with Session(engine) as session:
        session.execute(text("SELECT 1"))
        session.connection().invalidate()
        with pytest.raises(exc.SQLAlchemyError):
            outbox.add(session, make("e1"), settings=SETTINGS)


def test_inside_a_handler_the_namespace_is_the_handlers_and_the_id_counts_as_published(engine, monkeypatch):
    monkeypatch.setenv("EVENTBUS_NAMESPACE", "environment")
    current = Handling(an_event(1).event, "Writer", 1, "1:Writer:0", "test")

    with Session(engine) as session, session.begin():
        outbox.add(session, make("e2"))
        token = handling.set(current)
        try:
            outbox.add(session, Event(event_id="e3", type="OUT"))
        finally:
            handling.reset(token)

    assert states(engine) == {"e3": "pending"} and current.published == {"e3"}
    assert [rows.count for rows in Outgoing(engine, "environment").waiting()] == [1]


# what a relay takes -----------------------------------------------------------------------------


def test_a_row_that_commits_late_with_a_smaller_id_is_not_skipped(engine, outgoing, backend):
    if backend == "sqlite":
        pytest.skip("SQLite has one writer at a time: ids are in the order of commits")
    with Session(engine) as early, Session(engine) as late:
        outbox.add(late, make("smaller"), settings=SETTINGS)
        outbox.add(early, make("larger"), settings=SETTINGS)
        early.commit()
        assert relay(outgoing) == ["larger"]
        add(engine, make("largest"))
        late.commit()

    assert relay(outgoing) == ["smaller", "largest"]
    assert relay(outgoing) == []


def test_batches_are_in_order_and_bounded_by_number_and_bytes(engine, outgoing):
    add(engine, *[make(f"e{n:04}") for n in range(1200)])
    large = "x" * (MOST_BYTES // 3)
    add(engine, *[make(f"large{n}", payload={"text": large}) for n in range(4)])

    batches = [relay(outgoing) for _ in range(5)]

    assert [len(ids) for ids in batches] == [500, 500, 202, 2, 0]
    assert [event_id for ids in batches for event_id in ids] == [f"e{n:04}" for n in range(1200)] + [
        f"large{n}" for n in range(4)
    ]


def test_one_event_larger_than_a_batch_goes_by_itself(engine, outgoing):
    event = make("large", payload={"text": "x" * (MOST_BYTES + 1)})
    with Session(engine) as session, session.begin():
        outbox.add(session, event, settings=Settings(namespace="test", max_event_bytes=2 * MOST_BYTES))
    add(engine, make("small"))

    assert [relay(outgoing), relay(outgoing)] == [["large"], ["small"]]


def test_a_failure_leaves_every_row_as_it_was(engine, outgoing):
    add(engine, make("e1"), make("e2"))

    with pytest.raises(KeyError), outgoing.batch(NEVER) as batch:
        batch.published.update(dict.fromkeys(batch.events, 1))
        raise KeyError

    assert states(engine) == {"e1": "pending", "e2": "pending"}
    assert relay(outgoing) == ["e1", "e2"]


def test_a_published_row_stays_until_the_store_has_the_event(engine, archive, outgoing):
    add(engine, make("e1000"), make("e1001"), make("e1002"))
    assert relay(outgoing, 1000) == ["e1000", "e1001", "e1002"]
    store_events(archive, an_event(1000))
    with writing(engine) as connection:
        aside = {"namespace": "test", "stream": "history", "entry_id": "1001-0", "reason": "bad", "raw": ""}
        connection.execute(insert(rejected), aside)

    soon = datetime.now(UTC) + timedelta(seconds=1)
    assert relay(outgoing) == [], "it is not overdue"
    assert states(engine) == {"e1002": "published"}
    assert relay(outgoing, 2000, again_before=soon) == ["e1002"], "Redis may have lost it"
    store_events(archive, an_event(2000, event_id="e1002"))
    relay(outgoing)

    assert states(engine) == {}


def test_what_was_stored_unpublished_stays_in_the_outbox_until_its_publication_is_archived(engine, archive, outgoing):
    replay = Replay(engine, "test", None)
    DirectWriter(engine, "test", FakeClock(10), replay).store([make("a")])
    add(engine, make("a"))
    assert relay(outgoing, position=50) == ["a"]

    assert relay(outgoing) == [] and states(engine) == {"a": "published"}, "Redis alone knows who is to get it"
    assert relay(outgoing, position=60, again_before=datetime.now(UTC) + timedelta(minutes=1)) == ["a"]

    store_events(archive, RecordedEvent(60, make("a", correlation_id="a"), 0, ("A",)))
    assert relay(outgoing) == [] and states(engine) == {}


def test_what_is_refused_is_passed_over_and_tried_again_later_however_much_is_pending(engine, outgoing):
    add(engine, make("bad"), make("good"))
    with outgoing.batch(NEVER) as batch:
        bad, good = batch.events
        batch.refused[bad] = "because"
        batch.published[good] = 1000
    add(engine, make("next"))
    [rows] = [rows for rows in outgoing.waiting() if rows.state == "refused"]

    assert (rows.count, rows.error) == (1, "because")
    assert abs((datetime.now(UTC) - rows.oldest).total_seconds()) < 600
    soon = datetime.now(UTC) + timedelta(seconds=1)
    assert relay(outgoing, again_before=soon) == ["next", "bad", "good"]
    assert states(engine) == {"bad": "published", "good": "published", "next": "published"}
    with reading(engine) as connection:
        found = connection.execute(select(table.c.attempts, table.c.error).order_by(table.c.id)).all()
    assert [tuple(row) for row in found] == [(2, ""), (2, ""), (1, "")]


def test_a_row_that_somebody_spoiled_is_refused_and_blocks_nothing(engine, outgoing):
    add(engine, make("e1"), make("e2"))
    with writing(engine) as connection:
        connection.execute(table.update().where(table.c.event_id == "e1").values(body="{}"))

    assert relay(outgoing) == ["e2"]
    assert states(engine) == {"e1": "refused", "e2": "published"}
    with pytest.raises(EventIdConflict):
        add(engine, make("e1"))


def test_of_two_relays_one_stands_by(engine, url, open_at, outgoing, backend):
    if backend == "sqlite":
        pytest.skip("relays of one SQLite file may overlap: no lock of it is held while Redis is asked")
    other = Outgoing(open_at(url), "test")
    add(engine, make("e1"))

    with outgoing.batch(NEVER) as first:
        assert relay(other) == [] and len(first.events) == 1
    assert relay(other) == ["e1"]


def test_a_slow_relay_does_not_take_a_new_row_for_one_that_is_gone(engine, archive, outgoing, backend):
    slow = Outgoing(engine, "test")
    add(engine, make("e1000"))
    relay(outgoing, 1000)
    store_events(archive, an_event(1000))

    if backend == "sqlite":
        with slow.batch(NEVER) as batch:
            assert len(batch.gone) == 1
            relay(outgoing)
            add(engine, make("new"))
    else:  # where the row of `archive` keeps relays apart
        relay(outgoing)
        add(engine, make("new"))

    assert states(engine) == {"new": "pending"}


def test_a_relay_that_falls_silent_does_not_keep_the_outbox(url, open_at, engine, backend):
    if backend == "sqlite":
        pytest.skip("SQLite takes a lock from nobody who lives, and relays hold none")
    frozen, healthy = Outgoing(open_at(url), "test", silent_relay_s=2), Outgoing(open_at(url), "test")
    add(engine, make("e1"), make("e2"))

    with pytest.raises(StoreUnavailable), frozen.batch(NEVER) as batch:
        assert relay(healthy) == []
        wait_until(lambda: relay(healthy) == ["e1", "e2"], 20, "PostgreSQL to end the silent session")
        batch.published.update(dict.fromkeys(batch.events, 1))

    assert states(engine) == {"e1": "published", "e2": "published"}


def test_an_application_needs_no_more_than_these_privileges(engine, backend):
    if backend == "sqlite":
        pytest.skip("SQLite knows no privileges")
    role = f"app_{uuid.uuid4().hex[:8]}"
    grants = (
        f"CREATE ROLE {role} LOGIN",
        f"GRANT SELECT, INSERT ON outbox TO {role}",
        f"GRANT SELECT, INSERT ON inbox TO {role}",
        f"GRANT SELECT ON events, event_index TO {role}",
    )
    with writing(engine) as connection:
        for grant in grants:
            connection.execute(text(grant))
    own = create_engine(engine.url.set(username=role))

    with own.begin() as connection:
        outbox.add(connection, make("e1"), settings=SETTINGS)
        outbox.add(connection, make("e1"), settings=SETTINGS)
        assert inbox.once(connection, Handling(make("e2"), "Writer", 1, "1:Writer:0", "test"))
    own.dispose()
    with writing(engine) as connection:
        connection.execute(text(f"DROP OWNED BY {role}"))
        connection.execute(text(f"DROP ROLE {role}"))

    assert states(engine) == {"e1": "pending"}


def test_a_relay_that_waits_for_redis_keeps_no_writer_of_sqlite_waiting(engine, outgoing, backend):
    add(engine, make("e1"))

    with outgoing.batch(NEVER) as batch:
        add(engine, make("e2"))
        batch.published.update(dict.fromkeys(batch.events, 1000))

    assert states(engine) == {"e1": "published", "e2": "pending"}


def test_each_index_serves_the_query_it_is_there_for(engine, outgoing, backend):
    said: dict[str, Any] = {}
    listening.listens_for(engine, "before_cursor_execute")(lambda *call: said.update({call[2]: call[3]}))
    add(engine, *[make(f"e{n}") for n in range(20)], make("e1"))
    relay(outgoing)
    [pending] = [
        query for query in said if "size_bytes" in query and query.startswith("SELECT") and "tried" not in query
    ]
    [known] = [query for query in said if query.startswith("SELECT outbox.body")]

    with engine.connect() as connection:
        if backend == "postgres":
            for way in ("seqscan", "bitmapscan"):  # so few rows would be walked over
                connection.exec_driver_sql(f"SET enable_{way} = off")
        explain = "EXPLAIN" if backend == "postgres" else "EXPLAIN QUERY PLAN"
        plans = [
            " ".join(str(row) for row in connection.exec_driver_sql(f"{explain} {query}", said[query]))
            for query in (pending, known)
        ]

    assert "outbox_state" in plans[0] and not re.search("Sort|TEMP B-TREE", plans[0]), plans[0]
    assert "outbox_event" in plans[1], plans[1]


# any interleaving -------------------------------------------------------------------------------

STEPS = st.one_of(
    st.tuples(st.sampled_from(["add", "add", "commit", "rollback"]), st.integers(0, 2)),
    st.tuples(st.sampled_from(["relay", "crash", "archive", "redis lost all"]), st.just(0)),
)


class Story:
    """Callers, relays that may crash after publishing, an archiver, and a Redis that knows ids until it is emptied."""

    def __init__(self, engine: Engine, writers: int) -> None:
        self.engine = engine
        self.namespace = f"n-{uuid.uuid4().hex[:8]}"
        self.settings = Settings(namespace=self.namespace)
        self.outgoing = Outgoing(engine, self.namespace)
        self.archive = Archive(engine, self.namespace)
        self.writers = writers
        self.open: dict[int, tuple[Session, list[str]]] = {}
        self.committed: list[str] = []
        self.redis: dict[str, int] = {}
        self.unarchived: list[RecordedEvent] = []
        self.position = self.made = 0

    def add(self, who: int) -> None:
        session, ids = self.open.setdefault(who % self.writers, (Session(self.engine), []))
        self.made += 1
        ids.append(f"e{self.made}")
        outbox.add(session, make(ids[-1]), settings=self.settings)

    def commit(self, who: int) -> None:
        session, ids = self.open.pop(who % self.writers, (Session(self.engine), []))
        session.commit()
        self.committed += ids

    def rollback(self, who: int) -> None:
        session, _ = self.open.pop(who % self.writers, (Session(self.engine), []))
        session.close()

    def relay(self, crash: bool = False, again_before: datetime = NEVER) -> None:
        try:
            with self.outgoing.batch(again_before) as batch:
                new = [row for row in batch.events if row not in batch.again]
                assert new == sorted(new)
                for row, event in batch.events.items():
                    batch.published[row] = self.publish(event)
                if crash:
                    raise KeyError
        except KeyError:
            pass

    def publish(self, event: Event) -> int:
        if event.event_id not in self.redis:
            self.position += 1
            self.redis[event.event_id] = self.position
            self.unarchived.append(RecordedEvent(self.position, event.model_copy(update={"correlation_id": "e"})))
        return self.redis[event.event_id]

    def archive_all(self) -> None:
        if self.unarchived:
            store_events(self.archive, *self.unarchived)
        self.unarchived = []

    def lose_redis(self) -> None:
        self.redis, self.unarchived = {}, []

    def stored(self) -> list[str]:
        return [recorded.event.event_id for recorded in Replay(self.engine, self.namespace, None).iterate()]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEPS, max_size=40))
def test_whatever_comes_between_what_was_committed_is_stored_once_and_nothing_else(engine, backend, steps):
    story = Story(engine, 3 if backend == "postgres" else 1)
    calls: dict[str, Callable[[int], object]] = {
        "add": story.add,
        "commit": story.commit,
        "rollback": story.rollback,
        "relay": lambda _: story.relay(),
        "crash": lambda _: story.relay(crash=True),
        "archive": lambda _: None if story.open and backend == "sqlite" else story.archive_all(),
        "redis lost all": lambda _: story.lose_redis(),
    }
    for step, who in steps:
        if backend == "sqlite" and story.open and step in ("relay", "crash"):
            continue  # the one writer of the file is in its transaction
        calls[step](who)

    for who in range(3):
        story.rollback(who)
    for _ in range(2):
        story.relay(again_before=datetime.now(UTC) + timedelta(seconds=1))
        story.archive_all()
    story.relay()

    assert sorted(story.stored()) == sorted(story.committed)
    assert story.outgoing.waiting() == []
    with reading(engine) as connection:
        aside = select(func.count()).select_from(rejected).where(rejected.c.namespace == story.namespace)
        assert connection.execute(aside).scalar() == 0


def test_an_engine_of_the_store_begins_at_once_where_it_is_told_to(url, backend):
    if backend == "postgres":
        pytest.skip("a transaction of PostgreSQL that has read may write")
    engine = open_engine(url)
    at_once = engine.execution_options(sqlite_begin="BEGIN IMMEDIATE")

    with Session(at_once) as session, session.begin():
        session.execute(select(table.c.id)).all()
        with pytest.raises(exc.OperationalError), create_engine(url, connect_args={"timeout": 0.1}).begin() as second:
            outbox.add(second, make("e1"), settings=SETTINGS)
        outbox.add(session, make("e2"), settings=SETTINGS)

    assert states(engine) == {"e2": "pending"}
    engine.dispose()
