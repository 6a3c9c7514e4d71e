"""The settler against a real server that refuses for a while."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterator, Sequence

import pytest

from events.deliveries import Deliveries, Settlement, Verdict
from events.errors import EventBusError, ScriptFailed
from events.event import Event
from events.namespace import Declared, Namespace, Remembered
from events.publisher import Publisher
from events.records import AttemptState
from events.routes import declare
from events.subscriptions import SubscriberOptions
from tests.valkey_servers import ValkeyServer
from tests.waiting import wait_until
from workers.settler import WORTH_WAKING, Settler


class Refusing(Deliveries):
    """Deliveries that refuse to settle for as long as they are told to, and count how often."""

    refuses = True
    refused = 0

    def settle(self, settlements: Sequence[Settlement]) -> list[Verdict | EventBusError]:
        if self.refuses:
            self.refused += 1
            raise ScriptFailed("A key has the wrong type.", "WRONGTYPE")
        return super().settle(settlements)


@pytest.fixture
def deliveries() -> Iterator[Refusing]:
    with ValkeyServer() as server, server.client() as client:
        namespace = Namespace(client, f"test-{secrets.token_hex(6)}", lambda: Remembered(0, ()), may_restore=True)
        declare(namespace, Declared("Painter", ("SHOT",), SubscriberOptions().record()), 100)
        Publisher(namespace, 1 << 20, 100).publish_many([Event(type="SHOT", project_id="p", actor="a")])
        yield Refusing(namespace, "w", 100)


@pytest.fixture
def settler(deliveries: Refusing) -> Iterator[Settler]:
    """A settler that has put off the settlement of the one delivery, because it was refused."""
    settler = Settler(deliveries, lambda lease: None, lambda: 0)
    settler.start()
    (lease,) = deliveries.read(["Painter"], 1, None)
    settler.put(Settlement(lease, "end", AttemptState.DONE))
    wait_until(lambda: deliveries.refused == 2, 20, "it to be refused with the others, and by itself")
    yield settler
    settler.stop(time.monotonic())


def test_what_was_refused_is_sent_again_at_once_at_the_end(deliveries: Refusing, settler: Settler) -> None:
    queue = deliveries.namespace.keys("queue", "Painter")
    deliveries.refuses = False

    is_settled = settler.flush(time.monotonic() + 3)  # it is put off for longer

    assert is_settled
    assert deliveries.namespace.client.xlen(queue) == 0


def test_what_is_refused_to_the_end_is_not_called_settled(deliveries: Refusing, settler: Settler) -> None:
    assert not settler.flush(time.monotonic() + 1)
    assert 3 <= deliveries.refused <= 6, "it was sent again, and not all the time"


def test_a_group_that_is_complete_waits_no_longer_for_others(
    deliveries: Refusing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.settler.GATHER_S", 600.0)
    deliveries.refuses = False
    size = WORTH_WAKING + 1
    events = [Event(type="SHOT", project_id="p", actor="a") for _ in range(size - 1)]
    Publisher(deliveries.namespace, 1 << 20, 100).publish_many(events)
    gathers = threading.Event()

    def running() -> int:
        gathers.set()
        return size

    settler = Settler(deliveries, lambda lease: None, running)
    settler.start()
    first, *others = deliveries.read(["Painter"], size, None)

    settler.put(Settlement(first, "end", AttemptState.DONE))
    assert gathers.wait(20)
    for lease in others:
        settler.put(Settlement(lease, "end", AttemptState.DONE))

    queue = deliveries.namespace.keys("queue", "Painter")
    wait_until(lambda: deliveries.namespace.client.xlen(queue) == 0, 20, "all of them to be settled")
    settler.stop(time.monotonic() + 5)
