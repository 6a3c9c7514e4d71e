"""The outbox: an event that is published if, and only if, the caller's own SQL transaction commits.

    with Session(engine) as session, session.begin():
        session.add(order)
        outbox.add(session, event)

The session is one of the store's database (`DATABASE_URL`). Nothing here knows Redis: any archiver publishes
what was committed, within about half a second. How far that is, is the relay's affair (`store/outgoing.py`).

An `AsyncSession` lends its synchronous one: `await session.run_sync(outbox.add, event)`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, exists, literal, select

from events.context import handling
from events.encoding import decode, digest, encoded
from events.errors import EventIdConflict, InvalidEvent, MalformedEntry
from events.event import Event
from events.records import RecordedEvent
from events.settings import Settings
from store.cursors import insert
from store.direct import ORIGIN
from store.inserts import stored
from store.rows import Unstorable, event_row
from store.tables import event_index, events, outbox
from store.transaction import Transaction, joined, meant

PENDING = "pending"


def add(session: Transaction, event: Event, *, settings: Settings | None = None) -> str:
    """Put an event into the outbox, in the transaction of a session or connection.

    Added twice, or published already, it is published once; it need not be the same transaction.

    Args:
        session: a `Session` or `Connection` on the store's database; the caller commits.
        settings: whose namespace and `max_event_bytes`; inside a handler its namespace, else the environment.

    Returns:
        The event's id.

    Raises:
        EventIdConflict: the id is taken, in the outbox or the store, by an event with another content.
        InvalidEvent, EventTooLarge: it cannot be encoded, is too large, or has a value that no database keeps.
        NotMigrated: the session's database has no outbox.
        TypeError, InvalidSettings: what is given is no event, no session, or no transaction of such a database.
        SQLAlchemyError: of the session's own, as from any other statement.

    Guarantee: nothing but the transaction is changed. A call that waits does so for another transaction that
        adds the same id, until that one ends.
    """
    if not isinstance(event, Event):
        raise TypeError(f"outbox.add takes an Event, not a {type(event).__name__}.")
    settings = meant(settings)
    namespace = settings.namespace
    body = _body(namespace, event, settings.max_event_bytes)
    with joined(session, settings) as connection:
        # Should the event that was in the way be gone by the time it is looked at, it was rolled back or relayed.
        while not _insert(connection, namespace, event.event_id, body):
            known = _known(connection, namespace, event.event_id)
            if known is None:
                continue
            if known != digest(event):
                raise EventIdConflict(
                    f"The event id {event.event_id!r} is taken, in the outbox or the store, by an event with another "
                    "content. Nothing was added: give the new event an id of its own."
                )
            break
    if (current := handling.get()) is not None:
        current.published.add(event.event_id)
    return event.event_id


def _body(namespace: str, event: Event, max_event_bytes: int) -> str:
    """Encode the event, having made sure that the store will take it, as a row at any position shows."""
    try:
        event_row(namespace, RecordedEvent(1, event))
    except Unstorable as error:
        raise InvalidEvent([str(error)]) from None
    return encoded(event, max_event_bytes).decode()


def _insert(connection: Connection, namespace: str, event_id: str, body: str) -> bool:
    """Insert the row, unless the id is in the outbox, or published and in the store; return whether it was.

    One statement, and the first: a transaction of SQLite that has only read could not be sure to write any more.
    """
    row: dict[str, Any] = {
        "namespace": namespace,
        "event_id": event_id,
        "body": body,
        "size_bytes": len(body.encode()),
        "state": PENDING,
        "attempts": 0,
        "error": "",
        "added_at": datetime.now(UTC),
    }
    is_published = (
        exists()
        .where(event_index.c.namespace == namespace, event_index.c.event_id == event_id)
        .where(events.c.namespace == namespace, events.c.position == event_index.c.position)
        .where(events.c.origin != ORIGIN)
    )
    values = select(*(literal(value, outbox.c[name].type) for name, value in row.items())).where(~is_published)
    statement = insert(connection, outbox).from_select(list(row), values)
    return connection.execute(statement.on_conflict_do_nothing()).rowcount == 1


def _known(connection: Connection, namespace: str, event_id: str) -> str | None:
    """Return the digest of the event that has the id, in the outbox or the store; one that is no event has none."""
    column = outbox.c
    query = select(column.body).where(column.namespace == namespace, column.event_id == event_id)
    body = connection.execute(query).scalar_one_or_none()
    if body is not None:
        try:
            return digest(decode(body))
        except MalformedEntry:
            return ""
    found = stored(connection, namespace, [event_id]).get(event_id)
    return digest(found.event) if found else None
