"""A PostgreSQL that is not in UTF-8: one without an encoding (`initdb` where LANG is not set), one with few letters."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import Engine

from events.errors import StoreUnavailable
from events.records import AttemptState, Outcome
from store.archive import Archive
from store.blackboard import Blackboard
from store.migrate import current, upgrade
from store.recount import differences
from store.replay import Replay
from tests.servers import PostgresServer
from tests.store.conftest import an_event, store_events, store_outcomes
from tests.store.doubles import FakeClock


def test_a_database_without_an_encoding_keeps_any_text(
    postgres: PostgresServer, open_at: Callable[..., Engine]
) -> None:
    postgres.execute("CREATE DATABASE without_encoding TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'")
    engine = open_at(postgres.url("without_encoding"))
    upgrade(engine)
    archive, priced = Archive(engine, "test"), {"cost": 2, "currency": "\N{EURO SIGN}"}
    text = "\N{GOTHIC LETTER AHSA} at dusk"
    history = [
        an_event(n, event_id=f"É{n}", causation_id="É1" if n > 1 else None, project_id="Café", payload={"text": text})
        for n in range(1, 40)
    ]
    history.append(an_event(40, metadata=priced))

    store_events(archive, *history[:20])
    store_events(archive, *history[20:])
    store_outcomes(archive, Outcome(50, 39, "Á", 0, 1, AttemptState.DONE, "w", error=text))

    assert [one.event for one in Replay(engine, "test", None).iterate()] == [one.event for one in history]
    with Blackboard(engine, "test", None, FakeClock()) as board:
        assert [one.event.event_id for one in board.causation.chain("É7")] == ["É1", "É7"]
        assert board.causation.tree("É1").count == 39
    assert differences(engine, "test") == []
    board.registry.save("Café", ["Été"], {"ordering": "É"}, {})
    assert [(one.subscriber, one.types) for one in board.registry.all()] == [("Café", ["Été"])]


def test_a_database_in_which_most_letters_cannot_be_stored_is_refused_before_anything_is_made(
    postgres: PostgresServer, open_at: Callable[..., Engine]
) -> None:
    postgres.execute("CREATE DATABASE few_letters TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    engine = open_at(postgres.url("few_letters"))

    with pytest.raises(StoreUnavailable, match=r"the encoding LATIN1, in which .* ENCODING 'UTF8'"):
        upgrade(engine)

    assert current(engine) is None
