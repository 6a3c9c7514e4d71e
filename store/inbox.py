"""The inbox: what a handler does in SQL is done once, however often its event is delivered.

    @bus.subscriber("Billing", ["SHOT_APPROVED"])
    def bill(event):
        with Session(engine) as session, session.begin():
            if inbox.once(session):
                session.add(Charge(shot=event.payload["shot"]))
                outbox.add(session, event.caused("SHOT_BILLED"))

The row that says so commits with the effects, or neither does. It is one for each event and subscriber, and
each `step` of a handler with several transactions. The redelivery is no part of it: a dead letter may have
committed before its worker died, and whoever retries it wants the effects to be there, not to be there twice.
Who wants them again undoes them, and calls `forget` in the same transaction.

What the handler *returns* is another matter: it is published by the attempt that settles, which may be one
that was told False. Put what follows from the effects into the outbox, as above, or return it either way.

An `AsyncSession` lends its synchronous one: `await session.run_sync(inbox.once)`.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from events.context import Handling, handling
from events.errors import EventBusError
from events.settings import Settings
from store.cursors import insert
from store.tables import inbox
from store.transaction import Transaction, joined, meant


def once(session: Transaction, delivery: Handling | None = None, *, step: str = "") -> bool:
    """Tell whether this transaction is the one that shall have the handler's effects on its database.

    Ask before anything else is read or written. True is given again if the transaction rolls back.

    Args:
        session: a `Session` or `Connection` on the store's database; the caller commits.
        delivery: what is handled; inside a handler, its threads with a copied context included, it is known.
        step: names one of several transactions of a handler; each is done once.

    Returns:
        False when a transaction has committed that was told True for this event, subscriber and step. Then
        nothing is left to do; the handler should end as it does when all is done.

    Raises:
        EventBusError: it is called outside a handler, without a delivery.
        NotMigrated: the session's database has no inbox.
        TypeError, InvalidSettings: what is given is no session, or no transaction of such a database.
        SQLAlchemyError: of the session's own, as from any other statement: under REPEATABLE READ and above a
            serialization failure stands for False; the next attempt is told.

    Guarantee: while another transaction has been told True and has not ended, the call waits for it, on SQLite
        for at most its connection's timeout.
    """
    delivery = delivery or handling.get()
    if delivery is None:
        raise EventBusError(
            "inbox.once was called outside a handler, and cannot know what is handled: pass it what "
            "`events.context.handling.get()` gave inside the handler."
        )
    row = {
        "namespace": delivery.namespace,
        "subscriber": delivery.subscriber,
        "event_id": delivery.event.event_id,
        "step": step,
        "delivery": delivery.delivery,
        "handled_at": datetime.now(UTC),
    }
    with joined(session) as connection:
        return connection.execute(insert(connection, inbox).on_conflict_do_nothing(), row).rowcount == 1


def forget(
    session: Transaction,
    subscriber: str,
    event_ids: Iterable[str] | None = None,
    *,
    settings: Settings | None = None,
) -> int:
    """Let a subscriber's effects be done again when events are redelivered; undo them in the same transaction.

    Args:
        event_ids: of these events only; all unless given.
        settings: whose namespace; inside a handler its own, else the environment's.

    Returns:
        How many rows were forgotten.

    Raises:
        NotMigrated, TypeError, InvalidSettings, SQLAlchemyError: as `once` does.
    """
    column = inbox.c
    settings = meant(settings)
    mine = inbox.delete().where(column.namespace == settings.namespace, column.subscriber == subscriber)
    with joined(session, settings) as connection:
        if event_ids is None:
            return connection.execute(mine).rowcount
        return sum(connection.execute(mine.where(column.event_id == event_id)).rowcount for event_id in event_ids)
