"""Whatever a hand has written into a hash, a number or a set of ours: who asks gets a value or a named error, soon."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import pytest

from events import backfill, mending, redelivery
from events.dead_letters import DeadLetters
from events.deliveries import Deliveries
from events.errors import EventBusError
from events.inspection import Inspection
from events.needed import needed_from
from events.records import LetterFilter
from events.scheduled import ScheduledEvents
from events.slots import Slots
from events.standing import standings
from events.steering import steer
from events.stream import HistoryStream
from tests.fuzz.budget import SEED, share
from tests.fuzz.damage import TOKENS
from tests.fuzz.deadline import no_hang
from tests.security.roles import KINDS, Stage, fill_with_life
from tests.valkey_servers import ValkeyServer

# Fields that a record may have, and that those on stage need not have.
MORE = (
    b"set_concurrency", b"set_rate", b"paused", b"tat", b"running", b"reaped_at", b"reap_from", b"mends", b"again",
    b"cursor", b"first_redelivery", b"turn", b"state", b"join_of", b"join_timeout",
)  # fmt: skip
SHORT = [token for token in TOKENS if len(token) < 6000]
ANY = LetterFilter()
Place = tuple[bytes, bytes | None]


class Ground:
    """A namespace in which there is something of every kind, to be damaged and made whole again."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.stage = Stage(client, client, "kept")
        fill_with_life(self.stage)
        self.dumps = {key: client.dump(key) for key in client.scan_iter("{kept}:*")}

    def places(self) -> list[Place]:
        """Every field and number there is, and those that could be."""
        found: list[Place] = []
        for key in sorted(self.dumps):
            kind = self.client.type(key)
            found += [(key, field) for field in sorted(self.client.hkeys(key))] if kind == b"hash" else []
            found += [(key, None)] if kind == b"string" else []
        more = [(f"{{kept}}:sub:{name}".encode(), field) for name in ("S", "Keyed") for field in MORE]
        return [*found, *more, (b"{kept}:slots:nightly", b"last"), (b"{kept}:archived", None)]

    def damage(self, place: Place, token: bytes) -> None:
        key, field = place
        self.client.set(key, token) if field is None else self.client.hset(key, field, token)

    def restore(self) -> None:
        for key in self.client.scan_iter("{kept}:*"):
            self.client.delete(key)
        for key, dump in self.dumps.items():
            self.client.restore(key, 0, dump, replace=True)

    def asks(self) -> dict[str, Callable[[], object]]:
        """What readers, workers, archivers and operators ask."""
        ours = self.stage.ours
        seen, history, scheduled = Inspection(ours), HistoryStream(ours), ScheduledEvents(ours, 100)
        letters, worker, slots = DeadLetters(ours), Deliveries(ours, "w", 100), Slots(ours, 100)
        return {
            "epoch": seen.epoch,
            "lags": seen.lags,
            "backlog": seen.backlog,
            "standings": lambda: standings(ours),
            "tail": lambda: history.after(0, 100),
            "clock": history.clock_and_archived,
            "needed": lambda: needed_from(ours, 0),
            "scheduled": lambda: [*scheduled, scheduled.agenda()],
            "schedules": slots.all,
            "letters": lambda: letters.holders(list(letters.iterate(ANY))),
            "gaps": lambda: [mending.present(ours, name, {"p"}) and mending.holds(ours, name) for name in KINDS],
            "redelivery": lambda: (redelivery.under_way(ours, list(KINDS)), redelivery.look(ours, "S")),
            "back-fill": lambda: backfill.look(ours, "S"),
            "plan": lambda: slots.plan("nightly", "* * * * *", "UTC", "all", begins=True),
            "steer": lambda: steer(ours, "S", concurrency=3),
            "promote": lambda: worker.promote({"S": 1, "Keyed": 1}),
            "reap": lambda: worker.reap(["S", "Keyed"], 1000, 10),
            "read": lambda: worker.read(["S", "Keyed"], 2, None),
            "release": lambda: scheduled.release(5),
            "publish": lambda: self.stage.publisher.publish_many([]),
            "position": history.next_position,
        }


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    with ValkeyServer() as server, server.client(socket_timeout=60) as client:
        yield Ground(client)


def test_whoever_asks_gets_an_answer_or_a_named_error_whatever_a_field_holds(ground: Ground) -> None:
    random, places, broken = Random(SEED), ground.places(), []
    for _ in range(share(1)):
        place, token = random.choice(places), random.choice(SHORT)
        ground.restore()
        ground.damage(place, token)
        for name, ask in ground.asks().items():
            try:
                with no_hang():
                    ask()
            except EventBusError as error:
                assert str(error).strip()
            except Exception as error:
                broken.append(f"{place} with {token[:40]!r}: {name} raised {type(error).__name__}: {error!s:.100}")

    assert not broken, "\n".join(broken)


@pytest.mark.parametrize(
    ("key", "field", "token", "ask"),
    [
        ("clock", None, b"a word", "clock"),
        ("archived", None, b"9" * 5000, "backlog"),
        ("sub:S", b"again", b"no\ttabs", "redelivery"),
        ("sub:S", b"set_rate", b"fast", "standings"),
        ("sub:S", b"first_redelivery", b"first", "needed"),
        ("slots:nightly", b"cursor", b"99999999999999999999999", "schedules"),
    ],
)
def test_a_damaged_key_is_named_and_its_content_is_not_shown(
    ground: Ground, key: str, field: bytes | None, token: bytes, ask: str
) -> None:
    ground.restore()
    ground.damage((b"{kept}:" + key.encode(), field), token)

    with pytest.raises(EventBusError) as caught:
        ground.asks()[ask]()

    assert f"{{kept}}:{key}" in str(caught.value)
    assert token.decode() not in str(caught.value)
