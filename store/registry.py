"""The durable list of subscribers: from it a Redis namespace that was lost is declared again.

A row has what code declares (types, options) and what it does not: `steering`, set by operators, and
where a back-fill began. Code never changes steering; it only says what a new row begins with.

A row that begins with a back-fill is also given `first_redelivery`, the number in the names of what the
back-fill delivers. It is another one for each new row, and above all that earlier subscribers of the name
have used; so what a subscriber does that was dropped and made anew is never taken for what the old one did.
A redelivery that an operator asks for is given such a number too.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, Row, select

from store.cursors import insert, next_life
from store.engine import reading, writing
from store.migrate import require_current
from store.tables import subscriptions

NOTHING: Mapping[str, str] = MappingProxyType({})
MOST_REDELIVERIES = 10_000
"""Of one delivery within one life of its subscriber: so far apart are the first numbers of two lives."""


class Subscribed(NamedTuple):
    """A subscriber as the store has it; `types` are sorted."""

    subscriber: str
    types: list[str]
    options: dict[str, Any]
    steering: dict[str, str]


@dataclass(slots=True)
class Held:
    """A subscriber's row while it is held.

    Attributes:
        steering: fields of the record; what is left in it at the end is written.
        is_new: there was no row.
        removed: set it, and the row is removed at the end.
    """

    steering: dict[str, str]
    is_new: bool
    removed: bool = False


class Registry:
    """The subscriptions of one namespace. Threads may share it."""

    def __init__(self, engine: Engine, namespace: str) -> None:
        self._engine = engine
        self._namespace = namespace

    def require_current(self) -> None:
        """Make sure that the database has this version's schema; asked when a worker boots.

        Raises:
            NotMigrated: the sentence says what to do.
            StoreUnavailable.
        """
        require_current(self._engine)

    def save(
        self, subscriber: str, types: Iterable[str], options: Mapping[str, Any], steering: Mapping[str, str] = NOTHING
    ) -> dict[str, str]:
        """Add types to a subscriber, and replace its options.

        A type is removed only by `remove`: a process that declares fewer (a rolling deploy) takes
        nothing away.

        Args:
            types: names of event types; may be empty.
            options: the subscriber's record, a JSON object.
            steering: what a new row begins with; one that is there keeps its own. With a `cursor` in it, a new
                row is given `first_redelivery` too.

        Returns:
            The row's steering.

        Raises:
            StoreUnavailable, NotMigrated.
        """
        with writing(self._engine) as connection:
            # The row is made before it is locked, so that two processes that save at once take turns.
            made = self._make(connection, subscriber, steering)
            row = self._locked(connection, subscriber)
            kept = dict(row.steering)
            if made and "cursor" in kept:
                kept["first_redelivery"] = str(MOST_REDELIVERIES * next_life(connection, self._namespace))
            values = {
                "types": _json(sorted(set(row.types) | {str(name) for name in types})),
                "options": _json(dict(options)),
                "steering": _json(kept),
            }
            connection.execute(subscriptions.update().where(*self._is(subscriber)).values(values))
            return kept

    def next_number(self) -> int:
        """Return a redelivery number that no delivery has: above all that were given before, with room for retries.

        Raises:
            StoreUnavailable, NotMigrated.
        """
        with writing(self._engine) as connection:
            return MOST_REDELIVERIES * next_life(connection, self._namespace)

    def all(self) -> list[Subscribed]:
        """Return every subscriber, by name.

        Raises:
            StoreUnavailable, NotMigrated.
        """
        c = subscriptions.c
        query = select(c.subscriber, c.types, c.options, c.steering).where(c.namespace == self._namespace)
        with reading(self._engine) as connection:
            return sorted(Subscribed(*row) for row in connection.execute(query))

    @contextmanager
    def held(self, subscriber: str) -> Iterator[Held]:
        """Hold a subscriber's row, to change its steering or to remove it; an exception changes nothing.

        Others who hold or save it wait. A row that is missing is made, unless it is to be removed.

        Raises:
            StoreUnavailable, NotMigrated.
        """
        with writing(self._engine) as connection:
            made = self._make(connection, subscriber, {})
            held = Held(dict(self._locked(connection, subscriber).steering), made)
            yield held
            if held.removed:
                connection.execute(subscriptions.delete().where(*self._is(subscriber)))
                return
            steering = _json(held.steering)
            connection.execute(subscriptions.update().where(*self._is(subscriber)).values(steering=steering))

    def remove(self, subscriber: str, types: Iterable[str] | None = None) -> None:
        """Remove types from a subscriber; with the last one, or without naming any, the subscriber itself.

        One that is not there is left so.

        Raises:
            StoreUnavailable, NotMigrated.
        """
        with writing(self._engine) as connection:
            row = self._locked(connection, subscriber)
            left = (set(row.types) if row else set()) - {str(name) for name in types or ()}
            if types is None or not left:
                connection.execute(subscriptions.delete().where(*self._is(subscriber)))
            else:
                connection.execute(
                    subscriptions.update().where(*self._is(subscriber)).values(types=_json(sorted(left)))
                )

    def _make(self, connection: Connection, subscriber: str, steering: Mapping[str, str]) -> bool:
        """Insert the row if it is missing; return whether it was."""
        row = {"types": "[]", "options": "{}", "steering": _json(dict(steering))}
        made = insert(connection, subscriptions).on_conflict_do_nothing()
        where = {"namespace": self._namespace, "subscriber": subscriber}
        return connection.execute(made, {**where, **row}).rowcount == 1

    def _locked(self, connection: Connection, subscriber: str) -> Row[Any] | Any:
        c = subscriptions.c
        query = select(c.types, c.steering).where(*self._is(subscriber)).with_for_update()
        return connection.execute(query).one_or_none()

    def _is(self, subscriber: str) -> tuple[Any, ...]:
        return subscriptions.c.namespace == self._namespace, subscriptions.c.subscriber == subscriber


def _json(value: list[str] | dict[str, str]) -> str:
    # Not as escapes, which a PostgreSQL without an encoding refuses.
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
