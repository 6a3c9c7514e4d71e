"""The durable list of subscribers: from it a Redis namespace that was lost is declared again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, Engine, select

from store.cursors import insert
from store.engine import reading, writing
from store.migrate import require_current
from store.tables import subscriptions


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

    def save(self, subscriber: str, types: Iterable[str], options: Mapping[str, Any]) -> None:
        """Add types to a subscriber, and replace its options.

        A type is removed only by `remove`: a process that declares fewer (a rolling deploy) takes
        nothing away.

        Args:
            types: names of event types; may be empty.
            options: the subscriber's record, a JSON object.

        Raises:
            StoreUnavailable, NotMigrated.
        """
        row = {"types": "[]", "options": json.dumps(dict(options), sort_keys=True)}
        with writing(self._engine) as connection:
            # The row is made before it is locked, so that two processes that save at once take turns.
            made = insert(connection, subscriptions).on_conflict_do_nothing()
            connection.execute(made, {"namespace": self._namespace, "subscriber": subscriber, **row})
            row["types"] = _json(self._locked_types(connection, subscriber) | {str(name) for name in types})
            connection.execute(subscriptions.update().where(*self._is(subscriber)).values(row))

    def all(self) -> list[tuple[str, list[str], dict[str, Any]]]:
        """Return (subscriber, types, options) of every subscriber, by name; types are sorted.

        Raises:
            StoreUnavailable, NotMigrated.
        """
        columns = (subscriptions.c.subscriber, subscriptions.c.types, subscriptions.c.options)
        query = select(*columns).where(subscriptions.c.namespace == self._namespace)
        with reading(self._engine) as connection:
            return sorted((row.subscriber, row.types, row.options) for row in connection.execute(query))

    def remove(self, subscriber: str, types: Iterable[str] | None = None) -> None:
        """Remove types from a subscriber; with the last one, or without naming any, the subscriber itself.

        One that is not there is left so.

        Raises:
            StoreUnavailable, NotMigrated.
        """
        with writing(self._engine) as connection:
            left = self._locked_types(connection, subscriber) - {str(name) for name in types or ()}
            if types is None or not left:
                connection.execute(subscriptions.delete().where(*self._is(subscriber)))
            else:
                connection.execute(subscriptions.update().where(*self._is(subscriber)).values(types=_json(left)))

    def _locked_types(self, connection: Connection, subscriber: str) -> set[str]:
        query = select(subscriptions.c.types).where(*self._is(subscriber)).with_for_update()
        return set(connection.execute(query).scalar() or ())

    def _is(self, subscriber: str) -> tuple[Any, ...]:
        return subscriptions.c.namespace == self._namespace, subscriptions.c.subscriber == subscriber


def _json(types: set[str]) -> str:
    return json.dumps(sorted(types))
